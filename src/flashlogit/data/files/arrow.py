"""Tables that are Arrow's: .parquet files, what `open_csv` opens, and columns made in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...system.errors import UserError, row_text
from ...system.files import PLAIN_NUMBER
from ...system.machine import free_bytes, require_free
from .tables import (
    PLAIN,
    Reading,
    Table,
    TableFile,
    from_numpy,
    numbered_names,
    readable,
    refuse_duplicates,
    to_numpy,
)
from .text import is_number, is_text, read_as_text_file

_Read: TypeAlias = Callable[[list[str], Reading], pa.Table]
_FIRST_ROWS = 64
"""Rows to read at a time until one has a list, whose length is that of all."""


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
            # NumPy casts as it copies; Arrow's cast of the few rows of a block takes twice the time of all the rest.
            if not (pa.types.is_integer(part.type) or pa.types.is_floating(part.type)):
                part = part.cast(pa.float64(), safe=False)
            block[:, j] = to_numpy(part)
        return block

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        described = {name: _not_a_number(self._table.column(name)) for name in names}
        return {name: what for name, what in described.items() if what}


class ArrowFile(TableFile):
    """Columns by name, and a function that reads some of them, in the order of their names.

    `typed` says whether the columns have types of their own, so that a `Reading` matters to those of text alone;
    `vectors` has the columns of lists, which are in `columns` by their numbers, and are keys as they stand, too.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        read_arrow: _Read,
        *,
        typed: bool = True,
        vectors: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.features = tuple(columns)
        lists = {names[0]: column for column, names in vectors.items()}
        self.keys = tuple(dict.fromkeys(key for name in columns for key in (lists.get(name, name), name)))
        self.vectors = vectors
        self.typed = typed
        self.read_arrow = read_arrow

    def read(self, features: Sequence[str], keys: Sequence[str], reading: Reading = PLAIN) -> ArrowTable:
        return ArrowTable(self.name, self.read_arrow(list(dict.fromkeys([*features, *keys])), reading))


def open_parquet(path: Path, setting: str) -> ArrowFile:
    """Open a Parquet file. The index that pandas may have stored beside the columns is not one of them."""
    name = str(path)
    with readable(f"{setting} {name}"), pq.ParquetFile(path) as file:
        stored = [column for column in file.schema_arrow.names if not column.startswith("__index_level_")]
        widths = {each.name: _list_width(file, each) for each in file.schema_arrow}
    vectors = {each: numbered_names(0, width, name, f"{each}_") for each, width in widths.items() if width}
    columns = [each for column in stored for each in vectors.get(column, (column,))]
    places = {each: column for column, names in vectors.items() for each in names}

    @readable(name)
    def read(names: list[str], reading: Reading) -> pa.Table:
        of_file = list(dict.fromkeys(places.get(each, each) for each in names))
        with pq.ParquetFile(path) as file:
            require_room_beside(_unpacked_bytes(path, file, of_file, widths), name, taken=False)
            # A reader asked for `a` also returns `a.b`; select() leaves that out.
            table = file.read(columns=of_file).select(of_file)
        for column in dict.fromkeys(places[each] for each in names if each in places):
            numbers = list_numbers(table.column(column), len(vectors[column]), f'column "{column}" of {name}')
            parts = dict(zip(table.column_names, table.columns, strict=True))
            parts |= zip(vectors[column], map(from_numpy, numbers), strict=True)
            if column not in names:
                del parts[column]
            table = pa.table(parts)
        return read_as_text_file(table.select(names), reading)

    refuse_duplicates([*columns, *vectors], name)
    return ArrowFile(name, columns, read, vectors=vectors)


