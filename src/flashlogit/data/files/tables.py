"""What the rest of the package sees of a file: names, one column at a time, and float64 row blocks.

Here is also how a file is read: what is to be taken from text, and the one error for files that cannot be read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError, did_you_mean, listing, row_text, some_of
from ...system.machine import require_free


@dataclass(frozen=True)
class Reading:
    """How the values of a text file are to be taken; in files whose columns have types, it matters to those of text.

    Types that are inferred depend on the other rows of a file: 01234 is a number among numbers and text beside a word.
    A model must see the same row the same way in every file.

    Attributes:
        text: columns to take as text, whatever their values look like.
        missing: spellings of a missing value beside the usual ones (empty, NA, NULL, nan, ...).
        separator: what stands between the columns of a .csv file.
        decimal: the decimal point.
        verbatim: columns of which no value is missing, and all are text as it stands in a file of text, as ids are.
        any_separator: whether another separator that a file's header line shows is taken instead, a decimal point where
            the comma separates, and UTF-8 where a file is that.
        encoding: the encoding of files of text.
    """

    text: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    verbatim: frozenset[str] = frozenset()
    any_separator: bool = False
    encoding: str = "utf-8"

    @property
    def marks(self) -> list[str]:
        """The spellings in `missing` as whole fields: a field after a comma and a blank begins with the blank."""
        return [field for mark in self.missing for field in (mark, f" {mark}")]


PLAIN = Reading()


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what a reader raises for a file that it gives up on into a UserError with its reason; `what` names the
    file. For files that are damaged, protected or of another kind, Arrow, NumPy, gzip and zipfile raise errors of any
    class, SyntaxError and TokenError among them."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "it ends too early"
        # zipfile raises RuntimeError for a password and NotImplementedError for a compression that it does not have.
        locked = type(error) in (RuntimeError, NotImplementedError)
        remedy = "unpack it and give the file in it" if locked else "check that it is complete and of its kind"
        raise UserError(f"cannot be read ({reason})", setting=what, remedy=remedy) from error


def no_rows(file: str) -> UserError:
    """Return the error for a file without a row of data."""
    return UserError("there are no rows", setting=file, remedy="give a file with at least one row of data")


Mask: TypeAlias = NDArray[np.bool_]
"""Which of N rows [N]."""
_NAME_BYTES = 100
"""Bytes that a column's name takes, and what a program keeps of each column."""
_BLOCK_BYTES = 4 << 20
"""Bytes of a row block in float64, small enough that it and its standardised copy stay in the cache."""
_WIDE_ROWS, _WIDE_BLOCKS, _WIDE_BYTES, _MOST_BYTES = 1024, 16, 64 << 20, 256 << 20
"""Wide tables pay per column and block, and get more: 1024 rows, but no more than the greater of a sixteenth of the
table, which keeps a block and its copies small beside X, and 64 MiB; and never more than 256 MiB."""

NUMBERS_REMEDY = "turn them into numbers, or leave them out with data.drop"
_REMEDY = "fill it in, or leave out the row or the column"
REMEDY_FOR_ROWS = "fill it in, or leave out the row"
"""Where a model needs the column."""
MISSING_VALUE = "missing (empty or NaN)"


