"""Bootstrap intervals of the metrics of more than two classes, by the Poisson bootstrap of
`flashlogit.metrics.intervals`.

Rows have no order here that all metrics share, so that many rows are represented by a sample of them: of each class up
to an equal share of `SAMPLED` rows, each counted Poisson(n) times for the n rows of its class that it stands for. What
the sample itself is off by, and its scores by being binned, is taken off both ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import LEVEL, Interval, around, effective_counts, percentiles
from .multiclass import AgainstTheRest, ClassMetrics

SAMPLED = 5000
"""Rows up to which every row counts by itself."""
REPLICATES = 400
MAX_CLASSES_RANKED = 50
"""Classes up to which the ROC area, a curve for each of them and each replicate, is resampled."""
_SCORE_BINS = 1000

METHOD = (
    f"{LEVEL:.0%} percentile intervals of {REPLICATES:,} Poisson-bootstrap replicates of the rows, model unchanged;"
    f" more than {SAMPLED:,} rows are represented by a sample of them, in equal parts from every class"
)


@dataclass(frozen=True)
class _Rows:
    """Sampled rows: class, likeliest class, losses [n] each; effective and unit as in
    `flashlogit.metrics.intervals`."""

    y: NDArray[np.int64]
    predicted: NDArray[np.int64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    score_bin: NDArray[np.int64] | None
    """[K, n]: where each row's score of each class lies among the sample's; None for too many classes."""
    weight: NDArray[np.float64]
    """That each stands for."""
    effective: NDArray[np.float64]
    unit: NDArray[np.float64]
    classes: int


def bootstrap_classes(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    metrics: ClassMetrics,
    seed: int,
    replicates: int = REPLICATES,
) -> dict[str, Interval]:
    """Intervals of the fields of `metrics`, which are those of all rows.

    Args:
        logits: [N, K] float64, finite; y: [N] class numbers; sample_weight: [N] or None. As for `evaluate_classes`.
        metrics: what `evaluate_classes` gave for them.
        seed: of the sample and the replicates.
        replicates: how many.
    """
    rng = np.random.default_rng(seed)
    rows = _sampled(logits, np.asarray(y).astype(np.int64), sample_weight, rng)
    drawn = [_replicate(rows, rng.poisson(rows.effective) * rows.unit) for _ in range(replicates)]
    names = drawn[0]
    intervals = percentiles({name: np.array([one[name] for one in drawn]) for name in names})
    own = _replicate(rows, rows.weight)
    result = {}
    for name, ends in intervals.items():
        whole = getattr(metrics, name)
        if whole is not None and np.isfinite(own[name]):
            result[name] = around(whole, ends, whole - own[name], name)
    return result


def _sampled(
    logits: NDArray[np.float64],
    y: NDArray[np.int64],
    sample_weight: NDArray[np.floating] | None,
    rng: np.random.Generator,
) -> _Rows:
    """The rows that stand for all."""
    K = logits.shape[1]
    s = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    s = s / s[s > 0].mean()
    counted = np.flatnonzero(s > 0)
    chosen, stands_for = counted, np.ones(len(counted))
    if len(counted) > SAMPLED:
        most = max(20, SAMPLED // K)
        parts = [counted[y[counted] == k] for k in range(K)]
        picked = [rng.permutation(part)[:most] for part in parts]
        chosen = np.concatenate(picked)
        stands_for = np.concatenate(
            [np.full(len(own), len(part) / max(len(own), 1)) for own, part in zip(picked, parts, strict=True)]
        )
    z, y, s = logits[chosen], y[chosen], s[chosen]
    effective, unit = effective_counts(stands_for * s, stands_for * s * s)
    shifted = z - z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1)
    own = np.arange(len(y)), y
    log_loss = np.log(total) - shifted[own]
    p /= total[:, None]
    brier = (p * p).sum(axis=1) + 1 - 2 * p[own]
    ranked = K <= MAX_CLASSES_RANKED
    rest = AgainstTheRest(z) if ranked else None
    bins = None if rest is None else np.stack([_binned(rest.logits(k)) for k in range(K)])
    return _Rows(y, z.argmax(axis=1), log_loss, brier, bins, stands_for * s, effective, unit, K)


def _binned(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scores [n] as numbers below `_SCORE_BINS` in their order; equal scores have equal numbers."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    group = (np.cumsum(counts) - counts) * _SCORE_BINS // len(score)
    binned: NDArray[np.int64] = group[place]
    return binned


def _replicate(rows: _Rows, weight: NDArray[np.float64]) -> dict[str, float]:
    """The metrics of one replicate; NaN for what it does not define."""
    K, total = rows.classes, weight.sum()
    if total == 0:
        return dict.fromkeys(("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1"), np.nan)
    true = np.bincount(rows.y, weight, minlength=K).astype(np.float64, copy=False)
    called = np.bincount(rows.predicted, weight, minlength=K)
    right = np.bincount(rows.y, weight * (rows.predicted == rows.y), minlength=K)
    occurs, either = true > 0, true + called > 0
    values = {
        "log_loss": float(weight @ rows.log_loss / total),
        "brier": float(weight @ rows.brier / total),
        "accuracy": float(right.sum() / total),
        "balanced_accuracy": float((right[occurs] / true[occurs]).mean()),
        "macro_f1": float((2 * right[either] / (true + called)[either]).mean()),
    }
    if rows.score_bin is not None:
        values["macro_roc_auc"] = _macro_auc(rows, weight, true) if occurs.all() else np.nan
    return values


def _macro_auc(rows: _Rows, weight: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    assert rows.score_bin is not None
    total, areas = weight.sum(), []
    for k, bins in enumerate(rows.score_bin):
        positive = np.bincount(bins, weight * (rows.y == k), minlength=_SCORE_BINS)
        negative = np.bincount(bins, weight, minlength=_SCORE_BINS) - positive
        below = negative.cumsum() - negative / 2
        areas.append((positive * below).sum() / (true[k] * (total - true[k])))
    return float(np.mean(areas))
