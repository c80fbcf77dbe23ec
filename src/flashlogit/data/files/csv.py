"""Files of text: .csv, .csv.gz and .csv.zip, and the same with tabs, .tsv."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from ...system.errors import UserError
from ...system.wording import listing
from .arrow import ArrowFile, refuse_duplicates, require_room_beside
from .csv_header import check_header, find_separator, no_rows, not_utf8, read_names, says_empty
from .marks import without_marks
from .reading import PLAIN, Reading
from .tables import READ_ERRORS, unreadable

# One line of a CSV file must fit: 8 MiB are some 400,000 numbers.
_BLOCK_BYTES = 8 << 20
_OPTIONS = csv.ReadOptions(block_size=_BLOCK_BYTES)


def open_csv(path: Path, setting: str, reading: Reading = PLAIN) -> ArrowFile:
    """A file of separated columns with a header line, plain, gzipped or zipped; all its rows decide a column's type,
    but for those that are asked for as text. Blanks around names are no part of them."""
    name = str(path)
    expected = "\t" if ".tsv" in path.name.lower() else reading.separator
    try:
        with _stream(path, setting) as stream:
            delimiter = find_separator(stream, expected, name, adapt=reading.any_separator)
        parse = _parse_options(delimiter)
        with _stream(path, setting) as stream:
            header = read_names(stream, _BLOCK_BYTES, parse, name)
    except READ_ERRORS as error:
        raise unreadable(f"{setting} {name}", error) from error
    columns = [column.strip() for column in header]
    check_header(columns, name)
    refuse_duplicates(columns, name)
    in_file = dict(zip(columns, header, strict=True))

    def read(names: list[str], reading: Reading) -> pa.Table:
        if delimiter == reading.decimal:  # a comma cannot be both, in whatever file the model has learnt from
            reading = replace(reading, decimal=".")
        convert = _conversion({column: in_file[column] for column in names}, reading)
        try:
            with _stream(path, setting) as stream:
                watched = pa.PythonFile(_Watched(stream, name), mode="r")
                table = csv.read_csv(
                    watched, read_options=_OPTIONS, parse_options=parse, convert_options=convert
                )
            require_room_beside(pa.total_allocated_bytes(), name, taken=True)  # the last blocks, read ahead
        except pa.ArrowInvalid as error:
            if "invalid UTF8" in str(error):
                raise not_utf8(name) from error
            if says_empty(error):
                raise no_rows(name) from error
            raise
        # Inferred for text that is no UTF-8.
        if any(pa.types.is_binary(field.type) for field in table.schema):
            raise not_utf8(name)
        table = table.rename_columns(names)
        if reading.verbatim:
            table = without_marks(table, set(names) - reading.verbatim, convert.null_values)
        return table

    return ArrowFile(name, columns, read, typed=False)


def _parse_options(delimiter: str) -> csv.ParseOptions:
    """With line breaks in quotes. Looking for them costs a quarter more (104 MB in 1.03 s instead of 0.81 s on two
    cores); without it a value that a block's end cuts in two is read as two rows, and not always refused."""
    return csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _conversion(names: dict[str, str], reading: Reading) -> csv.ConvertOptions:
    """How the columns `names`, each with its name in the file, become values."""
    text = {raw for name, raw in names.items() if name in reading.verbatim or name in reading.text}
    options = csv.ConvertOptions(
        include_columns=list(names.values()),
        column_types=dict.fromkeys(text, pa.string()),
        # For all columns of text or none: where some are verbatim, the others' are found afterwards.
        strings_can_be_null=not reading.verbatim,
        decimal_point=reading.decimal,
    )
    if reading.missing:
        # Arrow compares the whole field, and fields after a comma and a blank begin with it.
        spelled = [mark for each in reading.missing for mark in (each, f" {each}")]
        options.null_values = list(dict.fromkeys([*options.null_values, *spelled]))
    return options


class _Watched:
    """The bytes of a file, unpacked, as long as the table that is made of them leaves room for X."""

    closed = False

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int) -> bytes:
        """The next bytes; UserError where there is no room."""
        require_room_beside(pa.total_allocated_bytes(), self._name, taken=True)
        data: bytes = self._stream.read(size)
        return data


@contextmanager
def _stream(path: Path, setting: str) -> Iterator[Any]:
    """The bytes of a file, unpacked."""
    if path.suffix.lower() != ".zip":
        compression = "gzip" if path.suffix.lower() == ".gz" else None
        with pa.input_stream(str(path), compression=compression) as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        members = [
            name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            raise UserError(
                f"{setting} {path} holds {len(members)} files, {listing(members) or 'none'}; give an archive"
                " with one .csv file, or unpack it"
            )
        with archive.open(members[0]) as member:
            yield pa.PythonFile(member, mode="r")
