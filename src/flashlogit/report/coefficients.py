"""A model's coefficients on the user's own columns: as a table with what statisticians ask of them, and ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ..data.files.text import safe_cells
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
    columns = _columns(model, inference)
    log_odds = columns.pop("log_odds")
    with np.errstate(over="ignore"):
        odds = {"odds_ratio": np.exp(log_odds)}
    named = {name: columns.pop(name) for name in ("class", "column", "coefficient") if name in columns}
    statistics = {name: pa.array(values, pa.float64()) for name, values in columns.items()}
    return pa.table(named | odds | statistics)


def _columns(model: Model, inference: Inference | None) -> dict[str, Any]:
    """Values by name for each class, and within it for each column and the intercept."""
    coefficients, names = np.column_stack(model.raw()), [*model.feature_names, INTERCEPT]
    if inference is not None:
        coefficients[0, : len(inference.coefficient)] = inference.coefficient
    K, size = len(coefficients), coefficients.size
    columns: dict[str, Any] = {"class": [label for label in model.label_names for _ in names]} if K > 1 else {}
    columns |= {
        "column": names * K,
        "coefficient": coefficients.reshape(-1),
        "log_odds": centred(coefficients).reshape(-1),
    }
    for name in _STATISTICS:
        known = [] if inference is None else getattr(inference, name).tolist()
        columns[name] = [
            *known,
            *[None] * (size - len(known)),
        ]  # without an intercept there is nothing to say of it
    return columns


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
    columns, D = _columns(model, inference), len(model.feature_names)
    deviations = np.tile([*deviation, np.nan], len(columns["column"]) // (D + 1))
    per_deviation = columns["coefficient"] * deviations
    order = np.argsort(-np.abs(per_deviation), kind="stable")
    # Intercepts, which have no deviation, come last.
    order, intercepts = np.split(order, [len(order) - len(order) // (D + 1)])

    def row(i: int) -> Coefficient:
        by, log_odds = float(deviations[i]), float(columns["log_odds"][i])
        return Coefficient(
            column=columns["column"][i],
            label=columns["class"][i] if "class" in columns else None,
            coefficient=float(columns["coefficient"][i]),
            per_deviation=None if np.isnan(by) else float(per_deviation[i]),
            log_odds=log_odds,
            log_odds_per_deviation=None if np.isnan(by) else log_odds * by,
            **{name: columns[name][i] for name in _STATISTICS},
        )

    rows = [row(i) for i in order[: LARGEST + OTHERS]]
    return Coefficients(
        largest=tuple(rows[:LARGEST]),
        others=tuple(rows[LARGEST:]),
        left_out=len(order) - len(rows),
        intercepts=tuple(row(i) for i in np.sort(intercepts)),
        why_no_inference="" if inference is not None else why_no_inference,
    )
