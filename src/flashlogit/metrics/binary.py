"""What is measured on a trained model: from the logits of a split and its labels.

Everything starts from logits in float64, not from probabilities: a float64 probability is exactly 1 from
z ~ 37 on, so the loss of a sure, wrong row would be infinite and all sure rows would tie in the ROC curve.

The two losses are written out here (scikit-learn's `log_loss` takes probabilities), and so is the calibration curve
(its `calibration_curve` takes no weights). Both areas follow from one ranking of the scores, which takes half of the
memory of scikit-learn's two: millions of rows with few columns are no larger than what is measured of them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from flashlogit_kernels.contract import Clamp


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


@dataclass(frozen=True)
class RocCurve:
    """Weighted false and true positive rate, [P] float64 each, both rising from 0 to 1."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]


def evaluate(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    eps: float,
    threshold: float,
    bins: int,
) -> Metrics:
    """All metrics of one split, weighted by `sample_weight` if given: weight 2 is as good as the row twice.

    Args:
        logits: [N] float64, finite; 1 <= N.
        y: [N] uint8, 0 or 1.
        sample_weight: [N] float, non-negative and not all 0, or None for ones.
        eps: of the clamped loss; at least 0 and less than 0.5.
        threshold: probability from which a row is called positive.
        bins: equal-width bins of the calibration error; at least 1.

    Raises:
        ValueError: an argument outside of these bounds.
    """
    bound = Clamp(eps, "through").bound
    scored = _check(logits, y, sample_weight)
    roc_auc, average_precision = _ranking(scored)
    p = sigmoid(scored.logits)
    called = p >= threshold
    return Metrics(
        rows=len(logits),
        positives=int(np.count_nonzero(y)),
        log_loss=_mean_loss(scored, scored.logits),
        clamped_log_loss=_mean_loss(scored, np.clip(scored.logits, -bound, bound)),
        accuracy=min(scored.mean(called == (scored.y == 1)), 1.0),
        roc_auc=roc_auc,
        average_precision=average_precision,
        brier=scored.mean(np.square(p - scored.y)),
        calibration_error=_calibration(scored, p, bins).error,
        **_rates(scored, called),
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


def roc(
    logits: NDArray[np.float64], y: NDArray[np.integer], *, sample_weight: NDArray[np.floating] | None
) -> RocCurve | None:
    """The ROC curve of the logits, weighted if weights are given; arguments as for `evaluate`.

    None where only one class has weight. Raises ValueError as `evaluate` does.
    """
    scored = _check(logits, y, sample_weight)
    if not scored.has_both_classes:
        return None
    with _ignore_overflow():
        fpr, tpr, _ = roc_curve(scored.y, scored.logits, pos_label=1, sample_weight=scored.weight)
    return RocCurve(fpr, tpr)


def sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-z)) elementwise, without overflow and without loss of precision in either tail."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


@dataclass(frozen=True)
class _Scored:
    """Checked rows with a weight above 0, [M] each: `weight` is None for ones, `share` sums to 1."""

    logits: NDArray[np.float64]
    y: NDArray[np.integer]
    weight: NDArray[np.float64] | None
    share: NDArray[np.float64]

    def mean(self, values: NDArray[Any]) -> float:
        """Weighted mean of values [M].

        Multiplying by the shares before the sum, not dividing by the weight after it, keeps the mean finite wherever
        each value is; rows that are only counted are, without rounding.
        """
        counts = self.weight is None and values.dtype == bool
        return float(np.mean(values) if counts else np.sum(self.share * values))

    @property
    def has_both_classes(self) -> bool:
        return bool(self.y.min() != self.y.max())


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
        return _Scored(logits, y, None, np.broadcast_to(1 / n, n))
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
    return _Scored(logits[counts], y[counts], weight[counts], share[counts])


def _mean_loss(scored: _Scored, z: NDArray[np.float64]) -> float:
    """Weighted mean of log(1 + exp(z)) - y z, from logits z [M].

    For y in {0, 1} that is softplus((1 - 2 y) z): nothing cancels, where the difference of two numbers near z
    would lose every digit of the small loss of a sure, right row.
    """
    return scored.mean(np.logaddexp(0.0, np.where(scored.y == 1, -z, z)))


def _ranking(scored: _Scored) -> tuple[float | None, float | None]:
    """Weighted ROC AUC and average precision; None for both where only one class has weight."""
    if not scored.has_both_classes:
        return None, None
    found = areas(_mass_by_score(scored)[None])
    # The sums' rounding can exceed 1.
    return min(float(found["roc_auc"][0]), 1.0), min(float(found["average_precision"][0]), 1.0)


def _mass_by_score(scored: _Scored) -> NDArray[np.float64]:
    """The rows of each class at each different score, or their share of the weight, the lowest first, [2, S]."""
    order = np.argsort(scored.logits)
    z = scored.logits[order]
    begins = np.flatnonzero(np.append(True, z[1:] != z[:-1]))
    del z
    mass = np.empty((2, len(begins)))
    for label in (0, 1):
        own = scored.y == label
        values = own if scored.weight is None else own * scored.share
        np.add.reduceat(values[order], begins, dtype=np.float64, out=mass[label])
    return mass


def areas(mass: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Area under the ROC curve and average precision, [R] each; NaN where a replicate has one class.

    mass [R, 2, S]: for each replicate the weight of negatives and of positives at each score, the lowest first.
    """
    # From the highest score down.
    negative, positive = mass[:, 0, ::-1], mass[:, 1, ::-1]
    true_positive = positive.cumsum(axis=1)
    called = negative.cumsum(axis=1)
    N, P = called[:, -1].copy(), true_positive[:, -1].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        # Of a score's negatives, those above it rank all its positives lower, those at it tie with them.
        area = (negative * (true_positive - positive / 2)).sum(axis=1) / (N * P)
        called += true_positive
        average = (positive * (true_positive / np.where(called > 0, called, 1.0))).sum(axis=1) / P
    average[(N == 0) | (P == 0)] = np.nan
    return {"roc_auc": area, "average_precision": average}


def _rates(scored: _Scored, called: NDArray[np.bool_]) -> dict[str, float | None]:
    """Precision, recall, specificity and F1 of decisions [M]; None for 0 / 0."""
    positive = scored.y == 1
    true, false = (float(scored.share[called & of].sum()) for of in (positive, ~positive))
    missed, right = (float(scored.share[~called & of].sum()) for of in (positive, ~positive))
    quotients = {
        "precision": (true, true + false),
        "recall": (true, true + missed),
        "specificity": (right, right + false),
        "f1": (2 * true, 2 * true + false + missed),
    }
    return {name: a / b if b > 0 else None for name, (a, b) in quotients.items()}


def _ignore_overflow() -> np.errstate:
    """scikit-learn finds ties by differences of neighbouring scores; one that overflows is rightly no tie."""
    return np.errstate(over="ignore")


def _calibration(scored: _Scored, p: NDArray[np.float64], bins: int) -> Calibration:
    """The calibration curve of checked rows with probabilities p [M]."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; must be at least 1")
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of_row = np.searchsorted(inner_edges, p)

    def per_bin(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(bin_of_row, weights=values, minlength=bins).astype(np.float64, copy=False)

    rows = np.bincount(bin_of_row, minlength=bins).astype(np.int64)
    kept = np.flatnonzero(rows)
    share = per_bin(scored.share)[kept]
    return Calibration(
        bin=kept,
        mean_probability=per_bin(scored.share * p)[kept] / share,
        observed_rate=per_bin(scored.share * scored.y)[kept] / share,
        rows=rows[kept],
        share=share,
    )
