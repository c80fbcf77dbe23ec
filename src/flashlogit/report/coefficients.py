"""A model's coefficients on the user's own columns: as a table with what statisticians ask of them, and ranked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..data.columns.encoding import CategoryColumn
from ..data.files.tables import from_numpy, from_text, no_value
from ..models.model import Model
from .importance import features_by_column

if TYPE_CHECKING:
    from ..fitting.inference import Inference

INTERCEPT = "(intercept)"
LARGEST = 20
OTHERS = 1000
"""Coefficients in the page's collapsed table; coefficients.csv has all."""
_OF_COLUMN = 200
"""Coefficients shown of one column of the file, the largest ones."""
REFERENCE = "reference"
"""What coefficients.csv says of a category that has no feature, against which the column's others are."""
_STATISTICS = ("standard_error", "z", "p_value", "ci_low", "ci_high")


@dataclass(frozen=True)
class Coefficient:
    """A column's coefficient in the user's units and for one standard deviation more of it.

    label is the class for K > 2 classes. log_odds and log_odds_per_deviation are the same two numbers as logarithms of
    odds ratios: for K > 2 classes less their mean over the classes. standard_error to ci_high are None where the
    coefficient has no standard error. reference is whether it is 0 because the column's other categories are against
    this one.
    """

    column: str
    label: str | None
    coefficient: float
    per_deviation: float | None
    log_odds: float
    log_odds_per_deviation: float | None
    standard_error: float | None = None
    z: float | None = None
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    reference: bool = False


@dataclass(frozen=True)
class FileColumn:
    """A column of the file with its coefficients: one for each of its features and, for K > 2 classes, each class."""

    name: str
    contribution: float
    """Standard deviation over the training rows of what it adds to the logit (see `contribution_deviation`)."""
    coefficients: tuple[Coefficient, ...]
    """In the order of the features; of categories the highest first, the reference among them. Of many only the largest
    are here."""
    left_out: int


@dataclass(frozen=True)
class Coefficients:
    """The largest by what a standard deviation more of the column changes, then others, then the intercepts."""

    largest: tuple[Coefficient, ...]
    others: tuple[Coefficient, ...]
    left_out: int
    intercepts: tuple[Coefficient, ...]
    why_no_inference: str
    """Why there are no standard errors; empty where there are."""
    references: tuple[str, ...] = ()
    """The categories that the others of their columns are against, such as `region=east`."""
    columns: tuple[FileColumn, ...] = ()
    """Columns of the file by their contribution, the greatest first; none where each has one coefficient."""
    columns_left_out: int = 0
    """Columns of less contribution, for whose coefficients the page has no room."""


def coefficient_table(model: Model, inference: Inference | None) -> pa.Table:
    """Return a row for each column and, last, the intercept; for K > 2 classes one for each of them and each class.

    A category that is the reference of its column has a row too, before the others' and with a coefficient of 0. `note`
    says so, and that the data do not identify a coefficient.

    `odds_ratio` is exp(coefficient): the factor on the odds of the positive class for one unit more of the column. For
    K > 2 classes it is that on the odds of the class against the geometric mean of all, exp of the coefficient less its
    mean over the classes. The other columns are null without `inference`, which is of the same raw columns.
    """
    columns = _columns(model, inference)
    labels = columns["label"]
    with np.errstate(over="ignore"):
        odds = np.exp(columns["log_odds"])
    table = {} if labels[0] is None else {"class": from_text(labels)}
    table |= {"column": from_text(columns["column"])}
    table |= {"coefficient": from_numpy(columns["coefficient"]), "odds_ratio": from_numpy(odds)}
    for name in _STATISTICS:
        values = from_numpy(np.array(columns[name], np.float64))
        table[name] = pc.if_else(pc.is_nan(values), no_value(values.type), values)
    unknown = "" if inference is None else "not identified"
    lacking = [unknown if error != error else "" for error in columns["standard_error"]]
    table["note"] = from_text(np.where(columns["reference"], REFERENCE, lacking).tolist())
    return pa.table(table)


def _references(model: Model) -> tuple[list[int], list[str]]:
    """Return the numbers of the features before which categories without a feature belong, and these categories."""
    places: list[int] = []
    names: list[str] = []
    place = 0
    for column in () if model.encoding is None else model.encoding.columns:
        for offset, name in column.references:
            places.append(place + offset)
            names.append(name)
        place += len(column.features)
    return places, names


