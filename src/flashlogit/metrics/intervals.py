"""How far a split's metrics could be from those of other rows of the same kind: percentile bootstrap intervals.

Poisson bootstrap: a replicate counts every row Poisson(1) times instead of drawing N rows with replacement, which is
the same for all but tiny N and needs no second pass. Rows with neighbouring scores and the same label are alike in all
that is measured here, so that some thousand groups of scores stand for any number of rows: n rows that stand together
are counted Poisson(n) times. With weights s a group's weight W = sum s has the variance Q = sum s^2 over replicates,
and Poisson(W^2 / Q) * Q / W has both its mean and its variance (for equal weights it is the same thing).

Groups are equal in class-balanced rank, in which either class counts for a half: equal in rows, the thousand negatives
that stand together with a rare class's few rows would tie with all of them, and an average precision of 0.67 would
have an interval around 0.25. A group ends at the threshold, and a rare class's scores are groups of their own. What the
ranking of groups is still off by is taken off both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flashlogit_kernels.contract import Clamp

from .binary import areas, sigmoid

CELLS = 4000
"""Different scores up to which nothing is grouped; beyond, groups by rank. A class of at most half as many rows is not
grouped at all, so that there are at most 2 * CELLS + 1 groups."""
REPLICATES = 1000
LEVEL = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
_SAME = 1e-12
"""Relative spread of replicates that differ by rounding only."""
_ROWS = 1 << 18
"""Rows whose values are computed together."""
_CHUNK = 50
"""Replicates computed together: 50 x 4000 float64 are 1.6 MB, which stay in a core's cache."""
BOUNDED = frozenset(
    {
        "accuracy", "precision", "recall", "specificity", "f1", "roc_auc", "average_precision",
        "balanced_accuracy", "macro_f1", "macro_roc_auc",
    }
)  # fmt: skip
"""Metrics that cannot exceed 1."""

METHOD = (
    f"{LEVEL:.0%} percentile intervals of {REPLICATES:,} Poisson-bootstrap replicates of the rows, model unchanged;"
    f" more than {CELLS:,} different scores are resampled in groups of neighbouring ones;"
    " a rate of 0 or 1, which no replicate changes, has Wilson's score interval"
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class _Cells:
    """Rows by score, the lowest first, and label: [2, C] each, the negatives' first. Values are means over a cell."""

    effective: NDArray[np.float64]
    unit: NDArray[np.float64]
    weight: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    clamped_log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    called: NDArray[np.float64]
    off: dict[str, float]
    """By how much the metrics of the groups are below those of the rows, where grouping changes them."""

    def draw(self, rng: np.random.Generator, replicates: int) -> NDArray[np.float64]:
        """Weights of the cells, [replicates, 2, C]."""
        drawn: NDArray[np.float64] = (
            rng.poisson(self.effective, (replicates, *self.effective.shape)) * self.unit
        )
        return drawn


def bootstrap(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    eps: float,
    threshold: float,
    seed: int,
    replicates: int = REPLICATES,
) -> dict[str, Interval]:
    """Intervals of `flashlogit.metrics.binary.Metrics`' fields and of the rates at the threshold.

    Args:
        logits: [N] float64, finite; y: [N], 0 or 1; sample_weight: [N] or None. As for
        `flashlogit.metrics.binary.evaluate`,
            which checks them.
        eps, threshold: as for `evaluate`.
        seed: of the replicates; the same seed gives the same intervals.
        replicates: how many.

    Returns:
        (low, high) by name; see `percentiles` for what is left out, and `_wilson` for what is not. The expected
        calibration error is left out: resampling adds noise to every bin, and so raises it in every replicate.
    """
    cells = _cells(logits, y, sample_weight, eps, threshold)
    rng = np.random.default_rng(seed)
    drawn: list[Mapping[str, NDArray[np.float64]]] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, replicates, _CHUNK):
            weight = cells.draw(rng, min(_CHUNK, replicates - start))
            drawn.append(_means(cells, weight) | _rates(cells, weight) | areas(weight))
        itself = cells.weight[None]
        point = _means(cells, itself) | _rates(cells, itself) | areas(itself)
    intervals = percentiles({name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]})
    certain = _wilson(
        cells, {name: float(value[0]) for name, value in point.items() if name not in intervals}
    )
    return certain | {
        name: around(float(point[name][0]) + cells.off.get(name, 0.0), ends, cells.off.get(name, 0.0), name)
        for name, ends in intervals.items()
    }


def around(value: float, ends: Interval, shift: float, name: str) -> Interval:
    """An interval moved by `shift`, within the metric's bounds, and not beside the metric's own value.

    Average precision is skewed enough for 97.5 % of the replicates of a few rows to lie on one side of it.
    """
    low, high = (end + shift for end in ends)
    if name in BOUNDED:
        low, high = (min(max(end, 0.0), 1.0) for end in (low, high))
    return min(low, value), max(high, value)


def _wilson(cells: _Cells, rates: Mapping[str, float]) -> dict[str, Interval]:
    """Wilson's score intervals of rates of 0 or 1, which no replicate changes: of n rows n / (n + z^2) to 1 for all.

    Of weighted rows n is W^2 / Q (Kish's effective number). Wilson 1927, "Probable inference, the law of succession,
    and statistical inference".
    """
    squares, called = cells.weight * cells.unit, cells.called == 1
    asked = {"accuracy": ..., "precision": called, "recall": 1, "specificity": 0}
    result = {}
    for name, of in asked.items():
        rate, W, Q = rates.get(name, np.nan), float(cells.weight[of].sum()), float(squares[of].sum())
        if Q > 0 and min(abs(rate), abs(1 - rate)) < _SAME:
            n = W * (W / Q)
            away = NORMAL_QUANTILE**2 / (n + NORMAL_QUANTILE**2)
            result[name] = (1 - away, 1.0) if rate > 0.5 else (0.0, away)
    return result


