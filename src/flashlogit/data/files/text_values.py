"""The values of columns of text: marks of a missing one, and categories, whose text is the same in every file."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...system.errors import UserError
from .reading import Reading
from .text_kinds import PLAIN_NUMBER, is_text

_EXACT = 2.0**53
"""Beyond it a float64 is whole but stands for several whole numbers."""


def as_text(
    column: pa.ChunkedArray, place: str = "a column", remedy: str = "leave it out with data.drop"
) -> pa.ChunkedArray:
    """Return a column's values [N] as large_string: 1, 1.0, "1.0" and " 1 " are "1", True and "TRUE" are "true", 01
    stays "01", and blanks alone are no value.

    A value's text depends on nothing else, and is made once for each distinct one, so that it costs little. Raises
    UserError, with `place` and `remedy` in it, for types that are no categories, such as lists.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column, kind = column.cast(pa.float64(), safe=False), pa.float64()
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        if is_text(kind):
            # Arrow's dictionary of string_view has no large_string.
            column = column.cast(pa.large_string())
        encoded = column.dictionary_encode().unify_dictionaries()
        if not encoded.num_chunks:
            return pa.chunked_array([], pa.large_string())
        text = _canonical(encoded.chunk(0).dictionary)
    except pa.ArrowException as error:
        raise UserError(f"{kind} cannot be used as categories", setting=place, remedy=remedy) from error
    return pa.chunked_array([text.take(chunk.indices) for chunk in encoded.chunks], pa.large_string())


def _canonical(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < _EXACT)
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())
        return pc.if_else(pa.array(whole), integers, values.cast(pa.large_string()))
    text = values.cast(pa.large_string())
    if not is_text(values.type):
        return text
    text = pc.utf8_trim_whitespace(text)
    text = pc.replace_substring_regex(text, r"^([-+]?\d+)\.0*$", r"\1")
    lower = pc.ascii_lower(text)
    truth = pc.is_in(lower, value_set=pa.array(["true", "false"], pa.large_string()))
    text = pc.if_else(truth, lower, text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)


def without_marks(table: pa.Table, names: Iterable[str], marks: Collection[str]) -> pa.Table:
    """Return the table with no value in the rows where one of the columns `names` of text is exactly a mark."""
    for name in names:
        column = table.column(name)
        if is_text(column.type):
            column = _plain(column)
            absent = pc.is_in(column, value_set=pa.array(list(marks), column.type))
            table = with_column(table, name, pc.if_else(absent, pa.scalar(None, column.type), column))
    return table


def read_as_text_file(table: pa.Table, reading: Reading) -> pa.Table:
    """Return the columns of text of a file with types as a file of text with the same values has them: without the
    further marks of a missing value, and as numbers where nothing else is left. Without such marks they stay."""
    if not reading.missing:
        return table
    text = [field.name for field in table.schema if is_text(field.type) and field.name not in reading.verbatim]
    table = without_marks(table, text, reading.marks)
    for name in text:
        if name not in reading.text:
            table = with_column(table, name, _numbers(table.column(name)))
    return table


def with_column(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """Return the table with another column in the place of the one of that name."""
    return table.set_column(table.column_names.index(name), name, column)


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column as numbers, if all of its values are some."""
    trimmed = pc.utf8_trim_whitespace(text)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    numbers = pc.all(pc.match_substring_regex(trimmed, PLAIN_NUMBER), min_count=0).as_py()
    # Arrow has no plus sign.
    return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.float64()) if numbers else text


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column as one of the kinds of text that Arrow computes with."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.large_string() if pa.types.is_string_view(kind) else kind)
