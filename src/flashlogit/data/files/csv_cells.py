"""Text in CSV files that a spreadsheet would take for a formula and run, written so that it stays text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from .text_kinds import PLAIN_NUMBER, is_text

_FORMULA = "^'*[=+@\\-\\t\\r\\n＝＋－＠]"
"""Beginnings that spreadsheets take for one, and those that already have an apostrophe before them."""


def safe_cells(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before each column name and text that begins like a formula and is no number.

    So does text that begins with apostrophes before such a beginning: taking one apostrophe away from each gives the
    text back. Columns of numbers are as they were.
    """
    columns = [_safe(column) if is_text(column.type) else column for column in table.columns]
    names = _safe(pa.chunked_array([pa.array(table.column_names, pa.string())])).to_pylist()
    return pa.Table.from_arrays(columns, names=names)


def _safe(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.large_string())
    formula = pc.and_not(pc.match_substring_regex(text, _FORMULA), pc.match_substring_regex(text, PLAIN_NUMBER))
    return pc.if_else(formula, pc.replace_substring_regex(text, "^", "'", max_replacements=1), text)
