"""Which encoding a file's columns get, from its training rows and the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..config.data import FileData, LabelValue
from ..system.errors import UserError, column_word, did_you_mean, listing, rows_text, some_of
from .columns.encoding import MISSING, OTHER, CategoryColumn, Column, Encoding, NumberColumn
from .dataset import DROPPED, TRAIN
from .files.tables import Mask, Table, from_numpy, refuse_not_numbers, repeated, to_numpy
from .files.text import as_text, holds_dates, is_text, numbers_as_text, numbers_problem, value_counts
from .fit_text import fit_date, fit_measure

_BASELINE = "data.categories.baseline"
_FREE_TEXT = 100
"""Distinct values up to which a column of text is taken for a category, however rare they are."""
_REMEDY = "turn them into numbers, name categories in data.categorical, or leave them out with data.drop"


def fit_encoding(
    table: Table, names: Sequence[str], categorical: set[str], settings: FileData, splits: NDArray[np.uint8]
) -> tuple[Encoding, list[str]]:
    """Return the encoding of the columns `names`, and sentences about it for the user.

    Args:
        table: with those columns; `splits` [N] is the split of every row.
        categorical: those that are categories, as `categorical_columns` has them.
        settings: `categories`, `missing`, and what is said of files of text.

    Raises:
        UserError: columns that lack values where none may be missing, or whose values say nothing.
    """
    training = splits == TRAIN
    reference = settings.categories.baseline not in ("auto", False)
    missing = _missing_values(table, names, splits != DROPPED)
    impute = settings.missing == "impute"
    if missing and not impute:
        shown = [f'"{name}" ({rows_text(n)}, first row {first + 1})' for name, (n, first) in missing.items()]
        problem = f"lacks values (they are empty or NaN) in {column_word(shown).split()[0]} {some_of(shown)}"
        remedy = "fill them in, leave out the rows or the columns, or set data.missing to impute"
        raise UserError(problem, setting=table.name, remedy=remedy)
    columns: list[Column] = []
    notes: list[str] = []
    counts = []
    for name in names:
        if name in settings.dates:
            asked = settings.dates[name]
            dates, said = fit_date(table, name, asked, training, splits != DROPPED, impute=impute, reference=reference)
            columns.append(dates)
            notes.append(said)
        elif name in settings.numbers:
            measured, values = fit_measure(table, name, settings.decimal)
            mean = _mean(values[training], name, table.name) if impute else None
            columns.append(replace(measured, fill=mean, marked=name in missing))
        elif name in categorical:
            column, count = _category(table, name, settings, training, notes)
            against = "" if column.baseline is None else f", reference {column.baseline}"
            counts.append(f"{name} ({count:,} {'value' if count == 1 else 'values'}{against})")
            columns.append(column)
        else:
            numbers = to_numpy(table.column(name).cast(pa.float64(), safe=False))
            fill = _mean(numbers[training], name, table.name) if impute else None
            columns.append(NumberColumn(name, fill, marked=name in missing))
    if filled := [name for name in missing if name not in categorical and name not in settings.dates]:
        replaced = f"Missing values of {column_word(filled)} are replaced by the training rows' mean"
        notes.append(f"{replaced}, and marked in a column of their own")
    if counts:
        notes.insert(0, f"Categories: {some_of(counts)}")
    encoding = Encoding(tuple(columns), tuple(settings.missing_values), settings.separator, settings.decimal)
    if not encoding.features:
        problem = "leaves no feature, for every column has one value only in the training rows"
        remedy = "give columns that vary, or set it to false"
        raise UserError(problem, setting=_BASELINE, remedy=remedy)
    _refuse_equal_names(table, encoding)
    return encoding, notes


def _missing_values(table: Table, names: Sequence[str], kept: Mask) -> dict[str, tuple[int, int]]:
    """Return how many kept rows have no value (empty or NaN), and the first of them, of the columns that lack some."""
    counts = {}
    for name in names:
        column = table.column(name)
        if is_text(column.type):
            column = as_text(column)
        if column.null_count == 0 and not pa.types.is_floating(column.type):
            continue
        missing = to_numpy(pc.is_null(column, nan_is_null=True)) & kept
        if missing.any():
            counts[name] = int(missing.sum()), int(np.argmax(missing))
    return counts


def _refuse_equal_names(table: Table, encoding: Encoding) -> None:
    """Raise UserError where two features would have the same name."""
    for column in encoding.columns:
        if isinstance(column, CategoryColumn):
            for bucket in repeated(column.buckets):
                missing = bucket == MISSING
                what = "rows without a value" if missing else "rare values"
                problem = f'has the value "{bucket}", which is what the feature of {what} is called'
                remedy = "write it otherwise" + (", or list it in data.missing_values" if missing else "")
                raise UserError(problem, setting=f'column "{column.name}" of {table.name}', remedy=remedy)
    if twice := repeated(encoding.features):
        problem = f"the features of two columns would have the same name, {listing(twice)}"
        raise UserError(problem, setting=table.name, remedy="rename one of the columns")


def categorical_columns(table: Table, names: Sequence[str], settings: FileData) -> set[str]:
    """Return the columns to take for categories; UserError for those that are neither that nor numbers."""
    listed = [settings.categorical] if isinstance(settings.categorical, str) else settings.categorical
    auto = settings.categorical == "auto" or ("auto" in listed and "auto" not in names)
    chosen = {name for name in listed if not (auto and name == "auto")}
    if strange := sorted(chosen.difference(names)):
        problem = f"lists {listing(strange)}, which is not among the features"
        raise UserError(problem, setting="data.categorical", remedy=f"name some of {listing(names)}")
    for setting, columns in (("dates", [*settings.dates]), ("numbers", settings.numbers)):
        if strange := [name for name in columns if name not in names]:
            problem = f"lists {listing(strange)}, which is not among the features"
            raise UserError(problem, setting=f"data.{setting}", remedy=f"name some of {listing(names)}")
        if twice := [name for name in columns if name in chosen]:
            problem, remedy = f"lists {listing(twice)}, and so does data.categorical", "take it out of one of them"
            raise UserError(problem, setting=f"data.{setting}", remedy=remedy)
        chosen |= {*columns}
    wrong = {name: what for name, what in table.not_numbers(names).items() if name not in chosen}
    text = {name for name in wrong if is_text(table.column(name).type)}
    if times := [name for name in wrong if _holds_times(table.column(name))]:
        remedy = "derive numbers, such as the hour or the weekday, leave them out with data.drop, or name them in"
        remedy += " data.categorical"
        raise UserError(f"dates or times in {column_word(times)}", setting=table.name, remedy=remedy)
    refuse_not_numbers(table.name, {name: wrong[name] for name in wrong if name not in text}, _REMEDY)
    if meant := {name: found for name in wrong if (found := numbers_as_text(table.column(name)))}:
        problem, remedy = numbers_problem(meant, free_comma=settings.separator != "," and settings.decimal == ".")
        raise UserError(problem, setting=table.name, remedy=remedy)
    if not auto:
        refuse_not_numbers(table.name, wrong, _REMEDY)
    text -= {*settings.dates, *settings.numbers}
    chosen -= {*settings.dates, *settings.numbers}
    _refuse_unknown_columns(settings.categories.baseline, sorted(chosen | text))
    return chosen | text


def _refuse_unknown_columns(baseline: bool | str | dict[str, LabelValue], known: list[str]) -> None:
    """Raise UserError where references are given of columns that are not categories, which are `known`."""
    for name in baseline if isinstance(baseline, dict) else ():
        if name not in known:
            remedy = f"{f'name some of {listing(known)}' if known else 'leave it out'}, or list it in data.categorical"
            problem = f'has "{name}", which is no column of categories{did_you_mean(name, known)}'
            raise UserError(problem, setting=_BASELINE, remedy=remedy)


def _holds_times(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_temporal(column.type)) or (is_text(column.type) and holds_dates(column))


def _mean(values: NDArray[np.float64], name: str, file: str) -> float:
    """Return the mean of the training rows' values [n] that are there, which takes the place of a missing one."""
    present = values[~np.isnan(values)]
    place = f'column "{name}" of {file}'
    if not len(present):
        raise UserError("has no value in any training row", setting=place, remedy="leave it out with data.drop")
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(present.mean())
    if not np.isfinite(mean):
        raise UserError("has a value that is infinite", setting=place, remedy="correct it, or leave out the column")
    return mean


