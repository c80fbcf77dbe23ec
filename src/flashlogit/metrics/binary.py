"""What is measured on a trained model: from the logits of a split and its labels.

Everything starts from logits in float64, not from probabilities: a float64 probability is exactly 1 from
z ~ 37 on, so the loss of a sure, wrong row would be infinite and all sure rows would tie in the ROC curve.

The two losses are written out here (scikit-learn's `log_loss` takes probabilities), and so is the calibration curve
(its `calibration_curve` takes no weights). Both areas follow from the split's ranking.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit as sigmoid

from flashlogit_kernels.contract import Clamp

from .ranking import Ranking, rank, totals

__all__ = ["Calibration", "Metrics", "calibration", "evaluate", "rates", "sigmoid"]


@dataclass(frozen=True)
class Metrics:
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

    def to_json(self) -> dict[str, int | float | None]:
        """The fields by name; None for what is undefined or not finite, which strict JSON cannot hold."""
        return {
            name: value if value is None or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Calibration:
    """Observed against predicted probability in equal-width bins; arrays are [B], for B bins with weight."""

    bin: NDArray[np.int64]
    """Which bin: bin k of n holds k/n < p <= (k + 1)/n, and bin 0 also p = 0 (as in scikit-learn)."""
    mean_probability: NDArray[np.float64]
    """Weighted mean of the predicted probability."""
    observed_rate: NDArray[np.float64]
    """Weighted share of positive labels."""
    rows: NDArray[np.int64]
    """Rows with a weight above 0; a plain count."""
    share: NDArray[np.float64]
    """Share of the total weight; sums to 1."""

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of share * |mean probability - observed rate|.

        Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning",
        with the share of the weight in place of the share of the rows.
        """
        return float(np.sum(self.share * np.abs(self.mean_probability - self.observed_rate)))


def evaluate(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    eps: float,
    threshold: float,
    bins: int | Calibration,
    ranking: Ranking | None = None,
) -> Metrics:
    """All metrics of one split, weighted by `sample_weight` if given: weight 2 is as good as the row twice.

    Args:
        logits: [N] float64, finite; 1 <= N.
        y: [N] uint8, 0 or 1.
        sample_weight: [N] float, non-negative and not all 0, or None for ones.
        eps: of the clamped loss; at least 0 and less than 0.5.
        threshold: probability from which a row is called positive.
        bins: equal-width bins of the calibration error, at least 1; or the curve, if the caller has it.
        ranking: of these logits, if the caller has it.

    Raises:
        ValueError: an argument outside of these bounds.
    """
    bound = Clamp(eps, "through").bound
    scored = _check(logits, y, sample_weight)
    if ranking is None:
        ranking = rank(scored.logits, scored.y == 1, scored.weights)
    roc_auc, average_precision = ranking.areas or (None, None)
    p = sigmoid(scored.logits)
    counts = totals(2 * (p >= threshold) + scored.y, scored.weights, 4)
    found = {k: None if np.isnan(v) else min(float(v), 1.0) for k, v in rates(counts).items()}
    return Metrics(
        rows=len(logits),
        positives=int(np.count_nonzero(y)),
        log_loss=_mean_loss(scored, scored.logits),
        clamped_log_loss=_mean_loss(scored, np.clip(scored.logits, -bound, bound)),
        accuracy=found.pop("accuracy") or 0.0,
        roc_auc=roc_auc,
        average_precision=average_precision,
        brier=scored.mean(np.square(p - scored.y)),
        calibration_error=(bins if isinstance(bins, Calibration) else _calibration(scored, p, bins)).error,
        **found,
    )


def calibration(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    bins: int,
) -> Calibration:
    """The calibration curve in equal-width bins, weighted if weights are given; arguments as for `evaluate`.

    Raises ValueError as `evaluate` does.
    """
    scored = _check(logits, y, sample_weight)
    return _calibration(scored, sigmoid(scored.logits), bins)


@dataclass(frozen=True)
class _Scored:
    """Checked rows with a weight above 0, [M] each."""

    logits: NDArray[np.float64]
    y: NDArray[np.integer]
    share: NDArray[np.float64]
    """Of the total weight; sums to 1."""
    weighted: bool

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """The shares, or None for rows that are only counted."""
        return self.share if self.weighted else None

    def mean(self, values: NDArray[Any]) -> float:
        """Weighted mean of values [M], finite wherever each value is: the shares multiply before the sum."""
        return float(np.sum(self.share * values))


def _check(
    logits: NDArray[np.float64], y: NDArray[np.integer], sample_weight: NDArray[np.floating] | None
) -> _Scored:
    """The rows that count, or a ValueError. Without rows of weight 0, a class of them alone is no class."""
    n = len(logits)
    if logits.shape != (n,) or y.shape != (n,) or n == 0:
        raise ValueError(
            f"logits and y have shapes {logits.shape} and {y.shape}; both must be [N] with at least 1 row"
        )
    finite = np.isfinite(logits)
    if not finite.all():
        raise ValueError(f"logits has {n - np.count_nonzero(finite)} values of {n} that are not finite")
    if y.max() > 1:
        raise ValueError(f"y holds {y.max()}; every label must be 0 or 1")
    if sample_weight is None:
        return _Scored(logits, y, np.broadcast_to(1 / n, n), weighted=False)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight has shape {weight.shape}; must be ({n},), one weight per row")
    total = float(weight.sum())
    if not (math.isfinite(total) and total > 0 and weight.min() >= 0):
        raise ValueError(
            f"sample_weight has the sum {total:g} and the least value {weight.min():g};"
            " weights must be finite, at least 0 and not all 0"
        )
    share = weight / total
    counts = share > 0
    return _Scored(logits[counts], y[counts], share[counts], weighted=True)


def _mean_loss(scored: _Scored, z: NDArray[np.float64]) -> float:
    """Weighted mean of log(1 + exp(z)) - y z, from logits z [M].

    For y in {0, 1} that is softplus((1 - 2 y) z): nothing cancels, where the difference of two numbers near z
    would lose every digit of the small loss of a sure, right row.
    """
    return scored.mean(np.logaddexp(0.0, np.where(scored.y == 1, -z, z)))


def rates(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
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


def _calibration(scored: _Scored, p: NDArray[np.float64], bins: int) -> Calibration:
    """The calibration curve of checked rows with probabilities p [M]."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; must be at least 1")
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of_row = np.searchsorted(inner_edges, p)

    rows = np.bincount(bin_of_row, minlength=bins).astype(np.int64)
    kept = np.flatnonzero(rows)
    share = totals(bin_of_row, scored.share)[kept]
    return Calibration(
        bin=kept,
        mean_probability=totals(bin_of_row, scored.share * p)[kept] / share,
        observed_rate=totals(bin_of_row, scored.share * scored.y)[kept] / share,
        rows=rows[kept],
        share=share,
    )
