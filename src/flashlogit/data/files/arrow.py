"""Tables that are Arrow's: .parquet files, what `csv_files` opens, and columns made in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...system.errors import UserError
from ...system.memory import free_bytes, require_free
from ...system.wording import listing, row_text
from .marks import read_as_text_file
from .reading import PLAIN, Reading
from .tables import READ_ERRORS, Table, TableFile, unreadable
from .text_kinds import PLAIN_NUMBER, is_text


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
    """Columns by name, read by a function that takes the names that are needed, and how. typed: whether the columns
    have types of their own, so that how matters to those of text alone."""

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        read: Callable[[list[str], Reading], pa.Table],
        *,
        typed: bool = True,
    ) -> None:
        self.name = name
        self.features = self.keys = tuple(columns)
        self.typed = typed
        self._read = read

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> ArrowTable:
        return ArrowTable(self.name, self.read_arrow(list(dict.fromkeys([*features, *keys])), reading))

    def read_arrow(self, names: list[str], reading: Reading = PLAIN) -> pa.Table:
        """These columns, in this order; UserError where the file cannot be read."""
        try:
            # A Parquet reader asked for `a` also returns `a.b`; select() leaves that out.
            return self._read(names, reading).select(names)
        except READ_ERRORS as error:
            raise unreadable(self.name, error) from error


def open_parquet(path: Path, setting: str) -> ArrowFile:
    """A Parquet file. The index that pandas may have stored beside the columns is not one of them."""
    name = str(path)
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
    except READ_ERRORS as error:
        raise unreadable(f"{setting} {name}", error) from error

    def read(names: list[str], reading: Reading) -> pa.Table:
        with pq.ParquetFile(path) as file:
            require_room_beside(_unpacked_bytes(path, file, names), name, taken=False)
            return read_as_text_file(file.read(columns=names).select(names), reading)

    refuse_duplicates(columns, name)
    return ArrowFile(name, [column for column in columns if not column.startswith("__index_level_")], read)


def require_room_beside(size: float, file: str, *, taken: bool) -> None:
    """UserError where a table of `size` bytes, `taken` already or not, leaves no room for X. Most of them are numbers
    of 8 bytes, of which X has 4 in float32."""
    require_free(
        size / 2 if taken else 1.5 * size,
        f"{file} unpacks to {'more than ' if taken else ''}{size / 1e9:,.1f} GB,"
        f" {'and' if taken else 'which with'} X of half that size",
        "read fewer columns (data.columns, data.drop), or fewer rows (split the file)",
    )


def _unpacked_bytes(path: Path, file: pq.ParquetFile, names: Sequence[str]) -> float:
    """What the columns take in memory, in bytes.

    A page of a few bytes can stand for any number of equal values. So numbers are counted by rows, and text by the
    lengths in its dictionary, which is read where its longest value in every row would matter.
    """
    about, kinds = file.metadata, [file.schema_arrow.field(name).type for name in names]
    total = 0.0
    for i in range(about.num_row_groups):
        group = about.row_group(i)
        many = group.num_rows * group.total_byte_size > free_bytes() / about.num_row_groups
        for name, kind in zip(names, kinds, strict=True):
            if not is_text(kind):
                total += group.num_rows * _width(kind)
            elif many:
                total += _text_bytes(path, i, name)
    return total


def _width(kind: pa.DataType) -> float:
    """Bytes of a value; 0 where its values differ, as lists do."""
    try:
        return float(kind.bit_width) / 8
    except ValueError:
        return 0.0


def _text_bytes(path: Path, group: int, column: str) -> float:
    """Bytes of the text in a column of a row group."""
    with pq.ParquetFile(path, read_dictionary=[column]) as file:
        read = file.read_row_group(group, columns=[column]).column(column)
    total = 0.0
    for chunk in read.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary.cast(pa.large_string()))
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        else:
            total += chunk.nbytes
    return total


def refuse_duplicates(columns: list[str], name: str) -> None:
    """UserError where two columns have one name."""
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise UserError(f"{name} has two columns of the name {listing(twice)}; rename one of them")


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
    if is_text(kind):
        text = column.cast(pa.large_string())
        odd = pc.fill_null(pc.invert(pc.match_substring_regex(text, PLAIN_NUMBER)), False)
        first = pc.index(odd, True).as_py()
        return (
            f'text, such as "{str(text[first].as_py())[:40]}" in {row_text(first)}' if first >= 0 else "text"
        )
    if pa.types.is_temporal(kind):
        return "dates or times"
    return str(kind)
