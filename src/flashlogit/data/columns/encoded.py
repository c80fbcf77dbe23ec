"""A table's columns, encoded: each distinct value once, and each row by its value's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...system.errors import UserError, row_text
from ..files.tables import MISSING_VALUE, NUMBERS_REMEDY, Mask, Reading, Table, to_numpy
from ..files.text import as_text, is_text, without_dictionary
from ..files.values import seconds_of
from .encoding import (
    MISSING,
    MISSING_PLACE,
    NO_MOMENT,
    CategoryColumn,
    Codes,
    Column,
    DateColumn,
    Encoding,
    NumberColumn,
    calendar,
)


def reading_of(encoding: Encoding) -> Reading:
    """Return how other files are to be read: categories, dates and numbers with units as they are written."""
    text = frozenset(column.name for column in encoding.columns if column.in_text)
    # NA is a country where a model has learnt it from a file with types.
    categories = (column for column in encoding.columns if isinstance(column, CategoryColumn))
    odd = frozenset(each.name for each in categories if not encoding.words.isdisjoint((*each.values, each.baseline)))
    marks = encoding.separator, encoding.decimal
    return Reading(text, encoding.missing_values, *marks, verbatim=odd, encoding=encoding.text_encoding)


class EncodedTable(Table):
    """A table's features, made block by block from its columns."""

    def __init__(
        self, table: Table, encoding: Encoding, kept: Mask | None = None, remedy: str = NUMBERS_REMEDY
    ) -> None:
        """The rows where `kept` [N] is true (all if None) must be usable; `remedy` is for columns that are not.

        UserError where a column of numbers holds something else, or a category or date is missing that may not be.
        """
        super().__init__(table.name, table.rows)
        self._table, self._encoding, self._remedy = table, encoding, remedy
        self._kept = np.ones(table.rows, np.bool_) if kept is None else kept
        self._plain = [c.name for c in encoding.columns if isinstance(c, NumberColumn) and c.unit is None]
        table.require_numbers(self._plain, remedy)
        self._values: dict[str, NDArray[Any]] = {}
        unknown = []
        for column in encoding.columns:
            if isinstance(column, CategoryColumn):
                self._values[column.name], strange = self._buckets(column)
            elif isinstance(column, DateColumn):
                self._values[column.name], strange = self._seconds(column)
            elif column.unit is not None:
                self._values[column.name], strange = self._measures(column), ("", 0)
            else:
                continue
            value, count = strange
            if count:
                rows = f"{count} of {self._kept.sum()} rows {'has' if count == 1 else 'have'}"
                same = " and ".join(name for _, name in column.references)
                counts = f"; it counts as the reference, {same}" if same else ""
                what = f'a value of "{column.name}" that the model does not know, such as "{value}"'
                unknown.append(f"{rows} {what}{counts}")
        self.layout = encoding.layout
        self.unknown = tuple(unknown)
        """Sentences on the rows whose value the encoding does not know, one for each column with some."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the file, such as the label."""
        return self._table.column(name)

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        """Return rows of all features; `names` must be those of the encoding."""
        assert len(names) == len(self._encoding.features)
        return self.layout.features(self.codes(start, stop))

    def seconds(self, name: str) -> NDArray[np.int64]:
        """Return the moments of a column of dates [N], `NO_MOMENT` where there is none."""
        return self._values[name]

    def codes(self, start: int, stop: int) -> Codes:
        """Return the numbers and buckets of rows start..stop."""
        n, layout = stop - start, self.layout
        numbers = np.empty((n, len(layout.numbers)), np.float64, order="F")
        buckets = np.empty((n, len(layout.widths)), np.int64, order="F")
        plain = iter(self._table.block(self._plain, start, stop).T if self._plain else ())
        p = q = 0
        for column in self._encoding.columns:
            if isinstance(column, CategoryColumn):
                found: tuple[Sequence[Any], Sequence[Any]] = (), (self._values[column.name][start:stop],)
            elif isinstance(column, DateColumn):
                found = _of_dates(column, self._values[column.name][start:stop])
            else:
                values = next(plain) if column.unit is None else self._values[column.name][start:stop]
                missing = np.isnan(values)
                filled = values if column.fill is None else np.where(missing, column.fill, values)
                found = (filled,), (missing.astype(np.int64) - 1,) if column.marked else ()
            for each in found[0]:
                numbers[:, p] = each
                p += 1
            for each in found[1]:
                buckets[:, q] = each
                q += 1
        return Codes(numbers, buckets)

    def _buckets(self, column: CategoryColumn) -> tuple[NDArray[np.int32], tuple[str, int]]:
        """Return each row's bucket, and a value that the column does not know with the rows that have such."""
        text = as_text(self._table.column(column.name), self._place(column), self._remedy)
        values, places = distinct_values(text)
        words = self._encoding.words
        found = [column.bucket(value, words) for value in values]
        if column.required:
            absent = np.array([place == MISSING_PLACE for place, _ in found])[places] & self._kept
            if absent.any():
                raise self._table.unusable_value(column.name, int(np.argmax(absent)), MISSING_VALUE)
        bucket = np.array([each for each, _ in found], np.int32)[places]
        strange = np.array([unknown for _, unknown in found], np.bool_)[places] & self._kept
        first = values[places[int(np.argmax(strange))]]
        return bucket, (MISSING if first is None else str(first)[:40], int(strange.sum()))

    def _place(self, column: Column) -> str:
        return f'column "{column.name}" of {self.name}'

    def _measures(self, column: NumberColumn) -> NDArray[np.float64]:
        """Return the numbers of a column of text with units, or of numbers."""
        decimal, words = self._encoding.decimal, self._encoding.words
        return self._looked_up(column, lambda value: column.number(value, decimal, words))

    def _seconds(self, column: DateColumn) -> tuple[NDArray[np.int64], tuple[str, int]]:
        """Return seconds, `NO_MOMENT` where there is no date, and a level that the column does not know."""
        seconds = seconds_of_column(self._table.column(column.name), column.form, self._place(column))
        absent = (seconds == NO_MOMENT) & self._kept
        if column.required and absent.any():
            raise self._table.unusable_value(column.name, int(np.argmax(absent)), "missing, or no date")
        moments, shown = seconds[self._kept & ~absent], ""
        strange = np.zeros(len(moments), np.bool_)
        for each in column.parts:
            if each.levels is not None:
                levels = calendar(moments, {each.part})[each.part]
                unknown = ~np.isin(levels, [*each.levels, -1 if each.baseline is None else each.baseline])
                if unknown.any():
                    shown = f"{each.part} {each.name_of(int(levels[np.argmax(unknown)]))}"
                    strange |= unknown
        return seconds, (shown, int(np.sum(strange)))

    def _looked_up(self, column: Column, meaning: Callable[[Any], float]) -> NDArray[np.float64]:
        """Return a function of each row's value, made once for each distinct one; UserError where it has none."""
        values, places = distinct_values(self._table.column(column.name), self._place(column))
        numbers = np.empty(len(values))
        for i, value in enumerate(values):
            try:
                numbers[i] = meaning(value)
            except ValueError as error:
                here = np.flatnonzero((places == i) & self._kept)
                if not len(here):
                    numbers[i] = np.nan
                    continue
                problem = f'the value "{str(value)[:40]}" in {row_text(int(here[0]))} of column "{column.name}" {error}'
                raise UserError(problem, setting=self.name, remedy=self._remedy) from error
        return numbers[places]


