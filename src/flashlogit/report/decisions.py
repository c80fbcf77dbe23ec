"""A split's scores as curves and counts that no longer hold any row of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.calibration import Groups, Recalibration, calibration_groups, recalibrate
from ..metrics.evaluation import class_losses
from ..metrics.scores import Floats, SplitScores, expit, totals
from .text import are_whole

THRESHOLDS = np.arange(1001) / 1000
"""Where a row is called positive, beside the run's own."""
_QUANTILES, _CROWDED = 200, 5
"""Quantiles that are looked at, and how many of them within a thousandth are too many: 2.5 % of the weight."""
HISTOGRAM_BINS = 40
CURVE_POINTS = 240
"""Points kept of a curve; more than a chart of 300 units of width can show."""
GAIN_SHARES = np.arange(101) / 100
"""Shares of the rows, the most probable first, of which the gain is told."""
WORST = 12
"""Rows in the list of those that are predicted worst."""
_ROUNDING = 1e-12
"""Share of all weight: a difference of sums that is no larger is 0."""


@dataclass(frozen=True)
class Curve:
    """Points to draw, [P] float64 each."""

    x: Floats
    y: Floats

    def at(self, places: ArrayLike) -> Curve:
        """Return some of the points."""
        kept = np.asarray(places, dtype=np.intp)
        return Curve(self.x[kept], self.y[kept])


@dataclass(frozen=True)
class Decision:
    """One yes-or-no question (the positive class, or a class against the rest), asked of the rows of one split.

    thresholds, true_positive and false_positive are [T]: the weight of the rows called positive at each threshold, by
    their label. `at` is the place of the run's own threshold. `whole`: all weights are whole numbers. `histogram`
    [2, H]: plain rows that have a weight, negative and positive ones.
    """

    split: str
    thresholds: Floats
    true_positive: Floats
    false_positive: Floats
    at: int
    weighted: bool
    whole: bool
    roc: Curve | None
    roc_auc: float | None
    precision_recall: Curve | None
    average_precision: float | None
    rate: float
    """Share of the positive labels in the weight."""
    gain: Floats | None
    """[101]: share of the positive labels among the most probable hundredths of the weight, `GAIN_SHARES`; None where
    no label is positive."""
    gain_from: Floats
    """[101]: the least probability among them."""
    groups: Groups
    calibration_error: float
    recalibration: Recalibration | None
    """None where it was not asked for, or there is none."""
    histogram: NDArray[np.int64]

    def counts(self) -> Floats:
        """Return weights of true and false negatives, false and true positives at the run's threshold.

        All rows have a probability of at least the first threshold, 0. A difference of sums that is no larger than
        their rounding is 0.
        """
        at, tp, fp = self.at, self.true_positive, self.false_positive
        counts = np.array([fp[0] - fp[at], tp[0] - tp[at], fp[at], tp[at]])
        return np.where(counts > _ROUNDING * (tp[0] + fp[0]), counts, 0.0)


@dataclass(frozen=True)
class Question:
    """A decision's splits, with the name of what counts as positive; one for two classes, K for K > 2."""

    positive: str
    negative: str
    decisions: tuple[Decision, ...]

    def headline(self, split: str) -> Decision:
        """Return the decision about the rows of a split."""
        return next(one for one in self.decisions if one.split == split)


@dataclass(frozen=True)
class ClassConfusion:
    """Weight of one split's rows by class (rows of `weight` [k, k]) and likeliest class (columns)."""

    split: str
    labels: tuple[str, ...]
    weight: Floats
    weighted: bool
    whole: bool


def threshold_stops(splits: Iterable[SplitScores]) -> Floats:
    """Return every thousandth, and within one that holds many rows of a split or of its positives some quantiles of
    them.

    Most probabilities of a rare class may lie below the first thousandth.
    """
    stops = [THRESHOLDS]
    for ranking in (split.ranking for split in splits):
        for cumulated in (ranking.positive + ranking.negative, ranking.positive):
            if cumulated[-1] > 0:
                sought = np.linspace(0, cumulated[-1], _QUANTILES + 1)
                quantiles = expit(ranking.score[np.searchsorted(cumulated, sought)])
                thousandth = np.floor(quantiles * 1000).astype(np.int64)
                held = np.bincount(thousandth, minlength=1001)[thousandth]
                stops.append(quantiles[held >= _CROWDED])
    return np.unique(np.concatenate(stops))


