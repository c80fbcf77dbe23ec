"""What a column of text holds in truth: numbers with something among them, dates, or categories; and its values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...system.errors import UserError, listing, rows_text, some_of
from ...system.files import FORMULA, PLAIN_NUMBER, write_atomically
from .tables import Reading, from_numpy, from_text, no_value, to_numpy
from .values import text_of

_NUMBER_LIKE = (
    r"^\s*[-+]?\s*[$€£¥]?\s*"
    r"(\d{1,3}(,\d{3})+(\.\d*)?|\d{1,3}(\.\d{3})+(,\d*)?|\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?"
    r"\s*[%$€£¥]?\s*$"
)
"""What a person reads as one: 1,200 and 3,5 and $3 and 3% too."""
_D, _M, _MONTH = r"(0?[1-9]|[12]\d|3[01])", r"(0?[1-9]|1[0-2])", r"[A-Za-z]{3,9}"
_LONG, _SHORT = r"(1[5-9]|20|21)\d{2}", r"\d{2}"
_TIME = r"([ T]+\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*([AaPp][Mm])?\s*(Z|UTC|[-+]\d{2}:?\d{2})?)?"
_DATE = (
    rf"^\s*({_LONG}[-/.]{_M}[-/.]{_D}|{_D}[-/.]{_M}[-/.]{_LONG}|{_M}[-/.]{_D}[-/.]{_LONG}"
    rf"|{_D}[- ]{_MONTH}[- ]{_LONG}|{_MONTH} {_D},? {_LONG}){_TIME}\s*$"
)
"""With the year in full."""
_MAYBE_DATE = (
    rf"^\s*({_D}[-/.]{_M}[-/.]{_SHORT}|{_M}[-/]{_D}[-/]{_SHORT}|{_SHORT}-{_M}-{_D}"
    rf"|{_D}[- ]{_MONTH}[- ]{_SHORT}){_TIME}\s*$"
)
"""With two digits for it, as versions (10.15.12) and codes (12-34-56) have them too: in the orders that are usual
between such marks, and only where all of a column are dates."""
_FIRST = 1000
"""So many distinct values tell a column that holds no dates, at little cost where there are many more."""
_MOST = 0.9
"""Share of a column from which the rest are taken for mistakes."""
_DECIMAL_COMMA, _THOUSANDS = r"^\s*[-+]?\d*,\d+\s*$", r"^\s*[-+]?[1-9]\d{0,2}(,\d{3})+\s*$"
"""What is a number by a decimal comma, and what is more likely one with commas between thousands."""
_FEW_ODD, _MANY_NUMBERS = 3, 10
"""At most so many distinct values that are no numbers, beside at least so many that are and that most rows have, are
marks of a missing one."""
_MISSING_WORDS = ("na", "nan", "nil", "none", "null", "missing", "unknown")


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's kinds of text, or a dictionary of them."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's kinds of numbers; true and false are numbers too."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with the values themselves where it has their places in a dictionary."""
    if not pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_string_view(column.type.value_type):  # with which Arrow does not compute
        chunks = [chunk.dictionary.cast(pa.large_string()).take(chunk.indices) for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.large_string())
    return column.cast(column.type.value_type)


def holds_dates(column: pa.ChunkedArray) -> bool:
    """Return whether nearly all distinct values of a text column are dates, in whatever order of day, month and year;
    all of them where years have two digits."""
    first, _ = value_counts(column[: 10 * _FIRST])
    if len(first) >= _FIRST and not _are_dates(first[:_FIRST]):
        return False
    values, _ = value_counts(column)
    return len(values) > 0 and _are_dates(values)


def _are_dates(values: pa.Array) -> bool:
    dates = pc.match_substring_regex(values, _DATE)
    if pc.mean(dates).as_py() >= _MOST:
        return True
    return bool(pc.all(pc.or_(dates, pc.match_substring_regex(values, _MAYBE_DATE))).as_py())


