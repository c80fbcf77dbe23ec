"""The weight column: one non-negative number per row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.wording import row_text
from ..files.tables import Table


def read_weights(table: Table, name: str, kept: NDArray[np.bool_], dtype: type[np.floating]) -> NDArray[np.floating]:
    """Return the weights [N] in `dtype` of all rows of a table; rows that are not `kept` have weight 0.

    Raises UserError, naming the row, if a kept row's weight is missing, not finite (in `dtype`) or negative,
    and if all of them are zero.
    """
    place = f'weight column "{name}" of {table.name}'
    column = table.column(name)
    try:
        values = column.cast(pa.float64(), safe=False).to_numpy()
    except pa.ArrowException as error:
        remedy = "let data.weight name a column of numbers"
        raise UserError(f"holds {column.type}", setting=place, remedy=remedy) from error
    values = np.where(kept, values, 0.0)
    for wrong, what, remedy in (
        (np.isnan(values), "is missing (empty or NaN)", "give every row a weight"),
        (np.isinf(values), "is infinite", "weights must be finite numbers"),
        (values < 0, "is negative", "weights must be 0 or more"),
        (values > np.finfo(dtype).max, f"is larger than {np.dtype(dtype)} holds", "give smaller weights"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(f"the weight in {row_text(row)} {what}", setting=place, remedy=remedy)
    weights: NDArray[np.floating] = values.astype(dtype)
    if not weights.any():
        remedy = "give at least one row of each class a positive weight"
        raise UserError("is zero in every row", setting=place, remedy=remedy)
    return weights
