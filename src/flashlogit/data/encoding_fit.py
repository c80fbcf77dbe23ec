"""Which encoding a file's columns get, from its training rows and the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..config.settings import FileData
from ..system.errors import UserError
from ..system.wording import column_word, listing
from .columns.encoding import (
    MISSING,
    OTHER,
    CategoryColumn,
    Encoding,
    NumberColumn,
    missing_values,
    refuse_missing,
)
from .files.category_text import as_text
from .files.tables import Table
from .files.text_kinds import holds_dates, is_text, numbers_as_text, numbers_sentence
from .splits import DROPPED, TRAIN

_NAMED = 8
"""At most so many columns are named in a note."""
_IMPUTE = "fill it in, leave out the rows or the column, or set data.missing to impute"


def fit_encoding(
    table: Table,
    names: Sequence[str],
    categorical: set[str],
    settings: FileData,
    splits: NDArray[np.uint8],
) -> tuple[Encoding, list[str]]:
    """The encoding of the columns `names`, and sentences about it for the user.

    Args:
        table: with those columns; `splits` [N] is the split of every row.
        categorical: those that are categories, as `categorical_columns` has them.
        settings: `categories`, `missing`, and what is said of files of text.

    Raises:
        UserError: columns that lack values where none may be missing, or whose values say nothing.
    """
    kept, training = splits != DROPPED, splits == TRAIN
    missing = missing_values(table, names, kept)
    if settings.missing == "error":
        refuse_missing(table.name, missing, _IMPUTE)
    columns: list[NumberColumn | CategoryColumn] = []
    notes = []
    counts = {}
    for name in names:
        if name in categorical:
            column, counts[name], note = _category(table, name, settings, training)
            columns.append(column)
            notes += note
        elif name in missing or settings.missing == "impute":
            columns.append(_number(table, name, training, marked=name in missing))
        else:
            columns.append(NumberColumn(name))
    if settings.missing == "impute" and missing:
        filled = [name for name in missing if name not in categorical]
        if filled:
            notes.append(
                f"Missing values of {column_word(filled)} are replaced by the training rows' mean, and marked in a"
                " column of their own"
            )
    if counts:
        notes.insert(0, _categories_note(counts))
    encoding = Encoding(tuple(columns), tuple(settings.missing_values), settings.separator, settings.decimal)
    twice = [name for name, count in Counter(encoding.features).items() if count > 1]
    if twice:
        _refuse_values_called_as_buckets(table, encoding)
        raise UserError(
            f"{table.name} has columns whose features would have the same name, {listing(twice)}; rename one of them"
        )
    return encoding, notes


def _refuse_values_called_as_buckets(table: Table, encoding: Encoding) -> None:
    for column in encoding.columns:
        if isinstance(column, CategoryColumn):
            for value in (OTHER, MISSING):
                if value in column.values and column.buckets.count(value) > 1:
                    what = "rare values" if value == OTHER else "rows without a value"
                    raise UserError(
                        f'{table.name} has the value "{value}" in column "{column.name}", which is what the feature of'
                        f" {what} is called; write it otherwise"
                        + (", or list it in data.missing_values" if value == MISSING else "")
                    )


def _categories_note(counts: dict[str, int]) -> str:
    """Which columns are categories, and how many values their training rows have."""
    named = [f"{name} ({count:,} {'value' if count == 1 else 'values'})" for name, count in counts.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"Categories: {', '.join(named[:_NAMED])}{more}"


def categorical_columns(table: Table, names: Sequence[str], settings: FileData) -> set[str]:
    """The columns to take for categories; UserError for those that are neither that nor numbers."""
    listed = [settings.categorical] if isinstance(settings.categorical, str) else settings.categorical
    auto = settings.categorical == "auto" or ("auto" in listed and "auto" not in names)
    chosen = {name for name in listed if not (auto and name == "auto")}
    strange = sorted(chosen.difference(names))
    if strange:
        raise UserError(
            f"data.categorical lists {listing(strange)}, which is not among the features; it has {listing(names)}"
        )
    wrong = {name: what for name, what in table.not_numbers(names).items() if name not in chosen}
    text = {name for name in wrong if is_text(table.column(name).type)}
    times = [name for name in wrong if _holds_times(table, name)]
    if times:
        those = "the column" if len(times) == 1 else "the columns"
        raise UserError(
            f"{table.name} has dates or times in {column_word(times)}; derive numbers that may matter, such as the"
            f" hour, the weekday or the days since an event, leave {those} out with data.drop, or name {those} in"
            " data.categorical"
        )
    _refuse(table, {name: what for name, what in wrong.items() if name not in text})
    meant = {name: numbers_as_text(table.column(name)) for name in wrong}
    mistyped = {name: found for name, found in meant.items() if found}
    if mistyped:
        free_comma = settings.separator != "," and settings.decimal == "."
        raise UserError(f"{table.name}: {numbers_sentence(mistyped, free_comma=free_comma)}")
    if not auto:
        _refuse(table, wrong)
    return chosen | (text if auto else set())


def _holds_times(table: Table, name: str) -> bool:
    column = table.column(name)
    return bool(pa.types.is_temporal(column.type)) or (is_text(column.type) and holds_dates(column))


def _refuse(table: Table, wrong: dict[str, str]) -> None:
    if wrong:
        shown = [f'"{name}" ({what})' for name, what in list(wrong.items())[:8]]
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise UserError(
            f"{table.name} has columns among the features that hold no numbers: {', '.join(shown)}{more}; turn them"
            " into numbers, name them in data.categorical if they are categories, or leave them out with data.drop"
        )


def _number(table: Table, name: str, training: NDArray[np.bool_], *, marked: bool) -> NumberColumn:
    """A column whose missing values are filled in with the mean over the training rows that have one."""
    values = table.column(name).cast(pa.float64(), safe=False).to_numpy()[training]
    present = values[~np.isnan(values)]
    if not len(present):
        raise UserError(
            f'{table.name} has no value of column "{name}" in any training row; leave it out with data.drop'
        )
    with np.errstate(over="ignore", invalid="ignore"):
        fill = float(present.mean())
    if not np.isfinite(fill):
        raise UserError(
            f'{table.name} has a value of column "{name}" that is infinite; correct it, or leave out the column'
        )
    return NumberColumn(name, fill, marked)


def _category(
    table: Table, name: str, settings: FileData, training: NDArray[np.bool_]
) -> tuple[CategoryColumn, int, list[str]]:
    """The values that enough training rows have, the most frequent first chosen and then in order; how many values
    there are; and notes."""
    bounds = settings.categories
    text = as_text(table.column(name), f'column "{name}" of {table.name}').filter(pa.array(training))
    counted = text.drop_null().value_counts()
    values, counts = counted.field("values"), counted.field("counts").to_numpy()
    frequent = np.flatnonzero(counts >= bounds.min_rows)
    frequent = frequent[np.argsort(-counts[frequent], kind="stable")]
    if not len(frequent):
        raise UserError(
            f'{table.name} has {len(values):,} values in column "{name}" and none of them in {bounds.min_rows} training'
            " rows, as names or numbers of single things have; leave it out with data.drop, or lower"
            " data.categories.min_rows"
        )
    notes = []
    if len(frequent) > bounds.max:
        notes.append(
            f'Column "{name}" has {len(frequent):,} values in at least {bounds.min_rows} training rows; the'
            f" {bounds.max:,} most frequent have a feature (data.categories.max), the rest is {name}=(other)"
        )
        frequent = frequent[: bounds.max]
    names = [str(values[int(i)].as_py()) for i in frequent]
    rare = int(counts.sum()) - int(counts[frequent].sum())
    baseline = names[0] if bounds.baseline else None
    column = CategoryColumn(
        name,
        tuple(sorted(value for value in names if value != baseline)),
        other=rare > 0,
        missing=text.null_count > 0,
        baseline=baseline,
        required=settings.missing == "error",
    )
    return column, len(values), notes
