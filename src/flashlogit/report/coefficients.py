"""A model's coefficients in the user's units, the ones that matter most first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.model import Model
from .coefficient_table import INTERCEPT, centred
from .content import Coefficient, Coefficients, WaldStatistics

LARGEST = 20
OTHERS = 1000
"""Coefficients in the collapsed table; coefficients.csv has all."""


def rank_coefficients(
    model: Model,
    deviation: NDArray[np.float64],
    inference: WaldStatistics | None,
    why_no_inference: str,
) -> Coefficients:
    """The coefficients, ordered by what a standard deviation more of the column changes.

    Args:
        model: of two classes, or K > 2.
        deviation: [D], the columns' standard deviations in the user's units.
        inference: of the user's units, for two classes; or None,
        why_no_inference: and why.
    """
    D = len(model.feature_names)
    raw = np.atleast_2d(model.weight.astype(np.float64)) / model.standardization.scale
    intercept = np.atleast_1d(model.bias.astype(np.float64)) - raw @ model.standardization.mean
    several = len(raw) > 1
    per_deviation = raw * deviation
    log_odds, log_odds_of_intercept = centred(raw), centred(intercept[:, None])[:, 0]
    order = np.argsort(-np.abs(per_deviation), axis=None, kind="stable")[: LARGEST + OTHERS]

    def row(k: int, j: int) -> Coefficient:
        label = model.label_names[k] if several else None
        is_intercept = j == D
        value = float(intercept[k] if is_intercept else raw[k, j])
        name = INTERCEPT if is_intercept else model.feature_names[j]
        per = None if is_intercept else float(per_deviation[k, j])
        odds = float(log_odds_of_intercept[k] if is_intercept else log_odds[k, j])
        values = (value, per, odds, None if is_intercept else float(odds * deviation[j]))
        if inference is None or j >= len(inference.standard_error):
            return Coefficient(name, label, *values)
        columns = ("standard_error", "z", "p_value", "ci_low", "ci_high")
        return Coefficient(
            name, label, *values, **{field: float(getattr(inference, field)[j]) for field in columns}
        )

    rows = [row(int(place) // D, int(place) % D) for place in order]
    return Coefficients(
        largest=tuple(rows[:LARGEST]),
        others=tuple(rows[LARGEST:]),
        left_out=per_deviation.size - len(rows),
        intercepts=tuple(row(k, D) for k in range(len(raw))),
        why_no_inference="" if inference is not None else why_no_inference,
    )
