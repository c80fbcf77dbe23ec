"""What is measured on a model of more than two classes, from the logits of a split and its labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from .ranking import Floats, totals
from .scores import SplitScores


class JsonMetrics:
    """Metrics as a mapping."""

    def to_json(self) -> dict[str, int | float | None]:
        """Return the fields by name; None for what is undefined or not finite, which strict JSON cannot hold."""
        fields = asdict(self)  # type: ignore[call-overload]  # its subclasses are dataclasses
        return {name: None if value is None or not math.isfinite(value) else value for name, value in fields.items()}


@dataclass(frozen=True)
class ClassMetrics(JsonMetrics):
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


def evaluate_classes(split: SplitScores) -> ClassMetrics:
    """Return all metrics of one split of K > 2 classes."""
    rows, K = split.counted, split.classes
    share, predicted = rows.share, rows.logits.argmax(axis=1)
    rates = class_rates(
        totals(rows.y, share, K),
        totals(predicted, share, K),
        totals(rows.y, share * (predicted == rows.y), K),
    )
    log_loss, brier = class_losses(rows.logits, rows.y)
    return ClassMetrics(
        rows=len(split.y),
        classes=K,
        log_loss=float(share @ log_loss),
        macro_roc_auc=None if split.macro_area is None else split.macro_area[0],
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
