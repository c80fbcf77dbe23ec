"""What a column of text holds in truth: numbers with something among them, dates, or categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ...system.wording import listing, rows_text, some_of

PLAIN_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
"""What is read as a number."""
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
_FEW_ODD, _MANY_NUMBERS = 3, 10
"""At most so many distinct values that are no numbers, beside at least so many that are and that most rows have, are
marks of a missing one."""
_MISSING_WORDS = ("na", "nan", "nil", "none", "null", "missing", "unknown")


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's kinds of text, or a dictionary of them."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's kinds of numbers; true and false are numbers too."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def holds_dates(column: pa.ChunkedArray) -> bool:
    """Return whether nearly all distinct values of a text column are dates, in whatever order of day, month and year;
    all of them where years have two digits."""
    first, _ = _counted(column[: 10 * _FIRST])
    if len(first) >= _FIRST and not _are_dates(first[:_FIRST]):
        return False
    values, _ = _counted(column)
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
    are none, a number that is not written as one.
    """

    odd: tuple[tuple[str, int], ...]
    spelling: str

    def text(self, name: str) -> str:
        """Return what is said of the column of that name."""
        if not self.odd:
            return f'"{name}" holds numbers as text, such as "{self.spelling}"'
        shown = [f'"{value[:40]}" ({rows_text(rows)})' for value, rows in self.odd]
        return f'"{name}" looks like numbers but for {some_of(shown, _FEW_ODD)}'


def numbers_as_text(column: pa.ChunkedArray) -> NumbersAsText | None:
    """Return what keeps a text column from being numbers, if it is meant to be."""
    values, counts = _counted(column)
    like = pc.match_substring_regex(values, _NUMBER_LIKE)
    rows, rows_like = pc.sum(counts).as_py() or 0, pc.sum(counts.filter(like)).as_py() or 0
    numbers = pc.sum(like).as_py() or 0
    few_odd = len(values) - numbers <= _FEW_ODD and numbers >= _MANY_NUMBERS and 2 * rows_like > rows
    if not rows or (rows_like < _MOST * rows and not few_odd):
        return None
    unlike = pc.invert(like)
    pairs = zip(values.filter(unlike).to_pylist(), counts.filter(unlike).to_pylist(), strict=True)
    odd = sorted(pairs, key=lambda pair: -pair[1])
    strange = values.filter(pc.invert(pc.match_substring_regex(values, PLAIN_NUMBER)))
    return NumbersAsText(tuple(odd), str((strange if len(strange) else values)[0].as_py())[:40])


def numbers_problem(found: Mapping[str, NumbersAsText], *, free_comma: bool = False) -> tuple[str, str]:
    """Return what is wrong with the columns of text that are meant to be numbers, and the remedy.

    Where there are odd values, only the columns with some are named, since the others' remedy is another one.
    free_comma: whether a comma may be the decimal point, as it may where it does not separate columns.
    """
    odd = {name: kind for name, kind in found.items() if kind.odd}
    shown = odd or found
    word, them = ("column", "it") if len(shown) == 1 else ("columns", "them")
    problem = f"{word} {some_of([kind.text(name) for name, kind in shown.items()])}"
    if odd:
        values = dict.fromkeys(value for kind in odd.values() for value, _ in kind.odd)
        marks = [value for value in values if _is_mark(value)]
        listed = f" list {listing(marks, _FEW_ODD)} in data.missing_values," if marks else ""
        return problem, f"name the {word} in data.categorical,{listed} or correct the file"
    decimal = " set data.decimal to a comma if that is their decimal point," if free_comma else ""
    remedy = f"write {them} as plain numbers, like 1200.5,{decimal} or name the {word} in data.categorical"
    return problem, remedy


def _is_mark(value: str) -> bool:
    """Return whether a value looks like a mark of a missing one: -, ?, n/a."""
    letters = "".join(character for character in value if character.isalnum())
    return not letters or letters.casefold() in _MISSING_WORDS


def _counted(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return the distinct values of a text column as text, and how many rows have each."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    counted = column.cast(pa.large_string()).drop_null().value_counts()
    return counted.field("values"), counted.field("counts")