def numbered_names(first: int, stop: int, file: str, stem: str = "x") -> tuple[str, ...]:
    """Return the names {stem}{first} .. {stem}{stop - 1}; UserError where the memory cannot hold as many."""
    require_free(
        _NAME_BYTES * (stop - first),
        f"a name for each of the {stop - first:,} columns of {file}",
        "number columns without gaps, hash them into fewer, or leave out the greatest numbers",
    )
    return tuple(f"{stem}{j}" for j in range(first, stop))


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, each once."""
    return [name for name, count in Counter(names).items() if count > 1]


def refuse_duplicates(names: Iterable[str], file: str) -> None:
    """Raise UserError where two columns have one name."""
    if twice := repeated(names):
        raise UserError(f"two columns have the name {listing(twice)}", setting=file, remedy="rename one of them")


def refuse_not_numbers(file: str, wrong: Mapping[str, str], remedy: str) -> None:
    """Raise UserError where there are features that hold no numbers: `wrong` says what each of them holds."""
    if wrong:
        shown = some_of([f'"{name}" ({what})' for name, what in wrong.items()])
        raise UserError(f"features that hold no numbers: {shown}", setting=file, remedy=remedy)


class Table(ABC):
    """Columns of equal length, in memory or memory-mapped. Only what was asked for has been read."""

    only_numbers: bool = False
    """Whether the features are a matrix of numbers, which has nothing to encode and may be larger than the memory."""

    def __init__(self, name: str, rows: int) -> None:
        if rows == 0:
            raise no_rows(name)
        self.name = name
        self.rows = rows

    def file_of(self, column: str) -> str:
        """Return the name of the file that has a column, for errors."""
        return self.name

    @abstractmethod
    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column as an Arrow chunked array [N] in its own type."""

    @abstractmethod
    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        """Return rows start..stop of columns of numbers: a fresh float64 [stop - start, D], NaN where empty."""

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        """Return which of these columns hold something else than numbers, and what."""
        return {}

    def require_numbers(self, names: Sequence[str], remedy: str = NUMBERS_REMEDY) -> None:
        """Raise UserError where some of these columns hold text, dates or lists; `remedy` ends it."""
        refuse_not_numbers(self.name, self.not_numbers(names), remedy)

    def finite_blocks(
        self, names: Sequence[str], kept: Mask | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield the rows where `kept` [N] is true (all if None), in order: (row indices [n], fresh float64 block
        [n, D]).

        Raises UserError as `require_finite`.
        """
        for start, block in self.blocks(names):
            rows = np.arange(start, start + len(block))
            if kept is not None and not kept[start : start + len(block)].all():
                here = kept[start : start + len(block)]
                rows, block = rows[here], block[here]
            self.require_finite(block, names, rows, _REMEDY)
            yield rows, block

    def require_finite(
        self, block: NDArray[np.float64], names: Sequence[str], rows: NDArray[np.intp], remedy: str
    ) -> None:
        """Raise UserError, naming row and column and ending with `remedy`, at the first value of a block [n, D] of
        these `rows` [n] that is missing or infinite."""
        finite = np.isfinite(block)
        if not finite.all():
            i, j = np.unravel_index(np.argmin(finite), finite.shape)
            what = MISSING_VALUE if np.isnan(block[i, j]) else "infinite"
            raise self.unusable_value(names[int(j)], int(rows[i]), what, remedy)

    def unusable_value(self, column: str, row: int, what: str, remedy: str = REMEDY_FOR_ROWS) -> UserError:
        """Return the error for a row whose value in a feature's column is `what`: none, or none to compute with."""
        problem = f'the value in {row_text(row)} of column "{column}" is {what}'
        return UserError(problem, setting=self.name, remedy=remedy)

    def blocks(self, names: Sequence[str]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield all rows, in order, as (index of the first row, float64 block [n, D])."""
        for start, stop in self.spans(len(names)):
            yield start, self.block(names, start, stop)

    def spans(self, columns: int) -> Iterator[tuple[int, int]]:
        """Yield the first row and the end of each block of so many columns."""
        row_bytes = 8 * max(columns, 1)
        small = max(self.rows // _WIDE_BLOCKS, _WIDE_BYTES // row_bytes)
        wide = min(_WIDE_ROWS, small, _MOST_BYTES // row_bytes)
        rows = max(_BLOCK_BYTES // row_bytes, wide, 1)
        for start in range(0, self.rows, rows):
            yield start, min(start + rows, self.rows)


class TableFile(ABC):
    """A file whose column names are known and whose columns can be read.

    `features` are the names that features are chosen from, `keys` those of labels, weights and ids. They are
    the same but for .npz files, where X and the other arrays are apart.
    """

    name: str
    features: tuple[str, ...]
    keys: tuple[str, ...]
    numbered: bool = False
    """Whether the columns have no names of their own, so that only their positions tell which they are."""
    by_number: tuple[str, ...] = ()
    """Which of `features` and `keys` a whole number is the position in, -1 for the last."""
    vectors: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Columns of lists, and arrays [N, T], each with the names of the T columns that its numbers are."""
    left_out: frozenset[str] = frozenset()
    """Further columns, which are read only where they are named, such as row numbers without a name."""
    also: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """What else columns may be called."""
    notes: tuple[str, ...] = ()
    """Sentences on what was done about the file's shape."""

    @abstractmethod
    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        """Read these columns, which must exist, and no others; `reading` matters to files and columns of text."""

    @property
    def width(self) -> int:
        """How many columns an array must have for its columns to be this file's."""
        return len(self.features)

    def find_feature(self, column: str | int, setting: str) -> str:
        """Return the name of the feature column that `setting` calls `column`, or raise UserError."""
        return self._find(column, "features", setting)

    def find_features(self, column: str | int, setting: str) -> tuple[str, ...]:
        """Return `find_feature`, or the feature columns that the numbers of a column of lists are."""
        found = self._numbers(column, "features") or self._others(column, "features")
        return found or (self.find_feature(column, setting),)

    def find_keys(self, column: str | int, setting: str) -> tuple[str, ...]:
        """Return `find_key`, or the columns that the numbers of a column of lists, or of an array [N, T], are."""
        return self._numbers(column, "keys") or (self.find_key(column, setting),)

    def find_key(self, column: str | int, setting: str) -> str:
        """Return the name of the label, weight or id column that `setting` calls `column`, or raise UserError."""
        return self._find(column, "keys", setting)

    def require(
        self,
        features: Sequence[str],
        keys: Sequence[str],
        needed_by: str,
        widths: Sequence[int] = (),
        *,
        ignore_unknown: bool = False,
    ) -> None:
        """Raise UserError for a file that lacks some of these columns, and for numbered columns of another count than
        `widths`; () for any. `ignore_unknown`: whether a sparse file may have indices beyond them."""
        if self.numbered and widths and self.width not in widths:
            wanted = " or ".join(map(str, widths))
            problem = f"{needed_by} needs an array of {wanted} columns, and it has {self.width}"
            raise UserError(problem, setting=self.name, remedy="give one with the same columns in the same order")
        missing = [name for name in features if name not in self._known["features"]]
        if missing := missing + [name for name in keys if name not in self._known["keys"]]:
            present = listing(dict.fromkeys(self.features + self.keys))
            problem = f"lacks {listing(missing)}, which {needed_by} needs, and has {present}"
            raise UserError(problem, setting=self.name, remedy="give a file with all of them")

    @cached_property
    def _known(self) -> dict[str, frozenset[str]]:
        # Where a model needs numbers in a column that has lists, reading it says so.
        lists = {name for name in self.vectors if name in self.keys}
        return {
            "features": self.left_out.union(self.features, lists),
            "keys": self.left_out.union(self.keys),
        }

    def _others(self, column: str | int, among: Literal["features", "keys"]) -> tuple[str, ...]:
        """Return the columns that are also called so, unless one has the very name."""
        return () if str(column) in self._known[among] else self.also.get(str(column), ())

    def _numbers(self, column: str | int, among: Literal["features", "keys"]) -> tuple[str, ...]:
        names = self.vectors.get(str(column), ())
        return names if self._known[among].issuperset(names) else ()

    def _find(self, column: str | int, among: Literal["features", "keys"], setting: str) -> str:
        names: tuple[str, ...] = getattr(self, among)
        what, remedy = "columns by name", f"name one of {listing(names)}"
        if among in self.by_number and not isinstance(column, str):
            if -len(names) <= column < len(names):
                return names[column]
            what, remedy = f"{len(names)} columns", f"give a number from {-len(names)} to {len(names) - 1}"
        # A whole number can be a name: pandas writes unnamed Parquet columns as "0", "1", ...
        elif str(column) in self._known[among]:
            return str(column)
        elif others := self._others(column, among):
            return others[0]
        elif isinstance(column, str):
            what = f"no such column{did_you_mean(column, names)}"
        raise UserError(f"{self.name} has {what}", setting=setting, value=column, remedy=remedy)


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Return a column [N] of numbers, NaN where one is missing, or of booleans of which none is.

    Arrow's own conversions from and to NumPy and Python, of single values too, import pandas, which takes 0.2 s. Hence
    this function and the three below.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_boolean(column.type):
        return to_numpy(column.cast(pa.uint8())).view(np.bool_)
    if column.null_count == 0:
        return np.from_dlpack(column)
    missing, buffers = to_numpy(column.is_null()), [None, column.buffers()[1]]
    filled = pa.Array.from_buffers(column.type, len(column), buffers, offset=column.offset)
    return np.where(missing, np.nan, np.from_dlpack(filled))


def from_numpy(values: NDArray[Any]) -> pa.Array:
    """Return numbers or booleans [N] as a column."""
    bits = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(bits)])


def from_text(values: Iterable[str]) -> pa.Array:
    """Return text [N] as a column of large_string."""
    parts = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.large_string(), len(parts), buffers)


def no_value(kind: pa.DataType) -> pa.Scalar:
    """Return a missing value."""
    return pa.nulls(1, kind)[0]
