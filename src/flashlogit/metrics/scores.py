"""What a model says about a split, and what is computed once from it: its ranking, from which curves, areas, counts at
thresholds and intervals follow, its calibration curve and each class against the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK = 65_536
"""Rows whose logits are copied at a time."""


# SciPy has the next three, with the same formulas. Its import takes a tenth of a second, and they are slower there.


def expit(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)) of logits of any shape."""
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0
        return np.asarray(1 / (1 + np.exp(-z)))


def softmax(z: Floats) -> Floats:
    """Return exp(z_k) / sum_j exp(z_j) of rows of logits [N, K]."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def logsumexp(z: Floats) -> Floats:
    """Return log(sum_k exp(z_k)) of rows of logits [N, K], [N]; one of each row must be finite."""
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(z - top[:, None]).sum(axis=1)))


@dataclass(frozen=True)
class Ranking:
    """The different scores of a split, [S], the highest first, with the weight of the rows from each of them up.

    Rows of equal score stand at one place.
    """

    score: Floats
    positive: Floats
    """[S]: cumulated weight of the positive rows."""
    negative: Floats
    """[S]: cumulated weight of the negative rows."""

    @cached_property
    def areas(self) -> tuple[float, float] | None:
        """Area under the ROC curve and average precision; None where only one class has weight, and so no curve."""
        if min(self.positive[-1], self.negative[-1]) <= 0:
            return None
        roc_auc, average_precision = areas(self.positive, self.negative)
        return min(float(roc_auc), 1.0), min(float(average_precision), 1.0)  # rounding can exceed 1

    def roc(self) -> tuple[Floats, Floats]:
        """Return the false and the true positive rate, [S + 1] each, rising from 0 to 1."""
        x, y = self.negative / self.negative[-1], self.positive / self.positive[-1]
        return np.append(0.0, x), np.append(0.0, y)

    def precision_recall(self) -> tuple[Floats, Floats]:
        """Return recall and precision, [S] each. Between two places no other precision is reached."""
        return self.positive / self.positive[-1], self.positive / (self.positive + self.negative)

    def called(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """Return the weight of the positive and of the negative rows whose probability is at least each threshold."""
        from_below = expit(self.score[::-1])
        place = len(self.score) - np.searchsorted(from_below, thresholds)
        return np.append(0.0, self.positive)[place], np.append(0.0, self.negative)[place]

    def cells(self, most: int, threshold: float) -> NDArray[np.intp]:
        """Return the last place of each of about `most` groups of neighbouring places; all places, if they are few.

        The groups are of equal size where either class counts for a half. Were they equal in rows, a thousand
        negatives would tie with a rare class's few rows. A place that fills half a group is a group of its own, and
        the probabilities of a group are all below the threshold or none.
        """
        if len(self.score) <= most:
            return np.arange(len(self.score))
        of_class = [each / each[-1] for each in (self.positive, self.negative) if each[-1] > 0]
        share = sum(of_class) / len(of_class)
        large = np.diff(share, prepend=0.0) >= 0.5 / most
        ends = np.diff(np.floor(share * most)) > 0
        ends |= np.diff(expit(self.score) >= threshold)
        return np.flatnonzero(np.append(ends | large[:-1] | large[1:], True))


def logit_bound(eps: float) -> float:
    """Return log((1 - eps) / eps), which bounds logits where probabilities are clamped to [eps, 1 - eps]."""
    if not 0 <= eps < 0.5:
        raise ValueError(f"eps is {eps}; must be at least 0 and less than 0.5 (0 for no clamp)")
    return math.log1p(-eps) - math.log(eps) if eps else math.inf


def totals(place: NDArray[np.integer], weight: NDArray[np.floating] | None, size: int = 0) -> Floats:
    """Return the weight, or the number, of the rows at each of at least `size` places; `place` is [N]."""
    return np.bincount(place, weight, minlength=size).astype(np.float64, copy=False)


def rank(score: Floats, positive: NDArray[np.bool_], weight: NDArray[np.floating] | None) -> Ranking:
    """Sort scores [N] of rows that are positive or not, of weights above 0 or of 1 each."""
    order = np.argsort(score)[::-1]
    score = score[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    of_class = (positive[order], ~positive[order])
    cumulated = (np.cumsum(of if weight is None else of * weight[order], dtype=np.float64) for of in of_class)
    return Ranking(score[last], *(of[last] for of in cumulated))


def areas(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve and the average precision of cumulated weights [..., S], highest score first.

    Both are NaN where one class has no weight. Of equal scores half of the pairs count as ranked right.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = negative / negative[..., -1:], positive / positive[..., -1:]
        rise = np.diff(y, prepend=0.0)
        roc_auc = (np.diff(x, prepend=0.0) * (y - rise / 2)).sum(axis=-1)
        called = positive + negative
        precision = positive / np.where(called > 0, called, 1.0)
        return roc_auc, (rise * precision).sum(axis=-1) + 0 * roc_auc


def roc_area_pulls(split: SplitScores) -> Floats:
    """Return how each counted row [N] of two classes that both have weight pulls at the ROC area.

    A row's pull is the derivative of the area by its share of the weight: for a positive row how much of the negative
    weight it is ranked above, for a negative one how much of the positive is ranked above it, less the area.
    """
    rows, ranking = split.counted, split.ranking
    assert ranking.areas is not None
    area = ranking.areas[0]
    fpr, tpr = (of[1:] - np.diff(of) / 2 for of in ranking.roc())
    place = np.searchsorted(-ranking.score, -rows.logits)
    P, N = ranking.positive[-1], ranking.negative[-1]
    of_class, of_rest = (1 - fpr - area) * ((P + N) / P), (tpr - area) * ((P + N) / N)
    return np.asarray(np.where(rows.y == 1, of_class[place], of_rest[place]))


def average_precision_pulls(split: SplitScores) -> Floats:
    """Return the derivative of the average precision by each counted row's share of the weight, [N], for two classes
    that both have weight.

    It is sum_t p_t T_t / (T_t + F_t) / P over the scores t, where p_t is the positive weight at t, T_t and F_t are the
    positive and the negative weight from t up, and P is all positive weight. A row counts in T or F of every t up to
    its own score.
    """
    rows, ranking = split.counted, split.ranking
    assert ranking.areas is not None
    T, F = ranking.positive, ranking.negative
    P, called = T[-1], T + F
    slope = np.diff(T, prepend=0.0) / called**2
    of_positive, of_negative = (np.cumsum((slope * of)[::-1])[::-1] for of in (F, -T))
    of_positive = of_positive + T / called - ranking.areas[1]
    place = np.searchsorted(-ranking.score, -rows.logits)
    return np.asarray(np.where(rows.y == 1, of_positive[place], of_negative[place]) * ((P + F[-1]) / P))


@dataclass(frozen=True)
class Calibration:
    """Observed against predicted probability in equal-width bins; arrays are [B], for B bins with weight.

    scikit-learn's `calibration_curve` has them without weights only.
    """

    bins: int
    """How many there are, those without weight included."""
    bin: NDArray[np.int64]
    """Which bin: bin k of n holds k/n < p <= (k + 1)/n, and bin 0 also p = 0 (as in scikit-learn)."""
    mean_probability: Floats
    """Weighted mean of the predicted probability."""
    observed_rate: Floats
    """Weighted share of positive labels."""
    rows: NDArray[np.int64]
    """Rows with a weight above 0; a plain count."""
    share: Floats
    """Share of the total weight; sums to 1."""
    deviation: Floats
    """Standard deviation of the observed rate that right probabilities would have."""

    @property
    def error_by_chance(self) -> float:
        """The error to expect where all probabilities are right: the mean of |X| is sqrt(2 / pi) standard deviations
        of a normal X, which an observed rate of more than a few positive labels comes near."""
        return float(math.sqrt(2 / math.pi) * np.sum(self.share * self.deviation))

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of share * |mean probability - observed rate|.

        Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning",
        with the share of the weight in place of the share of the rows.
        """
        return float(np.sum(self.share * np.abs(self.mean_probability - self.observed_rate)))


