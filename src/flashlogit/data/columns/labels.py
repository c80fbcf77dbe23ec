"""From a label column to 0 and 1, and the two classes' names.

A rule is found once, on the training file, and then applied to every file: a file that happens to lack a
class, or to spell one differently, cannot change what 1 means. It goes into the model's file, for names such as
"> 5" or "not spam" may be a threshold's, or a label's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...config.data import Label
from ...system.decoding import decoded
from ...system.errors import UserError, did_you_mean, listing, number_text, row_text, rows_text, some_of
from ..files.tables import Mask, Table, from_numpy, to_numpy
from ..files.text import is_number, without_dictionary

LabelText: TypeAlias = bool | int | float | str

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""What YAML 1.1 reads as true and false when it is not quoted."""
_NO_OF = {"yes": "no", "y": "n", "true": "false", "t": "f", "on": "off"}
MOST_CLASSES = 1000
"""The most classes that a softmax has."""
_NO_LABEL = "has no label in any row"


def _encode(column: pa.ChunkedArray) -> tuple[list[LabelText], NDArray[np.int32]]:
    """Return the distinct values of a column [N] without missing ones, and each row's position [N] among them."""
    if pa.types.is_floating(column.type):
        column = pa.chunked_array([from_numpy(to_numpy(column) + 0.0)])  # -0.0 becomes 0.0
    distinct = pc.unique(column)
    positions: NDArray[np.int32] = to_numpy(pc.index_in(column, value_set=distinct))
    if pa.types.is_float32(distinct.type):
        # The shortest decimals, so that 0.1 stays 0.1 and equals the 0.1 of a CSV file.
        return [float(str(value)) for value in to_numpy(distinct)], positions
    return distinct.to_pylist(), positions


def _text_of(value: LabelText) -> str:
    """Return how a value is shown, and what its class is called: `true`, `1` for 1.0, `malignant`."""
    if isinstance(value, bool):
        return str(value).lower()
    return number_text(value) if isinstance(value, float) else str(value)


class _Matcher:
    """Finds the one of some values that another means: the same, or else the same but for how it is written.

    1, 1.0, "1" and true are alike, and so are true, "true" and "yes". A value that is like two of them is
    like none.
    """

    def __init__(self, values: Iterable[LabelText]) -> None:
        self._alike: dict[bool | Decimal | str, list[LabelText]] = defaultdict(list)
        self._exact = set()
        for value in values:
            self._exact.add((type(value), value))
            self._alike[_meaning(value)].append(value)

    def find(self, wanted: LabelText) -> LabelText | None:
        """Return the value that `wanted` means, or None."""
        if (type(wanted), wanted) in self._exact:
            return wanted
        alike = self._alike.get(_meaning(wanted), [])
        return alike[0] if len(alike) == 1 else None


def _meaning(value: LabelText) -> bool | Decimal | str:
    """Return numbers, booleans and text that stands for them in a form that compares (True equals Decimal(1))."""
    if isinstance(value, bool):
        return value
    text = str(value).strip()
    if text.casefold() in _TRUTH:
        return _TRUTH[text.casefold()]
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return number if number.is_finite() else text


@dataclass(frozen=True)
class Labels:
    """The labels of N rows: y [N] uint8, 0 or 1, or int64 class numbers of more than two classes (0 where there is no
    label), or of several targets [N, T] float64; kept [N], false where the row has no label; and weights [N], if there
    are any."""

    y: NDArray[Any]
    kept: Mask
    weights: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Threshold:
    """Positive where the column is greater than `above`."""

    above: float
    kind: Literal["above"] = "above"

    @property
    def names(self) -> tuple[str, str]:
        """Names of the negative and the positive class."""
        return f"<= {number_text(self.above)}", f"> {number_text(self.above)}"

    def classes_of(self, column: pa.ChunkedArray, kept: Mask, place: str) -> NDArray[np.uint8]:
        """Return 0 and 1 for a column [n] without missing values; UserError if it holds no numbers."""
        if not is_number(column.type):
            problem = f"{place} holds {column.type}, not numbers"
            remedy = "name the positive value in data.label.positive instead"
            raise UserError(problem, setting="data.label.above", value=self.above, remedy=remedy)
        # In the column's own precision: a float32 column's 0.1 is not above 0.1.
        kind = pa.float32() if pa.types.is_float32(column.type) else pa.float64()
        return (to_numpy(column.cast(kind, safe=False)) > self.above).astype(np.uint8)


