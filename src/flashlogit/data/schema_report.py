"""What a file holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flashlogit.data.encoding import as_text
from flashlogit.data.tables import Table, TableFile
from flashlogit.errors import UserError

_SHOWN_VALUES = 5
_MOST_CLASSES = 20


@dataclass(frozen=True)
class ColumnReport:
    """One column: what it is for training (number, category, date, other), how many rows lack a value, how many values
    are distinct (None where they were not counted), the numbers' least, mean and greatest, and the most frequent
    values of a category with their counts."""

    name: str
    type: str
    use: str
    missing: int
    distinct: int | None = None
    least: float | None = None
    mean: float | None = None
    greatest: float | None = None
    frequent: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class SchemaReport:
    """A file: its rows, its columns, and the classes of the label column, if one was named, with their counts."""

    file: str
    rows: int
    columns: tuple[ColumnReport, ...]
    label: str | None = None
    classes: tuple[tuple[str, int], ...] = ()
    unlabelled: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def schema_report(file: TableFile, label: str | int | None, above: float | None = None) -> SchemaReport:
    """Read a file column by column and report on it.

    Args:
        file: opened.
        label: the label column, if its classes are to be counted.
        above: the number that positive rows exceed, where the label is made of one.

    Raises:
        UserError: a label column that does not exist or holds no numbers to compare.
    """
    name = None if label is None else file.find_key(label, "--label")
    table = file.read(file.features, file.keys)
    names = tuple(dict.fromkeys((*file.features, *file.keys)))
    columns = tuple(_column(table, each) for each in names)
    if name is None:
        return SchemaReport(file.name, table.rows, columns)
    classes, unlabelled = _classes(table.column(name), above, name)
    return SchemaReport(file.name, table.rows, columns, name, classes, unlabelled)


def _column(table: Table, name: str) -> ColumnReport:
    column = table.column(name)
    kind = column.type
    missing = int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)
    value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
    about: dict[str, Any] = {"name": name, "type": str(kind), "missing": missing}
    if pa.types.is_temporal(kind):
        return ColumnReport(use="date", **about)
    if pa.types.is_string(value_type) or pa.types.is_large_string(value_type):
        frequent, distinct = _frequent(as_text(column), _SHOWN_VALUES)
        return ColumnReport(use="category", distinct=distinct, frequent=frequent, **about)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return ColumnReport(use="empty" if pa.types.is_null(kind) else "other", **about)
    values = column.cast(pa.float64(), safe=False).to_numpy()
    present = values[~np.isnan(values)]
    if not len(present):
        return ColumnReport(use="empty", **about)
    return ColumnReport(
        use="number",
        distinct=int(pc.count_distinct(column, mode="only_valid").as_py()),
        least=_finite(present.min()),
        mean=_finite(present.mean()),
        greatest=_finite(present.max()),
        **about,
    )


def _finite(value: float) -> float | None:
    """None for what JSON cannot hold."""
    return float(value) if np.isfinite(value) else None


def _frequent(text: pa.ChunkedArray, most: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """The most frequent values with their counts, and how many distinct ones there are."""
    counted = text.drop_null().value_counts()
    counts = counted.field("counts").to_numpy()
    order = np.argsort(-counts, kind="stable")[:most]
    values = counted.field("values")
    return tuple((str(values[int(i)].as_py()), int(counts[i])) for i in order), len(counted)


def _classes(
    column: pa.ChunkedArray, above: float | None, name: str
) -> tuple[tuple[tuple[str, int], ...], int]:
    """The classes of a label column and the rows without one."""
    missing = int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)
    if above is not None:
        try:
            values = column.cast(pa.float64(), safe=False).to_numpy()
        except pa.ArrowException as error:
            raise UserError(
                f'--above is {above:g}, and the label column "{name}" holds {column.type}; name a column of numbers'
            ) from error
        positive = int((values > above).sum())
        return ((f"> {above:g}", positive), (f"<= {above:g}", len(values) - missing - positive)), missing
    found, distinct = _frequent(as_text(column), _MOST_CLASSES)
    rest = len(column) - missing - sum(count for _, count in found)
    return found + (((f"{distinct - len(found):,} other values", rest),) if rest else ()), missing


def report_text(report: SchemaReport) -> str:
    """The report as an aligned table of text, and the balance of the classes."""
    heading = ("column", "type", "use", "missing", "distinct", "least", "mean", "greatest", "most frequent")
    lines = [heading, *(_line(column, report.rows) for column in report.columns)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]
    text = "\n".join(_aligned(line, widths) for line in lines)
    parts = [f"{report.file}: {report.rows:,} rows, {len(report.columns):,} columns", text]
    dates = [column.name for column in report.columns if column.use == "date"]
    if dates:
        parts.append(
            f"dates are no features: derive numbers from {', '.join(dates)}, or leave them out (data.drop)"
        )
    if any(column.missing for column in report.columns if column.name != report.label):
        parts.append(
            "some features lack values: set data.missing to impute, or leave the columns out (data.drop)"
        )
    names = [
        column.name
        for column in report.columns
        if column.use == "category" and column.name != report.label and _names_rows(column, report.rows)
    ]
    if names:
        them = "it" if len(names) == 1 else "them"
        parts.append(
            f"nearly every row has a value of its own in {', '.join(names)}: leave {them} out (data.drop)"
        )
    if report.label is not None:
        total = sum(count for _, count in report.classes) or 1
        shares = ", ".join(f"{name} {count:,} ({count / total:.1%})" for name, count in report.classes)
        parts.append(f"label {report.label}: {shares}; {report.unlabelled:,} rows without a label")
        label = next(column for column in report.columns if column.name == report.label)
        if len(report.classes) > _MOST_CLASSES and label.use == "number":
            parts.append(
                "a label with that many values is a number: --above (data.label.above) makes two classes of it"
            )
    return "\n\n".join(parts)


def _names_rows(column: ColumnReport, rows: int) -> bool:
    """Whether a column of text names single rows, so that it says nothing about others."""
    return column.distinct is not None and column.distinct > (rows - column.missing) / 2 > _SHOWN_VALUES


def _line(column: ColumnReport, rows: int) -> tuple[str, ...]:
    missing = f"{column.missing:,} ({column.missing / rows:.1%})" if column.missing else "0"
    numbers = ["" if v is None else f"{v:.6g}" for v in (column.least, column.mean, column.greatest)]
    frequent = ", ".join(f"{_short(value)} {count:,}" for value, count in column.frequent)
    distinct = "" if column.distinct is None else f"{column.distinct:,}"
    return (_short(column.name), column.type, column.use, missing, distinct, *numbers, frequent)


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, 1, 2, 8)
    cells = [
        cell.ljust(width) if i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
