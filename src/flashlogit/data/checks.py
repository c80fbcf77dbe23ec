"""Row blocks whose every value is a finite number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flashlogit.data.tables import Table
from flashlogit.data.wording import row_text
from flashlogit.errors import UserError


def finite_blocks(
    table: Table, names: Sequence[str], kept: NDArray[np.bool_] | None = None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """The rows of a table where `kept` [N] is true (all if None), in order.

    Yields (row indices [n], fresh float64 block [n, D]). Raises UserError, naming row and column, at the
    first kept row with a missing, NaN or infinite value.
    """
    for start, block in table.blocks(names):
        rows = np.arange(start, start + len(block))
        if kept is not None and not kept[start : start + len(block)].all():
            here = kept[start : start + len(block)]
            rows, block = rows[here], block[here]
        finite = np.isfinite(block)
        if not finite.all():
            i, j = np.unravel_index(np.argmin(finite), finite.shape)
            if np.isnan(block[i, j]):
                raise missing_value(table.name, int(rows[i]), names[int(j)])
            raise _unusable(table.name, "is infinite", int(rows[i]), names[int(j)])
        yield rows, block


def missing_value(file: str, row: int, column: str) -> UserError:
    """The error for a row without a value where none may be missing."""
    return _unusable(file, "is missing (empty or NaN)", row, column)


def _unusable(file: str, what: str, row: int, column: str) -> UserError:
    return UserError(
        f'{file} has a value that {what} in {row_text(row)} of column "{column}"; every feature must'
        " have a finite value, so fill it in, or leave out the row or the column"
    )