@dataclass(frozen=True)
class SplitScores:
    """Logits and labels of the rows of a split, and their weights: weight 2 is as good as the row twice.

    Made from values outside of the bounds below it raises a ValueError.
    """

    logits: Floats
    """[N] float64, or [N, K] for K > 2 classes; finite, with 1 <= N."""
    y: NDArray[np.integer]
    """[N] uint8, 0 or 1; or class numbers below K."""
    sample_weight: NDArray[np.floating] | None = None
    """[N], finite, at least 0 and not all 0; None for ones."""

    def __post_init__(self) -> None:
        N, classes = len(self.logits), self.classes
        if self.y.shape != (N,) or N == 0:
            shapes = f"{self.logits.shape} and {self.y.shape}"
            raise ValueError(f"logits and y have shapes {shapes}; both must have N rows, and at least 1 row")
        finite = np.isfinite(self.logits)
        if not finite.all():
            wrong = finite.size - np.count_nonzero(finite)
            raise ValueError(f"logits has {wrong} values of {finite.size} that are not finite")
        if self.y.min() < 0 or self.y.max() >= classes:
            raise ValueError(f"y holds {self.y.min()} to {self.y.max()}; must be from 0 to {classes - 1}")
        if self.sample_weight is None:
            return
        weight = np.asarray(self.sample_weight, dtype=np.float64)
        if weight.shape != (N,):
            raise ValueError(f"sample_weight has shape {weight.shape}; must be ({N},), one weight per row")
        total, least = weight.sum(), weight.min()
        if not (math.isfinite(total) and total > 0 and least >= 0):
            found = f"the sum {total:g} and the least value {least:g}"
            raise ValueError(f"sample_weight has {found}; weights must be finite, at least 0 and not all 0")

    @property
    def classes(self) -> int:
        """K, or 2."""
        return 2 if self.logits.ndim == 1 else self.logits.shape[1]

    def same_rows(self, other: SplitScores) -> bool:
        """Return whether another split has these labels, weights (as float32, in which they may be stored) and number
        of classes, row by row."""
        if self.classes != other.classes or not np.array_equal(self.y, other.y):
            return False
        if self.sample_weight is None or other.sample_weight is None:
            return self.sample_weight is other.sample_weight
        return np.array_equal(self.sample_weight.astype(np.float32), other.sample_weight.astype(np.float32))

    @cached_property
    def share(self) -> Floats:
        """Each row's share of the weight, [N]. A mean of shares times values is finite wherever each value is."""
        if self.sample_weight is None:
            return np.broadcast_to(np.float64(1 / len(self.y)), len(self.y))
        weight: Floats = np.asarray(self.sample_weight, dtype=np.float64)
        return weight / float(weight.sum())

    @cached_property
    def counted(self) -> SplitScores:
        """The rows that have a share above 0; a class of others alone is no class."""
        counts = self.share > 0
        if self.sample_weight is None or counts.all():
            return self
        return SplitScores(self.logits[counts], self.y[counts], self.sample_weight[counts])

    @cached_property
    def probability(self) -> Floats:
        """The positive one's of two classes, [N]."""
        return expit(self.logits)

    @cached_property
    def ranking(self) -> Ranking:
        """The counted rows of two classes by their scores."""
        rows = self.counted
        return rank(rows.logits, rows.y == 1, rows.sample_weight)

    def calibration(self, bins: int) -> Calibration:
        """Return the calibration curve of two classes in so many bins."""
        if bins < 1:
            raise ValueError(f"bins is {bins}; must be at least 1")
        rows = self.counted
        bin_of_row = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], rows.probability)
        in_bin = np.bincount(bin_of_row, minlength=bins)
        kept = np.flatnonzero(in_bin)
        weight, mean, rate = (totals(bin_of_row, rows.share * of)[kept] for of in (1.0, rows.probability, rows.y))
        variance = totals(bin_of_row, rows.share**2 * rows.probability * (1 - rows.probability), bins)[kept]
        deviation = np.sqrt(variance) / weight
        return Calibration(bins, kept, mean / weight, rate / weight, in_bin[kept], weight, deviation)

    @cached_property
    def rest(self) -> AgainstTheRest:
        """Each of K > 2 classes against all others."""
        return AgainstTheRest(self.logits)

    def against_the_rest(self, k: int) -> SplitScores:
        """Return the split with class k as the positive one of two."""
        return SplitScores(self.rest.logits(k), (self.y == k).astype(np.uint8), self.sample_weight)

    @cached_property
    def macro_area(self) -> tuple[float, Floats] | None:
        """Mean of the classes' ROC areas against the rest, and how each counted row pulls at it (see
        `roc_area_pulls`); None where a class has no weight."""
        total, pull = 0.0, np.zeros(len(self.counted.y))
        for k in range(self.classes):
            one = self.counted.against_the_rest(k)
            ranking = one.ranking
            if ranking.areas is None:
                return None
            total += ranking.areas[0]
            pull += roc_area_pulls(one)
        return total / self.classes, pull / self.classes


