"""Several files as one, as far as they have the columns that are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from ...system.errors import UserError
from ...system.wording import column_word, listing
from .arrow import ArrowFile
from .category_text import as_text
from .reading import Reading
from .tables import TableFile
from .text_kinds import is_text


def open_many(files: Sequence[TableFile], setting: str) -> TableFile:
    """The rows of all files, one after the other, with the columns that any of them has.

    UserError for files that are no tables, and on reading for one that lacks a column that is read.
    """
    parts = [file for file in files if isinstance(file, ArrowFile)]
    if len(parts) < len(files):
        other = next(file for file in files if not isinstance(file, ArrowFile))
        raise UserError(
            f"{setting} means {len(files)} files, among them {other.name}; several files must be .csv or .parquet:"
            " name that one alone"
        )
    columns = tuple(dict.fromkeys(name for part in parts for name in part.features))
    typed = all(part.typed for part in parts)

    def read(names: list[str], reading: Reading) -> pa.Table:
        for part in parts:
            _require(part, names, parts, setting)
        tables = [_decoded(part.read_arrow(names, reading), reading.text) for part in parts]
        mixed = _mixed(tables, names)
        if mixed and not typed:
            # As in one file of text that had all these values.
            more_text = replace(reading, text=reading.text | mixed)
            tables = [
                _decoded(table if part.typed else part.read_arrow(names, more_text), more_text.text)
                for part, table in zip(parts, tables, strict=True)
            ]
        try:
            return pa.concat_tables(_without_booleans(tables, names), promote_options="permissive")
        except pa.ArrowException as error:
            raise UserError(_unlike(tables, parts, names, setting)) from error

    name = f"{parts[0].name} and {len(parts) - 1} more file{'s' if len(parts) > 2 else ''}"
    return ArrowFile(name, columns, read, typed=typed)


def _require(part: ArrowFile, names: Sequence[str], parts: Sequence[ArrowFile], setting: str) -> None:
    missing = [name for name in names if name not in part.features]
    if missing:
        other = next(each for each in parts if missing[0] in each.features)
        raise UserError(
            f"{setting} means {len(parts)} files, and {part.name} lacks {column_word(missing)}, compared with"
            f" {other.name}; give files that have all columns that are needed"
        )


def _decoded(table: pa.Table, text: frozenset[str]) -> pa.Table:
    """The table without dictionaries, which differ from file to file, and with the columns `text` as text."""
    for i, field in enumerate(table.schema):
        column = table.column(i)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if field.name in text and not is_text(column.type):
            column = as_text(column, f'column "{field.name}"')
        table = table.set_column(i, field.name, column)
    return table


def _mixed(tables: Sequence[pa.Table], names: Sequence[str]) -> frozenset[str]:
    """The columns that are of kinds that do not go together, such as text in one file and numbers in another."""
    return frozenset(
        name for name in names if len({_kind(table.schema.field(name).type) for table in tables} - {""}) > 1
    )


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_null(kind):
        return ""
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if any(test(kind) for test in numeric):
        return "number"
    return "text" if is_text(kind) else str(kind)


def _without_booleans(tables: Sequence[pa.Table], names: Sequence[str]) -> list[pa.Table]:
    """True and false as 1 and 0 where another file has numbers, as in one CSV file of both."""
    result = list(tables)
    for name in names:
        boolean = [pa.types.is_boolean(table.schema.field(name).type) for table in tables]
        if any(boolean) and not all(
            b or pa.types.is_null(t.schema.field(name).type) for b, t in zip(boolean, tables, strict=True)
        ):
            for i in range(len(result)):
                if boolean[i]:
                    column = result[i].column(name).cast(pa.int8())
                    result[i] = result[i].set_column(result[i].column_names.index(name), name, column)
    return result


def _unlike(
    tables: Sequence[pa.Table], parts: Sequence[ArrowFile], names: Sequence[str], setting: str
) -> str:
    """A sentence on the first column whose types do not go together."""
    for name in names:
        first = tables[0].schema.field(name).type
        for table, part in zip(tables, parts, strict=True):
            kind = table.schema.field(name).type
            try:
                pa.unify_schemas(
                    [pa.schema([(name, first)]), pa.schema([(name, kind)])], promote_options="permissive"
                )
            except pa.ArrowException:
                return (
                    f'{setting} means {len(parts)} files, and column "{name}" is {first} in {parts[0].name}'
                    f" and {kind} in {part.name}; give it the same kind of values in all of them"
                )
    return f"{setting} means {len(parts)} files whose columns {listing(names)} do not go together; give files alike"