@dataclass(frozen=True)
class Mapping:
    """The training file's label values, each with its class: pairs, since a key in JSON is no number."""

    names: tuple[str, ...]
    values: tuple[tuple[LabelText, int], ...]
    kind: Literal["values"] = "values"

    def classes_of(self, column: pa.ChunkedArray, kept: Mask, place: str) -> NDArray[np.integer]:
        """Return class numbers for a column [n] without missing values; UserError for a value that the training file
        lacks.

        `kept` [N] is true for the n rows of the file that the column has, for the error.
        """
        values, positions = _encode(column)
        classes = dict(self.values)
        known = _Matcher(classes)
        table = np.zeros(len(values), _class_dtype(self.names))
        for i, value in enumerate(values):
            match = known.find(value)
            if match is None:
                row = int(np.flatnonzero(kept)[np.argmax(positions == i)])
                problem = f'holds "{_text_of(value)}" in {row_text(row)}, which the training file does not have'
                remedy = f"correct it to one of {listing(map(_text_of, classes))}, or leave out the row"
                raise UserError(problem, setting=place, remedy=remedy)
            table[i] = classes[match]
        return table[positions]


@dataclass(frozen=True)
class OneAgainstRest:
    """Positive is one value, and all others are negative: a model of one value against several knows no more."""

    positive: str
    kind: Literal["positive"] = "positive"

    @property
    def names(self) -> tuple[str, str]:
        """Names of the negative and the positive class."""
        return f"not {self.positive}", self.positive

    def classes_of(self, column: pa.ChunkedArray, kept: Mask, place: str) -> NDArray[np.uint8]:
        """Return 0 and 1 for a column [n] without missing values."""
        values, positions = _encode(column)
        known = _Matcher([self.positive])
        return np.array([known.find(value) is not None for value in values], dtype=np.uint8)[positions]


Rule: TypeAlias = Threshold | Mapping | OneAgainstRest


