"""How far a split's metrics could be from those of other rows of the same kind: percentile bootstrap intervals.

Poisson bootstrap: a replicate counts every row Poisson(1) times instead of drawing N rows with replacement, which is
the same for all but tiny N. Rows that are alike in what is measured are drawn together, as a cell: n rows are counted
Poisson(n) times. With weights s a cell's weight W = sum s has the variance Q = sum s^2 over replicates, and
Poisson(W^2 / Q) * Q / W has both its mean and its variance (for equal weights it is the same thing).

The cells of two classes are those of neighbouring scores and label, none on both sides of the threshold, so that one
draw gives every metric and rates lose nothing. For more classes a mean over rows has cells of neighbouring values, a
rate those of label and likeliest class, and the mean area is taken as the mean of the rows' pulls at it, which is its
first order in their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluation import class_losses, class_rates, rates
from .scores import Floats, SplitScores, areas, expit, logit_bound, totals

CELLS = 500
"""Rows or different scores up to which each is drawn for itself; beyond, about so many cells of neighbouring ones."""
REPLICATES = 1000
LEVEL = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
_SAME = 1e-12
"""Relative spread of replicates that differ by rounding only."""
_CHUNK = 50
"""Replicates computed together: 50 x 4000 float64 are 1.6 MB, which stay in a core's cache."""
_AREAS = ("roc_auc", "average_precision")
_UNBOUNDED = frozenset({"log_loss", "clamped_log_loss", "brier"})
"""Metrics that may exceed 1."""

METHOD = (
    f"{LEVEL:.0%} percentile intervals of {REPLICATES:,} Poisson-bootstrap replicates of the rows, model unchanged;"
    f" more than {CELLS:,} rows are resampled in groups of neighbouring ones; the mean area of several classes is"
    " resampled to first order; a rate of 0 or 1 of two classes, which no replicate changes, has Wilson's interval"
)

Interval = tuple[float, float]
Drawn = dict[str, Floats]


def bootstrap(
    split: SplitScores, *, eps: float, threshold: float, seed: int, replicates: int = REPLICATES
) -> dict[str, Interval]:
    """Return intervals of the fields of `flashlogit.metrics.evaluation.evaluate`'s metrics.

    Args:
        split, eps, threshold: as for `evaluate`.
        seed: of the replicates; the same seed gives the same intervals.
        replicates: how many.

    Returns:
        (low, high) by name. Left out is what no replicate defines or changes, but for the rates that `_wilson` knows,
        and the expected calibration error: resampling adds noise to every bin, and so raises it in every replicate.
    """
    rows = split.counted
    z, y = rows.logits, rows.y
    # The weights get mean 1, since very small or large ones would leave float64 when squared.
    s = None if rows.sample_weight is None else rows.share * len(y)
    draws = Draws(s, seed, replicates)
    if split.classes > 2:
        return _of_classes(split, draws)
    bound = logit_bound(eps)
    scores = split.ranking.score[split.ranking.cells(CELLS, threshold)]
    C, called = len(scores), int(np.count_nonzero(expit(scores) >= threshold))
    cell = y * np.intp(C) + np.searchsorted(-scores, -z)
    weight, squares = draws.cells(cell, 2 * C)
    margin = np.where(y == 1, -z, z)
    losses = {"log_loss": np.logaddexp(0.0, margin), "brier": np.square(expit(margin))}
    losses["clamped_log_loss"] = np.logaddexp(0.0, margin.clip(-bound, bound))
    loss = {name: totals(cell, of if s is None else s * of, 2 * C) for name, of in losses.items()}
    mean = {name: of / np.where(weight > 0, weight, 1.0) for name, of in loss.items()}

    def fourfold(weight: Floats) -> Floats:
        """Return the four weights of `rates` of weights [..., 2 C] of the cells."""
        sides = np.split(weight.reshape(*weight.shape[:-1], 2, C), [called], axis=-1)
        return np.concatenate([side.sum(axis=-1) for side in reversed(sides)], axis=-1)

    def metrics(weight: Floats) -> Drawn:
        total = weight.sum(axis=-1)
        found = {name: weight @ of / total for name, of in mean.items()} | rates(fourfold(weight))
        negative, positive = np.moveaxis(weight.reshape(-1, 2, C).cumsum(axis=-1), 1, 0)
        return found | dict(zip(_AREAS, areas(positive, negative), strict=True))

    exact = dict(zip(_AREAS, split.ranking.areas or (), strict=False))
    return _wilson(fourfold(weight), fourfold(squares)) | draws.intervals(metrics, weight, squares, exact)


