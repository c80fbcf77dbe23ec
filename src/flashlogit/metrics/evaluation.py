"""What is measured on a trained model: from the logits of a split and its labels.

Everything starts from logits in float64, not from probabilities: a float64 probability is exactly 1 from
z ~ 37 on, so the loss of a sure, wrong row would be infinite and all sure rows would tie in the ROC curve.
The two losses are written out here (scikit-learn's `log_loss` takes probabilities); both areas follow from the
split's ranking.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from .scores import Floats, SplitScores, logit_bound, logsumexp, softmax, totals


class JsonMetrics:
    """Metrics as a mapping."""

    def to_json(self) -> dict[str, int | float | None]:
        """Return the fields by name; None for what is undefined or not finite, which strict JSON cannot hold."""
        fields = asdict(self)  # type: ignore[call-overload]  # its subclasses are dataclasses
        return {name: None if value is None or not math.isfinite(value) else value for name, value in fields.items()}


@dataclass(frozen=True)
class Metrics(JsonMetrics):
    """Scores of one split. `rows` and `positives` are plain counts; the sample weights weight all others."""

    rows: int
    """Rows of the split, those of weight 0 included; not weighted."""
    positives: int
    """Rows among them whose label is 1; not weighted."""
    log_loss: float
    """Weighted mean of log(1 + exp(z)) - y z: the exact logistic loss, in nats."""
    clamped_log_loss: float
    """The same with the logit clamped to +-log((1 - eps) / eps); the exact loss again for eps = 0."""
    accuracy: float
    """Share of the weight where (probability >= threshold) is the label."""
    roc_auc: float | None
    """Area under the weighted ROC curve of the logits; None where only one class has weight."""
    average_precision: float | None
    """scikit-learn's weighted average precision of the logits; None where only one class has weight."""
    brier: float
    """Weighted mean of (p - y)^2."""
    calibration_error: float
    """Expected calibration error, with bins and rows weighted: see `Calibration.error`."""
    precision: float | None = None
    """Share of the positive labels in the weight called positive; None where none is."""
    recall: float | None = None
    """Share of the weight called positive in that of the positive labels; None where there is none."""
    specificity: float | None = None
    """Share of the weight not called positive in that of the negative labels; None where there is none."""
    f1: float | None = None
    """Harmonic mean of precision and recall; None where neither a label nor a decision is positive."""


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


def evaluate(split: SplitScores, *, eps: float, threshold: float, bins: int) -> Metrics | ClassMetrics:
    """Return all metrics of one split; those of K > 2 classes have neither a clamp nor a threshold nor bins.

    Args:
        split: the scores.
        eps: of the clamped loss; at least 0 and less than 0.5.
        threshold: probability from which a row is called positive.
        bins: equal-width bins of the calibration error; at least 1.

    Raises:
        ValueError: an argument outside of these bounds.
    """
    if split.classes > 2:
        return _evaluate_classes(split)
    bound, rows = logit_bound(eps), split.counted
    z, y, share, p = rows.logits, rows.y, rows.share, rows.probability
    roc_auc, average_precision = split.ranking.areas or (None, None)
    counts = totals(2 * (p >= threshold) + y, None if rows.sample_weight is None else share, 4)
    found = {k: None if np.isnan(v) else min(float(v), 1.0) for k, v in rates(counts).items()}

    def mean_loss(z: Floats) -> float:
        """For y in {0, 1} the loss is softplus((1 - 2 y) z): nothing cancels, where the difference of two numbers near
        z would lose every digit of the small loss of a sure, right row."""
        return float(np.sum(share * np.logaddexp(0.0, np.where(y == 1, -z, z))))

    return Metrics(
        rows=len(split.y),
        positives=int(np.count_nonzero(split.y)),
        log_loss=mean_loss(z),
        clamped_log_loss=mean_loss(np.clip(z, -bound, bound)),
        accuracy=found.pop("accuracy") or 0.0,
        roc_auc=roc_auc,
        average_precision=average_precision,
        brier=float(np.sum(share * np.square(p - y))),
        calibration_error=split.calibration(bins).error,
        **found,
    )


def rates(counts: Floats) -> dict[str, Floats]:
    """Return accuracy, precision, recall, specificity and F1 of weights [..., 4]: true and false negatives, false and
    true positives (in the order of twice the decision plus the label); NaN for 0 / 0."""
    tn, fn, fp, tp = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "f1": 2 * tp / (2 * tp + fp + fn),
        }


def _evaluate_classes(split: SplitScores) -> ClassMetrics:
    """Return all metrics of one split of K > 2 classes."""
    rows, K = split.counted, split.classes
    share, predicted = rows.share, rows.logits.argmax(axis=1)
    found = class_rates(
        totals(rows.y, share, K), totals(predicted, share, K), totals(rows.y, share * (predicted == rows.y), K)
    )
    log_loss, brier = class_losses(rows.logits, rows.y)
    return ClassMetrics(
        rows=len(split.y),
        classes=K,
        log_loss=float(share @ log_loss),
        macro_roc_auc=None if split.macro_area is None else split.macro_area[0],
        brier=float(share @ brier),
        **{name: min(float(value), 1.0) for name, value in found.items()},
    )


def class_losses(z: Floats, y: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return logsumexp(z) - z_y and sum_k (p_k - y_k)^2 for every row of logits [N, K], [N] each."""
    own = np.arange(len(y)), y
    # The others against the label's class: nothing cancels where the model is sure.
    others = z - z[own][:, None]
    others[own] = -np.inf
    log_loss = np.logaddexp(0.0, logsumexp(others))
    wrong = softmax(z)
    wrong[own] -= 1
    return log_loss, np.square(wrong, out=wrong).sum(axis=1)


def class_rates(true: Floats, called: Floats, right: Floats) -> dict[str, Floats]:
    """Return accuracy, balanced accuracy and macro F1 [...] of each class's weight [..., K]: by label, by likeliest
    class, and by both where they agree. Without any weight they are NaN."""

    def mean(values: Floats, of: Floats) -> Floats:
        """Return mean over the classes that have some weight."""
        return np.asarray((values / np.where(of > 0, of, 1)).sum(axis=-1) / (of > 0).sum(axis=-1))

    with np.errstate(invalid="ignore"):
        return {
            "accuracy": right.sum(axis=-1) / true.sum(axis=-1),
            "balanced_accuracy": mean(right, true),
            "macro_f1": mean(2 * right, true + called),
        }