def _category(
    table: Table, name: str, settings: FileData, training: Mask, notes: list[str]
) -> tuple[CategoryColumn, int]:
    """Return the column, with the values that enough training rows have, the most frequent first chosen and then in
    order; and how many values there are. What the user should know is added to the notes."""
    bounds, place = settings.categories, f'column "{name}" of {table.name}'
    text = as_text(table.column(name), place).filter(from_numpy(training))
    values, counts = value_counts(text)
    frequent = int(np.sum(to_numpy(counts) >= bounds.min_rows))
    rare = 1 - float(to_numpy(counts)[:frequent].sum()) / max(int(pc.sum(counts).as_py() or 0), 1)
    if frequent and rare > 0.5 and len(values) > _FREE_TEXT and name not in settings.categorical:
        problem = f"has {len(values):,} values, and {rare:.0%} of the training rows have one that fewer than"
        problem += f" {bounds.min_rows} of them share, as free text and names do"
        remedy = "leave it out with data.drop, or name it in data.categorical, as in [auto, ...], for its other values"
        raise UserError(problem, setting=place, remedy=remedy)
    if not frequent:
        problem = f"has {len(values):,} values and none of them in {bounds.min_rows} training rows"
        remedy = "leave it out with data.drop, as names of single things, or lower data.categories.min_rows"
        raise UserError(problem, setting=place, remedy=remedy)
    if frequent > bounds.max:
        many = f'Column "{name}" has {frequent:,} values in at least {bounds.min_rows} training rows'
        chosen = f"the {bounds.max:,} most frequent have a feature (data.categories.max)"
        notes.append(f"{many}; {chosen}, the rest is {name}={OTHER}")
    names = values[: min(frequent, bounds.max)].to_pylist()
    given = bounds.baseline
    baseline = names[0] if given is True or isinstance(given, dict) else None
    if isinstance(given, dict) and name in given:
        baseline = _reference(name, given[name], names, values.to_pylist())
    column = CategoryColumn(
        name,
        tuple(sorted(value for value in names if value != baseline)),
        other=len(values) > len(names),
        missing=text.null_count > 0,
        baseline=baseline,
        required=settings.missing == "error",
    )
    return column, len(values)


def _reference(name: str, given: LabelValue, chosen: list[str], values: list[str]) -> str:
    """Return the value of a column that the settings give as its reference, as `as_text` has it.

    Raises:
        UserError: it is none of those `chosen` to have a feature, or none of all `values`.
    """
    text = as_text(pa.chunked_array([pa.array([given])]))[0].as_py()
    if text in chosen:
        return str(text)
    problem = f"is no value of the column in the training rows{did_you_mean(text, chosen)}"
    remedy = f"choose one of {listing(chosen)}"
    if text in values:
        problem = "is one of the rare values, which are counted together"
        remedy += ", or change data.categories.min_rows or max"
    raise UserError(problem, setting=f"{_BASELINE}.{name}", value=given, remedy=remedy)
