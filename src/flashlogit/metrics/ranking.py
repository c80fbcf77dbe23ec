"""One ranking of a split's scores, from which its curves, areas, counts at thresholds and intervals follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


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
    def both_classes(self) -> bool:
        """Whether both classes have weight, without which there is neither a curve nor an area."""
        return bool(self.positive[-1] > 0 and self.negative[-1] > 0)

    @cached_property
    def areas(self) -> tuple[float, float] | None:
        """Area under the ROC curve and average precision; None where only one class has weight."""
        if not self.both_classes:
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
        positive, negative = (np.append(0.0, of)[place] for of in (self.positive, self.negative))
        return positive, negative

    def cells(self, most: int) -> NDArray[np.intp]:
        """Return the last place of each of about `most` groups of neighbouring places; all places, if they are few.

        The groups are of equal size where either class counts for a half. Were they equal in rows, a thousand
        negatives would tie with a rare class's few rows. A place that fills half a group is a group of its own.
        """
        if len(self.score) <= most:
            return np.arange(len(self.score))
        share = (self.positive / self.positive[-1] + self.negative / self.negative[-1]) / 2
        large = np.diff(share, prepend=0.0) >= 0.5 / most
        ends = np.diff(np.floor(share * most)) > 0
        return np.flatnonzero(np.append(ends | large[:-1] | large[1:], True))


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
