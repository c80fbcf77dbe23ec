"""Tables that are NumPy's: .npy files, memory-mapped, and .npz archives."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.memory import require_free
from ...system.wording import did_you_mean, listing
from .reading import PLAIN, Reading
from .tables import READ_ERRORS, Table, TableFile, numbered_names, unreadable

_NUMERIC_KINDS = "biuf"


class MatrixTable(Table):
    """Named columns of one matrix [N, D], and arrays [N] beside it."""

    def __init__(
        self,
        name: str,
        matrix: NDArray[Any],
        columns: Sequence[str],
        arrays: Mapping[str, NDArray[Any]],
    ) -> None:
        super().__init__(name, matrix.shape[0])
        self._matrix = matrix
        self._positions = {column: j for j, column in enumerate(columns)}
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
    """One matrix [N, D] of numbers; its columns are x0 .. x{D-1}, or go by number (-1 is the last)."""

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        self._path = path
        try:
            with path.open("rb") as file:
                shape, dtype = _read_header(file)
                _require_complete(shape, dtype, path.stat().st_size - file.tell())
        except READ_ERRORS as error:
            raise unreadable(f"{setting} {self.name}", error) from error
        _check_matrix(shape, dtype, f"the array in {self.name}")
        self.features = self.keys = numbered_names(0, shape[1], self.name)
        self.numbered = True

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        try:
            matrix = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except READ_ERRORS as error:
            raise unreadable(self.name, error) from error
        return MatrixTable(self.name, matrix, self.features, {})

    def _find(self, column: str | int, names: tuple[str, ...], setting: str) -> str:
        return _by_number(column, names, setting, self.name) or super()._find(column, names, setting)


class NpzFile(TableFile):
    """Arrays `X` [N, D], labels, weights and ids [N] by name, and optionally `feature_names` [D]."""

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._headers = {
                    info.filename.removesuffix(".npy"): _read_member(archive, info)
                    for info in archive.infolist()
                }
        except READ_ERRORS as error:
            raise unreadable(f"{setting} {self.name}", error) from error
        if "X" not in self._headers:
            raise UserError(
                f'{self.name} has no array "X" with the features{did_you_mean("X", list(self._headers))}; it'
                f" has {listing(self._headers) or 'none'}"
            )
        shape, dtype = self._headers["X"]
        _check_matrix(shape, dtype, f'array "X" in {self.name}')
        self.keys = tuple(member for member in self._headers if member not in ("X", "feature_names"))
        self.numbered = "feature_names" not in self._headers
        if self.numbered:
            self.features = numbered_names(0, shape[1], self.name)
        else:
            named = math.prod(self._headers["feature_names"][0])
            if named != shape[1]:
                raise UserError(
                    f"feature_names in {self.name} has {named} names and X has {shape[1]} columns; give each column one"
                    " name"
                )
            self.features = tuple(str(name) for name in self._load("feature_names").astype(str).ravel())
            self._check_names()

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        rows = self._headers["X"][0][0]
        for name in keys:
            shape = self._headers[name][0]
            if shape not in ((rows,), (rows, 1)):
                raise UserError(
                    f'array "{name}" in {self.name} has shape {list(shape)}, and X has {rows} rows; it must'
                    f" have shape [{rows}]"
                )
        arrays = {name: self._load(name).reshape(rows) for name in keys}
        return MatrixTable(self.name, self._load("X"), self.features, arrays)

    def find_feature(self, column: str | int, setting: str) -> str:
        return _by_number(column, self.features, setting, self.name) or super().find_feature(column, setting)

    def _load(self, member: str) -> NDArray[Any]:
        shape, dtype = self._headers[member]
        require_free(
            _size(shape, dtype),
            f'array "{member}" of shape {list(shape)} and type {dtype}, unpacked from {self.name},',
            "give fewer rows or columns, a narrower type, or X in a .npy file, which is read as it is used",
        )
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                loaded: NDArray[Any] = archive[member]
                return loaded
        except READ_ERRORS as error:
            raise unreadable(f'array "{member}" in {self.name}', error) from error

    def _check_names(self) -> None:
        twice = [name for name, count in Counter(self.features).items() if count > 1]
        if twice:
            raise UserError(
                f"feature_names in {self.name} has {listing(twice)} more than once; rename one of them"
            )
        both = [name for name in self.features if name in self.keys]
        if both:
            raise UserError(
                f"{self.name} uses {listing(both)} for a column of X and for an array; rename one of them"
            )


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array in .npy format, without its values."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    return shape, dtype


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array in an archive."""
    with archive.open(info) as file:
        shape, dtype = _read_header(file)
        _require_complete(shape, dtype, info.file_size - file.tell())
    return shape, dtype


def _require_complete(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    """ValueError where an array takes more bytes than the `size` that follow its header."""
    if min(shape, default=0) < 0:
        raise ValueError(f"the header has the shape {list(shape)}")
    if not dtype.hasobject and _size(shape, dtype) > size:
        raise ValueError(
            f"an array of shape {list(shape)} and type {dtype} takes {_size(shape, dtype):,} bytes, and {size:,} follow"
            " the header"
        )


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _by_number(column: str | int, names: tuple[str, ...], setting: str, file: str) -> str | None:
    if isinstance(column, str):
        return None
    if not -len(names) <= column < len(names):
        raise UserError(
            f"{setting} is {column}, and {file} has {len(names)} columns; give a number from {-len(names)}"
            f" to {len(names) - 1}"
        )
    return names[column]


def _check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if len(shape) != 2 or dtype.names is not None:
        raise UserError(
            f"{what} has shape {list(shape)} and type {dtype}; it must be a matrix [rows, columns]"
        )
    if dtype.kind not in _NUMERIC_KINDS:
        raise UserError(f"{what} holds values of type {dtype}; it must hold whole or floating-point numbers")
    if 0 in shape:
        raise UserError(
            f"{what} has {shape[0]} rows and {shape[1]} columns; there must be at least one of each"
        )