def distinct_values(column: pa.ChunkedArray, place: str = "a column") -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values of a column, None last, and each row's place among them [N]; UserError, with its
    `place`, for a column of a type that has none."""
    column = without_dictionary(column)
    if is_text(column.type):
        column = column.cast(pa.large_string())  # of string_view Arrow makes no dictionary
    try:
        encoded = column.dictionary_encode().unify_dictionaries()
    except pa.ArrowException as error:
        raise UserError(f"holds {column.type}, of which no values can be told apart", setting=place) from error
    if not encoded.num_chunks:
        return [None], np.zeros(0, np.int64)
    values = encoded.chunk(0).dictionary.to_pylist()
    parts = [np.nan_to_num(to_numpy(chunk.indices).astype(np.float64), nan=len(values)) for chunk in encoded.chunks]
    return [*values, None], np.concatenate(parts).astype(np.int64)


def seconds_of_column(column: pa.ChunkedArray, form: str | None, place: str = "a column") -> NDArray[np.int64]:
    """Return `seconds_of` each row's value [N], `NO_MOMENT` for a missing or unreadable one; UserError as
    `distinct_values`."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            column = pc.local_timestamp(column)
        if pa.types.is_timestamp(column.type):
            column = pc.floor_temporal(column, unit="second")
        whole = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
        return _filled(whole)
    values, places = distinct_values(column, place)
    found: Iterable[int | None] = (seconds_of(value, form) for value in values)
    return np.array([NO_MOMENT if each is None else each for each in found], np.int64)[places]


def _filled(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(to_numpy(pc.fill_null(column, pa.scalar(NO_MOMENT, pa.int64()))), np.int64)


def _of_dates(column: DateColumn, seconds: NDArray[np.int64]) -> tuple[list[Any], list[Any]]:
    """Return the numbers and buckets of moments [n], of which some may be missing."""
    missing = seconds == NO_MOMENT
    numbers, buckets = column.coded(np.where(missing, 0, seconds))
    if not missing.any():
        return numbers, buckets
    absent = column.missing
    return (
        [np.where(missing, each, of) for each, of in zip(absent[0], numbers, strict=True)],
        [np.where(missing, each, of) for each, of in zip(absent[1], buckets, strict=True)],
    )
