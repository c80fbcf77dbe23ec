"""From the columns of a file to numbers: categories one-hot, dates in parts, missing numbers filled in and marked.

    carrier          ->  carrier=AA, carrier=UA, ..., carrier=(other), carrier=(missing)
    dep_delay        ->  dep_delay, dep_delay (missing)
    joined           ->  joined year, joined month=1, ..., joined month=12, joined days, joined (missing)

An encoding is found once, on the training rows, and is part of the model: every other file, and every single record, is
read by the same one, by name. A column's values become numbers and buckets (which of some features is 1, -1 for none);
features are made of these only where X is. NumPy and Python only: a model is served where neither Arrow nor torch is.
"""

from __future__ import annotations

import math
from codecs import lookup
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...system.decoding import decoded
from ..files.values import MISSING_WORDS, DatePart, measure_of, number_of, seconds_of, text_of

OTHER, MISSING = "(other)", "(missing)"
NO_MOMENT = np.iinfo(np.int64).min
"""A missing date among int64 seconds, as NumPy's datetime64 has it."""
MISSING_PLACE = -2
"""In place of a bucket: no value may be missing, and this one is."""
NUMBER = -1
"""A run of features that is one number."""
_DAY = 86_400
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LEVELS: dict[str, tuple[str, ...]] = {
    "month": tuple(str(month) for month in range(1, 13)),
    "weekday": WEEKDAYS,
    "hour": tuple(str(hour) for hour in range(24)),
}
"""Parts of a date that are categories, with all their values; the others are numbers."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    fill: what takes the place of a missing value (None: none may be missing); marked: whether a second feature is 1
    where a value was missing; unit: what stands around the numbers in text, "" for nothing, and None for a column that
    `data.numbers` does not name.
    """

    name: str
    fill: float | None = None
    marked: bool = False
    unit: str | None = None
    kind: Literal["number"] = "number"

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return (self.name, f"{self.name} {MISSING}") if self.marked else (self.name,)

    @property
    def runs(self) -> tuple[int, ...]:
        """The features in order: `NUMBER`, or how many belong to one bucket."""
        return (NUMBER, 1) if self.marked else (NUMBER,)

    @property
    def in_text(self) -> bool:
        """Whether the column has to be read as text."""
        return self.unit is not None

    references: ClassVar[tuple[tuple[int, str], ...]] = ()
    """As of a `CategoryColumn`; numbers have none."""

    def number(self, value: Any, decimal: str, words: frozenset[str]) -> float:
        """Return a value as a number, NaN for a missing one, of which `words` are spellings; ValueError where it is
        none, or of another unit."""
        if not isinstance(value, str):
            return number_of(value)
        if value.strip() in words:
            return math.nan
        if self.unit is None:
            return number_of(value, decimal)
        number, unit = measure_of(value, decimal)
        if unit not in ("", self.unit):
            raise ValueError(f"has the unit {unit!r}, and the model has learnt from {self.unit or 'numbers alone'!r}")
        return number

    def code(self, value: Any, decimal: str, words: frozenset[str]) -> tuple[list[float], list[int]]:
        """Return the number and the buckets of a value; `words` are spellings of a missing one."""
        number = self.number(value, decimal, words)
        missing = number != number
        if missing and self.fill is not None:
            number = self.fill
        return [number], [0 if missing else -1] if self.marked else []


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories.

    values: those with a feature of their own; other, missing: whether there is a feature for any other value, and for a
    missing one; baseline: the value that has none, 0 in all features of the column; required: whether no value may be
    missing.

    A value for which there is no feature, such as one that no training row has, is 0 in all of them too.
    """

    name: str
    values: tuple[str, ...]
    other: bool = False
    missing: bool = False
    baseline: str | None = None
    required: bool = False
    kind: Literal["category"] = "category"

    in_text = True

    @property
    def buckets(self) -> tuple[str, ...]:
        """The values and what stands for the rest."""
        more = ((OTHER,) if self.other else ()) + ((MISSING,) if self.missing else ())
        return self.values + more

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(f"{self.name}={bucket}" for bucket in self.buckets)

    @property
    def runs(self) -> tuple[int, ...]:
        """As of a `NumberColumn`."""
        return (len(self.buckets),)

    @property
    def references(self) -> tuple[tuple[int, str], ...]:
        """Categories that have no feature, each with the number of the column's features before which it belongs."""
        return () if self.baseline is None else ((0, f"{self.name}={self.baseline}"),)

    @cached_property
    def _places(self) -> dict[str | None, int]:
        # Models of earlier versions have values as they were written, such as True.
        known: dict[str | None, int] = {text_of(value): place for place, value in enumerate(self.values)}
        known[None] = len(self.buckets) - 1 if self.missing else -1
        if self.baseline is not None:
            known[text_of(self.baseline)] = -1
        return known

    def bucket(self, value: Any, words: frozenset[str] = frozenset()) -> tuple[int, bool]:
        """Return the bucket of a value, and whether the column does not know it, nor missing ones where it is missing;
        `MISSING_PLACE` for a missing one where none may be."""
        text = text_of(value)
        place = self._places.get(text)
        if place is None:
            if text not in words:
                return (len(self.values), False) if self.other else (-1, True)
            text, place = None, self._places[None]
        if text is None and self.required:
            place = MISSING_PLACE
        return place, text is None and not self.missing

    def code(self, value: Any, decimal: str, words: frozenset[str]) -> tuple[list[float], list[int]]:
        """As of a `NumberColumn`; ValueError for a missing one where none may be."""
        place, _ = self.bucket(value, words)
        if place == MISSING_PLACE:
            raise ValueError("is missing")
        return [], [place]