@dataclass(frozen=True)
class NumbersAsText:
    """What keeps a text column from being the numbers that it is meant to be.

    odd: the values that are no numbers, with the rows that have them, the most frequent first; spelling: where there
    are none, a number that is not written as one; written: whether there are such numbers, or nothing but numbers;
    commas: whether all of them would be numbers if a comma were the decimal point.
    """

    odd: tuple[tuple[str, int], ...]
    spelling: str
    written: bool
    commas: bool

    def text(self, name: str) -> str:
        """Return what is said of the column of that name."""
        if not self.odd:
            return f'"{name}" holds numbers as text, such as "{self.spelling}"'
        shown = [f'"{value[:40]}" ({rows_text(rows)})' for value, rows in self.odd]
        return f'"{name}" looks like numbers but for {some_of(shown, _FEW_ODD)}'


def numbers_as_text(column: pa.ChunkedArray) -> NumbersAsText | None:
    """Return what keeps a text column from being numbers, if it is meant to be."""
    values, counts = value_counts(column)
    like = pc.match_substring_regex(values, _NUMBER_LIKE)
    rows, rows_like = pc.sum(counts).as_py() or 0, pc.sum(counts.filter(like)).as_py() or 0
    numbers = pc.sum(like).as_py() or 0
    few_odd = len(values) - numbers <= _FEW_ODD and numbers >= _MANY_NUMBERS and 2 * rows_like > rows
    if not rows or (rows_like < _MOST * rows and not few_odd):
        return None
    unlike = pc.invert(like)
    odd = zip(values.filter(unlike).to_pylist(), counts.filter(unlike).to_pylist(), strict=True)
    plain = pc.match_substring_regex(values, PLAIN_NUMBER)
    strange, written = values.filter(pc.invert(plain)), values.filter(pc.and_(like, pc.invert(plain)))
    comma, thousands = (pc.all(pc.match_substring_regex(written, p)).as_py() for p in (_DECIMAL_COMMA, _THOUSANDS))
    spelling = str((strange if len(strange) else values)[0].as_py())[:40]
    odd_rows = tuple(odd)
    commas = bool(len(written) and comma and not thousands)
    return NumbersAsText(odd_rows, spelling, bool(len(written)) or not odd_rows, commas)


def by_remedy(found: Mapping[str, NumbersAsText]) -> list[dict[str, NumbersAsText]]:
    """Return the columns with odd values and those without, which `numbers_problem` has different remedies for."""
    groups = ({name: kind for name, kind in found.items() if bool(kind.odd) == odd} for odd in (True, False))
    return [group for group in groups if group]


def numbers_problem(found: Mapping[str, NumbersAsText]) -> tuple[str, str]:
    """Return what is wrong with the columns of text that are meant to be numbers, and the remedy.

    Where there are odd values, only the columns with some are named, since the others' remedy is another one.
    """
    odd = {name: kind for name, kind in found.items() if kind.odd}
    shown = odd or found
    word, them = ("column", "it") if len(shown) == 1 else ("columns", "them")
    problem = f"{word} {some_of([kind.text(name) for name, kind in shown.items()])}"
    if odd:
        values = dict.fromkeys(value for kind in odd.values() for value, _ in kind.odd)
        marks = [value for value in values if is_mark(value)]
        listed = f" list {listing(marks, _FEW_ODD)} in data.missing_values," if marks else ""
        return problem, f"name the {word} in data.categorical,{listed} or correct the file"
    commas = any(kind.commas for kind in shown.values())
    decimal = " set data.decimal to a comma if that is their decimal point," if commas else ""
    listed = "" if all(kind.commas for kind in shown.values()) else f"list {them} in data.numbers, "
    remedy = f"{listed}write {them} as plain numbers, like 1200.5,{decimal} or name the {word} in"
    remedy += " data.categorical"
    return problem, remedy


def is_mark(value: str) -> bool:
    """Return whether a value looks like a mark of a missing one: -, ?, n/a."""
    letters = "".join(character for character in value if character.isalnum())
    return not letters or letters.casefold() in _MISSING_WORDS


