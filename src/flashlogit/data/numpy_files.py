"""Tables that are NumPy's: .npy files, memory-mapped, and .npz archives."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flashlogit.data.tables import Table, TableFile
from flashlogit.data.wording import did_you_mean, listing
from flashlogit.errors import UserError

_NUMERIC_KINDS = "biuf"


class MatrixTable(Table):
    """Named columns of one matrix [N, D], and arrays [N] beside it."""

    def __init__(
        self, name: str, matrix: NDArray[Any], positions: Mapping[str, int], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        super().__init__(name, matrix.shape[0])
        self._matrix = matrix
        self._positions = positions
        self._arrays = arrays

    def column(self, name: str) -> pa.ChunkedArray:
        values = self._arrays[name] if name in self._arrays else self._matrix[:, self._positions[name]]
        if values.dtype.kind == "f" and values.dtype.itemsize > 8:
            values = values.astype(np.float64)  # Arrow has no extended precision
        values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        return pa.chunked_array([pa.array(values)])

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        columns = [self._positions[name] for name in names]
        selected: NDArray[Any]
        if columns == list(range(columns[0], columns[0] + len(columns))):
            selected = self._matrix[start:stop, columns[0] : columns[0] + len(columns)]
        else:
            selected = self._matrix[start:stop, columns]
        return np.array(selected, dtype=np.float64)

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        return {}  # the matrix was checked when it was opened


class NpyFile(TableFile):
    """One matrix [N, D] of numbers; its columns are x0 .. x{D-1}, or go by number, from the end if negative."""

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        try:
            self._matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(f"{setting} {self.name}", error) from error
        _check_matrix(self._matrix, f"the array in {self.name}")
        self.features = self.keys = _numbered_names(self._matrix.shape[1])

    def read(self, features: Sequence[str], keys: Sequence[str]) -> Table:
        positions = {name: j for j, name in enumerate(self.features)}
        return MatrixTable(self.name, self._matrix, positions, {})

    def _find(self, column: str | int, names: tuple[str, ...], setting: str) -> str:
        return _by_number(column, names, setting, self.name) or super()._find(column, names, setting)


class NpzFile(TableFile):
    """Arrays `X` [N, D], labels, weights and ids [N] by name, and optionally `feature_names` [D]."""

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        self._path = path
        try:
            with np.load(path, allow_pickle=False) as archive:
                members = archive.files
                given = archive["feature_names"] if "feature_names" in members else None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _unreadable(f"{setting} {self.name}", error) from error
        if "X" not in members:
            raise UserError(
                f'{self.name} has no array "X" with the features{did_you_mean("X", members)};'
                f" it has {listing(members) or 'none'}"
            )
        self.keys = tuple(member for member in members if member not in ("X", "feature_names"))
        self._given_names = None if given is None else tuple(str(name) for name in given.astype(str).ravel())
        self._matrix = self._load("X")
        _check_matrix(self._matrix, f'array "X" in {self.name}')
        self.features = self._given_names or _numbered_names(self._matrix.shape[1])
        self._check_names()

    def read(self, features: Sequence[str], keys: Sequence[str]) -> Table:
        arrays = {name: self._load(name) for name in keys}
        rows = self._matrix.shape[0]
        for name, array in arrays.items():
            if array.shape == (rows, 1):
                arrays[name] = array[:, 0]
            elif array.shape != (rows,):
                raise UserError(
                    f'array "{name}" in {self.name} has shape {list(array.shape)} and X has {rows} rows;'
                    f" it must have shape [{rows}]"
                )
        return MatrixTable(self.name, self._matrix, {name: j for j, name in enumerate(self.features)}, arrays)

    def find_feature(self, column: str | int, setting: str) -> str:
        return _by_number(column, self.features, setting, self.name) or super().find_feature(column, setting)

    def _load(self, member: str) -> NDArray[Any]:
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                loaded: NDArray[Any] = archive[member]
                return loaded
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
            raise _unreadable(f'array "{member}" in {self.name}', error) from error

    def _check_names(self) -> None:
        columns = self._matrix.shape[1]
        if len(self.features) != columns:
            raise UserError(
                f"feature_names in {self.name} has {len(self.features)} names and X has {columns} columns;"
                " give one name to each column"
            )
        if len(set(self.features)) != columns:
            twice = sorted({name for name in self.features if self.features.count(name) > 1})
            raise UserError(f"feature_names in {self.name} has {listing(twice)} more than once; rename one of them")
        both = [name for name in self.features if name in self.keys]
        if both:
            raise UserError(f"{self.name} uses {listing(both)} for a column of X and for an array; rename one of them")


def _numbered_names(columns: int) -> tuple[str, ...]:
    return tuple(f"x{j}" for j in range(columns))


def _by_number(column: str | int, names: tuple[str, ...], setting: str, file: str) -> str | None:
    if isinstance(column, str):
        return None
    if not -len(names) <= column < len(names):
        raise UserError(
            f"{setting} is {column}, and {file} has {len(names)} columns; give a number from {-len(names)} to"
            f" {len(names) - 1}"
        )
    return names[column]


def _check_matrix(matrix: NDArray[Any], what: str) -> None:
    if matrix.ndim != 2 or matrix.dtype.names is not None:
        raise UserError(f"{what} has shape {list(matrix.shape)}; it must be a matrix [rows, columns]")
    if matrix.dtype.kind not in _NUMERIC_KINDS:
        raise UserError(f"{what} holds values of type {matrix.dtype}; it must hold whole or floating-point numbers")


def _unreadable(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{name} cannot be read ({reason}); check that the file is complete and of the kind it is named for")
