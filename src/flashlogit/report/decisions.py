"""A split's scores as curves and counts that no longer hold any row of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from flashlogit.metrics import Metrics, calibration, roc, sigmoid
from flashlogit.plots import SplitScores
from flashlogit.report.amounts import are_whole
from flashlogit.report.content import ClassConfusion, Curve, Decision

THRESHOLDS = np.arange(1001) / 1000
"""Where a row is called positive, beside the run's own."""
HISTOGRAM_BINS = 40
CURVE_POINTS = 240
"""Points kept of a curve; more than a chart of 300 units of width can show."""


def decide(
    name: str,
    split: SplitScores,
    *,
    threshold: float,
    bins: int,
    points: int = CURVE_POINTS,
    metrics: Metrics | None = None,
) -> Decision:
    """The decision about a split of logits [N] and labels 0 and 1 at every threshold, and its curves.

    Args:
        name: of the split.
        split: its scores.
        threshold: the run's own.
        bins: equal-width bins of the calibration curve.
        points: about how many to keep of a curve.
        metrics: the split's, whose areas are taken over if given.
    """
    p, y = sigmoid(split.logits), np.asarray(split.y).astype(bool)
    weight = None if split.sample_weight is None else np.asarray(split.sample_weight, dtype=np.float64)
    thresholds = np.union1d(THRESHOLDS, threshold)
    reached = np.searchsorted(thresholds, p, side="right")  # thresholds at which the row is called positive

    def called(of: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts = np.bincount(
            reached[of], None if weight is None else weight[of], minlength=len(thresholds) + 1
        )
        passed: NDArray[np.float64] = counts[::-1].cumsum()[::-1][1:].astype(np.float64)
        return passed

    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = np.ones(len(y), bool) if weight is None else weight > 0
    recall_curve, average_precision = _precision_recall(split, y, weight, points)
    curve = roc(split.logits, split.y, sample_weight=split.sample_weight)
    if metrics is not None:
        average_precision = metrics.average_precision
    return Decision(
        split=name,
        thresholds=thresholds,
        true_positive=called(y),
        false_positive=called(~y),
        at=int(np.searchsorted(thresholds, threshold)),
        weighted=weight is not None,
        whole=are_whole(weight),
        roc=None if curve is None else _thinned(curve.false_positive_rate, curve.true_positive_rate, points),
        roc_auc=None
        if curve is None
        else float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)),
        precision_recall=recall_curve,
        average_precision=average_precision,
        calibration=calibration(split.logits, split.y, sample_weight=split.sample_weight, bins=bins),
        bins=bins,
        negative_rows=np.histogram(p[~y & counts], edges)[0].astype(np.int64),
        positive_rows=np.histogram(p[y & counts], edges)[0].astype(np.int64),
    )


def _precision_recall(
    split: SplitScores, y: NDArray[np.bool_], weight: NDArray[np.float64] | None, points: int
) -> tuple[Curve | None, float | None]:
    """Precision over rising recall, and the average precision; None for both where one class has no weight."""
    has_weight = np.ones(len(y), bool) if weight is None else weight > 0
    if not (y & has_weight).any() or not (~y & has_weight).any():
        return None, None
    with np.errstate(over="ignore"):
        precision, recall, _ = precision_recall_curve(y, split.logits, sample_weight=weight)
    precision, recall = precision[::-1], recall[::-1]
    average = min(float(np.sum(np.diff(recall) * precision[1:])), 1.0)  # rounding can exceed it
    return _thinned(recall, precision, points), average


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
