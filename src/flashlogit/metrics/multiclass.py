"""What is measured on a model of more than two classes, from the logits of a split and its labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from .ranking import Floats, Ranking, rank, totals

_BLOCK = 65_536
"""Rows whose logits are copied at a time."""


@dataclass(frozen=True)
class ClassMetrics:
    """Scores of one split over K classes. `rows` is a plain count; the sample weights weight all others."""

    rows: int
    """Rows of the split."""
    classes: int
    """K."""
    log_loss: float
    """Weighted mean of logsumexp(z) - z_y: the exact softmax loss, in nats."""
    accuracy: float
    """Share of the weight where the likeliest class is the label."""
    balanced_accuracy: float
    """Mean over the classes that occur of the share of their weight whose likeliest class they are."""
    macro_f1: float
    """Mean over the classes that occur, as label or prediction, of the F1 score of each against the rest."""
    macro_roc_auc: float | None
    """Mean over the classes of the area under the ROC curve of each against the rest; None where one does not occur."""
    brier: float
    """Weighted mean of sum_k (p_k - y_k)^2, from 0 to 2."""

    def to_json(self) -> dict[str, int | float | None]:
        """The fields by name; None for what is undefined or not finite, which strict JSON cannot hold."""
        return {
            name: value if value is None or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }


def evaluate_classes(
    logits: Floats,
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    rest: OneAgainstRest | None = None,
) -> ClassMetrics:
    """All metrics of one split.

    Args:
        logits: [N, K] float64, finite; 1 <= N, 2 < K.
        y: [N] class numbers below K.
        sample_weight: [N] float, non-negative and not all 0, or None for ones.
        rest: `OneAgainstRest(logits, y, sample_weight)`, if the caller has it.

    Raises:
        ValueError: an argument outside of these bounds.
    """
    N, K = logits.shape
    if N == 0 or y.shape != (N,) or not np.isfinite(logits).all():
        raise ValueError(
            f"logits and y have shapes {logits.shape} and {y.shape}; both must have N rows, and be finite"
        )
    if y.min() < 0 or y.max() >= K:
        raise ValueError(f"y holds {y.max()}; every label must be from 0 to {K - 1}")
    weight = np.ones(N) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if not (weight.min() >= 0 and 0 < weight.sum() < math.inf):
        raise ValueError("sample_weight must be finite, at least 0 and not all 0")
    share = weight / weight.sum()
    predicted = logits.argmax(axis=1)
    rates = class_rates(
        totals(y, share, K),
        totals(predicted, share, K),
        totals(y, share * (predicted == y), K),
    )
    log_loss, brier = class_losses(logits, y)
    macro = (rest or OneAgainstRest(logits, y, sample_weight)).macro
    return ClassMetrics(
        rows=N,
        classes=K,
        log_loss=float(share @ log_loss),
        macro_roc_auc=None if macro is None else macro[0],
        brier=float(share @ brier),
        **{name: min(float(value), 1.0) for name, value in rates.items()},
    )


def class_losses(z: Floats, y: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return logsumexp(z) - z_y and sum_k (p_k - y_k)^2 for every row of logits [N, K], [N] each."""
    own = np.arange(len(y)), y
    # The others against the label's class: nothing cancels where the model is sure.
    others = z - z[own][:, None]
    others[own] = -np.inf
    log_loss = np.logaddexp(0.0, logsumexp(others, axis=1))
    wrong = softmax(z, axis=1)
    wrong[own] -= 1
    return log_loss, np.square(wrong, out=wrong).sum(axis=1)


def class_rates(true: Floats, called: Floats, right: Floats) -> dict[str, Floats]:
    """Return accuracy, balanced accuracy and macro F1 [...] of each class's weight [..., K]: by label, by likeliest
    class, and by both where they agree. Without any weight they are NaN."""

    def mean(values: Floats, of: Floats) -> Floats:
        """Mean over the classes that have some weight."""
        result: Floats = (values / np.where(of > 0, of, 1)).sum(axis=-1) / (of > 0).sum(axis=-1)
        return result

    with np.errstate(invalid="ignore"):
        return {
            "accuracy": right.sum(axis=-1) / true.sum(axis=-1),
            "balanced_accuracy": mean(right, true),
            "macro_f1": mean(2 * right, true + called),
        }


class OneAgainstRest:
    """The logit of each class against all others, z_k - logsumexp of the others, for one logsumexp per row.

    With p_k = exp(z_k - lse) that is z_k - lse - log1p(-p_k), which loses its digits as p_k comes near 1. Only a row's
    likeliest class can have a p_k above 1/2; for it the sum over the others is taken as it is written.
    """

    def __init__(
        self, logits: Floats, y: NDArray[np.integer], sample_weight: NDArray[np.floating] | None
    ) -> None:
        """For logits [N, K], class numbers y and weights, which are kept and not copied."""
        self._z, self._y, self._weight = logits, y, sample_weight
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
        """Those of class k, [N] float64."""
        log_p = self._z[:, k] - self._all
        with np.errstate(divide="ignore"):  # of the likeliest class, which is replaced
            result: Floats = log_p - np.log1p(-np.exp(np.minimum(log_p, 0.0)))
        return np.where(self._top == k, self._top_logit, result)

    def ranking(self, k: int) -> Ranking:
        """The ranking of the rows by how likely class k is."""
        return rank(self.logits(k), self._y == k, self._weight)

    @cached_property
    def macro(self) -> tuple[float, Floats] | None:
        """Mean of the classes' ROC areas, and how each row [N] pulls at it; None where a class has no weight.

        A row's pull is the derivative of the mean area by its share of the weight: for a row of class k how much of the
        rest it is ranked above, for any other how much of class k is ranked above it, less the area.
        """
        K = self._z.shape[1]
        total, pull = 0.0, np.zeros(len(self._z))
        for k in range(K):
            ranking = self.ranking(k)
            if ranking.areas is None:
                return None
            area = ranking.areas[0]
            total += area
            fpr, tpr = (of[1:] - np.diff(of) / 2 for of in ranking.roc())
            place = np.searchsorted(-ranking.score, -self.logits(k)).clip(max=len(fpr) - 1)
            P, N = ranking.positive[-1], ranking.negative[-1]
            of_class = (1 - fpr - area) * ((P + N) / P), (tpr - area) * ((P + N) / N)
            pull += np.where(self._y == k, of_class[0][place], of_class[1][place])
        return total / K, pull / K
