"""Several files as one, as far as they have the columns that are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from ...system.errors import UserError
from .arrow import ArrowFile
from .reading import Reading
from .tables import TableFile
from .text_kinds import is_number, is_text
from .text_values import as_text, with_column


def open_many(files: Sequence[TableFile], setting: str) -> TableFile:
    """Return the rows of all files, one after the other, with the columns that any of them has.

    UserError for files that are no tables, and on reading for one that lacks a column that is read.
    """
    parts = [file for file in files if isinstance(file, ArrowFile)]
    if len(parts) < len(files):
        other = next(file for file in files if not isinstance(file, ArrowFile))
        problem = f"among its {len(files)} files is {other.name}, and several files must be .csv or .parquet"
        raise UserError(problem, setting=setting, remedy="name that one alone")
    columns = tuple(dict.fromkeys(name for part in parts for name in part.features))
    typed = all(part.typed for part in parts)

    def read(names: list[str], reading: Reading) -> pa.Table:
        for part in parts:
            part.require(names, (), setting)
        tables = [_decoded(part.read_arrow(names, reading), reading.text) for part in parts]
        mixed = frozenset(name for name in names if len({*_kinds(tables, name)} - {"null"}) > 1)
        if mixed and not typed:
            # As in one file of text that had all these values.
            more_text = replace(reading, text=reading.text | mixed)
            tables = [
                _decoded(table if part.typed else part.read_arrow(names, more_text), more_text.text)
                for part, table in zip(parts, tables, strict=True)
            ]
        joined = [_joined(name, [table.column(name) for table in tables], parts, setting) for name in names]
        return pa.table(joined, names=names)

    name = f"{parts[0].name} and {len(parts) - 1} more file{'s' if len(parts) > 2 else ''}"
    return ArrowFile(name, columns, read, typed=typed)


def _decoded(table: pa.Table, text: frozenset[str]) -> pa.Table:
    """Return the table without dictionaries, which differ from file to file, and with the columns `text` as text."""
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if field.name in text and not is_text(column.type):
            column = as_text(column, f'column "{field.name}"')
        table = with_column(table, field.name, column)
    return table


def _kinds(tables: Sequence[pa.Table], name: str) -> list[str]:
    """Return what the column is in each file: kinds that differ do not go together."""
    types = [table.schema.field(name).type for table in tables]
    return ["number" if is_number(kind) else "text" if is_text(kind) else str(kind) for kind in types]


def _joined(name: str, columns: Sequence[pa.ChunkedArray], parts: Sequence[ArrowFile], setting: str) -> pa.ChunkedArray:
    """Return a column's rows of all files, true and false as 1 and 0 where another file has numbers."""
    kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
    as_number = [column.cast(pa.int8()) if column.type == pa.bool_() else column for column in columns]
    tables = [pa.table([column], names=[name]) for column in (as_number if len(kinds) > 1 else columns)]
    try:
        return pa.concat_tables(tables, promote_options="permissive").column(0)
    except pa.ArrowException as error:
        first = columns[0].type
        other, part = next((c.type, p) for c, p in zip(columns, parts, strict=True) if c.type != first)
        problem = f'column "{name}" is {first} in {parts[0].name} and {other} in {part.name}'
        remedy = "give it the same kind of values in all files"
        raise UserError(problem, setting=setting, remedy=remedy) from error
