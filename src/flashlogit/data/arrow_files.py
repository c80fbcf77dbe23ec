"""Tables that are Arrow's: .csv, .csv.gz and .parquet files, and columns made in memory."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flashlogit.data.tables import Table, TableFile, unreadable
from flashlogit.data.wording import listing, row_text
from flashlogit.errors import UserError

# One line of a CSV file must fit: 8 MiB are some 400,000 numbers.
_CSV_BLOCK_BYTES = 8 << 20
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


class ArrowTable(Table):
    """An Arrow table in memory."""

    def __init__(self, name: str, table: pa.Table) -> None:
        super().__init__(name, table.num_rows)
        self._table = table

    def column(self, name: str) -> pa.ChunkedArray:
        return self._table.column(name)

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        # Column by column, as Arrow has them: row-major order would be written with a stride.
        block = np.empty((stop - start, len(names)), dtype=np.float64, order="F")
        for j, name in enumerate(names):
            part = self._table.column(name).slice(start, stop - start)
            # "Unsafe" only means that whole numbers beyond 2**53 are rounded to the nearest float64.
            block[:, j] = part.cast(pa.float64(), safe=False).to_numpy()
        return block

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        described = {name: _not_a_number(self._table.column(name)) for name in names}
        return {name: what for name, what in described.items() if what}


class ArrowFile(TableFile):
    """Columns by name, read by a function that takes the names that are needed."""

    def __init__(self, name: str, columns: Sequence[str], read: Callable[[list[str]], pa.Table]) -> None:
        self.name = name
        self.features = self.keys = tuple(columns)
        self._read = read

    def read(self, features: Sequence[str], keys: Sequence[str]) -> Table:
        return ArrowTable(self.name, self.read_arrow(list(dict.fromkeys([*features, *keys]))))

    def read_arrow(self, names: list[str]) -> pa.Table:
        """These columns, in this order; UserError where the file cannot be read."""
        try:
            # A Parquet reader asked for `a` also returns `a.b`; select() leaves that out.
            return self._read(names).select(names)
        except (pa.ArrowException, OSError, zipfile.BadZipFile) as error:
            raise unreadable(self.name, error) from error


@contextmanager
def _csv_stream(path: Path, setting: str) -> Iterator[Any]:
    """The text of a .csv, .csv.gz or .csv.zip file."""
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
                " with one .csv"
                " file, or unpack it"
            )
        with archive.open(members[0]) as member:
            yield pa.PythonFile(member, mode="r")


def open_csv(path: Path, setting: str) -> ArrowFile:
    """A comma-separated file with a header line, plain, gzipped or zipped; all its rows decide a column's type."""
    options = csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)

    def read(names: list[str]) -> pa.Table:
        convert = csv.ConvertOptions(include_columns=names, strings_can_be_null=True)
        with _csv_stream(path, setting) as stream:
            return csv.read_csv(stream, read_options=options, convert_options=convert)

    name = str(path)
    try:
        with (
            _csv_stream(path, setting) as stream,
            csv.open_csv(stream, read_options=options) as reader,
        ):
            header = reader.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise unreadable(f"{setting} {name}", error) from error
    _check_header(header, name)
    return ArrowFile(name, header, read)


def open_parquet(path: Path, setting: str) -> ArrowFile:
    """A Parquet file. The index that pandas may have stored beside the columns is not one of them."""
    name = str(path)
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        raise unreadable(f"{setting} {name}", error) from error

    def read(names: list[str]) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read(columns=names)

    _refuse_duplicates(columns, name)
    return ArrowFile(name, [column for column in columns if not column.startswith("__index_level_")], read)


def _check_header(header: list[str], name: str) -> None:
    """Without a header line the first row of data would silently become the column names."""
    if all(_is_number(column) for column in header):
        raise UserError(
            f"the first line of {name} holds only numbers ({listing(header, 3)}); add a header line with the"
            " columns' names above it"
        )
    if "" in (column.strip() for column in header):
        position = [column.strip() for column in header].index("") + 1
        raise UserError(
            f"the header line of {name} has an empty name for column {position}; name it (pandas leaves it"
            " empty for an index: write with index=False)"
        )
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UserError(
            f'the header line of {name} is one name, "{header[0][:60]}"; separate the columns with commas'
        )
    _refuse_duplicates(header, name)


def _refuse_duplicates(columns: list[str], name: str) -> None:
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise UserError(f"{name} has two columns of the name {listing(twice)}; rename one of them")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _not_a_number(column: pa.ChunkedArray) -> str:
    """What a column holds, if it is not numbers; otherwise nothing."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    numeric: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
        pa.types.is_null,  # an empty column; the check of its values says so
    )
    if any(test(kind) for test in numeric):
        return ""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = column.cast(pa.large_string())
        odd = pc.fill_null(pc.invert(pc.match_substring_regex(text, _NUMBER)), False)
        first = pc.index(odd, True).as_py()
        return (
            f'text, such as "{str(text[first].as_py())[:40]}" in {row_text(first)}' if first >= 0 else "text"
        )
    if pa.types.is_temporal(kind):
        return "dates or times"
    return str(kind)
