"""Marks of a missing value in columns that are text already, where Arrow's reader of CSV did not see to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from .reading import Reading
from .text_kinds import PLAIN_NUMBER, is_text


def without_marks(table: pa.Table, names: Iterable[str], marks: Collection[str]) -> pa.Table:
    """The table with no value in the rows where one of the columns `names` of text is exactly one of `marks`."""
    for name in names:
        column = table.column(name)
        if is_text(column.type):
            column = _plain(column)
            absent = pc.is_in(column, value_set=pa.array(list(marks), column.type))
            table = _with(table, name, pc.if_else(absent, pa.scalar(None, column.type), column))
    return table


def read_as_text_file(table: pa.Table, reading: Reading) -> pa.Table:
    """The columns of text of a file with types as a file of text with the same values has them: without the further
    marks of a missing value, and as numbers where nothing else is left. As they are where there are no such marks."""
    if not reading.missing:
        return table
    names = [
        name
        for name in table.column_names
        if name not in reading.verbatim and is_text(table.schema.field(name).type)
    ]
    spelled = [mark for each in reading.missing for mark in (each, f" {each}")]
    table = without_marks(table, names, spelled)
    for name in names:
        if name not in reading.text:
            table = _with(table, name, _numbers(table.column(name)))
    return table


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as numbers, if all of its values are some."""
    trimmed = pc.utf8_trim_whitespace(text)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    numbers = pc.all(pc.match_substring_regex(trimmed, PLAIN_NUMBER), min_count=0).as_py()
    # Arrow has no plus sign.
    return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.float64()) if numbers else text


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as one of the kinds of text that Arrow computes with."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.large_string() if pa.types.is_string_view(kind) else kind)


def _with(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)
