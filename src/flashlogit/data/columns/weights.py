"""The weight column: one non-negative number per row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.wording import row_text
from ..files.tables import Table


def read_weights(
    table: Table, name: str, kept: NDArray[np.bool_], dtype: type[np.floating]
) -> NDArray[np.floating]:
    """Weights [N] in `dtype` of all rows of a table; rows that are not `kept` have weight 0.

    Raises UserError, naming the row, if a kept row's weight is missing, not finite (in `dtype`) or negative,
    and if all of them are zero.
    """
    place = f'weight column "{name}" of {table.name}'
    column = table.column(name)
    try:
        values = column.cast(pa.float64(), safe=False).to_numpy()
    except pa.ArrowException as error:
        raise UserError(f"{place} holds {column.type}; data.weight must name a column of numbers") from error
    values = np.where(kept, values, 0.0)
    _refuse(np.isnan(values), place, "is missing (empty or NaN)", "give every row a weight")
    _refuse(np.isinf(values), place, "is infinite", "weights must be finite numbers")
    _refuse(values < 0, place, "is negative", "weights must be 0 or more")
    _refuse(
        values > np.finfo(dtype).max, place, f"is larger than {np.dtype(dtype)} holds", "give smaller weights"
    )
    weights: NDArray[np.floating] = values.astype(dtype)
    if not weights.any():
        raise UserError(
            f"{place} is zero in every row; at least one row of each class needs a positive weight"
        )
    return weights


def _refuse(bad: NDArray[np.bool_], place: str, what: str, remedy: str) -> None:
    if bad.any():
        raise UserError(f"{place} {what} in {row_text(int(np.argmax(bad)))}; {remedy}")