class AgainstTheRest:
    """The logit of each class against all others, z_k - logsumexp of the others, for one logsumexp per row.

    With p_k = exp(z_k - lse) that is z_k - lse - log1p(-p_k), which loses its digits as p_k comes near 1. Only a row's
    likeliest class can have a p_k above 1/2; for it the sum over the others is taken as it is written.
    """

    def __init__(self, logits: Floats) -> None:
        """For logits [N, K], which are kept and not copied."""
        self._z = logits
        self._top = logits.argmax(axis=1)
        self._all = np.empty(len(logits))
        self._top_logit = np.empty(len(logits))
        for start in range(0, len(logits), _BLOCK):
            rows = slice(start, start + _BLOCK)
            others = logits[rows].copy()
            top = np.arange(len(others)), self._top[rows]
            highest = others[top]
            others[top] = -np.inf
            self._top_logit[rows] = highest - logsumexp(others)
            self._all[rows] = highest + np.logaddexp(0.0, -self._top_logit[rows])

    def logits(self, k: int) -> Floats:
        """Return those of class k, [N] float64."""
        log_p = self._z[:, k] - self._all
        with np.errstate(divide="ignore"):  # of the likeliest class, which is replaced
            result: Floats = log_p - np.log1p(-np.exp(np.minimum(log_p, 0.0)))
        return np.where(self._top == k, self._top_logit, result)
