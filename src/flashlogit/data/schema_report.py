"""What a file holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..system.errors import UserError
from ..system.wording import rows_text
from .files.category_text import as_text
from .files.reading import PLAIN, Reading
from .files.tables import Table, TableFile
from .files.text_kinds import holds_dates, is_text, numbers_as_text, numbers_sentence

_SHOWN_VALUES = 5
_MOST_CLASSES = 20


@dataclass(frozen=True)
class ColumnReport:
    """One column: what it is for training (number, category, date, other), how many rows lack a value, how many values
    are distinct (None where they were not counted), the numbers' least, mean and greatest (None where they are
    infinite), the most frequent values of a category with their counts, and how many rows are infinite."""

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
    sentences on columns of text that are meant to be numbers."""

    file: str
    rows: int
    columns: tuple[ColumnReport, ...]
    label: str | None = None
    classes: tuple[tuple[str, int], ...] = ()
    unlabelled: int = 0
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def schema_report(
    file: TableFile, label: str | int | None, above: float | None = None, reading: Reading = PLAIN
) -> SchemaReport:
    """Read a file column by column and report on it.

    Args:
        file: opened.
        label: the label column, if its classes are to be counted.
        above: the number that positive rows exceed, where the label is made of one.
        reading: how the values of a text file are to be taken, as it was opened.

    Raises:
        UserError: a label column that does not exist or holds no numbers to compare.
    """
    name = None if label is None else file.find_key(label, "--label")
    table = file.read(file.features, file.keys, reading)
    names = tuple(dict.fromkeys((*file.features, *file.keys)))
    columns = tuple(_column(table, each) for each in names)
    warnings = _warnings(table, [each for each in names if each != name])
    if name is None:
        return SchemaReport(file.name, table.rows, columns, warnings=warnings)
    classes, unlabelled = _classes(table.column(name), above, name)
    return SchemaReport(file.name, table.rows, columns, name, classes, unlabelled, warnings)


def _warnings(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """What training would say of columns of text that are meant to be numbers: those with odd values, and others."""
    text = [name for name in names if is_text(table.column(name).type)]
    meant = {name: numbers_as_text(table.column(name)) for name in text}
    found = {name: kind for name, kind in meant.items() if kind}
    groups = [{name: kind for name, kind in found.items() if bool(kind.odd) == odd} for odd in (True, False)]
    return tuple(numbers_sentence(group) for group in groups if group)


def _column(table: Table, name: str) -> ColumnReport:
    column = table.column(name)
    kind = column.type
    missing = int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)
    about: dict[str, Any] = {"name": name, "type": str(kind), "missing": missing}
    if pa.types.is_temporal(kind):
        return ColumnReport(use="date", **about)
    if is_text(kind):
        text = as_text(column)
        about["missing"] = text.null_count
        frequent, distinct = _frequent(text, _SHOWN_VALUES)
        use = "date" if holds_dates(column) else "category"
        return ColumnReport(use=use, distinct=distinct, frequent=frequent, **about)
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
        mean=_finite(_mean(present)),
        greatest=_finite(present.max()),
        infinite=int(np.isinf(present).sum()),
        **about,
    )


def _mean(values: NDArray[np.float64]) -> float:
    """Also where the sum is beyond the range; infinite or NaN where a value is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        return mean if np.isfinite(mean) else float((values / len(values)).sum())


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
    text = as_text(column)
    missing = text.null_count
    found, distinct = _frequent(text, _MOST_CLASSES)
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
            f"dates are no features: derive numbers from {', '.join(dates)}, leave them out (data.drop), or name them"
            " in data.categorical if they are categories"
        )
    parts += report.warnings
    infinite = [
        f"{column.name} ({rows_text(column.infinite)})" for column in report.columns if column.infinite
    ]
    if infinite:
        parts.append(
            f"there are infinite values in {', '.join(infinite)}: correct them, or leave the columns out (data.drop)"
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
    numbered = [column.name for column in report.columns if _numbers_rows(column, report)]
    if numbered:
        parts.append(
            f"every row has a whole number of its own in {', '.join(numbered)}: if it only numbers the rows, leave it"
            " out (data.drop)"
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


def _numbers_rows(column: ColumnReport, report: SchemaReport) -> bool:
    """Whether a column of whole numbers may be the number of the row."""
    whole = column.type.startswith(("int", "uint")) and column.name != report.label
    return whole and report.rows >= _MOST_CLASSES and column.distinct == report.rows


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