def _list_width(file: pq.ParquetFile, field: pa.Field) -> int:
    """Return how many numbers the first list of a column has; 0 for a column of anything else than lists of numbers."""
    kind = field.type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) if is_number(kind.value_type) else 0
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not is_number(kind.value_type):
        return 0
    for batch in file.iter_batches(batch_size=_FIRST_ROWS, columns=[field.name]):
        lengths = pc.list_value_length(batch.column(0)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


def list_numbers(lists: pa.ChunkedArray, width: int, place: str) -> NDArray[Any]:
    """Return the numbers of a column of N lists of `width` numbers each as [width, N], a row for each of their places.

    They are taken chunk by chunk, as Arrow has them, for all together can be more than an int32 counts.
    Raises UserError, naming the row, for a list that is missing, lacks a number or is of another length.
    """
    kind = lists.type.value_type
    whole = not (pa.types.is_decimal(kind) or pa.types.is_boolean(kind))
    numbers = np.empty((width, len(lists)), kind.to_pandas_dtype() if whole else np.float64)
    start = 0
    for chunk in lists.chunks:
        lengths = to_numpy(pc.list_value_length(chunk).cast(pa.float64()))
        if (wrong := lengths != width).any():
            row = int(np.argmax(wrong))
            length = lengths[row]
            have = "is missing" if np.isnan(length) else f"has {length:.0f} numbers, and the first one {width}"
            remedy = "give every row a list of one length, or leave out the row or, with data.drop, the column"
            raise UserError(f"the list in {row_text(start + row)} {have}", setting=place, remedy=remedy)
        values = chunk.flatten()
        if values.null_count:
            row = start + int(np.argmax(to_numpy(values.is_null()))) // width
            remedy = "fill it in, or leave out the row or, with data.drop, the column"
            raise UserError(f"the list in {row_text(row)} lacks a number", setting=place, remedy=remedy)
        values = values if whole else values.cast(pa.float64(), safe=False)
        numbers[:, start : start + len(chunk)] = to_numpy(values).reshape(-1, width).T
        start += len(chunk)
    return numbers


def require_room_beside(size: float, file: str, *, taken: bool) -> None:
    """Raise UserError where a table of `size` bytes, `taken` already or not, leaves no room for X. Most of them are
    numbers of 8 bytes, of which X has 4 in float32."""
    require_free(
        size / 2 if taken else 1.5 * size,
        f"{file} unpacks to {'more than ' if taken else ''}{size / 1e9:,.1f} GB,"
        f" {'and' if taken else 'which with'} X of half that size",
        "read fewer columns (data.columns, data.drop), or fewer rows (split the file)",
    )


def _unpacked_bytes(path: Path, file: pq.ParquetFile, names: Sequence[str], widths: Mapping[str, int]) -> float:
    """Return what the columns take in memory, in bytes.

    A page of a few bytes can stand for any number of equal values. So numbers are counted by rows, and text by the
    lengths in its dictionary, which is read where its longest value in every row would matter. A list of numbers has
    its width, if `widths` has one, and is there twice until it is taken apart.
    """
    about, total = file.metadata, 0.0
    schema = file.schema_arrow
    kinds = {name: schema.field(name).type for name in names}
    for i in range(about.num_row_groups):
        group = about.row_group(i)
        large = group.num_rows * group.total_byte_size > free_bytes() / about.num_row_groups
        for name, kind in kinds.items():
            if widths.get(name):
                total += 2 * group.num_rows * widths[name] * _width(kind.value_type)
            elif not is_text(kind):
                total += group.num_rows * _width(kind)
            elif large:
                total += _text_bytes(path, i, name)
    return total


def _width(kind: pa.DataType) -> float:
    """Return the bytes of a value; 0 where its values differ, as lists do."""
    try:
        return float(kind.bit_width) / 8
    except ValueError:
        return 0.0


def _text_bytes(path: Path, group: int, column: str) -> float:
    """Return the bytes of the text in a column of a row group."""
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


def _not_a_number(column: pa.ChunkedArray) -> str:
    """Return what a column holds, if it is not numbers; otherwise nothing, also for an empty column."""
    kind = column.type
    if is_text(kind):
        text = column.cast(pa.large_string())
        odd = to_numpy(pc.and_not_kleene(pc.is_valid(text), pc.match_substring_regex(text, PLAIN_NUMBER)))
        first = int(np.argmax(odd)) if odd.any() else None
        return "text" if first is None else f'text, such as "{text[first].as_py()[:40]}" in {row_text(first)}'
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_number(kind) or pa.types.is_null(kind):
        return ""
    return "dates or times" if pa.types.is_temporal(kind) else str(kind)
