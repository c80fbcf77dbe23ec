"""Whether predicted probabilities of two classes are what happens: in groups of equal weight, and as one test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import NORMAL_QUANTILE, Interval, wilson
from .scores import Floats, SplitScores, expit, totals

_LEAST_ROWS = 10
"""Rows of a group, at least, on average: the interval of fewer spans half of all rates."""
_SURE = 500.0
"""Logits are taken as no larger: exp(-500) is far below the rounding of any sum, and their squares must be finite."""
_STEPS, _CLOSE = 50, 1e-9
"""Newton steps at most, and the decrement of the log likelihood, in nats, at which they end."""


@dataclass(frozen=True)
class Groups:
    """Rows in groups of about equal weight, ordered by their probability; arrays are [G]."""

    mean_probability: Floats
    observed_rate: Floats
    """Weighted share of positive labels."""
    low: Floats
    high: Floats
    """Ends of the observed rate's 95 % interval."""
    least: Floats
    """The group's least probability."""
    most: Floats
    """Its greatest one."""
    rows: NDArray[np.int64]
    """Rows with a weight above 0; a plain count."""


def calibration_groups(split: SplitScores, most: int) -> Groups:
    """Return the rows in at most so many groups of about equal weight, with at least 10 rows on average.

    Equal-width bins leave most of their space to a few rows: of a rare class all rows are in the first. Rows of one
    score are in one group. For weighted rows the interval's n is W^2 / Q (Kish's effective number).
    """
    rows, ranking = split.counted, split.ranking
    score = ranking.score[::-1]
    weight = np.diff(ranking.positive + ranking.negative, prepend=0.0)[::-1]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    asked = max(1, min(most, len(rows.y) // _LEAST_ROWS))
    group = np.minimum((middle * asked).astype(np.int64), asked - 1)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    of_row = np.searchsorted(score[begins], rows.logits, side="right") - 1
    share, G = rows.share, len(begins)
    total, mean, rate = (totals(of_row, share * of, G) for of in (1.0, rows.probability, rows.y))
    low, high = wilson(np.minimum(rate / total, 1.0), total**2 / totals(of_row, share * share, G))
    ends = np.append(begins[1:], len(score)) - 1
    least, greatest = expit(score[begins]), expit(score[ends])
    return Groups(mean / total, rate / total, low, high, least, greatest, np.bincount(of_row, minlength=G))


@dataclass(frozen=True)
class Recalibration:
    """The logistic regression of the labels on the model's logits, slope * z + intercept: 1 and 0 where probabilities
    are right.

    Cox 1958, "Two further applications of a model for binary regression". A slope below 1 is that of probabilities too
    near 0 and 1, an intercept below 0 that of probabilities too high.
    """

    slope: float
    intercept: float
    slope_interval: Interval
    """Wald's, of 95 %."""
    intercept_interval: Interval
    p_value: float
    """p value of the likelihood ratio against 1 and 0, with two degrees of freedom."""
    moved: float
    """Weighted mean of the absolute difference that the regression makes to a probability."""


def recalibrate(split: SplitScores) -> Recalibration | None:
    """Return the regression of a split of two classes on its logits.

    Weights count as frequencies, scaled to W^2 / Q rows (Kish's effective number). None where there is no one finite
    optimum: only one class has weight, the logits separate the two, or all are alike.
    """
    rows = split.counted
    z, positive = np.clip(rows.logits, -_SURE, _SURE), rows.y == 1
    if positive.all() or not positive.any():
        return None
    of_class = z[positive], z[~positive]
    if of_class[0].min() >= of_class[1].max() or of_class[0].max() <= of_class[1].min():
        return None
    share, sign = rows.share, np.where(positive, 1.0, -1.0)
    n = 1 / float(share @ share)

    def likelihood(at: Floats) -> float:
        return -n * float(share @ np.logaddexp(0.0, -sign * (at[0] + at[1] * z)))

    at = np.array([0.0, 1.0])
    given = best = likelihood(at)
    for _ in range(_STEPS):
        p = expit(at[0] + at[1] * z)
        pull, curvature = share * (positive - p), share * p * (1 - p)
        slope = n * np.array([pull.sum(), pull @ z])
        cross = curvature @ z
        hessian = n * np.array([[curvature.sum(), cross], [cross, curvature @ (z * z)]])
        if not np.linalg.cond(hessian) < 1 / np.finfo(float).eps:
            return None
        step = np.linalg.solve(hessian, slope)
        if slope @ step < _CLOSE:
            spread = NORMAL_QUANTILE * np.sqrt(np.linalg.inv(hessian).diagonal())
            ends = [(float(of - half), float(of + half)) for of, half in zip(at, spread, strict=True)]
            p_value = math.exp(-max(best - given, 0.0))  # of chi-squared with two degrees of freedom, 2 (best - given)
            moved = float(share @ np.abs(p - expit(z)))
            return Recalibration(float(at[1]), float(at[0]), ends[1], ends[0], p_value, moved)
        while (reached := likelihood(at + step)) < best and np.abs(step).max() > _CLOSE:
            step /= 2
        at, best = at + step, max(reached, best)
    return None
