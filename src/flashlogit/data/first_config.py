"""A config for a file, to begin with: its label guessed, what is wrong with the file mended, what is doubtful noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from ..config.data import FileData
from ..config.yaml_text import one_line
from ..system.errors import UserError, listing, number_text
from .columns.labels import Rule, Threshold, plain_word
from .files.open import open_files
from .files.tables import TableFile
from .files.text import is_mark, is_text, value_counts, without_dictionary
from .loading import check, reading_by
from .problems import merged_settings
from .schema_report import ColumnReport, SchemaReport, names_rows, numbers_rows, schema_report

_LABELS = (
    *("label", "labels", "target", "y", "class", "outcome", "churn", "churned", "response", "default", "defaulted"),
    *("diagnosis", "survived", "died", "dead", "event", "converted", "clicked", "click", "fraud", "is_fraud", "spam"),
)
"""Names that a label column may have, the likeliest first."""
_FEW = 12
"""At most so many distinct values can be two classes in several spellings, with marks of a missing one."""
_RARE = 0.2
"""Share of rows below which a class is rare."""
_COMMENTS = {
    "separator": "between the columns",
    "decimal": "the decimal point",
    "encoding": "of the file's text",
    "missing": "the training mean in place of a missing number, marked in a column of its own",
    "missing_values": "how a missing value is written, beside nothing, NA, NULL and NaN",
    "dates": "what becomes of dates; in its place `time: NAME` splits by one",
    "numbers": "text to be read as numbers, such as 3% or 1,200",
    "categorical": "columns of numbers that are categories; auto takes all columns of text",
}
_TEXT = """\
# For {file}: {rows:,} rows, {columns:,} columns.
# configs/own_file.yaml explains every key.

name: {name} # the results go to <output>/<name>/
output: runs
seed: 0 # the same seed gives the same split

data:
  source: file
{data}
  standardize: true # the penalty is on the coefficients of standardised columns

loss:
  l2: 1e-3 # penalty on large weights; a section `grid` chooses it by cross-validation
{loss}
solver:
  name: auto # goes to the optimum, and proves how near it is
  tolerance: 1e-6

report:
  threshold: 0.5 # rows with at least this probability are called positive
"""


@dataclass(frozen=True)
class FirstConfig:
    """A config file's text, the label that it has, and sentences on what was chosen."""

    text: str
    label: str
    notes: tuple[str, ...]


def first_config(path: str, label: str | int | None, name: str) -> FirstConfig:
    """Return a config that trains on the files of `path`, under the run's name `name`.

    Args:
        path: as `data.path`.
        label: the label column; None to guess it: a column of two values that has a label's name, or else one of more
            values that has, or else the last one of two values.
        name: of the run.

    Raises:
        UserError: a file that cannot be read or mended by settings, or whose label cannot be guessed.
    """
    file, report, settings = _opened(path)
    notes = [f"In {file.name}, {note}" for note in file.notes]
    if label is None:
        label, why = _guessed_label(file, report, settings)
        notes.append(f'The label is "{label}", {why}; choose another one with --label')
    settings = _with(settings, {"label": {"column": file.find_key(label, "--label")}})
    settings, reasons, rule, balance = _mended(settings)
    if isinstance(rule, Threshold):
        above = number_text(rule.above)
        notes.append(
            f'The label "{label}" is a number: rows above {above}, its median, are positive (data.label.above)'
        )
    columns = {column.name: column for column in report.columns if column.name != settings.label.column}
    doubtful = _suspicious(file, settings) | _doubtful(columns, report.rows, settings)
    lines = _data_lines(settings, reasons, balance, doubtful)
    rare = "  # class_weight: balanced # if the rare class matters as much\n" if min(balance.values()) < _RARE else ""
    text = _TEXT.format(
        file=path, rows=report.rows, columns=len(report.columns), name=name, data="\n".join(lines), loss=rare
    )
    return FirstConfig(text, str(settings.label.column), tuple(notes))


def run_name(path: str) -> str:
    """Return a run's name for a file, made of the file's own."""
    stem = PurePath(path.rstrip("/*")).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-") or "run"


def _with(settings: FileData, mends: Mapping[str, Any]) -> FileData:
    """Return the settings with others laid over them."""
    return FileData.model_validate(settings.model_dump(exclude_unset=True) | merged_settings(settings, [mends]))


def _opened(path: str) -> tuple[TableFile, SchemaReport, FileData]:
    """Return a file, what it holds, and the settings that it is read by."""
    settings, tried = FileData(source="file", path=path), set[str]()
    while True:
        try:
            reading = reading_by(settings)
            file = open_files(path, "FILE", reading)
            return file, schema_report(file, None, reading=reading), settings
        except UserError as error:
            if not error.mends or tried & error.mends.keys():
                raise
            tried |= error.mends.keys()
            settings = _with(settings, error.mends)


