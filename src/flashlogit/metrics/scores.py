"""What a model says about a split, and what is computed once from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from .calibration import Calibration, calibrate
from .ranking import Floats, Ranking, rank

_BLOCK = 65_536
"""Rows whose logits are copied at a time."""


@dataclass(frozen=True)
class SplitScores:
    """Logits and labels of the rows of a split, and their weights: weight 2 is as good as the row twice.

    Made from values outside of the bounds below it raises a ValueError.
    """

    logits: Floats
    """[N] float64, or [N, K] for K > 2 classes; finite, with 1 <= N."""
    y: NDArray[np.integer]
    """[N] uint8, 0 or 1; or class numbers below K."""
    sample_weight: NDArray[np.floating] | None = None
    """[N], finite, at least 0 and not all 0; None for ones."""

    def __post_init__(self) -> None:
        N, classes = len(self.logits), self.classes
        if self.y.shape != (N,) or N == 0:
            raise ValueError(
                f"logits and y have shapes {self.logits.shape} and {self.y.shape};"
                " both must have N rows, and at least 1 row"
            )
        finite = np.isfinite(self.logits)
        if not finite.all():
            wrong = finite.size - np.count_nonzero(finite)
            raise ValueError(f"logits has {wrong} values of {finite.size} that are not finite")
        if self.y.min() < 0 or self.y.max() >= classes:
            raise ValueError(f"y holds {self.y.min()} to {self.y.max()}; must be from 0 to {classes - 1}")
        if self.sample_weight is None:
            return
        weight = np.asarray(self.sample_weight, dtype=np.float64)
        if weight.shape != (N,):
            raise ValueError(f"sample_weight has shape {weight.shape}; must be ({N},), one weight per row")
        if not (math.isfinite(weight.sum()) and weight.sum() > 0 and weight.min() >= 0):
            raise ValueError(
                f"sample_weight has the sum {weight.sum():g} and the least value {weight.min():g};"
                " weights must be finite, at least 0 and not all 0"
            )

    @property
    def classes(self) -> int:
        """K, or 2."""
        return 2 if self.logits.ndim == 1 else self.logits.shape[1]

    @cached_property
    def share(self) -> Floats:
        """Each row's share of the weight, [N]. A mean of shares times values is finite wherever each value is."""
        if self.sample_weight is None:
            return np.broadcast_to(np.float64(1 / len(self.y)), len(self.y))
        weight: Floats = np.asarray(self.sample_weight, dtype=np.float64)
        return weight / float(weight.sum())

    @cached_property
    def counted(self) -> SplitScores:
        """The rows that have a share above 0; a class of others alone is no class."""
        counts = self.share > 0
        if self.sample_weight is None or counts.all():
            return self
        return SplitScores(self.logits[counts], self.y[counts], self.sample_weight[counts])

    @cached_property
    def probability(self) -> Floats:
        """The positive one's of two classes, [N]."""
        result: Floats = expit(self.logits)
        return result

    @cached_property
    def ranking(self) -> Ranking:
        """The counted rows of two classes by their scores."""
        rows = self.counted
        return rank(rows.logits, rows.y == 1, rows.sample_weight)

    def calibration(self, bins: int) -> Calibration:
        """Return the calibration curve of two classes, which is computed once for a number of bins."""
        rows, known = self.counted, self.__dict__.setdefault("_calibration", {})
        if bins not in known:
            known[bins] = calibrate(rows.probability, rows.y, rows.share, bins)
        curve: Calibration = known[bins]
        return curve

    @cached_property
    def rest(self) -> AgainstTheRest:
        """Each of K > 2 classes against all others."""
        return AgainstTheRest(self.logits)

    def against_the_rest(self, k: int) -> SplitScores:
        """Return the split with class k as the positive one of two."""
        return SplitScores(self.rest.logits(k), (self.y == k).astype(np.uint8), self.sample_weight)

    @cached_property
    def macro_area(self) -> tuple[float, Floats] | None:
        """Mean of the classes' ROC areas against the rest, and how each counted row pulls at it; None where a class has
        no weight.

        A row's pull is the derivative of the mean area by its share of the weight: for a row of class k how much of the
        rest it is ranked above, for any other how much of class k is ranked above it, less the area.
        """
        total, pull = 0.0, np.zeros(len(self.counted.y))
        for k in range(self.classes):
            one = self.counted.against_the_rest(k)
            ranking = one.ranking
            if ranking.areas is None:
                return None
            area = ranking.areas[0]
            total += area
            fpr, tpr = (of[1:] - np.diff(of) / 2 for of in ranking.roc())
            place = np.searchsorted(-ranking.score, -one.logits)
            P, N = ranking.positive[-1], ranking.negative[-1]
            of_class, of_rest = (1 - fpr - area) * ((P + N) / P), (tpr - area) * ((P + N) / N)
            pull += np.where(one.y == 1, of_class[place], of_rest[place])
        return total / self.classes, pull / self.classes


class AgainstTheRest:
    """The logit of each class against all others, z_k - logsumexp of the others, for one logsumexp per row.

    With p_k = exp(z_k - lse) that is z_k - lse - log1p(-p_k), which loses its digits as p_k comes near 1. Only a row's
    likeliest class can have a p_k above 1/2; for it the sum over the others is taken as it is written.
    """

    def __init__(self, logits: Floats) -> None:
        """For logits [N, K], which are kept and not copied."""
        self._z = logits
        self._top = logits.argmax(axis=1)
        self._all = np.empty(len(logits))
        self._top_logit = np.empty(len(logits))
        for start in range(0, len(logits), _BLOCK):
            rows = slice(start, start + _BLOCK)
            others = logits[rows].copy()
            top = np.arange(len(others)), self._top[rows]
            highest = others[top]
            others[top] = -np.inf
            self._top_logit[rows] = highest - logsumexp(others, axis=1)
            self._all[rows] = highest + np.logaddexp(0.0, -self._top_logit[rows])

    def logits(self, k: int) -> Floats:
        """Return those of class k, [N] float64."""
        log_p = self._z[:, k] - self._all
        with np.errstate(divide="ignore"):  # of the likeliest class, which is replaced
            result: Floats = log_p - np.log1p(-np.exp(np.minimum(log_p, 0.0)))
        return np.where(self._top == k, self._top_logit, result)
