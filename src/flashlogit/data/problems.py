"""What is wrong with a file: gathered, so that all of it is said at once, with the settings that mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.data import DatePart, FileData
from ..config.yaml_text import one_line
from ..system.errors import UserError
from .columns.labels import find_rule
from .files.tables import from_text, to_numpy
from .files.text import NumbersAsText, as_numbers, is_mark, is_number, is_text, value_counts, without_dictionary

_POSITIVE = ("yes", "y", "ja", "j", "oui", "o", "si", "sí", "s", "sim", "true", "t", "positive", "pos")
"""Words that are a positive class where one of them is one of two; otherwise it is the rarer one."""
_MOST_MARKS = 20
"""So many values of a column may be listed as marks of a missing one; a column with more is left out."""
_MOST_PROBLEMS = 20
"""So many are told one by one; the settings mend all of them."""
_MOST_NUMBERED = 10
"""So many numbers 0, 1, 2, ... are taken for classes rather than for amounts."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Problems:
    """Errors about a file, and what they have in common: the settings that it was read by."""

    def __init__(self, settings: FileData, found: Iterable[UserError] = ()) -> None:
        self._settings = settings
        self._found = list(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, error: UserError, **mends: Any) -> None:
        """Have an error told with the others; `mends` are settings that mend it."""
        error.mends = merged(error.mends, mends)
        self._found.append(error)

    @contextmanager
    def gathered(self, mends: Mapping[str, Any] = NOTHING) -> Iterator[None]:
        """Add a UserError that is raised within, with the settings that mend it."""
        try:
            yield
        except UserError as error:
            self.add(error, **mends)

    def settings(self) -> dict[str, Any]:
        """Return keys of `data` with the values that mend what can be mended, those of before among them."""
        return merged_settings(self._settings, [error.mends for error in self._found])

    def raise_all(self) -> None:
        """Raise what was found, if anything was, as one UserError with the settings that mend it, also as lines of
        YAML."""
        if not self._found:
            return
        first, *others = self._found
        first.others = tuple(others[: _MOST_PROBLEMS - 1])
        if more := len(self._found) - _MOST_PROBLEMS:
            first.others += (UserError(f"and {more:,} more problems like these"),) if more > 0 else ()
        if keys := self.settings():
            all_of_it = "all of it" if all(error.mends for error in self._found) else "what settings can mend"
            solver = " (multiclass needs a section solver)" if "multiclass" in keys.get("label", {}) else ""
            told = f"To mend {all_of_it}, put these lines into the config, in place of keys of the same name{solver}:"
            first.told_after = f"{told}\n\ndata:\n" + "\n".join(f"  {one_line(key, keys[key])}" for key in keys)
        first.mends = keys
        raise first


def merged(keys: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both, lists and sections with what either has in them."""
    result = dict(keys)
    for key, value in others.items():
        if isinstance(value, list):
            value = list(dict.fromkeys([*(result.get(key) or []), *value]))
        result[key] = {**(result.get(key) or {}), **value} if isinstance(value, dict) else value
    return result


def merged_settings(settings: FileData, mends: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of `data` that the mends are about: lists and sections with what the settings have in them
    already, and a column that is left out named nowhere else."""
    given = settings.model_dump(exclude_unset=True)
    keys: dict[str, Any] = {}
    for mend in mends:
        before = {key: given[key] for key in mend if key in given and key not in keys}
        keys = merged(keys | before, mend)
    dropped = {str(name) for name in keys.get("drop", ())}
    for key in ("columns", "categorical", "numbers", "dates"):
        named = keys.get(key, given.get(key))
        if isinstance(named, list | dict) and not dropped.isdisjoint(map(str, named)):
            left = [name for name in named if str(name) not in dropped]
            keys[key] = {name: named[name] for name in left} if isinstance(named, dict) else left
            if not left and key not in given:
                del keys[key]
    if "columns" in keys:  # which leaves out what it does not name
        keys.pop("drop", None)
    return keys


def date_parts(column: pa.ChunkedArray) -> list[DatePart]:
    """Return the parts of a column of dates that become features, the hour too where there are times."""
    parts: list[DatePart] = ["year", "month", "weekday", "days", "hour"]
    return parts if _has_times(column) else parts[:-1]


def _has_times(column: pa.ChunkedArray) -> bool:
    if is_text(column.type):
        return bool(pc.any(pc.match_substring(without_dictionary(column).cast(pa.large_string()), ":")).as_py())
    return not pa.types.is_date(column.type)


def number_mends(found: Mapping[str, NumbersAsText], *, decimal: bool) -> dict[str, Any]:
    """Return the settings that make numbers of columns of text; `decimal`: whether the file may have decimal commas."""
    comma = decimal and any(kind.commas for kind in found.values())
    many = [name for name, kind in found.items() if len(kind.odd) > _MOST_MARKS or (kind.commas and not comma)]
    marks = [value for name, kind in found.items() if name not in many for value, _ in kind.odd]
    written = [name for name, kind in found.items() if kind.written and not kind.commas and name not in many]
    mends = {"decimal": "," if comma else "", "drop": many, "missing_values": marks, "numbers": written}
    mends["missing"] = "impute" if marks else ""
    return {key: value for key, value in mends.items() if value}


def label_mends(column: pa.ChunkedArray, settings: FileData) -> dict[str, Any]:
    """Return the settings that make classes of a label column [N] of which `find_rule` cannot tell what they are.

    Of two values of text one is the positive class, and of more each is a class, as are few numbers 0, 1, 2, ...; other
    numbers are divided at their median. Marks of a missing value are none, and rows without a label are left out.
    """
    label = settings.label
    if label.positive is not None or label.above is not None or label.multiclass:
        return {}
    column = without_dictionary(column)
    mends: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    if is_text(column.type):
        column = column.cast(pa.large_string())
        values, _ = value_counts(column)
        if marks := [value for value in values.to_pylist() if is_mark(value)]:
            mends["missing_values"] = marks
            rule["missing"] = "drop"
            column = column.filter(pc.invert(pc.is_in(column, value_set=from_text(marks).cast(column.type))))
            column = as_numbers(column)  # as it is read with these marks
    if is_text(column.type):
        try:
            find_rule(column, label, "the label")
        except UserError:
            values, _ = value_counts(column)
            if len(values) == 2:
                words = [value for value in values.to_pylist() if value.strip().casefold() in _POSITIVE]
                rule["positive"] = words[0] if len(words) == 1 else values[1].as_py()
            elif len(values) > 2:
                rule["multiclass"] = True
    elif is_number(column.type) and pc.count_distinct(column, mode="only_valid").as_py() > 2:
        values = sorted(pc.unique(column).drop_null().to_pylist())
        few = len(values) <= _MOST_NUMBERED and values == list(range(len(values)))
        rule |= {"multiclass": True} if few else {"above": median_below(column)}
    if column.null_count:
        rule["missing"] = "drop"
    return mends | ({"label": rule} if rule else {})


def median_below(column: pa.ChunkedArray) -> float:
    """Return the median of a column of numbers, or the greatest value below the maximum where the median is that."""
    values = to_numpy(column.cast(pa.float64(), safe=False))
    values = values[~np.isnan(values)]
    median, greatest = float(np.median(values)), float(values.max())
    return median if median < greatest else float(values[values < greatest].max())
