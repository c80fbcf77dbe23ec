"""What a file holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..system.console import aligned
from ..system.errors import UserError, rows_text
from .files.tables import PLAIN, Reading, Table, TableFile, to_numpy
from .files.text import (
    as_text,
    by_remedy,
    holds_dates,
    is_number,
    is_text,
    numbers_as_text,
    numbers_problem,
    value_counts,
)
from .sampled_columns import FEW_CLASSES, class_numbers, read_columns
from .suspicions import Suspicion, find_suspicions

_SHOWN_VALUES = 5
_MOST_CLASSES = 20
_NO_FEATURES = ("group", "time")


@dataclass(frozen=True)
class ColumnReport:
    """One column.

    Attributes:
        use: what it is for training: number, numbers (a list of equally many in every row), category, date, empty or
            other; or group or time, where it was named as the column to split along.
        missing: rows that lack a value.
        distinct: how many values are distinct; None where they were not counted.
        least, mean, greatest: of numbers; None where they are infinite.
        frequent: the most frequent values of a category with their counts.
        infinite: rows that are infinite.
    """

    name: str
    type: str
    use: str
    missing: int
    distinct: int | None = None
    least: float | None = None
    mean: float | None = None
    greatest: float | None = None
    frequent: tuple[tuple[str, int], ...] = ()
    infinite: int = 0


@dataclass(frozen=True)
class SchemaReport:
    """A file: its rows, its columns, the classes of the label column, if one was named, with their counts, and
    sentences on columns of text that are meant to be numbers.

    suspicions: columns that may be leaks of the label or copies of others; notes: sentences on what was done about the
    file's shape.
    """

    file: str
    rows: int
    columns: tuple[ColumnReport, ...]
    label: str | None = None
    classes: tuple[tuple[str, int], ...] = ()
    unlabelled: int = 0
    warnings: tuple[str, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def schema_report(
    file: TableFile,
    label: str | int | None,
    above: float | None = None,
    reading: Reading = PLAIN,
    *,
    group: str | int | None = None,
    time: str | int | None = None,
) -> SchemaReport:
    """Read a file column by column and report on it.

    Args:
        file: opened.
        label: the label column, if its classes are to be counted.
        above: the number that positive rows exceed, where the label is made of one.
        reading: how the values of a text file are to be taken, as it was opened.
        group, time: columns that a split would keep whole, or order rows by, and that are no features.

    Raises:
        UserError: a column that does not exist, or a label that holds no numbers to compare.
    """
    name = None if label is None else file.find_key(label, "--label")
    given = {"group": group, "time": time}
    roles = {file.find_key(key, f"--{use}"): use for use, key in given.items() if key is not None}
    # A column of lists has one line, and not one for each of its numbers.
    numbers = {each for name, names in file.vectors.items() if name in file.keys for each in names}
    features, keys = ([each for each in names if each not in numbers] for names in (file.features, file.keys))
    table = file.read(features, keys, reading)
    names = dict.fromkeys((*features, *keys) if set(features).isdisjoint(keys) else keys)
    found = [_column(table, each) for each in names]
    columns = tuple(replace(column, use=roles.get(column.name, column.use)) for column in found)
    classes, unlabelled = ((), 0) if name is None else _classes(table.column(name), above, name)
    features = [each for each in names if each != name and each not in roles]
    suspicions = _suspicions(table, [column for column in columns if column.name in features], name, above)
    warnings = _warnings(table, features)
    return SchemaReport(file.name, table.rows, columns, name, classes, unlabelled, warnings, suspicions, file.notes)


def _warnings(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """Return what training would say of columns of text that are meant to be numbers: those with odd values, and
    others."""
    text = [name for name in names if is_text(table.column(name).type)]
    found = {name: meant for name in text if (meant := numbers_as_text(table.column(name)))}
    return tuple("; ".join(numbers_problem(group)) for group in by_remedy(found))


def _suspicions(
    table: Table, features: Sequence[ColumnReport], label: str | None, above: float | None
) -> tuple[Suspicion, ...]:
    """Return what is suspicious of the features that are numbers or categories, in the rows that have a label. That a
    column numbers the rows is a hint of its own, and said here where it tells the classes."""
    known = [column for column in features if column.use in ("number", "category") and not column.infinite]
    Y, classes = np.zeros((table.rows, 0), np.int16), []
    if label is not None:
        column = table.column(label)
        if above is not None:
            values = to_numpy(column.cast(pa.float64(), safe=False))
            y, classes = np.where(np.isnan(values), np.nan, values > above), [f"<= {above:g}", f"> {above:g}"]
        else:
            codes = as_text(column).combine_chunks().dictionary_encode()
            y = to_numpy(codes.indices.cast(pa.float64()))
            classes = codes.dictionary.to_pylist() if len(codes.dictionary) <= FEW_CLASSES else []
        Y = class_numbers(y)
    missing = np.array([column.missing > 0 for column in known], np.bool_)
    found = find_suspicions(read_columns(table, [column.name for column in known], missing), Y, classes=classes)
    return tuple(each for each in found if each.kind != "row number" or each.tells)


def _column(table: Table, name: str) -> ColumnReport:
    column = table.column(name)
    kind = column.type
    if is_text(kind):
        text = as_text(column)
        frequent, distinct = _frequent(text, _SHOWN_VALUES)
        use = "date" if holds_dates(column) else "category"
        return ColumnReport(name, str(kind), use, text.null_count, distinct, frequent=frequent)
    missing = int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)
    lists = pa.types.is_nested(kind) and is_number(getattr(kind, "value_type", kind))
    if lists:
        lengths, column = pc.unique(pc.list_value_length(column)), pc.list_flatten(column)
        if len(lengths) > 1 or column.null_count:
            return ColumnReport(name, str(kind), "other", missing)
    elif not is_number(kind):
        use = "date" if pa.types.is_temporal(kind) else "empty" if pa.types.is_null(kind) else "other"
        return ColumnReport(name, str(kind), use, missing)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = to_numpy(column.cast(pa.float64(), safe=False))
    present = values[~np.isnan(values)]
    if not len(present):
        return ColumnReport(name, str(kind), "empty", missing)
    different = None if lists else pc.count_distinct(column, mode="only_valid").as_py()
    infinite = int(np.isinf(present).sum())
    measured = present.min(), _mean(present), present.max()
    least, mean, greatest = (float(value) if np.isfinite(value) else None for value in measured)  # JSON has no inf
    use = "numbers" if lists else "number"
    return ColumnReport(name, str(kind), use, missing, different, least, mean, greatest, infinite=infinite)


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean, also where the sum is beyond the range; infinite or NaN where a value is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        return mean if np.isfinite(mean) else float((values / len(values)).sum())


def _frequent(text: pa.ChunkedArray, most: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """Return the most frequent values with their counts, and how many distinct ones there are."""
    values, counts = value_counts(text)
    return tuple(zip(values[:most].to_pylist(), counts[:most].to_pylist(), strict=True)), len(values)


def _classes(column: pa.ChunkedArray, above: float | None, name: str) -> tuple[tuple[tuple[str, int], ...], int]:
    """Return the classes of a label column and the rows without one."""
    if above is not None:
        try:
            values = to_numpy(column.cast(pa.float64(), safe=False))
        except pa.ArrowException as error:
            problem = f'the label column "{name}" holds {column.type}'
            raise UserError(problem, setting="--above", value=above, remedy="name a column of numbers") from error
        positive, missing = int((values > above).sum()), int(np.isnan(values).sum())
        return ((f"> {above:g}", positive), (f"<= {above:g}", len(values) - missing - positive)), missing
    text = as_text(column)
    found, distinct = _frequent(text, _MOST_CLASSES)
    rest = len(column) - text.null_count - sum(count for _, count in found)
    others = ((f"{distinct - len(found):,} other values", rest),) if rest else ()
    return found + others, text.null_count


def report_text(report: SchemaReport) -> str:
    """Return the report as an aligned table of text, what to do about its columns, and the balance of the classes."""
    heading = ("column", "type", "use", "missing", "distinct", "least", "mean", "greatest", "most frequent")
    rows = [heading, *(_line(column, report.rows) for column in report.columns)]
    size = f"{report.file}: {report.rows:,} rows, {len(report.columns):,} columns"
    parts = [size, aligned(rows, left=(0, 1, 2, 8)), *_hints(report)]
    if report.label is not None:
        total = sum(count for _, count in report.classes) or 1
        shares = ", ".join(f"{name} {count:,} ({count / total:.1%})" for name, count in report.classes)
        parts.append(f"label {report.label}: {shares}; {report.unlabelled:,} rows without a label")
        label = next(column for column in report.columns if column.name == report.label)
        if len(report.classes) > _MOST_CLASSES and label.use == "number":
            parts.append("a label with so many values is a number: --above (data.label.above) makes two classes of it")
    parts += [f"warning: {each.sentence}" for each in report.suspicions]
    return "\n\n".join(parts)


def _hints(report: SchemaReport) -> list[str]:
    """Return what to do about columns that are no features as they are."""
    features = [column for column in report.columns if column.name != report.label and column.use not in _NO_FEATURES]
    lists = [column.name for column in features if column.use == "other" and "list" in column.type]
    dates = [column.name for column in report.columns if column.use == "date"]
    infinite = [f"{column.name} ({rows_text(column.infinite)})" for column in features if column.infinite]
    lacking = [column.name for column in features if column.missing]
    names = [column.name for column in features if names_rows(column, report.rows)]
    numbers = [column.name for column in features if numbers_rows(column, report.rows)]
    by_time = "dates are no features, though data.time can split by one"
    hints = (
        (dates, by_time + ": name {} in data.dates for its parts or in data.categorical, or leave out with"),
        (lists, "lists are features where all have as many numbers, unlike {}: correct them, or leave out with"),
        (infinite, "there are infinite values in {}: correct them, or leave the column out with"),
        (lacking, "some features lack values, {}: set data.missing to impute, or leave out with"),
        (names, "nearly every row has a value of its own in {}: if that names the rows, leave it out with"),
        (numbers, "every row has a whole number of its own in {}: if that numbers the rows, leave it out with"),
    )
    said = [f"{text.format(', '.join(columns))} data.drop" for columns, text in hints if columns]
    return [*(f"note: {note}" for note in report.notes), *said, *report.warnings]


def names_rows(column: ColumnReport, rows: int) -> bool:
    """Return whether a column of text names single rows, so that it says nothing about others."""
    return column.use == "category" and (column.distinct or 0) > (rows - column.missing) / 2 > _SHOWN_VALUES


def numbers_rows(column: ColumnReport, rows: int) -> bool:
    """Return whether a column of whole numbers may be the number of the row."""
    return column.type.startswith(("int", "uint")) and rows >= _MOST_CLASSES and column.distinct == rows


def _line(column: ColumnReport, rows: int) -> tuple[str, ...]:
    missing = f"{column.missing:,} ({column.missing / rows:.1%})" if column.missing else "0"
    numbers = ["" if v is None else f"{v:.6g}" for v in (column.least, column.mean, column.greatest)]
    frequent = ", ".join(f"{_short(value)} {count:,}" for value, count in column.frequent)
    distinct = "" if column.distinct is None else f"{column.distinct:,}"
    return (_short(column.name), column.type, column.use, missing, distinct, *numbers, frequent)


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"
