"""A model's coefficients on the user's own columns: as a table with what statisticians ask of them, and ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ..data.files.csv_cells import safe_cells
from ..fitting.inference import Inference
from ..models.model import Model
from ..system.files import write_atomically
from .content import Coefficient, Coefficients

INTERCEPT = "(intercept)"
LARGEST = 20
OTHERS = 1000
"""Coefficients in the page's collapsed table; coefficients.csv has all."""
_STATISTICS = ("standard_error", "z", "p_value", "ci_low", "ci_high")


def coefficient_table(model: Model, inference: Inference | None) -> pa.Table:
    """A row for each column and, last, the intercept; for K > 2 classes one for each of them and each class.

    `odds_ratio` is exp(coefficient): the factor on the odds of the positive class for one unit more of the column. For
    K > 2 classes it is that on the odds of the class against the geometric mean of all, exp of `centred` coefficients.
    The other columns are null without `inference`, which is of the same raw columns.
    """
    coefficients = np.column_stack(model.raw())
    names = [*model.feature_names, INTERCEPT]
    K = len(coefficients)
    if inference is not None:
        coefficients[0, : len(inference.coefficient)] = inference.coefficient
    columns: dict[str, pa.Array] = {}
    if K > 1:
        columns["class"] = pa.array([label for label in model.label_names for _ in names])
    columns["column"] = pa.array(names * K)
    columns["coefficient"] = pa.array(coefficients.reshape(-1))
    with np.errstate(over="ignore"):
        columns["odds_ratio"] = pa.array(np.exp(centred(coefficients).reshape(-1)))
    rows = len(names) * K
    for name in _STATISTICS:
        values = None if inference is None else getattr(inference, name)
        if values is None:
            columns[name] = pa.nulls(rows, pa.float64())
        else:  # without an intercept there is nothing to say of it
            columns[name] = pa.array([*values.tolist(), *[None] * (rows - len(values))], pa.float64())
    return pa.table(columns)


def centred(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """w_k - mean_j w_j for the coefficients [K, D] of K > 2 classes; the one row [1, D] of two classes as it is.

    Adding a number to a column's coefficient of every class changes no probability, so that single ones mean something
    against the mean only. l2 leaves it at 0; l1 does not.
    """
    return coefficients - coefficients.mean(axis=0) if len(coefficients) > 1 else coefficients


def write_coefficients(table: pa.Table, path: Path) -> None:
    """As CSV, names as `safe_cells` has them; what is unknown is empty."""
    table = safe_cells(table)
    write_atomically(path, lambda temporary: pyarrow.csv.write_csv(table, temporary))


def rank_coefficients(
    model: Model,
    deviation: NDArray[np.float64],
    inference: Inference | None,
    why_no_inference: str,
) -> Coefficients:
    """The coefficients, ordered by what a standard deviation more of the column changes.

    Args:
        model: of two classes, or K > 2.
        deviation: [D], the columns' standard deviations in the user's units.
        inference: of the user's units, for two classes; or None,
        why_no_inference: and why.
    """
    several, D = len(model.label_names) > 2, len(model.feature_names)
    coefficients = np.column_stack(model.raw())
    log_odds = centred(coefficients)
    per_deviation = coefficients[:, :D] * deviation
    order = np.argsort(-np.abs(per_deviation), axis=None, kind="stable")[: LARGEST + OTHERS]
    names, deviations = [*model.feature_names, INTERCEPT], [*deviation.tolist(), None]

    def row(k: int, j: int) -> Coefficient:
        value, odds, by = float(coefficients[k, j]), float(log_odds[k, j]), deviations[j]
        statistics = {}
        if inference is not None and j < len(inference.standard_error):
            statistics = {field: float(getattr(inference, field)[j]) for field in _STATISTICS}
        return Coefficient(
            column=names[j],
            label=model.label_names[k] if several else None,
            coefficient=value,
            per_deviation=None if by is None else value * by,
            log_odds=odds,
            log_odds_per_deviation=None if by is None else odds * by,
            **statistics,
        )

    rows = [row(int(place) // D, int(place) % D) for place in order]
    return Coefficients(
        largest=tuple(rows[:LARGEST]),
        others=tuple(rows[LARGEST:]),
        left_out=per_deviation.size - len(rows),
        intercepts=tuple(row(k, D) for k in range(len(coefficients))),
        why_no_inference="" if inference is not None else why_no_inference,
    )
