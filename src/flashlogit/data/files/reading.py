"""How files are read: what is to be taken from text, and the one error for files that cannot be read."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from ...system.errors import UserError


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
        any_separator: whether another separator that a file's header line shows is taken instead.
    """

    text: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    verbatim: frozenset[str] = frozenset()
    any_separator: bool = False

    @property
    def marks(self) -> list[str]:
        """The spellings in `missing` as whole fields: a field after a comma and a blank begins with the blank."""
        return [field for mark in self.missing for field in (mark, f" {mark}")]


PLAIN = Reading()
_READ_ERRORS = (
    *(OSError, ValueError, EOFError, LookupError, RuntimeError, TypeError, ArithmeticError, MemoryError),
    *(SyntaxError, tokenize.TokenError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, pa.ArrowException),
)
"""What Arrow, NumPy, gzip and zipfile raise for files that are damaged, protected or of another kind."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what a reader raises for a file that it gives up on into a UserError with its reason; `what` names the
    file."""
    try:
        yield
    except _READ_ERRORS as error:
        reason = " ".join(str(error).split()) or "it ends too early"
        # zipfile raises RuntimeError for a password and NotImplementedError for a compression that it does not have.
        locked = type(error) in (RuntimeError, NotImplementedError)
        unpack, check = "unpack it and give the file in it", "check that it is complete and of its kind"
        remedy = unpack if locked else check
        raise UserError(f"cannot be read ({reason})", setting=what, remedy=remedy) from error


def no_rows(file: str) -> UserError:
    """Return the error for a file without a row of data."""
    return UserError("there are no rows", setting=file, remedy="give a file with at least one row of data")
