"""What the rest of the package sees of a file: names, one column at a time, and float64 row blocks."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.memory import require_free
from ...system.wording import column_word, did_you_mean, listing
from .reading import PLAIN, Reading

_NAME_BYTES = 100
"""Bytes that a column's name takes, and what a program keeps of each column."""
_BLOCK_BYTES = 4 << 20
"""Bytes of a row block in float64, small enough that it and its standardised copy stay in the cache."""
_WIDE_ROWS, _WIDE_BLOCKS, _WIDE_BYTES, _MOST_BYTES = 1024, 16, 64 << 20, 256 << 20
"""Wide tables pay per column and block, and get more: 1024 rows, but no more than the greater of a sixteenth of the
table, which keeps a block and its copies small beside X, and 64 MiB; and never more than 256 MiB."""


READ_ERRORS = (
    *(OSError, ValueError, EOFError, LookupError, RuntimeError, TypeError, ArithmeticError, MemoryError),
    *(SyntaxError, tokenize.TokenError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, pa.ArrowException),
)
"""What Arrow, NumPy, gzip and zipfile raise for files that are damaged, protected or of another kind."""
TRAINING_REMEDY = "turn them into numbers, or leave them out with data.drop"


def unreadable(what: str, error: Exception) -> UserError:
    """The error for a file that a reader gives up on, with the reader's reason."""
    reason = " ".join(str(error).split()) or "it ends too early"
    # zipfile raises RuntimeError for a password and NotImplementedError for a compression that it does not have.
    locked = type(error) in (RuntimeError, NotImplementedError)
    remedy = (
        "unpack it and give the file in it"
        if locked
        else "check that the file is complete and is what its name says"
    )
    return UserError(f"{what} cannot be read ({reason}); {remedy}")


def numbered_names(first: int, stop: int, file: str) -> tuple[str, ...]:
    """The names x{first} .. x{stop - 1}; UserError where a file has more columns than the memory holds names."""
    require_free(
        _NAME_BYTES * (stop - first),
        f"a name for each of the {stop - first:,} columns of {file}",
        "number columns without gaps, hash them into fewer, or leave out the greatest numbers",
    )
    return tuple(f"x{j}" for j in range(first, stop))


class Table(ABC):
    """Columns of equal length, in memory or memory-mapped. Only what was asked for has been read."""

    def __init__(self, name: str, rows: int) -> None:
        if rows == 0:
            raise UserError(f"{name} has no rows; give a file with at least one row of data")
        self.name = name
        self.rows = rows

    @abstractmethod
    def column(self, name: str) -> pa.ChunkedArray:
        """One column as an Arrow chunked array [N] in its own type."""

    @abstractmethod
    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        """Rows start..stop of columns of numbers: a fresh float64 [stop - start, D], NaN where empty."""

    @abstractmethod
    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        """Which of these columns hold something else than numbers, and what."""

    def blocks(self, names: Sequence[str]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """All rows, in order, as (index of the first row, float64 block [n, D])."""
        row_bytes = 8 * max(len(names), 1)
        small = max(self.rows // _WIDE_BLOCKS, _WIDE_BYTES // row_bytes)
        wide = min(_WIDE_ROWS, small, _MOST_BYTES // row_bytes)
        rows = max(_BLOCK_BYTES // row_bytes, wide, 1)
        for start in range(0, self.rows, rows):
            yield start, self.block(names, start, min(start + rows, self.rows))

    def require_numbers(self, names: Sequence[str], remedy: str = TRAINING_REMEDY) -> None:
        """Raise UserError, naming the columns, if any of these holds text, dates or lists; `remedy` ends it."""
        wrong = self.not_numbers(names)
        if wrong:
            shown = [f'"{name}" ({what})' for name, what in list(wrong.items())[:8]]
            more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            raise UserError(
                f"{self.name} has columns among the features that hold no numbers: {', '.join(shown)}{more};"
                f" {remedy}"
            )


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

    @abstractmethod
    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> Table:
        """Read these columns, which must exist, and no others; `reading` matters to files and columns of text."""

    @property
    def width(self) -> int:
        """How many columns an array must have for its columns to be this file's."""
        return len(self.features)

    def find_feature(self, column: str | int, setting: str) -> str:
        """The name of the feature column that `setting` calls `column`, or UserError."""
        return self._find(column, self.features, setting)

    def find_key(self, column: str | int, setting: str) -> str:
        """The name of the label, weight or id column that `setting` calls `column`, or UserError."""
        return self._find(column, self.keys, setting)

    def require(
        self, features: Sequence[str], keys: Sequence[str], needed_by: str, widths: Sequence[int] = ()
    ) -> None:
        """Raise UserError for a file that lacks some of these columns, naming them, and for numbered columns of another
        count than `widths`; () for any."""
        missing = [name for name in features if name not in self._feature_set]
        missing += [name for name in keys if name not in self._key_set]
        if self.numbered and widths and self.width not in widths:
            raise UserError(
                f"{needed_by} needs an array of {' or '.join(map(str, widths))} columns, and {self.name} has"
                f" {self.width}; give one with the same columns in the same order"
            )
        if missing:
            present = tuple(dict.fromkeys(self.features + self.keys))
            raise UserError(
                f"{needed_by} needs {column_word([*features, *keys])}; {self.name} lacks {listing(missing)}"
                f" and has {listing(present)}"
            )

    @cached_property
    def _feature_set(self) -> frozenset[str]:
        return frozenset(self.features)

    @cached_property
    def _key_set(self) -> frozenset[str]:
        return frozenset(self.keys)

    def _find(self, column: str | int, names: tuple[str, ...], setting: str) -> str:
        # A whole number can be a name: pandas writes unnamed Parquet columns as "0", "1", ...
        if str(column) in (self._feature_set if names is self.features else self._key_set):
            return str(column)
        if not isinstance(column, str):
            raise UserError(
                f"{setting} is {column}, and {self.name} has columns by name; write one of {listing(names)}"
            )
        raise UserError(
            f'{setting} is "{column}", and {self.name} has no such column{did_you_mean(column, names)}; it'
            f" has {listing(names)}"
        )
