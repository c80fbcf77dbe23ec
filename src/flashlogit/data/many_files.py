"""Several files with the same columns as one."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flashlogit.data.arrow_files import ArrowFile
from flashlogit.data.tables import TableFile
from flashlogit.data.wording import column_word, listing
from flashlogit.errors import UserError


def open_many(files: Sequence[TableFile], setting: str) -> TableFile:
    """The rows of all files, one after the other; UserError for files that are no tables of the same columns."""
    first = files[0]
    for file in files:
        if not isinstance(file, ArrowFile):
            raise UserError(
                f"{setting} means {len(files)} files, among them {file.name}; several files must be .csv or .parquet:"
                " name that one alone"
            )
        missing = [name for name in first.features if name not in file.features]
        more = [name for name in file.features if name not in first.features]
        if missing or more:
            difference = f"lacks {column_word(missing)}" if missing else f"has {column_word(more)} on top"
            raise UserError(
                f"{setting} means {len(files)} files, and {file.name} {difference}, compared with"
                f" {first.name}; give files"
                " with the same columns"
            )
    parts = [file for file in files if isinstance(file, ArrowFile)]
    name = f"{first.name} and {len(files) - 1} more files"

    def read(names: list[str]) -> pa.Table:
        tables = [part.read_arrow(names) for part in parts]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise UserError(_unlike(tables, parts, names, setting)) from error

    return ArrowFile(name, first.features, read)


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
                    f" and {kind} in"
                    f" {part.name}; give it the same kind of values in all of them"
                )
    return f"{setting} means {len(parts)} files whose columns {listing(names)} do not go together; give files alike"
