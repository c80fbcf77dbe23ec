"""One table whose features are in one file and whose labels are in another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from .tables import PLAIN, Reading, Table, TableFile, refuse_duplicates


class LabelledFile(TableFile):
    """The features of one file and, row by row, the labels, weights and ids of another."""

    def __init__(self, data: TableFile, labels: TableFile) -> None:
        """Raises UserError where both have a column of one name."""
        self._data, self._labels = data, labels
        self.name, self.numbered = data.name, data.numbered
        self.features, self.keys = data.features, labels.keys
        self.vectors, self.also = {**labels.vectors, **data.vectors}, {**labels.also, **data.also}
        self.left_out, self.notes = data.left_out | labels.left_out, data.notes + labels.notes
        refuse_duplicates([*data.features, *labels.keys], f"{data.name} with the labels of {labels.name}")

    @property
    def width(self) -> int:
        """How many columns an array must have for its columns to be the features."""
        return self._data.width

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        """Read these columns; UserError where the files are not equally long."""
        if not features:
            return self._labels.read((), keys, reading)
        table = self._data.read(features, (), reading)
        if not keys:
            return table
        labels = self._labels.read((), keys, reading)
        if labels.rows != table.rows:
            problem = f"has {labels.rows:,} rows, and {self.name} has {table.rows:,}"
            raise UserError(problem, setting=labels.name, remedy="give one row of labels for each row")
        return _LabelledTable(table, labels, keys)

    def require(
        self,
        features: Sequence[str],
        keys: Sequence[str],
        needed_by: str,
        widths: Sequence[int] = (),
        *,
        ignore_unknown: bool = False,
    ) -> None:
        """Raise UserError as for any file, each for its own columns."""
        self._data.require(features, (), needed_by, widths, ignore_unknown=ignore_unknown)
        self._labels.require((), keys, needed_by)

    def find_feature(self, column: str | int, setting: str) -> str:
        """Return the name of the feature column that `setting` calls `column`, or raise UserError."""
        return self._data.find_feature(column, setting)

    def find_key(self, column: str | int, setting: str) -> str:
        """Return the name of the labels' column that `setting` calls `column`, or raise UserError."""
        return self._labels.find_key(column, setting)


class _LabelledTable(Table):
    """The features of one table and the columns `keys` of another."""

    def __init__(self, data: Table, labels: Table, keys: Sequence[str]) -> None:
        super().__init__(data.name, data.rows)
        self._data, self._labels, self._keys = data, labels, frozenset(keys)
        self.only_numbers = data.only_numbers

    def file_of(self, column: str) -> str:
        return (self._labels if column in self._keys else self._data).file_of(column)

    def column(self, name: str) -> pa.ChunkedArray:
        return (self._labels if name in self._keys else self._data).column(name)

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        return self._data.block(names, start, stop)

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        return self._data.not_numbers(names)
