"""Files in the format of libsvm and svmlight: `label index:value index:value ...` in each line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flashlogit.data.numpy_files import MatrixTable
from flashlogit.data.reading import PLAIN, Reading
from flashlogit.data.tables import READ_ERRORS, Table, TableFile, unreadable
from flashlogit.errors import UserError
from flashlogit.memory import free_bytes

LABEL = "y"
_SHARE = 0.5
"""Of the free memory that the dense matrix may take."""


class SvmlightFile(TableFile):
    """Columns x1 .. xD, or x0 .. xD where a row has an index 0, and the label y. A name tells the file's own index, so
    that it means the same in every file, whichever indices occur there; what a file does not have is 0."""

    numbered = True

    def __init__(self, path: Path, setting: str) -> None:
        from sklearn.datasets import load_svmlight_file

        self.name = str(path)
        try:
            self._X, self._y = load_svmlight_file(str(path), zero_based=True)
        except (*READ_ERRORS, OverflowError) as error:
            raise unreadable(f"{setting} {self.name}", error) from error
        self._first = min(1, int(self._X.indices.min(initial=1)))
        self.features = tuple(f"x{j}" for j in range(self._first, self._X.shape[1]))
        self.keys = (LABEL,)

    @property
    def width(self) -> int:
        """Of an array whose first column is x0."""
        return int(self._X.shape[1])

    def require(
        self, features: Sequence[str], keys: Sequence[str], needed_by: str, widths: Sequence[int] = ()
    ) -> None:
        """As for any file, but that features by index need not occur. `widths` bound the indices from above; and where
        all of them from 1 on are needed, the file must not begin at 0."""
        super().require([name for name in features if _index(name) is None], keys, needed_by)
        if not widths:
            return
        end = max(widths)
        if self.width > end:
            raise UserError(
                f"{needed_by} has features up to the index {end - 1}, and {self.name} has the index"
                f" {self.width - 1}; leave out what is beyond"
            )
        if self._first == 0 and list(features) == [f"x{j}" for j in range(1, end)]:
            raise UserError(
                f"{needed_by} has features whose indices begin at 1, and {self.name} has an index 0; number them"
                " from 1 on"
            )

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        """These features as a dense matrix."""
        N, D = self._X.shape[0], len(features)
        limit = _SHARE * free_bytes()
        if limit < N * D * 8:
            raise UserError(
                f"{self.name} has {N:,} rows and {D:,} columns, which take {N * D * 8 / 1e9:.1f} GB as a dense"
                f" matrix, and {limit / 1e9:.1f} GB, half of the free memory, are the bound; take fewer rows or columns"
            )
        indices = [int(name.removeprefix("x")) for name in features]
        X = self._X.copy()
        X.resize(N, max([self.width, *(j + 1 for j in indices)]))
        return MatrixTable(self.name, X[:, indices].toarray(), features, {LABEL: np.asarray(self._y)})


def _index(name: str) -> int | None:
    digits = name.removeprefix("x")
    return int(digits) if name.startswith("x") and digits.isascii() and digits.isdecimal() else None
