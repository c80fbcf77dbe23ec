"""Files of text: .csv, .csv.gz and .csv.zip, and the same with tabs, .tsv."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from ...system.errors import UserError, listing
from ...system.files import PLAIN_NUMBER
from .arrow import ArrowFile, require_room_beside
from .tables import PLAIN, Reading, no_rows, readable, refuse_duplicates
from .text import without_marks

_BLOCK_BYTES = 1 << 20
"""Bytes that are read at a time; a line must fit. 113 MB took 0.73 s of CPU time so, and 0.93 s by 8 MiB."""
_LONG_LINE_BYTES = 8 << 20
"""The same where the first two lines are longer than `_FIRST_BYTES`, or where a line does not fit: 8 MiB are some
400,000 numbers."""
_FIRST_BYTES = 1 << 16
_WATCHED_READS = 8
"""Reads for each look at the free memory, which takes 0.4 ms."""
_MARK = b"\xef\xbb\xbf"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COUNTED = 3
"""So many numbers in steps of one from 0 are names that a program gave to columns, and no row of data."""
_NUMBER = re.compile(PLAIN_NUMBER, re.ASCII)
_ADD_HEADER = "add a header line with the columns' names above it"


def open_csv(path: Path, setting: str, reading: Reading = PLAIN) -> ArrowFile:
    """Open a file of separated columns with a header line, plain, gzipped or zipped.

    All its rows decide a column's type, but for those that are asked for as text. Blanks around names are no part of
    them.
    """
    name = str(path)
    expected = "\t" if ".tsv" in path.name.lower() else reading.separator
    with readable(f"{setting} {name}"):
        with _stream(path, setting) as stream:
            head = stream.read(_FIRST_BYTES)
        delimiter = _find_separator(head, expected, name, adapt=reading.any_separator)
        block_bytes = _BLOCK_BYTES if head.count(b"\n") > 1 else _LONG_LINE_BYTES
        # Looking for line breaks in quotes costs a quarter more (104 MB in 1.03 s instead of 0.81 s on two cores);
        # without it a value that a block's end cuts in two is read as two rows, and not always refused.
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        with _stream(path, setting) as stream:
            header = _read_names(stream, block_bytes, parse, name)
    columns = [column.strip() for column in header]
    _check_header(columns, name)
    refuse_duplicates(columns, name)
    in_file = dict(zip(columns, header, strict=True))

    def read_rows(convert: csv.ConvertOptions, block_bytes: int) -> pa.Table:
        with _csv_errors(name), _stream(path, setting) as stream:
            watched, options = pa.PythonFile(_Watched(stream, name), mode="r"), csv.ReadOptions(block_size=block_bytes)
            try:
                return csv.read_csv(watched, read_options=options, parse_options=parse, convert_options=convert)
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or block_bytes >= _LONG_LINE_BYTES:
                    raise
        return read_rows(convert, _LONG_LINE_BYTES)

    @readable(name)
    def read(names: list[str], reading: Reading) -> pa.Table:
        if delimiter == reading.decimal:  # a comma cannot be both, in whatever file the model has learnt from
            reading = replace(reading, decimal=".")
        convert = _conversion({column: in_file[column] for column in names}, reading)
        table = read_rows(convert, block_bytes)
        require_room_beside(pa.total_allocated_bytes(), name, taken=True)  # the last blocks, read ahead
        # Inferred for text that is no UTF-8.
        if any(pa.types.is_binary(field.type) for field in table.schema):
            raise _not_utf8(name)
        table = table.rename_columns(names)
        if reading.verbatim:
            table = without_marks(table, set(names) - reading.verbatim, convert.null_values)
        return table

    return ArrowFile(name, columns, read, typed=False)


def _conversion(names: dict[str, str], reading: Reading) -> csv.ConvertOptions:
    """Return how the columns `names`, each with its name in the file, become values."""
    as_text = reading.verbatim | reading.text
    options = csv.ConvertOptions(
        include_columns=list(names.values()),
        column_types={raw: pa.string() for name, raw in names.items() if name in as_text},
        # For all columns of text or none: where some are verbatim, the others' are found afterwards.
        strings_can_be_null=not reading.verbatim,
        decimal_point=reading.decimal,
    )
    options.null_values = list(dict.fromkeys([*options.null_values, *reading.marks]))
    return options


class _Watched:
    """The bytes of a file, unpacked, as long as the table that is made of them leaves room for X."""

    closed = False

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name
        self._reads = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes; UserError where there is no room."""
        if self._reads % _WATCHED_READS == 0:
            require_room_beside(pa.total_allocated_bytes(), self._name, taken=True)
        self._reads += 1
        return bytes(self._stream.read(size))