def _guessed_label(file: TableFile, report: SchemaReport, settings: FileData) -> tuple[str, str]:
    """Return the column that is the label, and why; UserError where none can be."""
    few = [column.name for column in report.columns if 2 <= (column.distinct or 0) <= _FEW]
    keys = [name for name in few if name in file.keys]
    table = file.read((), keys, reading_by(settings)) if keys else None
    two = [name for name in keys if table is not None and _has_two_values(table.column(name))]
    named = [column.name for column in report.columns if column.name.casefold() in _LABELS and column.name in file.keys]
    named.sort(key=lambda name: (name not in two, _LABELS.index(name.casefold())))
    if named:
        return named[0], f"which has {'two values and ' if named[0] in two else ''}a label's name"
    if not two:
        names = listing(column.name for column in report.columns)
        raise UserError(
            "has no column of two values", setting=file.name, remedy=f"name the label with --label: {names}"
        )
    return two[-1], f"the last of {len(two)} columns with two values" if len(two) > 1 else "which has two values"


def _has_two_values(column: pa.ChunkedArray) -> bool:
    column = without_dictionary(column)
    if not is_text(column.type):
        return True if pa.types.is_boolean(column.type) else len(column.drop_null().unique()) == 2
    values, _ = value_counts(column)
    return len({plain_word(value) for value in values.to_pylist() if not is_mark(value)}) == 2


def _mended(settings: FileData) -> tuple[FileData, dict[str, str], Rule | None, dict[str, float]]:
    """Return the settings by which the file trains, why columns are left out, the label's rule, and the share of each
    class."""
    settings = _with(settings, {"split": {"validation": 0, "test": 0.2}})
    reasons: dict[str, str] = {}
    for _ in range(len(FileData.model_fields)):
        try:
            known = check(settings, seed=0)
        except UserError as error:
            mends = dict(error.mends)
            for each in (error, *error.others):
                reasons |= {str(name): each.problem for name in each.mends.get("drop", ())}
            if not mends:
                raise
            settings = _with(settings, mends)
        else:
            break
    names = known.rule.names if known.rule else ()
    counts = np.bincount(known.labels.y[known.labels.kept], minlength=len(names))
    return settings, reasons, known.rule, dict(zip(names, (counts / counts.sum()).tolist(), strict=True))


def _suspicious(file: TableFile, settings: FileData) -> dict[str, str]:
    """Return the columns that may give the label away, or are copies of others, and why."""
    label, reading = settings.label, reading_by(settings)
    found: dict[str, str] = {}
    for each in schema_report(file, label.column, label.above, reading).suspicions:
        named = each.columns[1:] if each.kind == "copy" else each.columns
        found |= dict.fromkeys(named, each.sentence.partition(";")[0])
    return found


def _doubtful(columns: Mapping[str, ColumnReport], rows: int, settings: FileData) -> dict[str, str]:
    """Return the columns that may say nothing, and why."""
    found = {}
    for name, column in columns.items():
        if name in settings.dates or name in settings.numbers:
            continue
        if numbers_rows(column, rows):
            found[name] = "every row has a whole number of its own"
        elif names_rows(column, rows):
            found[name] = f"{column.distinct:,} values in {rows:,} rows"
        elif column.distinct == 1 and not column.missing:
            found[name] = "constant"
    return found


def _data_lines(
    settings: FileData, reasons: Mapping[str, str], balance: Mapping[str, float], doubtful: Mapping[str, str]
) -> list[str]:
    """Return the lines of the section `data` from `path` on."""
    given = settings.model_dump(exclude_unset=True)
    if "dates" in given:
        given["dates"] = {name: date["parts"] for name, date in given["dates"].items()}
    shares = ", ".join(f"{name} {share:.1%}" for name, share in balance.items())
    lines = [f"  {one_line('path', given['path'])}", f"  {one_line('label', given['label'])} # {_comment(shares)}"]
    split = f"{{validation: {settings.split.validation:g}, test: {settings.split.test:g}}}"
    lines.append(f"  split: {split} # fractions of the rows; the test rows are for the report")
    lines += [f"  {one_line(key, given[key])} # {text}" for key, text in _COMMENTS.items() if key in given]
    drop = [str(name) for name in given.get("drop", ())]
    others = [name for name in doubtful if name not in drop]
    if drop:
        lines.append("  drop: # columns to leave out")
        lines += [_item(name, reasons.get(name, ""), "    - ") for name in drop]
        lines += [_item(name, doubtful[name], "    # - ") for name in others]
    elif others:
        lines.append("  # drop: # columns that may say nothing")
        lines += [_item(name, doubtful[name], "  #   - ") for name in others]
    return lines


def _item(name: str, reason: str, mark: str) -> str:
    """Return a line of a list, with why the column is in it."""
    return f"{mark}{one_line('name', name).removeprefix('name: ')}" + (f" # {_comment(reason)}" if reason else "")


def _comment(text: str) -> str:
    """Return a text for one line of YAML, which has no line breaks."""
    return " ".join(text.split())[:160]
