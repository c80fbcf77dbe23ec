"""How much better one model is than another on the same rows, and how far that could be from other rows of this kind.

Two models err on much the same rows. The intervals of their metrics, which vary with the rows drawn, may overlap widely
where the difference on the same rows is certain: a replicate of the Poisson bootstrap (`flashlogit.metrics.intervals`)
draws the rows' weights once and counts them for both models.

A mean over rows differs by the mean of the rows' differences, of which neighbouring ones are drawn as a cell. Cells of
rows that are alike in both scores were rejected: models that nearly agree differ within such cells only, and their
areas would differ by too little. Areas are those of each row drawn for itself up to `EXACT_ROWS` rows, and beyond, as
for several classes, taken to first order in the rows' weights: the mean of the differences of the rows' pulls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .evaluation import class_losses
from .intervals import LEVEL, REPLICATES, Drawn, Draws
from .scores import Floats, SplitScores, areas, average_precision_pulls, roc_area_pulls

EXACT_ROWS = 2_000
"""Rows up to which each is drawn for itself and two classes' areas are computed anew in every replicate: 1,000
replicates take 2 s there on one core, and 1,000,000 rows would take minutes."""
FIRST_ORDER_ROWS = 50
"""Rows of the rarer class, in effect, from which the average precision is resampled to first order: of 18 the interval
was 0.6 times as wide as that of whole replicates."""
_AREAS = ("roc_auc", "average_precision")

METHOD = (
    f"{LEVEL:.0%} percentile intervals of {REPLICATES:,} Poisson-bootstrap replicates of the rows, each counted for"
    f" both models; beyond {EXACT_ROWS:,} rows, and for several classes, areas are resampled to first order, the"
    f" average precision where {FIRST_ORDER_ROWS} rows of each class are among them"
)


@dataclass(frozen=True)
class Difference:
    """A metric of the second model less that of the first, and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two models on the same rows."""

    rows: int
    """Rows with a weight above 0."""
    differences: dict[str, Difference]
    """By the metric's name: log_loss, accuracy, brier, and where both classes have weight roc_auc and
    average_precision; of K > 2 classes macro_roc_auc, where all have."""
    only_first: int
    """Rows that the first model alone calls right (McNemar 1947, "Note on the sampling error of the difference between
    correlated proportions"); not weighted, as is the next."""
    only_second: int
    """Rows that the second alone calls right."""


def compare_paired(
    first: SplitScores,
    second: SplitScores,
    *,
    thresholds: tuple[float, float] = (0.5, 0.5),
    seed: int,
    replicates: int = REPLICATES,
) -> Paired:
    """Return the differences of two models on the same rows.

    Args:
        first, second: the models' logits of the rows; labels, weights and the number of classes are the same.
        thresholds: the probability from which each calls a row positive, if there are two classes.
        seed: of the replicates; the same seed gives the same intervals.
        replicates: how many.

    Raises:
        ValueError: labels, weights or classes that are not the same.
    """
    if not first.same_rows(second):
        raise ValueError("first and second have other labels, weights or classes; both must be of the same rows")
    one, two = (_measured(split, threshold) for split, threshold in zip((first, second), thresholds, strict=True))
    rows = first.counted
    # The weights get mean 1, as in `bootstrap`.
    s = None if rows.sample_weight is None else rows.share * len(rows.y)
    draws = Draws(s, seed, replicates)
    by_row = {name: two[name][1] - one[name][1] for name in one}
    exact = {name: two[name][0] - one[name][0] for name in one}
    ends: dict[str, tuple[float, float]] = {}
    if first.classes == 2 and len(rows.y) <= EXACT_ROWS:
        means = {name: of for name, of in by_row.items() if name not in _AREAS}
        ranked = [_Ranked(split.counted) for split in (first, second)] if "roc_auc" in one else []

        def metrics(weight: Floats) -> Drawn:
            total = weight.sum(axis=-1)
            found = {name: weight @ of / total for name, of in means.items()}
            of_each = [each.areas(weight) for each in ranked]
            return found | {name: b - a for name, a, b in zip(_AREAS, *of_each, strict=False)} if ranked else found

        each = np.ones(len(rows.y)) if s is None else s
        ends = draws.quantiles(metrics, each, each * each)[1]
    else:
        if "average_precision" in by_row and _rarer(first.counted) < FIRST_ORDER_ROWS:
            del by_row["average_precision"]
        for name, of in by_row.items():
            ends |= draws.quantiles(*draws.of_mean(name, of))[1]
    # No replicate of a handful of rows may have both classes, and so an area.
    differences = {
        name: Difference(value, min(ends[name][0], value), max(ends[name][1], value))
        for name, value in exact.items()
        if name in ends
    }
    won = by_row["accuracy"]
    return Paired(len(rows.y), differences, int((won < 0).sum()), int((won > 0).sum()))


def _measured(split: SplitScores, threshold: float) -> dict[str, tuple[float, Floats]]:
    """Return each metric and numbers of the counted rows [N] whose weighted mean it is; those of an area are the area
    and the row's pull at it."""
    rows = split.counted
    areas_of_rows: dict[str, tuple[float, Floats]] = {}
    if split.classes > 2:
        log_loss, brier = class_losses(rows.logits, rows.y)
        right = rows.logits.argmax(axis=1) == rows.y
        if split.macro_area is not None:
            areas_of_rows["macro_roc_auc"] = split.macro_area
    else:
        p, margin = rows.probability, np.where(rows.y == 1, -rows.logits, rows.logits)
        log_loss, brier = np.logaddexp(0.0, margin), np.square(p - rows.y)
        right = (p >= threshold) == rows.y
        if split.ranking.areas is not None:
            pulls = roc_area_pulls(split), average_precision_pulls(split)
            areas_of_rows = dict(zip(_AREAS, zip(split.ranking.areas, pulls, strict=True), strict=True))
    means = {"log_loss": log_loss, "accuracy": right.astype(np.float64), "brier": brier}
    found = {name: (float(rows.share @ of), of) for name, of in means.items()}
    return found | {name: (area, area + pull) for name, (area, pull) in areas_of_rows.items()}


def _rarer(rows: SplitScores) -> float:
    """Return the effective number of the rows of the rarer of two classes."""
    shares = [rows.share[rows.y == label] for label in (0, 1)]
    return min(float(of.sum() ** 2 / max(np.square(of).sum(), 1e-300)) for of in shares)


class _Ranked:
    """The rows of two classes by their scores, for areas under many weights."""

    def __init__(self, rows: SplitScores) -> None:
        self._order = np.argsort(rows.logits)[::-1]
        score = rows.logits[self._order]
        self._last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
        self._positive = rows.y[self._order] == 1

    def areas(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return the area under the ROC curve and the average precision [n] of weights [n, N]."""
        ordered = weight[:, self._order]
        positive, negative = (
            np.cumsum(ordered * of, axis=-1)[:, self._last] for of in (self._positive, ~self._positive)
        )
        return areas(positive, negative)