@contextmanager
def _stream(path: Path, setting: str) -> Iterator[Any]:
    """Give the bytes of a file, unpacked."""
    if path.suffix.lower() != ".zip":
        compression = "gzip" if path.suffix.lower() == ".gz" else None
        with pa.input_stream(str(path), compression=compression) as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name[-1] != "/" and not name.startswith("__MACOSX/")]
        if len(members) != 1:
            problem = f"holds {len(members)} files, {listing(members) or 'none'}"
            remedy = "give an archive with one .csv file, or unpack it"
            raise UserError(problem, setting=f"{setting} {path}", remedy=remedy)
        with archive.open(members[0]) as member:
            yield pa.PythonFile(member, mode="r")


def _find_separator(head: bytes, separator: str, file: str, *, adapt: bool) -> str:
    """Return the separator of a CSV file that begins with `head` and is expected to have `separator`: with `adapt` the
    one that its header line shows.

    Raises UserError, which names the `file`, if it is not UTF-8 text, empty, or, without `adapt`, separated by
    something else. Names are Arrow's to find: this looks only as far as it takes to say what is wrong.
    """
    # Arrow leaves out lines that are empty, but not one of blanks.
    line = next((line for line in head.removeprefix(_MARK).splitlines() if line), b"")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or 3 * line.count(b"\0") > len(line):
        raise _not_utf8(file, "UTF-16")
    if b"\0" in line:
        problem, remedy = "the first line has bytes that are no text", "check that the file is what its name says"
        raise UserError(problem, setting=file, remedy=remedy)
    if not line.strip():
        raise UserError("there is no header line", setting=file, remedy=_ADD_HEADER)
    # Latin-1 has a character for every byte: the bytes of a character may be cut, and separators are ASCII.
    text = line.decode("latin-1")
    marks = [mark for mark in _SEPARATORS if mark != separator and mark in text]
    # A name with a line break in quotes goes on in the next line.
    if separator in text or not marks or text.count('"') % 2 == 1:
        return separator
    mark = max(marks, key=text.count)
    if adapt:
        return mark
    text = line.decode("utf-8", errors="replace")
    if "\ufffd" in text[:-1]:
        raise _not_utf8(file)
    name = " ".join(text.split()) if mark != "\t" else text.strip()
    tabs, written = ("end the file's name in .tsv, ", "\\t") if mark == "\t" else ("", mark)
    remedy = f"separate the columns with {_SEPARATORS[separator]} instead of {_SEPARATORS[mark]}, {tabs}or set"
    remedy += f' data.separator (of inspect: --separator) to "{written}"'
    raise UserError(f'the header line is one name, "{name[:60]}"', setting=file, remedy=remedy)


def _read_names(stream: Any, block_bytes: int, parse: csv.ParseOptions, file: str) -> list[str]:
    """Return the names in the header line, as they stand there: those by which Arrow finds the columns of this file.

    Raises UserError for names that are no UTF-8, and for a file of a header line alone.
    """
    # Values are no matter here, and without threads no more than the first block is read.
    options = csv.ReadOptions(block_size=block_bytes, use_threads=False)
    convert = csv.ConvertOptions(check_utf8=False)
    with (
        _csv_errors(file),
        csv.open_csv(stream, read_options=options, parse_options=parse, convert_options=convert) as reader,
    ):
        return list(reader.schema.names)


def _check_header(header: list[str], file: str) -> None:
    """Raise UserError for names that cannot be: without a header line the first row of data would silently become them.

    Numbers may be names, as wavelengths and years are beside a name for the label, and as 0, 1, 2, ... are in a data
    frame that has none. They rise then, which the numbers of a row of data seldom do.
    """
    numbers = [column for column in header if _NUMBER.match(column)]
    counting = len(header) >= _COUNTED and header == [str(i) for i in range(len(header))]
    rising = all(float(one) < float(other) for one, other in pairwise(numbers))
    only = len(numbers) == len(header)
    if (only and not counting) or (2 * len(numbers) >= len(header) and not rising):
        problem = f"the first line holds numbers ({listing(numbers, 3)}) and looks like a row of data"
        raise UserError(problem, setting=file, remedy=f"{_ADD_HEADER}, or give the columns names that are no numbers")
    if "" in header:
        problem = f"the header line has an empty name for column {header.index('') + 1}"
        remedy = "name it (pandas leaves it empty for an index: write with index=False)"
        raise UserError(problem, setting=file, remedy=remedy)


@contextmanager
def _csv_errors(file: str) -> Iterator[None]:
    """Turn Arrow's errors for text in another encoding, and for a header line without rows, into UserErrors."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _not_utf8(file) from error
    except pa.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise _not_utf8(file) from error
        if "Empty CSV file" in str(error):
            raise no_rows(file) from error
        raise


def _not_utf8(file: str, encoding: str = "LATIN1") -> UserError:
    """Return the error for text in another encoding, with how to convert it."""
    was = "which is UTF-16" if encoding == "UTF-16" else "such as Latin-1 or Windows-1252"
    convert = f"iconv -f {encoding} -t UTF-8 {shlex.quote(file)} > utf8.csv"
    problem = f"is not UTF-8 text ({was})"
    return UserError(problem, setting=file, remedy=f"save it as UTF-8, or convert it, as in: {convert}")