def decide(
    name: str,
    split: SplitScores,
    *,
    threshold: float,
    bins: int,
    points: int = CURVE_POINTS,
    stops: Floats = THRESHOLDS,
    recalibrated: bool = False,
) -> Decision:
    """Return the decision about a split of two classes at every threshold, and its curves.

    Args:
        name: of the split.
        split: its scores.
        threshold: the run's own.
        bins: equal-width bins of the calibration error, and groups of equal weight of the calibration curve, at most.
        points: about how many to keep of a curve.
        stops: thresholds beside the run's own, from 0 to 1.
        recalibrated: whether to regress the labels on the logits, which takes some passes over the rows.
    """
    ranking, thresholds = split.ranking, np.union1d(stops, threshold)
    true_positive, false_positive = ranking.called(thresholds)
    roc = precision_recall = None
    roc_auc, average_precision = ranking.areas or (None, None)
    if ranking.areas:
        roc = _thinned(*ranking.roc(), points)
        # Steps: average precision is the area under them, and between two thresholds no other precision is reached.
        kept = _thinned(*ranking.precision_recall(), points // 2)
        precision_recall = Curve(np.append(0.0, np.repeat(kept.x, 2)[:-1]), np.repeat(kept.y, 2))
    rows = split.counted
    at_label = (rows.probability[rows.y == label] for label in (0, 1))
    called = np.append(0.0, ranking.positive + ranking.negative)
    found, asked = np.append(0.0, ranking.positive), GAIN_SHARES * called[-1]
    # Rows of one score are taken in random order: between two scores the gain is a straight line.
    gain = np.interp(asked, called, found) / found[-1] if found[-1] > 0 else None
    last = np.searchsorted(called[1:], asked * (1 - _ROUNDING)).clip(max=len(ranking.score) - 1)
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
        rate=float(found[-1] / called[-1]),
        gain=gain,
        gain_from=expit(ranking.score[last]),
        groups=calibration_groups(split, bins),
        calibration_error=split.calibration(bins).error,
        recalibration=recalibrate(split) if recalibrated else None,
        histogram=np.array([np.histogram(p, HISTOGRAM_BINS, (0, 1))[0] for p in at_label]),
    )


def _thinned(x: Floats, y: Floats, points: int) -> Curve:
    """Return at most about so many points, evenly along the curve."""
    curve, way = Curve(x, y), np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
    if len(x) <= points:
        return curve
    kept = np.searchsorted(way, np.linspace(0, way[-1], points))
    return curve.at(np.unique([0, *kept.clip(max=len(x) - 1), len(x) - 1]))


def confuse(
    name: str, split: SplitScores, labels: tuple[str, ...], shown: NDArray[np.int64], others: str
) -> ClassConfusion:
    """Return rows of logits [N, K] by class and likeliest class; classes not in `shown` [S] are counted as `others`."""
    K = split.logits.shape[1]
    place = np.full(K, len(shown))
    place[shown] = np.arange(len(shown))
    k = len(shown) + (len(shown) < K)
    y, predicted = place[np.asarray(split.y).astype(np.int64)], place[split.logits.argmax(axis=1)]
    weight = totals(y * k + predicted, split.sample_weight, k * k).reshape(k, k)
    names = tuple(labels[int(j)] for j in shown) + ((others,) if k > len(shown) else ())
    return ClassConfusion(name, names, weight, split.sample_weight is not None, are_whole(split.sample_weight))


@dataclass(frozen=True)
class WorstRow:
    """A row whose label the model found unlikely; the loss is in nats."""

    number: int
    """In its file, the first of which is 1."""
    label: str
    called: str
    """The likeliest class; of two classes the one on the threshold's side."""
    probability: float
    """Probability of the positive class of two, or of the label's own of more."""
    loss: float


@dataclass(frozen=True)
class Worst:
    """The rows of a split with the greatest loss, that first, and their share of the split's whole loss."""

    rows: tuple[WorstRow, ...]
    share: float


def worst_rows(split: SplitScores, number: NDArray[np.int64], labels: tuple[str, ...], threshold: float) -> Worst:
    """Return the rows with the greatest log loss among those that have a weight.

    Args:
        split: the scores.
        number: [N], each row's number in its file.
        labels: names of the classes.
        threshold: probability from which a row of two classes is called positive.
    """
    z, y, share = split.logits, split.y.astype(np.int64), split.share
    if split.classes == 2:
        loss, shown = np.logaddexp(0.0, np.where(y == 1, -z, z)), split.probability
        called = (shown >= threshold).astype(np.int64)
    else:
        loss, called = class_losses(z, y)[0], z.argmax(axis=1)
        shown = np.exp(-loss)
    loss = np.where(share > 0, loss, -1.0)
    most = min(WORST, int(np.count_nonzero(share)))
    places = np.argpartition(-loss, most - 1)[:most]
    places = places[np.argsort(-loss[places], kind="stable")]
    whole = float(share @ np.maximum(loss, 0.0))
    rows = (WorstRow(int(number[i]), labels[y[i]], labels[called[i]], float(shown[i]), float(loss[i])) for i in places)
    return Worst(tuple(rows), float(share[places] @ loss[places]) / whole if whole > 0 else 0.0)
