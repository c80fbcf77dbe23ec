"""The first line of a .csv file: what is wrong with a file shows there, before Arrow parses it."""

from __future__ import annotations

import shlex
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from flashlogit.data.wording import listing
from flashlogit.errors import UserError

_FIRST_BYTES = 1 << 16
_MARK = b"\xef\xbb\xbf"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COUNTED = 3
"""So many numbers in steps of one from 0 or 1 are names that a program gave to columns, and no row of data."""


def read_header(stream: Any, most_bytes: int, delimiter: str, place: str) -> list[str]:
    """The names in the header line of a CSV file [D], as they stand there.

    Raises UserError, in which the file is called `place`, if it is not UTF-8 text, empty, or separated by something
    else than `delimiter`.
    """
    line = _first_line(stream, most_bytes)
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or 3 * line.count(b"\0") > len(line):
        raise not_utf8(place, "UTF-16")
    if b"\0" in line:
        raise UserError(
            f"the first line of {place} has bytes that are no text; check that the file is what its name says"
        )
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(place) from error
    if not text.strip():
        raise UserError(f"{place} has no header line; give a file with the columns' names in the first line")
    marks = [mark for mark in _SEPARATORS if mark != delimiter and mark in text]
    if delimiter not in text and marks:
        mark = max(marks, key=text.count)
        name = " ".join(text.split()) if mark != "\t" else text.strip()
        tabs = ", end the file's name in .tsv" if mark == "\t" else ""
        written = "\\t" if mark == "\t" else mark
        raise UserError(
            f'the header line of {place} is one name, "{name[:60]}"; separate the columns with'
            f" {_SEPARATORS[delimiter]} instead of {_SEPARATORS[mark]}{tabs}, or set data.separator (of inspect:"
            f' --separator) to "{written}"'
        )
    # Arrow splits the line, so that its names are those by which it finds the columns.
    names: list[str] = csv.read_csv(
        pa.BufferReader(line.rstrip(b"\r\n") + b"\n"),
        read_options=csv.ReadOptions(block_size=most_bytes),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    ).schema.names
    return names


def check_header(header: list[str], name: str) -> None:
    """UserError for names that cannot be: without a header line the first row of data would silently become them."""
    numbers = [column for column in header if _is_number(column)]
    if len(numbers) == len(header):
        raise UserError(
            f"the first line of {name} holds only numbers ({listing(header, 3)}); add a header line with the"
            " columns' names above it"
        )
    if 2 * len(numbers) >= len(header) and not _counts(numbers):
        raise UserError(
            f"the first line of {name} holds numbers ({listing(numbers, 3)}) and looks like a row of data; add a header"
            " line with the columns' names above it, or give the columns names that are no numbers"
        )
    if "" in header:
        raise UserError(
            f"the header line of {name} has an empty name for column {header.index('') + 1}; name it (pandas leaves it"
            " empty for an index: write with index=False)"
        )


def not_utf8(place: str, encoding: str = "LATIN1") -> UserError:
    """The error for text in another encoding, with how to convert it."""
    was = "which is UTF-16" if encoding == "UTF-16" else "such as Latin-1 or Windows-1252"
    return UserError(
        f"{place} is not UTF-8 text ({was}); save it as UTF-8, or convert it, as in: iconv -f {encoding} -t UTF-8"
        f" {shlex.quote(place)} > utf8.csv"
    )


def _first_line(stream: Any, most_bytes: int) -> bytes:
    """The first line that is not blank, with those that a quoted line break goes on to."""
    seen = b""
    while True:
        more = stream.read(max(_FIRST_BYTES, len(seen)))
        seen += more
        lines = seen.removeprefix(_MARK).splitlines(keepends=True)
        start = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
        quotes = 0
        for i in range(start, len(lines)):
            quotes += lines[i].count(b'"')
            if quotes % 2 == 0 and (i + 1 < len(lines) or not more):
                return b"".join(lines[start : i + 1])
        if not more or len(seen) >= most_bytes:
            return lines[start] if start < len(lines) else b""


def _counts(names: list[str]) -> bool:
    """Whether names count columns, as those of a data frame that has no names do."""
    counted = [[str(i) for i in range(first, first + len(names))] for first in (0, 1)]
    return len(names) >= _COUNTED and names in counted


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
