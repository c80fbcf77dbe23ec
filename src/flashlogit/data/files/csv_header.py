"""The first line of a .csv file: what is wrong with a file shows there, before Arrow parses it."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from ...system.errors import UserError
from ...system.wording import listing
from .text_kinds import PLAIN_NUMBER

_FIRST_BYTES = 1 << 16
_MARK = b"\xef\xbb\xbf"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COUNTED = 3
"""So many numbers in steps of one from 0 are names that a program gave to columns, and no row of data."""
_NUMBER = re.compile(PLAIN_NUMBER, re.ASCII)


def find_separator(stream: Any, separator: str, place: str, *, adapt: bool) -> str:
    """The separator of a CSV file that is expected to have `separator`: with `adapt` the one that its header line
    shows.

    Raises UserError, in which the file is called `place`, if it is not UTF-8 text, empty, or, without `adapt`,
    separated by something else. Names are Arrow's to find: this looks only as far as it takes to say what is wrong.
    """
    head = stream.read(_FIRST_BYTES)
    # Arrow leaves out lines that are empty, but not one of blanks.
    line = next((line for line in head.removeprefix(_MARK).splitlines() if line), b"")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or 3 * line.count(b"\0") > len(line):
        raise not_utf8(place, "UTF-16")
    if b"\0" in line:
        raise UserError(
            f"the first line of {place} has bytes that are no text; check that the file is what its name says"
        )
    if not line.strip():
        raise UserError(f"{place} has no header line; give a file with the columns' names in the first line")
    # Latin-1 has a character for every byte: the bytes of a character may be cut, and separators are ASCII.
    text = line.decode("latin-1")
    marks = [mark for mark in _SEPARATORS if mark != separator and mark in text]
    goes_on = (
        text.count('"') % 2 == 1
    )  # a name with a line break in quotes: its other part is in the next line
    if separator in text or not marks or goes_on:
        return separator
    mark = max(marks, key=text.count)
    if adapt:
        return mark
    text = line.decode("utf-8", errors="replace")
    if "\ufffd" in text[:-1]:
        raise not_utf8(place)
    name = " ".join(text.split()) if mark != "\t" else text.strip()
    tabs = ", end the file's name in .tsv" if mark == "\t" else ""
    written = "\\t" if mark == "\t" else mark
    raise UserError(
        f'the header line of {place} is one name, "{name[:60]}"; separate the columns with'
        f" {_SEPARATORS[separator]} instead of {_SEPARATORS[mark]}{tabs}, or set data.separator (of inspect:"
        f' --separator) to "{written}"'
    )


def read_names(stream: Any, most_bytes: int, parse: csv.ParseOptions, place: str) -> list[str]:
    """The names in the header line, as they stand there: those by which Arrow finds the columns of this file.

    Raises UserError for names that are no UTF-8, and for a file of a header line alone.
    """
    # Values are no matter here, and without threads no more than the first block is read.
    options = csv.ReadOptions(block_size=most_bytes, use_threads=False)
    convert = csv.ConvertOptions(check_utf8=False)
    try:
        with csv.open_csv(
            stream, read_options=options, parse_options=parse, convert_options=convert
        ) as reader:
            names: list[str] = reader.schema.names
            return names
    except UnicodeDecodeError as error:
        raise not_utf8(place) from error
    except pa.ArrowInvalid as error:
        if says_empty(error):
            raise no_rows(place) from error
        raise


def check_header(header: list[str], name: str) -> None:
    """UserError for names that cannot be: without a header line the first row of data would silently become them.

    Numbers may be names, as wavelengths and years are beside a name for the label, and as 0, 1, 2, ... are in a data
    frame that has none. They rise then, which the numbers of a row of data seldom do.
    """
    numbers = [column for column in header if _NUMBER.match(column)]
    if len(numbers) == len(header) and not _counts(numbers):
        raise UserError(
            f"the first line of {name} holds only numbers ({listing(header, 3)}); add a header line with the"
            " columns' names above it"
        )
    if 2 * len(numbers) >= len(header) and not _rise(numbers):
        raise UserError(
            f"the first line of {name} holds numbers ({listing(numbers, 3)}) and looks like a row of data; add a header"
            " line with the columns' names above it, or give the columns names that are no numbers"
        )
    if "" in header:
        raise UserError(
            f"the header line of {name} has an empty name for column {header.index('') + 1}; name it (pandas leaves it"
            " empty for an index: write with index=False)"
        )


def says_empty(error: pa.ArrowInvalid) -> bool:
    """Whether it is Arrow's error for a file without a row below the header line."""
    return "Empty CSV file" in str(error)


def no_rows(place: str) -> UserError:
    """The error for such a file."""
    return UserError(f"{place} has no rows; give a file with at least one row of data")


def not_utf8(place: str, encoding: str = "LATIN1") -> UserError:
    """The error for text in another encoding, with how to convert it."""
    was = "which is UTF-16" if encoding == "UTF-16" else "such as Latin-1 or Windows-1252"
    return UserError(
        f"{place} is not UTF-8 text ({was}); save it as UTF-8, or convert it, as in: iconv -f {encoding} -t UTF-8"
        f" {shlex.quote(place)} > utf8.csv"
    )


def _counts(names: list[str]) -> bool:
    """Whether names count columns, as those of a data frame that has no names do."""
    return len(names) >= _COUNTED and names == [str(i) for i in range(len(names))]


def _rise(numbers: list[str]) -> bool:
    """Whether each number is greater than the one before it."""
    return all(float(one) < float(other) for one, other in pairwise(numbers))