@dataclass(frozen=True)
class PartOfDate:
    """A part of a date. fill: what takes the place of a missing number; levels: the numbers that have a feature each,
    where the part is a category; baseline: the one that has none, 0 in all."""

    part: DatePart
    fill: float | None = None
    levels: tuple[int, ...] | None = None
    baseline: int | None = None

    def name_of(self, level: int) -> str:
        """Return what a level is called: 3 of month is `3`, 0 of weekday `Monday`."""
        return LEVELS[self.part][level - (self.part == "month")]


@dataclass(frozen=True)
class DateColumn:
    """A column of dates or times, as they are written: time zones are left out.

    parts: what becomes of them, in order; form: how text is written, as for `seconds_of`; marked: whether a last
    feature is 1 where a date is missing or cannot be read; required: whether none may be.
    """

    name: str
    parts: tuple[PartOfDate, ...]
    form: str | None = None
    marked: bool = False
    required: bool = False
    kind: Literal["date"] = "date"

    in_text = True

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        names = []
        for each in self.parts:
            stem = f"{self.name} {each.part}"
            names += [stem] if each.levels is None else [f"{stem}={each.name_of(level)}" for level in each.levels]
        return (*names, f"{self.name} {MISSING}") if self.marked else tuple(names)

    @property
    def runs(self) -> tuple[int, ...]:
        """As of a `NumberColumn`."""
        parts = tuple(NUMBER if each.levels is None else len(each.levels) for each in self.parts)
        return (*parts, 1) if self.marked else parts

    @property
    def references(self) -> tuple[tuple[int, str], ...]:
        """As of a `CategoryColumn`."""
        starts = np.cumsum([0, *map(abs, self.runs)]).tolist()
        found = [(start, each) for start, each in zip(starts, self.parts, strict=False) if each.baseline is not None]
        return tuple((start, f"{self.name} {each.part}={each.name_of(each.baseline or 0)}") for start, each in found)

    def coded(self, seconds: Any) -> tuple[list[Any], list[Any]]:
        """Return the numbers and the buckets of moments that are not missing: an int, or int64 [n]."""
        found = calendar(seconds, {each.part for each in self.parts})
        numbers = [found[each.part] for each in self.parts if each.levels is None]
        buckets = [self._places[each.part][found[each.part]] for each in self.parts if each.levels is not None]
        return numbers, [*buckets, *([0 * seconds - 1] if self.marked else [])]

    @cached_property
    def missing(self) -> tuple[list[float], list[int]]:
        """The numbers and buckets of a missing date."""
        numbers = [float("nan") if each.fill is None else each.fill for each in self.parts if each.levels is None]
        buckets = [-1 for each in self.parts if each.levels is not None]
        return numbers, [*buckets, *([0] if self.marked else [])]

    @cached_property
    def _places(self) -> dict[str, NDArray[np.int64]]:
        places: dict[str, NDArray[np.int64]] = {}
        for each in self.parts:
            if each.levels is not None:
                places[each.part] = np.full(25, -1)
                places[each.part][list(each.levels)] = np.arange(len(each.levels))
        return places

    def code(self, value: Any, decimal: str, words: frozenset[str]) -> tuple[list[float], list[int]]:
        """As of a `NumberColumn`; a date that cannot be read is missing."""
        seconds = seconds_of(value, self.form)
        if seconds is not None:
            return self.coded(seconds)
        if self.required:
            raise ValueError("is missing, or no date")
        return self.missing