def value_counts(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return the distinct values of a text column, the most frequent first, and how many rows have each."""
    counted = without_dictionary(column).cast(pa.large_string()).drop_null().value_counts()
    order = from_numpy(np.argsort(-to_numpy(counted.field("counts")), kind="stable"))
    return counted.field("values").take(order), counted.field("counts").take(order)


def as_text(
    column: pa.ChunkedArray, place: str = "a column", remedy: str = "leave it out with data.drop"
) -> pa.ChunkedArray:
    """Return a column's values [N] as large_string: 1, 1.0, "1.0" and " 1 " are "1", True and "TRUE" are "true", 01
    stays "01", and blanks alone are no value.

    A value's text depends on nothing else, and is made once for each distinct one, so that it costs little. Raises
    UserError, with `place` and `remedy` in it, for types that are no categories, such as lists.
    """
    column = without_dictionary(column)
    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column, kind = column.cast(pa.float64(), safe=False), pa.float64()
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), no_value(kind), column)
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
        return from_text([text_of(number) or "" for number in to_numpy(values)])
    text = values.cast(pa.large_string())
    if not is_text(values.type):
        return text
    text = pc.utf8_trim_whitespace(text)
    text = pc.replace_substring_regex(text, r"^([-+]?\d+)\.0*$", r"\1")
    lower = pc.ascii_lower(text)
    truth = pc.is_in(lower, value_set=from_text(["true", "false"]))
    text = pc.if_else(truth, lower, text)
    return _without_empty(text)


def _without_empty(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the text with no value where it has no character."""
    return pc.if_else(pc.binary_length(text).cast(pa.bool_()), text, no_value(text.type))


def without_marks(table: pa.Table, names: Iterable[str], marks: Collection[str]) -> pa.Table:
    """Return the table with no value in the rows where one of the columns `names` of text is exactly a mark."""
    for name in names:
        column = table.column(name)
        if is_text(column.type):
            column = without_dictionary(column)
            if pa.types.is_string_view(column.type):  # with which Arrow does not compute
                column = column.cast(pa.large_string())
            absent = pc.is_in(column, value_set=from_text(marks).cast(column.type))
            table = with_column(table, name, pc.if_else(absent, no_value(column.type), column))
    return table


def read_as_text_file(table: pa.Table, reading: Reading) -> pa.Table:
    """Return the columns of text of a file with types as a file of text with the same values has them: without the
    further marks of a missing value, and as numbers where nothing else is left. Without such marks they stay."""
    if not reading.missing:
        return table
    text = [field.name for field in table.schema if is_text(field.type) and field.name not in reading.verbatim]
    return with_numbers(without_marks(table, text, reading.marks), set(text) - reading.text)


def with_numbers(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return the table with those of the columns `names` as numbers that are text and have numbers for all values."""
    for name in names:
        if is_text(table.column(name).type):
            table = with_column(table, name, as_numbers(table.column(name)))
    return table


def with_column(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """Return the table with another column in the place of the one of that name."""
    return table.set_column(table.column_names.index(name), name, column)


def as_numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column as numbers, if all of its values are some."""
    trimmed = pc.utf8_trim_whitespace(text)
    trimmed = pc.if_else(
        pc.is_in(trimmed, value_set=from_text([""]).cast(trimmed.type)), no_value(trimmed.type), trimmed
    )
    numbers = pc.all(pc.match_substring_regex(trimmed, PLAIN_NUMBER), min_count=0).as_py()
    # Arrow has no plus sign.
    return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.float64()) if numbers else text


def safe_cells(table: pa.Table) -> pa.Table:
    """Return the table with an apostrophe before each column name and text that begins like a formula and is no number.

    So does text that begins with apostrophes before such a beginning: taking one apostrophe away from each gives the
    text back. Columns of numbers are as they were.
    """
    columns = [_safe(column) if is_text(column.type) else column for column in table.columns]
    names = _safe(pa.chunked_array([from_text(table.column_names)])).to_pylist()
    return pa.Table.from_arrays(columns, names=names)


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a table as CSV in one step, text as `safe_cells` has it; what is null is empty."""
    import pyarrow.csv  # which reading others' formats need not wait for

    safe = safe_cells(table)
    write_atomically(path, lambda temporary: pyarrow.csv.write_csv(safe, temporary))


def _safe(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.large_string())
    formula = pc.and_not(pc.match_substring_regex(text, FORMULA), pc.match_substring_regex(text, PLAIN_NUMBER))
    return pc.if_else(formula, pc.replace_substring_regex(text, "^", "'", max_replacements=1), text)