def _columns(model: Model, inference: Inference | None) -> dict[str, Any]:
    """Return values by name for each class, and within it for each column, also the references, and the intercept."""
    coefficients, names = np.column_stack(model.raw()), [*model.feature_names, INTERCEPT]
    if inference is not None:
        coefficients[0, : len(inference.coefficient)] = inference.coefficient
    places, references = _references(model)
    coefficients = np.insert(coefficients, places, 0.0, axis=1)
    names = np.insert(np.array(names, object), places, references).tolist()
    K, size = len(coefficients), coefficients.size
    # Adding a number to a column's coefficient of every class changes no probability, so that single ones mean
    # something against the mean of the classes only. l2 leaves it at 0; l1 does not.
    log_odds = coefficients - coefficients.mean(axis=0) if K > 1 else coefficients
    columns: dict[str, Any] = {
        "column": names * K,
        "label": [label for label in model.label_names for _ in names] if K > 1 else [None] * size,
        "coefficient": coefficients.reshape(-1),
        "log_odds": log_odds.reshape(-1),
        "reference": np.insert(np.zeros(len(names) - len(places), np.bool_), places, True).tolist() * K,
    }
    for name in _STATISTICS:
        known = [] if inference is None else np.insert(getattr(inference, name), places, np.nan).tolist()
        columns[name] = [*known, *[None] * (size - len(known))]  # without an intercept there is nothing to say of it
    return columns


def rank_coefficients(
    model: Model,
    deviation: NDArray[np.float64],
    contribution: NDArray[np.float64],
    inference: Inference | None,
    why_no_inference: str,
) -> Coefficients:
    """Return the coefficients, ordered by what a standard deviation more of the column changes.

    Args:
        model: of two classes, or K > 2.
        deviation: [D], the columns' standard deviations in the user's units.
        contribution: [C], what each column of the file adds to the logit, as `contribution_deviation` returns it.
        inference: standard errors in the user's units, for two classes; or None.
        why_no_inference: the reason for None.
    """
    columns, (places, references) = _columns(model, inference), _references(model)
    D = len(model.feature_names) + len(places)
    deviations = np.tile([*np.insert(deviation, places, 0.0), np.nan], len(columns["column"]) // (D + 1))
    columns["per_deviation"] = columns["coefficient"] * deviations
    columns["log_odds_per_deviation"] = columns["log_odds"] * deviations
    # Intercepts, which have no deviation, come last.
    order = np.argsort(-np.abs(columns["per_deviation"]), kind="stable")
    order, intercepts = np.split(order, [len(order) - len(order) // (D + 1)])

    found = tuple(_by_file_column(model, columns, contribution))
    rows = [_row(columns, i) for i in order[: LARGEST + OTHERS]]
    return Coefficients(
        largest=tuple(rows[:LARGEST]),
        others=tuple(rows[LARGEST:]),
        left_out=len(order) - len(rows),
        intercepts=tuple(_row(columns, i) for i in np.sort(intercepts)),
        why_no_inference="" if inference is not None else why_no_inference,
        columns=found,
        columns_left_out=len(contribution) - len(found) if found else 0,
        references=tuple(references),
    )


def _row(columns: dict[str, Any], i: int) -> Coefficient:
    # Without a deviation a number is NaN, which the page has as a dash.
    values: dict[str, Any] = {k: None if of[i] != of[i] else of[i] for k, of in columns.items()}
    return Coefficient(**values)


def _by_file_column(model: Model, columns: dict[str, Any], contribution: NDArray[np.float64]) -> Iterator[FileColumn]:
    """Yield columns of the file, the greatest contribution first, as long as there is room for their coefficients; none
    where each has one coefficient."""
    encoded = [None] * len(contribution) if model.encoding is None else model.encoding.columns
    sizes = features_by_column(model)
    lines = [n if of is None else n + len(of.references) for n, of in zip(sizes.values(), encoded, strict=True)]
    names, begins, room = list(sizes), np.cumsum([0, *lines]), LARGEST + OTHERS
    each_class = np.arange(len(columns["column"]), step=begins[-1] + 1)  # an intercept ends each
    if len(each_class) == 1 and max(lines) == 1:
        return
    size = np.where(columns["reference"], np.inf, np.abs(columns["per_deviation"]))
    for c in np.argsort(-contribution, kind="stable").tolist():
        if room <= 0:
            return
        places = each_class[:, None] + np.arange(begins[c], begins[c + 1])
        if isinstance(encoded[c], CategoryColumn):
            order = np.argsort(-columns["coefficient"][places], axis=1, kind="stable")
            places = np.take_along_axis(places, order, axis=1)
        places = places.reshape(-1)
        largest = np.argsort(-size[places], kind="stable")[: min(_OF_COLUMN, room)]
        rows = tuple(_row(columns, i) for i in places[np.sort(largest)])
        room -= len(rows)
        yield FileColumn(names[c], float(contribution[c]), rows, len(places) - len(rows))
