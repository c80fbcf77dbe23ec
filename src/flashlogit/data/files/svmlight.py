"""Files in the format of libsvm and svmlight: `label index:value index:value ...` in each line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from .numpy import MatrixTable
from .reading import PLAIN, Reading, readable
from .tables import Table, TableFile, numbered_names

LABEL = "y"


class SvmlightFile(TableFile):
    """Columns x1 .. xD, or x0 .. xD where a row has an index 0, and the label y. A name tells the file's own index, so
    that it means the same in every file, whichever indices occur there; what a file does not have is 0."""

    numbered = True

    def __init__(self, path: Path, setting: str) -> None:
        from sklearn.datasets import load_svmlight_file

        self.name = str(path)
        with readable(f"{setting} {self.name}"):
            self._X, self._y = load_svmlight_file(str(path), zero_based=True)
        self._first = min(1, int(self._X.indices.min(initial=1)))
        self.features = numbered_names(self._first, self._X.shape[1], self.name)
        self.keys = (LABEL,)

    @property
    def width(self) -> int:
        """How many columns an array has whose first column is x0."""
        return int(self._X.shape[1])

    def require(self, features: Sequence[str], keys: Sequence[str], needed_by: str, widths: Sequence[int] = ()) -> None:
        """Raise UserError as for any file, but features by index need not occur. `widths` bound the indices from above;
        and where all of them from 1 on are needed, the file must not begin at 0."""
        super().require([name for name in features if not _is_index(name)], keys, needed_by)
        end = max(widths, default=self.width)
        if self.width > end:
            problem = f"has the index {self.width - 1}, and {needed_by} has features up to the index {end - 1}"
            raise UserError(problem, setting=self.name, remedy="leave out what is beyond")
        if widths and self._first == 0 and list(features) == [f"x{j}" for j in range(1, end)]:
            problem = f"has an index 0, and the indices of what {needed_by} has begin at 1"
            raise UserError(problem, setting=self.name, remedy="number them from 1 on")

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        """Read these features, which are made dense by row blocks."""
        indices = [int(name.removeprefix("x")) for name in features]
        X = self._X
        if indices != list(range(self.width)):
            X = X.copy()
            X.resize(X.shape[0], max([self.width, *(j + 1 for j in indices)]))
            X = X[:, indices]
        return _SparseTable(self.name, X, features, {LABEL: np.asarray(self._y)})


class _SparseTable(MatrixTable):
    """Named columns of a CSR matrix [N, D], whose cells without a value are 0, and arrays [N] beside it."""

    _matrix: Any

    @cached_property
    def _by_column(self) -> Any:
        return self._matrix.tocsc()

    def column(self, name: str) -> pa.ChunkedArray:
        if name in self._arrays:
            return super().column(name)
        j = self._positions[name]
        return pa.chunked_array([pa.array(self._by_column[:, [j]].toarray().ravel())])

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        columns = [self._positions[name] for name in names]
        rows = self._matrix[start:stop]
        if columns != list(range(rows.shape[1])):
            rows = rows[:, columns]
        dense: NDArray[np.float64] = rows.toarray()
        return dense


def _is_index(name: str) -> bool:
    digits = name.removeprefix("x")
    return name.startswith("x") and digits.isascii() and digits.isdecimal()
