"""Tables that are matrices: .npy files, memory-mapped, .npz archives, and files of libsvm and svmlight."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError, did_you_mean, listing
from ...system.machine import require_free
from .tables import PLAIN, Reading, Table, TableFile, from_numpy, numbered_names, readable, refuse_duplicates


class MatrixTable(Table):
    """Named columns of one matrix [N, D], and arrays [N] beside it."""

    only_numbers = True

    def __init__(
        self, name: str, matrix: NDArray[Any], columns: Sequence[str], arrays: Mapping[str, NDArray[Any]]
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
        return pa.chunked_array([from_numpy(values) if values.dtype.kind in "biuf" else pa.array(values)])

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        columns = [self._positions[name] for name in names]
        first, end = columns[0], columns[0] + len(columns)
        neighbours = columns == list(range(first, end))
        selected = self._matrix[start:stop, slice(first, end) if neighbours else columns]
        return np.array(selected, dtype=np.float64)


class NpyFile(TableFile):
    """One matrix [N, D] of numbers; its columns are x0 .. x{D-1}, or go by number (-1 is the last)."""

    numbered = True
    by_number = ("features", "keys")

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        with readable(f"{setting} {self.name}"):
            with path.open("rb") as file:
                self._check(*_read_header(file), f"the array in {self.name}")
            self._matrix: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        self.features = self.keys = self._names()

    def _check(self, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
        _check_matrix(shape, dtype, what)

    def _names(self) -> tuple[str, ...]:
        return numbered_names(0, self._matrix.shape[1], self.name)

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        return MatrixTable(self.name, self._matrix, self.features, {})


class NpyLabels(NpyFile):
    """Labels of rows that another file has: [N], or [N, 1], of numbers or text, in the column y, or [N, T] in y0 ..
    y{T-1}."""

    def _check(self, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
        _check_matrix((*shape, 1) if len(shape) == 1 else shape, dtype, what, "biufU")

    def _names(self) -> tuple[str, ...]:
        self._matrix = np.atleast_2d(self._matrix.T).T
        width = self._matrix.shape[1]
        return ("y",) if width == 1 else numbered_names(0, width, self.name, "y")


class NpzFile(TableFile):
    """Arrays `X` [N, D], labels, weights and ids [N] by name, and optionally `feature_names` [D].

    The columns of another array NAME [N, T] are NAME_0 .. NAME_{T-1}."""

    by_number = ("features",)

    def __init__(self, path: Path, setting: str) -> None:
        self.name = str(path)
        self._path = path
        with readable(f"{setting} {self.name}"), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            self._headers = {each.filename.removesuffix(".npy"): _header(archive, each) for each in members}
        if "X" not in self._headers:
            near, held = did_you_mean("X", list(self._headers)), listing(self._headers) or "none"
            problem = f'there is no array "X" with the features{near}'
            raise UserError(problem, setting=self.name, remedy=f"it has {held}")
        shape, dtype = self._headers["X"]
        _check_matrix(shape, dtype, f'array "X" in {self.name}')
        arrays = {name: of for name, (of, _) in self._headers.items() if name not in ("X", "feature_names")}
        self.vectors = {
            name: numbered_names(0, of[1], self.name, f"{name}_")
            for name, of in arrays.items()
            if len(of) == 2 and of[1] > 1
        }
        self.keys = tuple(dict.fromkeys(each for name in arrays for each in self.vectors.get(name, (name,))))
        self.numbered = "feature_names" not in self._headers
        self.features = numbered_names(0, shape[1], self.name) if self.numbered else self._names(shape[1])

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        rows = self._headers["X"][0][0]
        places = {each: (name, j) for name, names in self.vectors.items() for j, each in enumerate(names)}
        loaded: dict[str, NDArray[Any]] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for key in keys:
            name, j = (key, 0) if key in self._headers else places[key]
            shape = self._headers[name][0]
            if shape not in ((rows,), (rows, 1)) and (key == name or shape[0] != rows):
                problem = f"has shape {list(shape)} and must have [{rows}], for X has {rows} rows"
                raise UserError(problem, setting=f'array "{name}" in {self.name}')
            if name not in loaded:
                loaded[name] = self._load(name).reshape(rows, -1)
            arrays[key] = loaded[name][:, j]
        return MatrixTable(self.name, self._load("X"), self.features, arrays)

    def _load(self, member: str) -> NDArray[Any]:
        shape, dtype = self._headers[member]
        require_free(
            math.prod(shape) * dtype.itemsize,
            f'array "{member}" of shape {list(shape)} and type {dtype}, unpacked from {self.name},',
            "give fewer rows or columns, a narrower type, or X in a .npy file, which is read as it is used",
        )
        with readable(f'array "{member}" in {self.name}'), np.load(self._path, allow_pickle=False) as archive:
            return np.asarray(archive[member])

    def _names(self, columns: int) -> tuple[str, ...]:
        """Return the names in `feature_names`; UserError where they are not one for each column of X."""
        count, place = math.prod(self._headers["feature_names"][0]), f"feature_names in {self.name}"
        if count != columns:
            raise UserError(f"holds {count} names, and X has {columns} columns", setting=place, remedy="name each once")
        names = tuple(str(name) for name in self._load("feature_names").astype(str).ravel())
        refuse_duplicates(names, place)
        if both := [name for name in names if name in self.keys]:
            raise UserError(f"holds {listing(both)}, which are arrays too", setting=place, remedy="rename one of them")
        return names


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype that the header of an array states; ValueError where it states none.

    NumPy reads the header by Python's parser, which says of one nested too deeply that memory is short."""
    old = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except MemoryError as error:
        raise ValueError("its header is no header of an array") from error
    return shape, dtype


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of an array in an archive, without its values; ValueError where they are too few."""
    with archive.open(member) as file:
        shape, dtype = _read_header(file)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size - file.tell():
            raise ValueError(f"it is too short for an array of shape {list(shape)} and type {dtype}")
    return shape, dtype


def _check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], what: str, kinds: str = "biuf") -> None:
    if len(shape) != 2 or min(shape) < 1:
        problem = f"has shape {list(shape)} and must be a matrix [rows, columns] with at least one of each"
        raise UserError(problem, setting=what, remedy="reshape it before it is saved")
    if dtype.kind not in kinds:
        problem = f"has type {dtype} and must hold whole or floating-point numbers"
        remedy = "convert it before it is saved, or write a .csv or .parquet file, whose columns of text are categories"
        raise UserError(problem, setting=what, remedy=remedy)


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
        self.keys = ("y",)

    @property
    def width(self) -> int:
        """How many columns an array has whose first column is x0."""
        return int(self._X.shape[1])

    def require(
        self,
        features: Sequence[str],
        keys: Sequence[str],
        needed_by: str,
        widths: Sequence[int] = (),
        *,
        ignore_unknown: bool = False,
    ) -> None:
        """Raise UserError as for any file, but features by index need not occur. `widths` bound the indices from above,
        unless unknown ones are ignored; and where all of them from 1 on are needed, the file must not begin at 0."""
        named = [name for name in features if not re.fullmatch("x[0-9]+", name)]
        super().require(named, keys, needed_by)
        end = max(widths, default=self.width)
        if self.width > end and not ignore_unknown:
            problem = f"has the index {self.width - 1}, and {needed_by} has features up to the index {end - 1}"
            remedy = "leave out what is beyond, or ignore it with --ignore-unknown-features (of training:"
            remedy += " data.ignore_unknown_features)"
            raise UserError(problem, setting=self.name, remedy=remedy)
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
        return _SparseTable(self.name, X, features, {"y": np.asarray(self._y)})


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
        every = columns == list(range(rows.shape[1]))
        return np.asarray((rows if every else rows[:, columns]).toarray(), np.float64)
