"""Which encoding a file's columns get, from its training rows and the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..config.data import Dates, FileData, LabelValue
from ..system.errors import UserError, column_word, did_you_mean, listing, rows_text, some_of
from .columns.encoding import MISSING, OTHER, CategoryColumn, Column, Encoding, NumberColumn
from .dataset import DROPPED, TRAIN
from .files.arrow import ArrowTable
from .files.tables import Mask, Table, from_numpy, refuse_not_numbers, repeated, to_numpy
from .files.text import (
    as_text,
    by_remedy,
    holds_dates,
    is_text,
    numbers_as_text,
    numbers_problem,
    value_counts,
    without_marks,
)
from .fit_text import fit_date, fit_measure
from .problems import Problems, date_parts, merged, number_mends

_BASELINE = "data.categories.baseline"
_FREE_TEXT = 100
"""Distinct values up to which a column of text is taken for a category, however rare they are."""
_DROP = "leave it out with data.drop"
_REMEDY = "turn them into numbers, name categories in data.categorical, or leave them out with data.drop"


def fit_encoding(
    table: Table,
    names: Sequence[str],
    categorical: set[str],
    settings: FileData,
    splits: NDArray[np.uint8],
    problems: Problems,
) -> tuple[Encoding, list[str]]:
    """Return the encoding of the columns `names`, and sentences about it for the user.

    Args:
        table: with those columns; `splits` [N] is the split of every row.
        categorical: those that are categories, as `categorical_columns` has them.
        settings: `categories`, `missing`, and what is said of files of text.
        problems: takes columns that lack values where none may be missing, or whose values say nothing. The encoding
            lacks those columns then.
    """
    training = splits == TRAIN
    reference = settings.categories.baseline not in ("auto", False)
    missing = _missing_values(table, names, splits != DROPPED)
    impute = settings.missing == "impute"
    for name in [name for name, (rows, _) in missing.items() if rows == (splits != DROPPED).sum()]:
        problems.add(_no_value(table, name))
        del missing[name]
        names = [each for each in names if each != name]
    if missing and not impute:
        shown = [f'"{name}" ({rows_text(n)}, first row {first + 1})' for name, (n, first) in missing.items()]
        problem = f"lacks values (they are empty or NaN) in {column_word(shown).split()[0]} {some_of(shown)}"
        remedy = "fill them in, leave out the rows or the columns, or set data.missing to impute"
        problems.add(UserError(problem, setting=table.name, remedy=remedy), missing="impute")
    columns: list[Column] = []
    notes: list[str] = []
    counts = []
    for name in names:
        with problems.gathered():
            if name in settings.dates:
                asked = settings.dates[name]
                dates, said = fit_date(
                    table, name, asked, training, splits != DROPPED, impute=impute, reference=reference
                )
                columns.append(dates)
                notes.append(said)
            elif name in settings.numbers:
                measured, values = fit_measure(table, name, settings.decimal)
                mean = _mean(values[training], name, table) if impute else None
                lacks = impute and bool(np.isnan(values[splits != DROPPED]).any())
                columns.append(replace(measured, fill=mean, marked=lacks))
            elif name in categorical:
                column, count = _category(table, name, settings, training, notes)
                against = "" if column.baseline is None else f", reference {column.baseline}"
                counts.append(f"{name} ({count:,} {'value' if count == 1 else 'values'}{against})")
                columns.append(column)
            else:
                fill = None
                if impute or problems:  # where nothing is wrong, values are looked at when they are measured
                    numbers = to_numpy(table.column(name).cast(pa.float64(), safe=False))
                    if np.isinf(numbers[splits != DROPPED]).any():
                        raise _infinite(table, name)
                    fill = _mean(numbers[training], name, table) if impute else None
                columns.append(NumberColumn(name, fill, marked=name in missing))
    if filled := [name for name in missing if name not in categorical and name not in settings.dates]:
        replaced = f"Missing values of {column_word(filled)} are replaced by the training rows' mean"
        notes.append(f"{replaced}, and marked in a column of their own")
    if counts:
        notes.insert(0, f"Categories: {some_of(counts)}")
    text = settings.separator, settings.decimal, settings.encoding
    encoding = Encoding(tuple(columns), tuple(settings.missing_values), *text)
    if not encoding.features and not problems:
        problem = "leaves no feature, for every column has one value only in the training rows"
        remedy = "give columns that vary, or set it to false"
        raise UserError(problem, setting=_BASELINE, remedy=remedy)
    with problems.gathered():
        _refuse_equal_names(table, encoding)
    return encoding, notes


def _place(table: Table, name: str) -> str:
    return f'column "{name}" of {table.name}'


def _no_value(table: Table, name: str) -> UserError:
    problem = "has no value in any training row"
    return UserError(problem, setting=_place(table, name), remedy=_DROP, mends={"drop": [name]})


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


def categorical_columns(
    table: Table, names: Sequence[str], settings: FileData, problems: Problems
) -> tuple[set[str], list[str]]:
    """Return the columns to take for categories, and all columns that are either that or numbers; `problems` takes the
    others."""
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
    times = [name for name in wrong if _holds_times(table.column(name))]
    if times:
        remedy = "derive numbers with data.dates, leave them out with data.drop, or name them in data.categorical"
        error = UserError(f"dates or times in {column_word(times)}", setting=table.name, remedy=remedy)
        problems.add(error)
        for name in times:
            with problems.gathered({"drop": [name]}):
                asked = Dates(parts=date_parts(table.column(name)))
                every = np.ones(table.rows, np.bool_)
                dates, _ = fit_date(table, name, asked, every, every, impute=True, reference=False)
                error.mends = merged(error.mends, {"dates": {name: asked.parts}})
                if dates.marked and settings.missing == "error":
                    error.mends = merged(error.mends, {"missing": "impute"})
    others = [name for name in wrong if name not in text and name not in times]
    with problems.gathered({"drop": others}):
        refuse_not_numbers(table.name, {name: wrong[name] for name in others}, _REMEDY)
    candidates = [name for name in wrong if name in text and name not in times]
    meant = {name: found for name in candidates if (found := numbers_as_text(table.column(name)))}
    decimal = bool(meant) and settings.decimal == "." and not _has_fractions(table, names)
    for group in by_remedy(meant):
        problem, remedy = numbers_problem(group)
        mends = number_mends(group, decimal=decimal)
        problems.add(UserError(problem, setting=table.name, remedy=remedy), **mends)
        for name in mends.get("numbers", ()):
            odd = [value for value, _ in group[name].odd]
            rest = without_marks(pa.table({name: table.column(name)}), [name], odd)
            with problems.gathered({"drop": [name]}):
                fit_measure(ArrowTable(table.name, rest), name, settings.decimal)
    if not auto:
        unnamed = [name for name in candidates if name not in meant]
        with problems.gathered({"categorical": ["auto"]}):
            refuse_not_numbers(table.name, {name: wrong[name] for name in unnamed}, _REMEDY)
    refused = {*times, *others, *meant}
    usable = [name for name in names if name not in refused]
    categorical = (chosen | text) - refused - {*settings.dates, *settings.numbers}
    with problems.gathered():
        _refuse_unknown_columns(settings.categories.baseline, sorted(categorical | refused))
    return categorical, usable


def _has_fractions(table: Table, names: Sequence[str]) -> bool:
    """Return whether some of these columns are numbers with a decimal point."""
    columns = (table.column(name) for name in names)
    numbers = (to_numpy(column) for column in columns if pa.types.is_floating(column.type))
    return any(bool(np.any(np.isfinite(values) & (values != np.floor(values)))) for values in numbers)


def _refuse_unknown_columns(baseline: bool | str | dict[str, LabelValue], known: list[str]) -> None:
    """Raise UserError where references are given of columns that are not categories, which are `known`."""
    for name in baseline if isinstance(baseline, dict) else ():
        if name not in known:
            remedy = f"{f'name some of {listing(known)}' if known else 'leave it out'}, or list it in data.categorical"
            problem = f'has "{name}", which is no column of categories{did_you_mean(name, known)}'
            raise UserError(problem, setting=_BASELINE, remedy=remedy)


def _holds_times(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_temporal(column.type)) or (is_text(column.type) and holds_dates(column))


def _mean(values: NDArray[np.float64], name: str, table: Table) -> float:
    """Return the mean of the training rows' values [n] that are there, which takes the place of a missing one."""
    present = values[~np.isnan(values)]
    if not len(present):
        raise _no_value(table, name)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(present.mean())
    if not np.isfinite(mean):
        raise _infinite(table, name)
    return mean


