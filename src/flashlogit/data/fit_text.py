"""Columns of text that settings call dates or numbers: how they are written, from the training file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..config.data import Dates
from ..system.errors import UserError, listing, row_text, rows_text, some_of
from .columns.encoded import distinct_values, seconds_of_column
from .columns.encoding import LEVELS, NO_MOMENT, DateColumn, NumberColumn, PartOfDate, calendar
from .files.tables import Mask, Table, to_numpy
from .files.values import MISSING_WORDS, measure_of, number_of, seconds_of

_DAYS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d. %B %Y"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", " %H:%M:%S.%f")
_FORMS = tuple(day + time for time in _TIMES for day in _DAYS)
"""How dates are looked for where they are not ISO 8601: a form takes 5 µs a value."""
_MOST_UNREAD = 0.1
"""Share of a column's values that may be unreadable in the form that is found: more are dates in another one."""
_SAMPLE, _MOST = 100, 20_000
"""Distinct values that all forms are tried on, and those on which the best are told apart."""


def fit_date(
    table: Table, name: str, asked: Dates, training: Mask, kept: Mask, *, impute: bool, reference: bool
) -> tuple[DateColumn, str]:
    """Return a column of dates, and what is said of it.

    Args:
        table: with that column.
        asked: the parts, and the form, if the settings have it.
        training, kept: [N] the rows to learn from, and those that any split has.
        impute: whether a date may be missing.
        reference: whether a category's most frequent value has no feature.

    Raises:
        UserError: no date at all, a form that cannot be told, or a missing date where none may be.
    """
    place, column = f'column "{name}" of {table.name}', table.column(name)
    values, _ = distinct_values(column, place)
    form = asked.format or _form_of([value for value in values if isinstance(value, str)], place)
    seconds = seconds_of_column(column, form, place)
    absent, drop = (seconds == NO_MOMENT) & kept, {"drop": [name]}
    known = seconds[training & (seconds != NO_MOMENT)]
    if not len(known):
        remedy = "give its format in data.dates, in the codes of Python's strptime, or leave it out with data.drop"
        problem = "has no date that can be read in any training row"
        raise UserError(problem, setting=place, remedy=remedy, mends=drop)
    there = to_numpy(pc.is_valid(column)) & kept
    unread = int((absent & there).sum())
    if asked.format is None and unread > _MOST_UNREAD * there.sum():
        first = row_text(int(np.argmax(absent & there)))
        how = "ISO 8601" if form is None else form
        problem = f"has {rows_text(unread)} of {there.sum():,} that cannot be read as {how}, the first {first}"
        remedy = "write all dates alike, give data.dates the format where these are missing values, or leave it out"
        raise UserError(problem, setting=place, remedy=remedy, mends=drop)
    if absent.any() and not impute:
        row = int(np.argmax(absent))
        problem = f"has no date that can be read in {rows_text(absent.sum())}, the first of them {row_text(row)}"
        remedy = "correct the file, set data.missing to impute, or give data.dates the format"
        raise UserError(problem, setting=place, remedy=remedy, mends={"missing": "impute"})
    found = calendar(known, {*asked.parts})
    parts = []
    for part in asked.parts:
        if part not in LEVELS:
            parts.append(PartOfDate(part, float(found[part].mean()) if impute else None))
            continue
        levels, counts = np.unique(found[part], return_counts=True)
        baseline = int(levels[np.argmax(counts)]) if reference else None
        parts.append(PartOfDate(part, None, tuple(each for each in levels.tolist() if each != baseline), baseline))
    written = "" if form is None else f" written as {form}"
    without = f", {rows_text(absent.sum())} without a date that can be read" if absent.any() else ""
    dates = DateColumn(name, tuple(parts), form, marked=bool(absent.any()), required=not impute)
    return dates, f"Dates: {name}{written} ({', '.join(asked.parts)}){without}"


def _form_of(values: Sequence[str], place: str) -> str | None:
    """Return the form that reads most of the distinct values, None for ISO 8601; UserError where two do that read them
    differently."""

    def read(form: str | None, some: Sequence[str]) -> int:
        return sum(seconds_of(value, form) is not None for value in some)

    some = values[:: max(1, len(values) // _SAMPLE)]
    if not values or read(None, some) >= 0.5 * len(some):
        return None
    counts = {form: read(form, some) for form in _FORMS}
    best = [form for form, count in counts.items() if count and count == max(counts.values())]
    many = values[:: max(1, len(values) // _MOST)]
    read_of = {form: read(form, many) for form in best}
    best = [form for form in best if read_of[form] == max(read_of.values())]
    if not best:
        return None
    others = [form for form in best[1:] if any(seconds_of(v, form) != seconds_of(v, best[0]) for v in many)]
    if others:
        problem = f'may be written as {best[0]} or as {others[0]}, as "{many[0][:40]}"'
        remedy = f'give data.dates the format too, as in {{parts: [year, month], format: "{best[0]}"}}'
        raise UserError(problem, setting=place, remedy=remedy)
    return best[0]


def fit_measure(table: Table, name: str, decimal: str) -> tuple[NumberColumn, NDArray[np.float64]]:
    """Return a column of numbers with a unit, and its numbers [N], NaN where one is missing.

    Raises:
        UserError: values that are no numbers, or of several units.
    """
    place = f'column "{name}" of {table.name}'
    values, places = distinct_values(table.column(name), place)
    rows = np.bincount(places, minlength=len(values)).tolist()
    numbers, units, odd = np.empty(len(values)), Counter[str](), []
    for i, value in enumerate(values):
        try:
            if isinstance(value, str) and value.strip() in MISSING_WORDS:
                numbers[i] = np.nan
            elif isinstance(value, str):
                numbers[i], unit = measure_of(value, decimal)
                units[unit] += rows[i]
            else:
                numbers[i] = number_of(value)
        except ValueError:
            odd.append((rows[i], str(value)[:40]))
    if odd:
        shown = some_of([f'"{value}" ({rows_text(count)})' for count, value in sorted(odd, reverse=True)], 3)
        remedy = (
            "correct the file, list marks of a missing value in data.missing_values, or take it out of data.numbers"
        )
        raise UserError(f"has values that are no numbers, {shown}", setting=place, remedy=remedy)
    named = {unit: count for unit, count in units.items() if unit}
    if len(named) > 1:
        shown = listing(f"{unit} ({rows_text(count)})" for unit, count in named.items())
        remedy = "bring them to one unit in the file, or leave it out with data.drop"
        raise UserError(f"has numbers of several units, {shown}", setting=place, remedy=remedy)
    return NumberColumn(name, unit=next(iter(named), "")), numbers[places]
