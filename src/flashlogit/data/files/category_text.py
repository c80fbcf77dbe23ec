"""The values of a column of categories as text: the same value is the same text in every type and every file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...system.errors import UserError
from ..files.text_kinds import is_text

_EXACT = 2.0**53
"""Beyond it a float64 is whole but stands for several whole numbers."""


def as_text(
    column: pa.ChunkedArray, place: str = "a column", remedy: str = "leave it out with data.drop"
) -> pa.ChunkedArray:
    """A column's values [N] as large_string: 1, 1.0, "1.0" and " 1 " are "1", True and "TRUE" are "true", 01 stays
    "01", and blanks alone are no value.

    By each value alone, and only once for each distinct one, so that it costs little. Raises UserError, with `place`
    and `remedy` in it, for types that are no categories, such as lists.
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
        raise UserError(f"{place} of {kind} cannot be used as categories; {remedy}") from error
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
