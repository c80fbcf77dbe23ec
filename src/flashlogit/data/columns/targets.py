"""Labels of many models for the same rows: one column for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError, row_text
from ..files.tables import Table, to_numpy
from ..files.text import is_number, is_text, without_dictionary
from .labels import numbers_of_text


def read_targets(table: Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Return Y [N, T] float64 of T columns of a table, NaN where a label is missing; its columns are contiguous.

    `TableFile.find_keys` gives the names that a column of lists, or an array [N, T], stands for.

    Raises:
        UserError: a column that holds neither numbers nor text that means some, or an infinite number.
    """
    Y = np.empty((table.rows, len(names)), np.float64, order="F")
    for t, name in enumerate(names):
        column, place = without_dictionary(table.column(name)), f'label column "{name}" of {table.file_of(name)}'
        if is_text(column.type):
            Y[:, t] = numbers_of_text(column, place)
            continue
        if not (is_number(column.type) or pa.types.is_null(column.type)):
            problem = f"holds {column.type}, and must hold numbers, or yes and no"
            raise UserError(problem, setting=place, remedy="write labels as 0 and 1, and nothing where one is missing")
        Y[:, t] = to_numpy(column.cast(pa.float64(), safe=False))
        if (infinite := np.isinf(Y[:, t])).any():
            problem = f"is infinite in {row_text(int(np.argmax(infinite)))}"
            raise UserError(problem, setting=place, remedy="correct it, or leave out the row")
    return Y