def rule_from_json(value: Any) -> Rule:
    """Return the rule that `rule_to_json` gave; ValueError for what is none, or a mapping that no label column
    gives."""
    rule: Rule = decoded(Rule, value, "rule")
    if not isinstance(rule, Mapping):
        return rule
    classes = dict(rule.values)
    if len(classes) < len(rule.values):
        raise ValueError("two label values are the same")
    if {*classes.values()} != {*range(len(rule.names))}:
        raise ValueError("the label values are not of all the classes, or of more")
    return rule


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON values; of two classes with very many values only the positive ones."""
    if isinstance(rule, Mapping) and len(rule.values) > MOST_CLASSES:
        # A column of names against one of them would outgrow the weights.
        rule = OneAgainstRest(rule.names[1])
    return asdict(rule)


def find_rule(column: pa.ChunkedArray, label: Label, place: str) -> Rule:
    """Return what the training file's label column [N] means under the settings. Errors call the column by `place`.

    Raises UserError if the column has no labels at all, only one class, or values that the settings do not
    tell apart.
    """
    column = _plain(column, place)
    column = column.filter(pc.invert(pc.is_null(column, nan_is_null=True)))
    if len(column) == 0:
        raise UserError(_NO_LABEL, setting=place, remedy="name the label column in data.label.column")
    return _mapping(column, label, place) if label.above is None else _threshold(column, label.above, place)


def apply_rule(rule: Rule, column: pa.ChunkedArray, label: Label, place: str) -> Labels:
    """Return the labels of a file's rows [N]; UserError at a value that is unknown, or missing and not to be
    dropped."""
    column = _plain(column, place)
    missing: Mask = to_numpy(pc.is_null(column, nan_is_null=True))
    if missing.all():
        raise UserError(_NO_LABEL, setting=place, remedy="give rows with labels")
    if missing.any():
        if label.missing == "error":
            count, first = rows_text(missing.sum()), row_text(int(np.argmax(missing)))
            problem = f"has no value (empty or NaN) in {count}, the first of them {first}"
            raise UserError(problem, setting=place, remedy="fill it in, or set data.label.missing to drop")
        column = column.filter(from_numpy(~missing))
    kept = ~missing
    y = np.zeros(len(kept), _class_dtype(rule.names))
    y[kept] = rule.classes_of(column, kept, place)
    return Labels(y=y, kept=kept)


def _class_dtype(names: tuple[str, ...]) -> np.dtype[np.integer]:
    return np.dtype(np.uint8 if len(names) == 2 else np.int64)


def _threshold(column: pa.ChunkedArray, above: float, place: str) -> Threshold:
    threshold = Threshold(above)
    classes = threshold.classes_of(column, np.ones(len(column), np.bool_), place)
    if classes.all() or not classes.any():
        ends = pc.min_max(column.cast(pa.float64(), safe=False)).as_py()
        low, high = number_text(ends["min"]), number_text(ends["max"])
        problem = f"{place} lies between {low} and {high}, which leaves one class only"
        remedy = f"choose a number from {low} up to, but less than, {high}"
        raise UserError(problem, setting="data.label.above", value=above, remedy=remedy)
    return threshold


def _mapping(column: pa.ChunkedArray, label: Label, place: str) -> Mapping:
    values, positions = _encode(column)
    rows = dict(zip(values, np.bincount(positions), strict=True))
    in_order = sorted(values)
    held = some_of([f'"{_text_of(value)}" ({rows_text(rows[value])})' for value in in_order], 5)
    if len(values) == 1:
        remedy = "give rows of two classes, which training needs"
        raise UserError(f"has one class only, {held}", setting=place, remedy=remedy)
    if label.multiclass:
        if len(values) > MOST_CLASSES:
            problem = f"has {len(values):,} values, {held}, and there may be {MOST_CLASSES} classes"
            remedy = "name the column of classes in data.label.column, or set data.label.above to a bound"
            raise UserError(problem, setting=place, remedy=remedy)
        return Mapping(tuple(map(_text_of, in_order)), tuple((value, k) for k, value in enumerate(in_order)))
    positive = _positive(in_order, held, label, place)
    others = [value for value in values if value != positive]
    negative = _text_of(others[0]) if len(others) == 1 else f"not {_text_of(positive)}"
    return Mapping((negative, _text_of(positive)), tuple((value, int(value == positive)) for value in values))


def _positive(values: list[LabelText], held: str, label: Label, place: str) -> LabelText:
    """Return which of the two or more sorted values is the positive class; `held` tells of them in errors."""
    if label.positive is not None:
        positive = _Matcher(values).find(label.positive)
        if positive is None:
            near = did_you_mean(label.positive, [_text_of(value) for value in values])
            problem, wanted = f"{place} has no such value{near}", _text_of(label.positive)
            raise UserError(problem, setting="data.label.positive", value=wanted, remedy=f"it has {held}")
        return positive
    numeric, remedy = not isinstance(values[0], str), "name the positive one in data.label.positive"
    if len(values) > 2:
        above = ", or a number that positive rows exceed in data.label.above" if numeric else ""
        remedy = f"{remedy}{above}, or set data.label.multiclass to true for a model of all of them"
        raise UserError(f"has {len(values)} values, {held}, and there must be two", setting=place, remedy=remedy)
    if numeric:
        return values[1]
    for first, second in (values, values[::-1]):
        if _NO_OF.get(str(first).strip().casefold()) == str(second).strip().casefold():
            return first
    raise UserError(f"has the values {held}, and either could be the positive class", setting=place, remedy=remedy)


def numbers_of_text(column: pa.ChunkedArray, place: str) -> NDArray[np.float64]:
    """Return the numbers [N] that a column of text means, NaN where it has none: 1 for yes, true and on, 0 for no,
    false and off. Raises UserError for other text."""
    column = column.cast(pa.large_string())  # of which, unlike string_view, Arrow can leave out rows
    known = to_numpy(pc.is_valid(column))
    values, positions = _encode(column.filter(from_numpy(known)))
    numbers = np.empty(len(values))
    for i, value in enumerate(values):
        if isinstance(meaning := _meaning(value), str):
            row = row_text(int(np.flatnonzero(known)[np.argmax(positions == i)]))
            remedy = "write labels as 0 and 1, or as class numbers, and nothing where one is missing"
            problem = f'holds "{value}" in {row}, and must hold numbers, or yes and no'
            raise UserError(problem, setting=place, remedy=remedy)
        numbers[i] = float(meaning)
    found = np.full(len(known), np.nan)
    found[known] = numbers[positions]
    return found


def _plain(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """Return the column as booleans, integers, floats or text. Raises UserError for lists and infinite numbers."""
    column = without_dictionary(column)
    kind = column.type
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not is_number(kind):
        try:
            column = column.cast(pa.string())
        except pa.ArrowException as error:
            problem = f"holds {kind}, and a label must be a number, a boolean or text"
            raise UserError(problem, setting=place) from error
    if pa.types.is_floating(column.type):
        infinite = np.isinf(to_numpy(column))
        if infinite.any():
            problem = f"is infinite in {row_text(int(np.argmax(infinite)))}"
            raise UserError(problem, setting=place, remedy="correct it, or leave out the row")
    return column


def read_weights(table: Table, name: str, kept: Mask, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Return the weights [N] in `dtype` of all rows of a table; rows that are not `kept` have weight 0.

    Raises UserError, naming the row, if a kept row's weight is missing, not finite (in `dtype`) or negative,
    and if all of them are zero.
    """
    place = f'weight column "{name}" of {table.file_of(name)}'
    column = table.column(name)
    try:
        values = np.where(kept, to_numpy(column.cast(pa.float64(), safe=False)), 0.0)
    except pa.ArrowException as error:
        remedy = "let data.weight name a column of numbers"
        raise UserError(f"has the type {column.type}", setting=place, remedy=remedy) from error
    for wrong, what, remedy in (
        (np.isnan(values), "is missing (empty or NaN)", "give every row a weight"),
        (np.isinf(values), "is infinite", "weights must be finite numbers"),
        (values < 0, "is negative", "weights must be 0 or more"),
        (values > np.finfo(dtype).max, f"is larger than {np.dtype(dtype)} holds", "give smaller weights"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(f"the weight in {row_text(row)} {what}", setting=place, remedy=remedy)
    weights: NDArray[np.floating] = values.astype(dtype)
    if not weights.any():
        remedy = "give at least one row of each class a positive weight"
        raise UserError("is zero in every row", setting=place, remedy=remedy)
    return weights
