"""A split's scores as curves and counts that no longer hold any row of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ..metrics.scores import SplitScores
from .amounts import are_whole
from .content import ClassConfusion, Curve, Decision

THRESHOLDS = np.arange(1001) / 1000
"""Where a row is called positive, beside the run's own."""
_QUANTILES, _CROWDED = 200, 5
"""Quantiles that are looked at, and how many of them within a thousandth are too many: 2.5 % of the weight."""
HISTOGRAM_BINS = 40
CURVE_POINTS = 240
"""Points kept of a curve; more than a chart of 300 units of width can show."""


def threshold_stops(splits: Iterable[SplitScores]) -> NDArray[np.float64]:
    """Every thousandth, and within one that holds many rows of a split or of its positives some quantiles of them.

    Of a rare class most probabilities may lie below the first thousandth.
    """
    stops = [THRESHOLDS]
    for ranking in (split.ranking for split in splits):
        for cumulated in (ranking.positive + ranking.negative, ranking.positive):
            if len(cumulated) and cumulated[-1] > 0:
                sought = np.linspace(0, cumulated[-1], _QUANTILES + 1)
                quantiles = expit(ranking.score[np.searchsorted(cumulated, sought)])
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
    stops: NDArray[np.float64] = THRESHOLDS,
) -> Decision:
    """The decision about a split of two classes at every threshold, and its curves.

    Args:
        name: of the split.
        split: its scores.
        threshold: the run's own.
        bins: equal-width bins of the calibration curve.
        points: about how many to keep of a curve.
        stops: thresholds beside the run's own, from 0 to 1.
    """
    ranking, thresholds = split.ranking, np.union1d(stops, threshold)
    true_positive, false_positive = ranking.called(thresholds)
    roc = precision_recall = None
    roc_auc, average_precision = ranking.areas or (None, None)
    if ranking.both_classes:
        roc = _thinned(*ranking.roc(), points)
        # Steps: average precision is the area under them, and between two thresholds no other precision is reached.
        kept = _thinned(*ranking.precision_recall(), points // 2)
        precision_recall = Curve(np.append(0.0, np.repeat(kept.x, 2)[:-1]), np.repeat(kept.y, 2))
    counts = True if split.sample_weight is None else split.sample_weight > 0
    negative_rows, positive_rows = (
        np.histogram(split.probability[(split.y == label) & counts], HISTOGRAM_BINS, (0, 1))[0] for label in (0, 1)
    )
    return Decision(
        split=name,
        thresholds=thresholds,
        true_positive=true_positive,
        false_positive=false_positive,
        at=int(np.searchsorted(thresholds, threshold)),
        weighted=split.sample_weight is not None,
        whole=are_whole(split.sample_weight),
        roc=roc,
        roc_auc=roc_auc,
        precision_recall=precision_recall,
        average_precision=average_precision,
        calibration=split.calibration(bins),
        bins=bins,
        negative_rows=negative_rows,
        positive_rows=positive_rows,
    )


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64], points: int) -> Curve:
    """At most about so many points, evenly along the curve."""
    curve = Curve(x, y)
    if len(x) <= points:
        return curve
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.searchsorted(way, np.linspace(0, way[-1], points))
    return curve.at(np.unique([0, *kept.clip(max=len(x) - 1), len(x) - 1]))


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
