"""Row blocks whose every value is a finite number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.wording import row_text
from ..files.tables import Table

REMEDY = "fill it in, or leave out the row or the column"
REMEDY_FOR_ROWS = "fill it in, or leave out the row"
"""Where a model needs the column."""


def finite_blocks(
    table: Table, names: Sequence[str], kept: NDArray[np.bool_] | None = None, remedy: str = REMEDY
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """The rows of a table where `kept` [N] is true (all if None), in order.

    Yields (row indices [n], fresh float64 block [n, D]). Raises UserError, naming row and column and ending with
    `remedy`, at the first kept row with a missing, NaN or infinite value.
    """
    for start, block in table.blocks(names):
        rows = np.arange(start, start + len(block))
        if kept is not None and not kept[start : start + len(block)].all():
            here = kept[start : start + len(block)]
            rows, block = rows[here], block[here]
        finite = np.isfinite(block)
        if not finite.all():
            i, j = np.unravel_index(np.argmin(finite), finite.shape)
            what = "is missing (empty or NaN)" if np.isnan(block[i, j]) else "is infinite"
            raise unusable_value(table.name, int(rows[i]), names[int(j)], what, remedy)
        yield rows, block


def unusable_value(
    file: str,
    row: int,
    column: str,
    what: str = "is missing (empty or NaN)",
    remedy: str = REMEDY_FOR_ROWS,
) -> UserError:
    """The error for a row whose value in a feature's column is none, or none to compute with."""
    return UserError(
        f'{file} has a value that {what} in {row_text(row)} of column "{column}"; every feature must have a finite'
        f" value, so {remedy}"
    )