def _infinite(table: Table, name: str) -> UserError:
    remedy = "correct it, or leave out the column with data.drop"
    return UserError("has a value that is infinite", setting=_place(table, name), remedy=remedy, mends={"drop": [name]})


def _category(
    table: Table, name: str, settings: FileData, training: Mask, notes: list[str]
) -> tuple[CategoryColumn, int]:
    """Return the column, with the values that enough training rows have, the most frequent first chosen and then in
    order; and how many values there are. What the user should know is added to the notes."""
    bounds, place = settings.categories, _place(table, name)
    text = as_text(table.column(name), place).filter(from_numpy(training))
    values, counts = value_counts(text)
    frequent = int(np.sum(to_numpy(counts) >= bounds.min_rows))
    rare = 1 - float(to_numpy(counts)[:frequent].sum()) / max(int(pc.sum(counts).as_py() or 0), 1)
    if frequent and rare > 0.5 and len(values) > _FREE_TEXT and name not in settings.categorical:
        problem = f"has {len(values):,} values, and {rare:.0%} of the training rows have one that fewer than"
        problem += f" {bounds.min_rows} of them share, as free text and names do"
        remedy = "leave it out with data.drop, or name it in data.categorical, as in [auto, ...], for its other values"
        raise UserError(problem, setting=place, remedy=remedy, mends={"drop": [name]})
    if not frequent:
        problem = f"has {len(values):,} values and none of them in {bounds.min_rows} training rows"
        remedy = "leave it out with data.drop, as names of single things, or lower data.categories.min_rows"
        raise UserError(problem, setting=place, remedy=remedy, mends={"drop": [name]})
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