def calendar(seconds: Any, parts: set[DatePart]) -> dict[str, Any]:
    """Return the parts of moments, which are seconds from 1970-01-01: an int, or int64 [n].

    Year, month and day are of the Gregorian calendar by whole numbers alone (Hinnant, "chrono-compatible low-level date
    algorithms", civil_from_days), so that a single row, a million of them and an ONNX graph do the same. weekday is 0
    for Monday, and days the time in days, with its fraction.
    """
    days = seconds // _DAY
    found: dict[str, Any] = {"days": seconds / _DAY, "hour": seconds % _DAY // 3600, "weekday": (days + 3) % 7}
    if parts & {"year", "month", "day"}:
        shifted = days + 719_468  # from 0000-03-01 on, so that a leap day is a year's last
        era = shifted // 146_097
        day_of_era = shifted - era * 146_097
        year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        from_march = (5 * day_of_year + 2) // 153
        month = from_march + 3 - 12 * (from_march >= 10)
        found |= {"year": year_of_era + era * 400 + (month <= 2), "month": month}
        found["day"] = day_of_year - (153 * from_march + 2) // 5 + 1
    return found


Column: TypeAlias = NumberColumn | CategoryColumn | DateColumn


@dataclass(frozen=True)
class Codes:
    """Rows by their columns' numbers [n, P] float64, and buckets [n, Q]: the place of the feature that is 1 among those
    of a run, -1 for none."""

    numbers: NDArray[np.float64]
    buckets: NDArray[np.int64]

    @classmethod
    def of(cls, block: NDArray[np.float64]) -> Codes:
        """Return rows [n, D] of numbers alone."""
        return cls(block, np.empty((len(block), 0), np.int64))


@dataclass(frozen=True)
class Encoding:
    """All feature columns of a file in order, and what becomes of them."""

    columns: tuple[Column, ...]
    missing_values: tuple[str, ...] = ()
    """Further spellings of a missing value in files and columns of text."""
    separator: Literal[",", ";", "|", "\t"] = ","
    """What is between the columns of a .csv file, unless its header line shows something else."""
    decimal: Literal[".", ","] = "."
    """The decimal point in files of text."""
    text_encoding: str = "utf-8"
    """The encoding of files of text that are not UTF-8."""

    @property
    def names(self) -> tuple[str, ...]:
        """The file's columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The features, in order: those of the first column, of the second, ..."""
        return tuple(feature for column in self.columns for feature in column.features)

    @cached_property
    def layout(self) -> Layout:
        """Where the features of numbers and buckets are."""
        return Layout.of([run for column in self.columns for run in column.runs])

    @property
    def trivial(self) -> bool:
        """Whether the features are the columns as they are, in any file."""
        return self == Encoding(tuple(NumberColumn(name) for name in self.names))

    @cached_property
    def words(self) -> frozenset[str]:
        """All spellings of a missing value in text."""
        return MISSING_WORDS.union(self.missing_values)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Encoding:
        """Return the encoding of `to_json`, or of the list of columns alone that earlier versions wrote; ValueError for
        one that no training file gives."""
        encoding: Encoding = decoded(cls, {"columns": value} if isinstance(value, list) else value, "encoding")
        if len({*encoding.names}) < len(encoding.names):
            raise ValueError("two columns have the same name")
        lookup(encoding.text_encoding)
        for column in encoding.columns:
            called = f"column {column.name[:40]!r}"
            if isinstance(column, CategoryColumn):
                meant = [text_of(value) for value in (*column.values, *filter(None, [column.baseline]))]
                if len({*meant}) < len(meant):
                    raise ValueError(f"two categories of {called}, or one and its baseline, are the same")
            elif isinstance(column, DateColumn):
                if column.form is not None:
                    datetime.strptime(datetime(2001, 12, 31).strftime(column.form), column.form)
                for each in column.parts:
                    first = each.part == "month"
                    known = [*(each.levels or ()), *([] if each.baseline is None else [each.baseline])]
                    there = {*range(first, len(LEVELS.get(each.part, ())) + first)}
                    if (each.levels is None) != (each.part not in LEVELS) or not {*known} <= there:
                        raise ValueError(f"the {each.part} of {called} has levels that none has")
                    if len({*known}) < len(known):
                        raise ValueError(f"the {each.part} of {called} has a level twice")
        return encoding


@dataclass(frozen=True)
class Layout:
    """Where features are: those of numbers [P], and of each of the Q buckets the first and how many."""

    numbers: NDArray[np.intp]
    starts: NDArray[np.intp]
    widths: NDArray[np.intp]

    @classmethod
    def of(cls, runs: Sequence[int]) -> Layout:
        """Return the layout of runs of features."""
        widths = np.array(runs, np.intp)
        numbers, sizes = widths == NUMBER, np.abs(widths)
        starts = np.cumsum(sizes) - sizes
        return cls(starts[numbers], starts[~numbers], widths[~numbers])

    @property
    def size(self) -> int:
        """How many features there are."""
        return len(self.numbers) + int(self.widths.sum())

    def features(self, codes: Codes) -> NDArray[np.float64]:
        """Return the features [n, D]."""
        block = np.zeros((len(codes.numbers), self.size))
        block[:, self.numbers] = codes.numbers
        here = np.arange(len(block))
        for start, bucket in zip(self.starts.tolist(), codes.buckets.T, strict=True):
            known = bucket >= 0
            block[here[known], start + bucket[known]] = 1.0
        return block


@dataclass(frozen=True)
class Standardization:
    """Column means and standard deviations [D] float64 of the training rows (scale 1 if constant)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def identity(cls, columns: int) -> Standardization:
        """Return the one that leaves `columns` columns as they are."""
        return cls(mean=np.zeros(columns), scale=np.ones(columns))
