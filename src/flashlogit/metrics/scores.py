"""What a model says about a split, and what is computed once from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .binary import Calibration, Metrics, calibration, evaluate
from .intervals import Interval, bootstrap, bootstrap_classes
from .multiclass import ClassMetrics, OneAgainstRest, evaluate_classes
from .ranking import Floats, Ranking, rank


@dataclass(frozen=True)
class SplitScores:
    """Logits [N] float64, y [N] uint8 (0 or 1), sample_weight [N] float, or None for ones.

    For K > 2 classes logits are [N, K] and y class numbers. Only `rest` and what measures are for both.
    """

    logits: Floats
    y: NDArray[np.integer]
    sample_weight: NDArray[np.floating] | None = None

    @cached_property
    def probability(self) -> Floats:
        """The positive class's, [N]."""
        result: Floats = expit(self.logits)
        return result

    @cached_property
    def ranking(self) -> Ranking:
        """The scores of two classes in order."""
        return rank(self.logits, np.asarray(self.y) == 1, self.sample_weight)

    @cached_property
    def rest(self) -> OneAgainstRest:
        """Each of K > 2 classes against all others."""
        return OneAgainstRest(self.logits, self.y, self.sample_weight)

    def against_the_rest(self, k: int) -> SplitScores:
        """Class k as the positive one of two."""
        return SplitScores(self.rest.logits(k), (self.y == k).astype(np.uint8), self.sample_weight)

    def calibration(self, bins: int) -> Calibration:
        """The calibration curve of two classes, computed once for a number of bins."""
        known: dict[int, Calibration] = self.__dict__.setdefault("_calibration", {})
        if bins not in known:
            known[bins] = calibration(self.logits, self.y, sample_weight=self.sample_weight, bins=bins)
        return known[bins]

    def measure(self, *, eps: float, threshold: float, bins: int) -> Metrics | ClassMetrics:
        """The split's metrics; those of K > 2 classes have neither a clamp nor a threshold nor bins."""
        z, y, weight = self.logits, self.y, self.sample_weight
        if z.ndim == 2:
            return evaluate_classes(z, y, sample_weight=weight, rest=self.rest)
        curve, ranking = self.calibration(bins), self.ranking
        return evaluate(z, y, sample_weight=weight, eps=eps, threshold=threshold, bins=curve, ranking=ranking)

    def intervals(self, *, eps: float, threshold: float, seed: int) -> dict[str, Interval]:
        """Bootstrap intervals of the metrics."""
        z, y, weight = self.logits, self.y, self.sample_weight
        if z.ndim == 2:
            return bootstrap_classes(z, y, sample_weight=weight, seed=seed, rest=self.rest)
        return bootstrap(
            z, y, sample_weight=weight, eps=eps, threshold=threshold, seed=seed, ranking=self.ranking
        )
