"""What a split's metrics are measured against: a model that knows how frequent the classes are and no column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .evaluation import ClassMetrics, Metrics, evaluate
from .scores import Floats, SplitScores, totals

_LESS_IS_BETTER = frozenset({"log_loss", "clamped_log_loss", "brier", "calibration_error"})
_LEAST_SHARE = 1e-300
"""Share of a class that no training row has, whose logarithm must be finite."""

METHOD = (
    "The null model gives every row the classes' shares of the training rows, and calls each of the commonest class:"
    " log loss, Brier score, accuracy, balanced accuracy and ROC AUC are its own, and average precision is the share of"
    " the positive class. Precision, recall, specificity and F1 of two classes are those of as many rows drawn at"
    " random, for it calls none or all positive; the calibration error is what right probabilities would show on these"
    " rows by chance, of about so much"
)


@dataclass(frozen=True)
class Reference:
    """The null model's metrics of a split."""

    shares: Floats
    """[K]: each class's share of the split's weight; the second of two is the base rate."""
    values: dict[str, float]
    """By the names of `Metrics` or `ClassMetrics`; left out is what the rows do not define."""
    better_by: dict[str, float]
    """By how much the model is better, by the same names: below 0 where it is worse."""

    def to_json(self) -> dict[str, Any]:
        """Return a split's part of `reference` in metrics.json, with the `base_rate` of two classes, or the
        `class_shares` of more."""
        shares = self.shares.tolist()
        rates = {"base_rate": shares[1]} if len(shares) == 2 else {"class_shares": shares}
        return {**rates, "metrics": self.values, "better_by": self.better_by}


def class_shares(split: SplitScores) -> Floats:
    """Return each class's share [K] of a split's weight."""
    weight = totals(split.y, split.sample_weight, split.classes)
    return weight / float(weight.sum())


def compare_with_null(
    split: SplitScores,
    metrics: Metrics | ClassMetrics,
    training_shares: Floats,
    *,
    eps: float,
    threshold: float,
    bins: int,
) -> Reference:
    """Return what the null model reaches on a split, and by how much a model is better.

    Args:
        split: the model's scores.
        metrics: its metrics of them.
        training_shares: [K], each class's share of the training rows' weight.
        eps, threshold, bins: as `flashlogit.metrics.evaluation.evaluate` had them for the metrics.
    """
    shares, K = class_shares(split), split.classes
    log_shares = np.log(np.maximum(training_shares, _LEAST_SHARE))
    # All rows of a class have the same logits: one row of each, with the weight of all, has the same metrics.
    logits = np.full(2, log_shares[1] - log_shares[0]) if K == 2 else np.tile(log_shares, (K, 1))
    one_each = SplitScores(logits, np.arange(K).astype(split.y.dtype), shares)
    found = evaluate(one_each, eps=eps, threshold=0.5, bins=bins).to_json()
    if K == 2:
        rows, rate = split.counted, float(shares[1])
        called = float(np.sum(rows.share * (rows.probability >= threshold)))
        at_random = {"precision": rate, "recall": called, "specificity": 1 - called}
        at_random["f1"] = 2 * rate * called / (rate + called) if rate + called > 0 else 0.0
        found |= at_random | {"calibration_error": split.calibration(bins).error_by_chance}
    values, better_by = {}, {}
    for name, value in metrics.to_json().items():
        reference = found.get(name)
        if value is not None and reference is not None and name not in ("rows", "positives", "classes"):
            values[name] = float(reference)
            better_by[name] = float(reference - value if name in _LESS_IS_BETTER else value - reference)
    return Reference(shares, values, better_by)