def percentiles(drawn: Mapping[str, NDArray[np.float64]]) -> dict[str, Interval]:
    """The middle `LEVEL` of the replicates [R] in which a metric is defined; names without any are left out.

    So are names whose replicates all agree: where no row is wrong no replicate has a wrong one, and an interval from 1
    to 1 would claim certainty that a hundred rows cannot give.
    """
    result = {}
    for name, values in drawn.items():
        defined = values[np.isfinite(values)]
        if defined.size:
            low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            if high - low > _SAME * max(abs(low), abs(high)):
                result[name] = (float(low), float(high))
    return result


def effective_counts(
    total: NDArray[np.float64], squares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Poisson mean W^2 / Q and the unit Q / W of groups of weight W and sum of squares Q; 0 for empty ones."""
    filled = total > 0
    safe = np.where(filled, total, 1.0)
    return np.where(filled, safe * (safe / np.where(filled, squares, 1.0)), 0.0), squares / safe


def _cells(
    logits: NDArray[np.float64],
    y: NDArray[np.integer],
    sample_weight: NDArray[np.floating] | None,
    eps: float,
    threshold: float,
) -> _Cells:
    z, label, s = logits, np.asarray(y), None
    if sample_weight is not None:
        s = np.asarray(sample_weight, dtype=np.float64)
        kept = s > 0
        z, label, s = z[kept], label[kept], s[kept]
        s = s / s.mean()
    scores, score_of_row = np.unique(z, return_inverse=True)
    S = len(scores)

    def totals(
        place: NDArray[np.intp], size: int, values: Callable[[slice], NDArray[Any]] | None = None
    ) -> NDArray[np.float64]:
        """Sums [2, size] by label and place of weight times values, a block of rows at a time."""
        sums = np.zeros(2 * size)
        for start in range(0, len(z), _ROWS):
            rows = slice(start, start + _ROWS)
            weights = np.ones(len(z[rows])) if s is None else s[rows]
            weights = weights if values is None else weights * values(rows)
            sums += np.bincount(label[rows] * np.intp(size) + place[rows], weights, minlength=2 * size)
        return sums.reshape(2, size)

    # Equal scores stay together: between them an order would be invented.
    exact = totals(score_of_row, S)
    group = np.arange(S)
    if S > CELLS:
        rows_of_score = exact if s is None else totals(score_of_row, S, lambda rows: 1 / s[rows])
        group = _grouped(rows_of_score.round().astype(np.int64), sigmoid(scores) >= threshold)
    C = int(group[-1]) + 1
    cell = group[score_of_row]
    del score_of_row
    weight = totals(cell, C)
    safe = np.where(weight > 0, weight, 1.0)
    squares = weight if s is None else totals(cell, C, lambda rows: s[rows])
    effective, unit = effective_counts(weight, squares)
    bound = Clamp(eps, "through").bound

    def loss(rows: slice, bound: float) -> NDArray[np.float64]:
        clamped = np.clip(z[rows], -bound, bound)
        return np.logaddexp(0.0, np.where(label[rows] == 1, -clamped, clamped))

    off = {}
    if C < S:
        with np.errstate(invalid="ignore", divide="ignore"):
            off = {
                name: float(value[0] - areas(weight[None])[name][0])
                for name, value in areas(exact[None]).items()
            }
    return _Cells(
        effective=effective,
        unit=unit,
        weight=weight,
        log_loss=totals(cell, C, lambda rows: loss(rows, math.inf)) / safe,
        clamped_log_loss=totals(cell, C, lambda rows: loss(rows, bound)) / safe,
        brier=totals(cell, C, lambda rows: np.square(sigmoid(z[rows]) - label[rows])) / safe,
        called=totals(cell, C, lambda rows: sigmoid(z[rows]) >= threshold) / safe,
        off=off,
    )


def _grouped(rows: NDArray[np.int64], called: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The group of every score, [S] from 0 on, for rows [2, S] of each class at it and whether it is called."""
    of_class = rows.sum(axis=1, keepdims=True)
    half = rows / np.maximum(2 * of_class, 1)
    before = (half.cumsum(axis=1) - half).sum(axis=0)
    place = np.floor(before * CELLS)
    begins = np.append(True, (np.diff(place) > 0) | (np.diff(called.astype(np.int8)) > 0))
    rare = ((rows > 0) & (of_class <= CELLS // 2)).any(axis=0)
    begins |= rare
    begins[1:] |= rare[:-1]
    group: NDArray[np.int64] = begins.cumsum() - 1
    return group


def _means(cells: _Cells, weight: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Metrics that are means over rows, [R] each."""
    all_weight = weight.sum(axis=(1, 2))
    return {
        name: np.tensordot(weight, getattr(cells, name), axes=2) / all_weight
        for name in ("log_loss", "clamped_log_loss", "brier")
    }


def _rates(cells: _Cells, weight: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the four counts at the threshold give, [R] each; NaN where a denominator is 0."""
    negatives, positives = weight.sum(axis=2).T
    false_positive = weight[:, 0] @ cells.called[0]
    true_positive = weight[:, 1] @ cells.called[1]
    return {
        "accuracy": (true_positive + negatives - false_positive) / (negatives + positives),
        "precision": true_positive / (true_positive + false_positive),
        "recall": true_positive / positives,
        "specificity": 1 - false_positive / negatives,
        "f1": 2 * true_positive / (true_positive + false_positive + positives),
    }
