"""A split's scores as curves and counts that no longer hold any row of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..metrics.binary import Metrics, calibration, sigmoid
from .amounts import are_whole
from .content import ClassConfusion, Curve, Decision
from .plots import SplitScores

THRESHOLDS = np.arange(1001) / 1000
"""Where a row is called positive, beside the run's own."""
_QUANTILES, _CROWDED = 200, 5
"""Quantiles that are looked at, and how many of them within a thousandth are too many: 2.5 % of the rows."""
HISTOGRAM_BINS = 40
CURVE_POINTS = 240
"""Points kept of a curve; more than a chart of 300 units of width can show."""


def threshold_stops(splits: Iterable[SplitScores]) -> NDArray[np.float64]:
    """Every thousandth, and within one that holds many rows of a split or of its positives some quantiles of them.

    Of a rare class most probabilities may lie below the first thousandth.
    """
    stops = [THRESHOLDS]
    for split in splits:
        p = sigmoid(split.logits)
        for of in (p, p[np.asarray(split.y) == 1]):
            if of.size:
                quantiles = np.quantile(of, np.linspace(0, 1, _QUANTILES + 1), method="lower")
                thousandth = np.floor(quantiles * 1000).astype(np.int64)
                held = np.bincount(thousandth, minlength=1001)[thousandth]
                stops.append(quantiles[held >= _CROWDED])
    together: NDArray[np.float64] = np.unique(np.concatenate(stops))
    return together


def decide(
    name: str,
    split: SplitScores,
    *,
    threshold: float,
    bins: int,
    points: int = CURVE_POINTS,
    metrics: Metrics | None = None,
    stops: NDArray[np.float64] = THRESHOLDS,
) -> Decision:
    """The decision about a split of logits [N] and labels 0 and 1 at every threshold, and its curves.

    Args:
        name: of the split.
        split: its scores.
        threshold: the run's own.
        bins: equal-width bins of the calibration curve.
        points: about how many to keep of a curve.
        metrics: the split's, whose areas are taken over if given.
        stops: thresholds beside the run's own, from 0 to 1.
    """
    p, y = sigmoid(split.logits), np.asarray(split.y).astype(bool)
    weight = None if split.sample_weight is None else np.asarray(split.sample_weight, dtype=np.float64)
    thresholds = np.union1d(stops, threshold)
    reached = np.searchsorted(thresholds, p, side="right")  # thresholds at which the row is called positive

    def called(of: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts = np.bincount(
            reached[of], None if weight is None else weight[of], minlength=len(thresholds) + 1
        )
        passed: NDArray[np.float64] = counts[::-1].cumsum()[::-1][1:].astype(np.float64)
        return passed

    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = np.ones(len(y), bool) if weight is None else weight > 0
    cumulated = _cumulated(split.logits, y, weight)
    roc_curve, roc_auc = (None, None) if cumulated is None else _roc(*cumulated, points)
    recall_curve, average_precision = (
        (None, None) if cumulated is None else _precision_recall(*cumulated, points)
    )
    if metrics is not None:
        roc_auc, average_precision = metrics.roc_auc, metrics.average_precision
    return Decision(
        split=name,
        thresholds=thresholds,
        true_positive=called(y),
        false_positive=called(~y),
        at=int(np.searchsorted(thresholds, threshold)),
        weighted=weight is not None,
        whole=are_whole(weight),
        roc=roc_curve,
        roc_auc=roc_auc,
        precision_recall=recall_curve,
        average_precision=average_precision,
        calibration=calibration(split.logits, split.y, sample_weight=split.sample_weight, bins=bins),
        bins=bins,
        negative_rows=np.histogram(p[~y & counts], edges)[0].astype(np.int64),
        positive_rows=np.histogram(p[y & counts], edges)[0].astype(np.int64),
    )


def _cumulated(
    z: NDArray[np.float64], y: NDArray[np.bool_], weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Weight of the positive and of the negative rows from each different score up, the highest first, [S] each.

    None where one class has no weight. Both curves and both areas come from it: scikit-learn sorts the scores anew for
    each, which for twenty classes was most of a report's time.
    """
    if weight is not None:  # rows without weight are on no curve
        z, y, weight = z[weight > 0], y[weight > 0], weight[weight > 0]
    if not len(z):
        return None
    order = np.argsort(-z)
    s = np.ones(len(z)) if weight is None else weight[order]
    z, y = z[order], y[order]
    last = np.append(np.flatnonzero(z[1:] != z[:-1]), len(z) - 1)
    positive, negative = np.cumsum(s * y)[last], np.cumsum(s * ~y)[last]
    return (positive, negative) if positive[-1] > 0 and negative[-1] > 0 else None


def _roc(positive: NDArray[np.float64], negative: NDArray[np.float64], points: int) -> tuple[Curve, float]:
    x = np.append(0.0, negative / negative[-1])
    y = np.append(0.0, positive / positive[-1])
    return _thinned(x, y, points), min(float(np.trapezoid(y, x)), 1.0)


def _precision_recall(
    positive: NDArray[np.float64], negative: NDArray[np.float64], points: int
) -> tuple[Curve, float]:
    """Steps: average precision is the area under them, and between two thresholds no other precision is reached."""
    called = positive + negative
    precision, recall = positive / np.where(called > 0, called, 1.0), positive / positive[-1]
    average = min(float(np.sum(np.diff(recall, prepend=0.0) * precision)), 1.0)  # rounding can exceed it
    kept = _thinned(recall, precision, points // 2)
    return Curve(np.append(0.0, np.repeat(kept.x, 2)[:-1]), np.repeat(kept.y, 2)), average


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64], points: int) -> Curve:
    """At most about so many points, evenly along the curve."""
    if len(x) > points:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)))
        kept = np.unique(np.concatenate([[0], kept.clip(max=len(x) - 1), [len(x) - 1]]))
        x, y = x[kept], y[kept]
    return Curve(x, y)


def confuse(
    name: str, split: SplitScores, labels: tuple[str, ...], shown: NDArray[np.int64], others: str
) -> ClassConfusion:
    """Rows of logits [N, K] by class and likeliest class; classes not in `shown` [S] are counted as `others`."""
    K = split.logits.shape[1]
    place = np.full(K, len(shown))
    place[shown] = np.arange(len(shown))
    k = len(shown) + (len(shown) < K)
    y, predicted = place[np.asarray(split.y).astype(np.int64)], place[split.logits.argmax(axis=1)]
    weight = np.bincount(y * k + predicted, split.sample_weight, minlength=k * k).reshape(k, k)
    names = tuple(labels[int(j)] for j in shown) + ((others,) if k > len(shown) else ())
    weighted, whole = split.sample_weight is not None, are_whole(split.sample_weight)
    return ClassConfusion(name, names, weight.astype(np.float64), weighted, whole)