def _of_classes(split: SplitScores, draws: Draws) -> dict[str, Interval]:
    """Return the same for K > 2 classes."""
    from scipy.sparse import csr_array  # for which two classes need not wait

    rows, K = split.counted, split.classes
    values = dict(zip(("log_loss", "brier"), class_losses(rows.logits, rows.y), strict=True))
    if split.macro_area is not None:
        area, pull = split.macro_area
        values["macro_roc_auc"] = area + pull
    result: dict[str, Interval] = {}
    for name, value in values.items():
        result |= draws.intervals(*draws.of_mean(name, value))
    pair, cell = np.unique(rows.y * np.intp(K) + rows.logits.argmax(axis=1), return_inverse=True)
    of_label, of_called = (
        csr_array((np.ones(len(pair)), (np.arange(len(pair)), of)), (len(pair), K)) for of in (pair // K, pair % K)
    )
    right = np.asarray(pair // K == pair % K)

    def confusion(weight: Floats) -> Drawn:
        return class_rates(weight @ of_label, weight @ of_called, (weight * right) @ of_label)

    return result | draws.intervals(confusion, *draws.cells(cell, len(pair)))


class Draws:
    """Replicates of the weights of cells, and the intervals of what is computed from them."""

    def __init__(self, s: Floats | None, seed: int, replicates: int) -> None:
        self._s, self._rng, self._replicates = s, np.random.default_rng(seed), replicates

    def cells(self, place: NDArray[np.integer], size: int) -> tuple[Floats, Floats]:
        """Return the sums of the weights, and of their squares, of the rows [N] at each place."""
        weight = totals(place, self._s, size)
        return weight, weight if self._s is None else totals(place, self._s * self._s, size)

    def of_mean(self, name: str, values: Floats) -> tuple[Callable[[Floats], Drawn], Floats, Floats]:
        """Return what `intervals` takes for the weighted mean of values [N]: neighbouring ones share a cell."""
        order = np.argsort(values)
        values = values[order]
        s = np.ones(len(values)) if self._s is None else self._s[order]
        begins = _begins(values, s)
        weight, squares = np.add.reduceat(s, begins), np.add.reduceat(s * s, begins)
        of_cell = np.add.reduceat(s * values, begins) / weight
        return lambda drawn: {name: drawn @ of_cell / drawn.sum(axis=-1)}, weight, squares

    def quantiles(
        self, of: Callable[[Floats], Drawn], weight: Floats, squares: Floats
    ) -> tuple[dict[str, float], dict[str, Interval]]:
        """Return the metrics of the cells, and the ends of the middle `LEVEL` of the replicates in which each is
        finite, by name; without those that no replicate defines. The arguments are as for `intervals`."""
        filled = weight > 0
        unit = squares / np.where(filled, weight, 1.0)
        counts = weight / np.where(filled, unit, 1.0)
        parts = []
        with np.errstate(invalid="ignore", divide="ignore"):
            for start in range(0, self._replicates, _CHUNK):
                size = (min(_CHUNK, self._replicates - start), *weight.shape)
                parts.append(of(self._rng.poisson(counts, size) * unit))
            cells = {name: float(value[0]) for name, value in of(weight[None]).items()}
        ends = {}
        for name in cells:
            drawn = np.concatenate([part[name] for part in parts])
            if np.isfinite(drawn).any():
                low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
                ends[name] = float(low), float(high)
        return cells, ends

    def intervals(
        self, of: Callable[[Floats], Drawn], weight: Floats, squares: Floats, exact: Mapping[str, float] | None = None
    ) -> dict[str, Interval]:
        """Return the middle `LEVEL` of the replicates of `of` in which it is finite, by name.

        Names whose replicates all agree are left out: where no row is wrong no replicate has a wrong one, and an
        interval from 1 to 1 would claim a certainty that a hundred rows cannot give.

        Args:
            of: metrics [n] of replicates [n, ...] of the cells' weights.
            weight, squares: each cell's sum of weights and of their squares.
            exact: metrics of the rows, where those of the cells differ a little; the interval is moved with them.
        """
        cells, ends_of = self.quantiles(of, weight, squares)
        result = {}
        for name, value in (cells | dict(exact or {})).items():
            if name not in ends_of:
                continue
            low, high = ends_of[name]
            if high - low > _SAME * max(abs(low), abs(high)):
                ends = np.array([low, high]) + (value - cells[name])
                if name not in _UNBOUNDED:
                    ends = ends.clip(0.0, 1.0)
                # Average precision is skewed enough for 97.5 % of a few rows' replicates to lie on one side of it.
                result[name] = (min(float(ends[0]), value), max(float(ends[1]), value))
        return result


def _begins(values: Floats, s: Floats) -> NDArray[np.intp]:
    """Return where each of about `CELLS` cells of sorted values [N] of weights [N] begins; each value is one if they
    are few.

    A cell has an equal share of half the weight and half the squared deviations from the mean, and a value of half such
    a share a cell of its own. Cells of equal weight alone would join a few far values with many others, and lose most
    of the variance where one row in a thousand is of the rarer class.
    """
    if len(values) <= CELLS:
        return np.arange(len(values))
    share = s / s.sum()
    deviation = values - share @ values
    spread = share * np.square(deviation / (np.abs(deviation).max() or 1.0))
    mass = (share + spread / (spread.sum() or 1.0)) / 2
    begin = np.diff(np.floor(np.cumsum(mass) * CELLS), prepend=-1.0) > 0
    large = mass >= 0.5 / CELLS
    begin |= large
    begin[1:] |= large[:-1]
    return np.flatnonzero(begin)


def wilson(rate: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Return the ends of Wilson's score intervals of rates [...], each of n [...] rows; of weighted rows n is W^2 / Q
    (Kish's effective number).

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z2 = NORMAL_QUANTILE**2
    middle, half = n * rate + z2 / 2, NORMAL_QUANTILE * np.sqrt(n * rate * (1 - rate) + z2 / 4)
    # A rate of 0 or 1 is an end of its own interval, which rounding would miss.
    low = np.where(rate > 0, (middle - half) / (n + z2), 0.0)
    return low, np.where(rate < 1, (middle + half) / (n + z2), 1.0)


def _wilson(weight: Floats, squares: Floats) -> dict[str, Interval]:
    """Return Wilson's intervals of rates of 0 or 1, which no replicate changes: of n rows n / (n + z^2) to 1 for all.

    The four weights and sums of squares are as for `rates`.
    """
    asked: dict[str, Any] = {"accuracy": [0, 1, 2, 3], "precision": [2, 3], "recall": [1, 3], "specificity": [0, 2]}
    result = {}
    for name, rate in rates(weight).items():
        of = asked.get(name, [])
        W, Q = float(weight[of].sum()), float(squares[of].sum())
        if Q > 0 and min(abs(rate), abs(1 - rate)) < _SAME:
            low, high = wilson(np.rint(rate), np.asarray(W * (W / Q)))
            result[name] = (float(low), float(high))
    return result
