"""What is measured on a model of more than two classes, from the logits of a split and its labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score


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
) -> ClassMetrics:
    """All metrics of one split.

    Args:
        logits: [N, K] float64, finite; 1 <= N, 2 < K.
        y: [N] class numbers below K.
        sample_weight: [N] float, non-negative and not all 0, or None for ones.

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
        macro_roc_auc=_macro_auc(z, y, share) if present.all() else None,
        brier=float(share @ np.square(wrong).sum(axis=1)),
    )


def against_the_rest(logits: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The logit of class k against all others, z_k - logsumexp of the others, [N], for logits [N, K]."""
    others = np.delete(logits, k, axis=1)
    result: NDArray[np.float64] = logits[:, k] - logsumexp(others, axis=1)
    return result


def _macro_auc(z: NDArray[np.float64], y: NDArray[np.integer], share: NDArray[np.float64]) -> float:
    areas = [roc_auc_score(y == k, against_the_rest(z, k), sample_weight=share) for k in range(z.shape[1])]
    return float(np.mean(areas))
