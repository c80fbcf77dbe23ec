"""Files in the format of libsvm and svmlight: `label index:value index:value ...` in each line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flashlogit.data.numpy_files import MatrixTable
from flashlogit.data.tables import Table, TableFile, unreadable
from flashlogit.errors import UserError
from flashlogit.memory import free_bytes

LABEL = "y"
_SHARE = 0.5
"""Of the free memory that the dense matrix may take."""


class SvmlightFile(TableFile):
    """Columns x0 .. x{D-1}, numbered from the file's least index on (0 or 1), and the label y; read as a whole."""

    numbered = True

    def __init__(self, path: Path, setting: str) -> None:
        from sklearn.datasets import load_svmlight_file

        self.name = str(path)
        try:
            self._X, self._y = load_svmlight_file(str(path), zero_based="auto")
        except (OSError, ValueError, OverflowError) as error:
            raise unreadable(f"{setting} {self.name}", error) from error
        N, D = self._X.shape
        if not D:
            raise UserError(f"{self.name} has no feature in any row; give a file with features")
        limit = _SHARE * free_bytes()
        if limit < N * D * 8:
            raise UserError(
                f"{self.name} has {N:,} rows and {D:,} columns, which take {N * D * 8 / 1e9:.1f} GB as a dense"
                " matrix, and"
                f" {limit / 1e9:.1f} GB, half of the free memory, are the bound; take fewer rows or columns"
            )
        self.features = tuple(f"x{j}" for j in range(D))
        self.keys = (LABEL,)

    def read(self, features: Sequence[str], keys: Sequence[str]) -> Table:
        """All columns as one dense matrix."""
        return MatrixTable(self.name, self._X.toarray(), self.features, {LABEL: np.asarray(self._y)})
