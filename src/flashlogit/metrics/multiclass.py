"""What is measured on a model of more than two classes, from the logits of a split and its labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import accuracy_score, f1_score

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
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    rest: AgainstTheRest | None = None,
) -> ClassMetrics:
    """All metrics of one split.

    Args:
        logits: [N, K] float64, finite; 1 <= N, 2 < K.
        y: [N] class numbers below K.
        sample_weight: [N] float, non-negative and not all 0, or None for ones.
        rest: `AgainstTheRest(logits)`, if the caller has it.

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
    counts = weight > 0
    z, y, share = logits[counts], y[counts], weight[counts] / weight.sum()
    log_p = log_softmax(z, axis=1)
    p, predicted = np.exp(log_p), z.argmax(axis=1)
    own = np.arange(len(y)), y
    # Of the others against the own class: nothing cancels where the model is sure.
    others = z - z[own][:, None]
    others[own] = -np.inf
    losses = np.logaddexp(0.0, logsumexp(others, axis=1))
    wrong = p.copy()
    wrong[own] -= 1
    mass = np.bincount(y, share, minlength=K)
    right = np.bincount(y, share * (predicted == y), minlength=K)
    present = mass > 0
    weighting = {"sample_weight": share}
    return ClassMetrics(
        rows=N,
        classes=K,
        log_loss=float(share @ losses),
        accuracy=float(accuracy_score(y, predicted, **weighting)),
        balanced_accuracy=float((right[present] / mass[present]).mean()),
        macro_f1=float(f1_score(y, predicted, average="macro", zero_division=0.0, **weighting)),
        macro_roc_auc=_macro_auc(rest or AgainstTheRest(logits), counts, y, share) if present.all() else None,
        brier=float(share @ np.square(wrong).sum(axis=1)),
    )


class AgainstTheRest:
    """The logit of each class against all others, z_k - logsumexp of the others, for one logsumexp per row.

    With p_k = exp(z_k - lse) that is z_k - lse - log1p(-p_k), which loses its digits as p_k comes near 1. Only a row's
    likeliest class can have a p_k above 1/2; for it the sum over the others is taken as it is written.
    """

    def __init__(self, logits: NDArray[np.float64]) -> None:
        """For logits [N, K], which are kept and not copied."""
        self._logits = logits
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

    def logits(self, k: int) -> NDArray[np.float64]:
        """Those of class k, [N] float64."""
        log_p = self._logits[:, k] - self._all
        with np.errstate(divide="ignore"):  # of the likeliest class, which is replaced
            result: NDArray[np.float64] = log_p - np.log1p(-np.exp(np.minimum(log_p, 0.0)))
        return np.where(self._top == k, self._top_logit, result)


def _macro_auc(
    rest: AgainstTheRest, counts: NDArray[np.bool_], y: NDArray[np.integer], share: NDArray[np.float64]
) -> float:
    return float(np.mean([_area(rest.logits(k)[counts], y == k, share) for k in range(int(y.max()) + 1)]))


def _area(score: NDArray[np.float64], positive: NDArray[np.bool_], share: NDArray[np.float64]) -> float:
    """The area under a weighted ROC curve. scikit-learn's `roc_auc_score` takes ten times as long, for each class."""
    order = np.argsort(score)
    score, all_weight = score[order], share[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))
    positives = np.add.reduceat(all_weight * positive[order], starts)
    negatives = np.add.reduceat(all_weight * ~positive[order], starts)
    # Of an equal score's negatives a half lies below its positives.
    below = negatives.cumsum() - negatives / 2
    return min(float((positives @ below) / (positives.sum() * negatives.sum())), 1.0)
