"""How far a split's metrics could be from those of other rows of the same kind: percentile bootstrap intervals.

Poisson bootstrap: a replicate counts every row Poisson(1) times instead of drawing N rows with replacement, which is
the same for all but tiny N. Rows that are alike in what is measured are drawn together, as a cell: n rows are counted
Poisson(n) times. With weights s a cell's weight W = sum s has the variance Q = sum s^2 over replicates, and
Poisson(W^2 / Q) * Q / W has both its mean and its variance (for equal weights it is the same thing).

Each kind of metric has cells of its own: a mean over rows those of neighbouring values, a rate those of label and
decision, which lose nothing, an area those of neighbouring scores and label. The mean area of more than two classes is
taken as the mean of the rows' pulls at it, which is its first order in their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from flashlogit_kernels.contract import Clamp

from .binary import rates
from .multiclass import ClassMetrics, OneAgainstRest, class_losses, class_rates
from .ranking import Floats, Ranking, areas, rank, totals

CELLS = 2000
"""Rows or different scores up to which each is drawn for itself; beyond, about so many cells of neighbouring ones."""
REPLICATES = 1000
LEVEL = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
_SAME = 1e-12
"""Relative spread of replicates that differ by rounding only."""
_CHUNK = 50
"""Replicates computed together: 50 x 4000 float64 are 1.6 MB, which stay in a core's cache."""
_UNBOUNDED = frozenset({"log_loss", "clamped_log_loss", "brier"})
"""Metrics that may exceed 1."""

METHOD = (
    f"{LEVEL:.0%} percentile intervals of {REPLICATES:,} Poisson-bootstrap replicates of the rows, model unchanged;"
    f" more than {CELLS:,} rows are resampled in groups of neighbouring ones"
)
BINARY_METHOD = f"{METHOD}; a rate of 0 or 1, which no replicate changes, has Wilson's score interval"
CLASS_METHOD = f"{METHOD}; the mean ROC area is resampled to first order in the rows' weights"

Interval = tuple[float, float]
Drawn = dict[str, Floats]


def bootstrap(
    logits: Floats,
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    eps: float,
    threshold: float,
    seed: int,
    replicates: int = REPLICATES,
    ranking: Ranking | None = None,
) -> dict[str, Interval]:
    """Intervals of `flashlogit.metrics.binary.Metrics`' fields and of the rates at the threshold.

    Args:
        logits, y, sample_weight, eps, threshold, ranking: as for `flashlogit.metrics.binary.evaluate`, which checks
            them.
        seed: of the replicates; the same seed gives the same intervals.
        replicates: how many.

    Returns:
        (low, high) by name. Left out is what no replicate defines or changes, but for the rates that `_wilson` knows,
        and the expected calibration error: resampling adds noise to every bin, and so raises it in every replicate.
    """
    z, label, s = _counted(logits, y, sample_weight)
    draws = _Draws(seed, replicates)
    bound = Clamp(eps, "through").bound
    losses: dict[str, Callable[[Floats], Floats]] = {
        "log_loss": lambda margin: np.logaddexp(0.0, margin),
        "clamped_log_loss": lambda margin: np.logaddexp(0.0, margin.clip(-bound, bound)),
        "brier": lambda margin: np.square(expit(margin)),
    }
    result = draws.means(np.where(label == 1, -z, z), s, losses)
    place = 2 * (expit(z) >= threshold) + label
    weight = squares = totals(place, s, 4)
    if s is not None:
        squares = totals(place, s * s, 4)
    result |= _wilson(weight, squares) | draws.intervals(rates, weight, squares)
    ranking = ranking or rank(z, label == 1, s)
    if ranking.areas is not None:
        ends = ranking.cells(CELLS)
        weight = np.diff(np.stack([ranking.negative[ends], ranking.positive[ends]]), prepend=0.0)
        squares = weight
        if s is not None:
            weight = weight / (weight.sum() / s.sum())  # the ranking's weights may be of another unit
            cell = label * np.intp(len(ends)) + np.searchsorted(-ranking.score[ends], -z)
            squares = totals(cell, s * s, weight.size).reshape(weight.shape)
        exact = dict(zip(("roc_auc", "average_precision"), ranking.areas, strict=True))
        result |= draws.intervals(_areas, weight, squares, exact)
    return result


def bootstrap_classes(
    logits: Floats,
    y: NDArray[np.integer],
    *,
    sample_weight: NDArray[np.floating] | None,
    seed: int,
    replicates: int = REPLICATES,
    rest: OneAgainstRest | None = None,
) -> dict[str, Interval]:
    """Intervals of the fields of `flashlogit.metrics.multiclass.ClassMetrics`; arguments as for `evaluate_classes`."""
    K = logits.shape[1]
    z, label, s = _counted(logits, y, sample_weight)
    draws = _Draws(seed, replicates)
    result: dict[str, Interval] = {}
    for name, values in zip(("log_loss", "brier"), class_losses(z, label), strict=True):
        result |= draws.means(values, s, {name: lambda value: value})
    pair, cell = np.unique(label * K + z.argmax(axis=1), return_inverse=True)
    of_label, of_called = (
        csr_array((np.ones(len(pair)), (np.arange(len(pair)), of)), (len(pair), K))
        for of in (pair // K, pair % K)
    )
    right = np.asarray(pair // K == pair % K)

    def confusion(weight: Floats) -> Drawn:
        return class_rates(weight @ of_label, weight @ of_called, (weight * right) @ of_label)

    weight = squares = totals(cell, s)
    if s is not None:
        squares = totals(cell, s * s)
    result |= draws.intervals(confusion, weight, squares)
    macro = (rest or OneAgainstRest(logits, y, sample_weight)).macro
    if macro is not None:
        area, pull = macro
        pull = pull if sample_weight is None else pull[np.asarray(sample_weight) > 0]
        result |= draws.means(area + pull, s, {"macro_roc_auc": lambda value: value})
    return result


def bootstrap_method(metrics: object) -> str:
    """Return the words that say how the intervals of these metrics were made."""
    return CLASS_METHOD if isinstance(metrics, ClassMetrics) else BINARY_METHOD


def _counted(
    z: Floats, y: NDArray[np.integer], weight: NDArray[np.floating] | None
) -> tuple[Floats, NDArray[np.integer], Floats | None]:
    """The rows with a weight above 0, whose weights are of mean 1."""
    if weight is None:
        return z, y, None
    s = np.asarray(weight, dtype=np.float64)
    counts = s > 0
    s = s[counts]
    return z[counts], y[counts], s / s.mean()


class _Draws:
    """Replicates of the weights of cells, and the intervals of what is computed from them."""

    def __init__(self, seed: int, replicates: int) -> None:
        self._rng, self._replicates = np.random.default_rng(seed), replicates

    def means(
        self, values: Floats, s: Floats | None, of: Mapping[str, Callable[[Floats], Floats]]
    ) -> dict[str, Interval]:
        """Intervals of the means of increasing functions of values [N], weighted by s [N] or not."""
        if s is None:
            values = np.sort(values)
        else:
            order = np.argsort(values)
            values, s = values[order], s[order]
        N = len(values)
        begins = np.arange(min(N, CELLS)) * N // min(N, CELLS)
        weight = np.diff(begins, append=N).astype(np.float64) if s is None else np.add.reduceat(s, begins)
        squares = weight if s is None else np.add.reduceat(s * s, begins)
        mean = {}
        for name, function in of.items():
            value = function(values)
            mean[name] = np.add.reduceat(value if s is None else s * value, begins) / weight

        def means(drawn: Floats) -> Drawn:
            return {name: drawn @ of_cell / drawn.sum(axis=-1) for name, of_cell in mean.items()}

        return self.intervals(means, weight, squares)

    def intervals(
        self,
        of: Callable[[Floats], Drawn],
        weight: Floats,
        squares: Floats,
        exact: Mapping[str, float] | None = None,
    ) -> dict[str, Interval]:
        """The middle `LEVEL` of the replicates of `of` in which it is finite, by name.

        Names whose replicates all agree are left out: where no row is wrong no replicate has a wrong one, and an
        interval from 1 to 1 would claim a certainty that a hundred rows cannot give.

        Args:
            of: metrics [n] of replicates [n, ...] of the cells' weights.
            weight, squares: each cell's sum of weights and of their squares.
            exact: metrics of the rows, where those of the cells differ a little; the interval is moved with them.
        """
        filled = weight > 0
        unit = squares / np.where(filled, weight, 1.0)
        counts = weight / np.where(filled, unit, 1.0)
        parts = []
        with np.errstate(invalid="ignore", divide="ignore"):
            for start in range(0, self._replicates, _CHUNK):
                size = (min(_CHUNK, self._replicates - start), *weight.shape)
                parts.append(of(self._rng.poisson(counts, size) * unit))
            cells = {name: float(value[0]) for name, value in of(weight[None]).items()}
        result = {}
        for name, value in (exact or cells).items():
            drawn = np.concatenate([part[name] for part in parts])
            drawn = drawn[np.isfinite(drawn)]
            if not len(drawn):
                continue
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            if high - low > _SAME * max(abs(low), abs(high)):
                ends = np.array([low, high]) + (value - cells[name])
                if name not in _UNBOUNDED:
                    ends = ends.clip(0.0, 1.0)
                # Average precision is skewed enough for 97.5 % of a few rows' replicates to lie on one side of it.
                result[name] = (min(float(ends[0]), value), max(float(ends[1]), value))
        return result


def _areas(weight: Floats) -> Drawn:
    """Areas of weights [n, 2, C] of the negatives and the positives of each cell, the highest scores first."""
    cumulated = weight.cumsum(axis=-1)
    return dict(zip(("roc_auc", "average_precision"), areas(cumulated[:, 1], cumulated[:, 0]), strict=True))


def _wilson(weight: Floats, squares: Floats) -> dict[str, Interval]:
    """Wilson's score intervals of rates of 0 or 1, which no replicate changes: of n rows n / (n + z^2) to 1 for all.

    Of weighted rows n is W^2 / Q (Kish's effective number). Wilson 1927, "Probable inference, the law of succession,
    and statistical inference". The four weights and sums of squares are as for `rates`.
    """
    asked: dict[str, Any] = {
        "accuracy": [0, 1, 2, 3],
        "precision": [2, 3],
        "recall": [1, 3],
        "specificity": [0, 2],
    }
    result = {}
    for name, rate in rates(weight).items():
        of = asked.get(name, [])
        W, Q = float(weight[of].sum()), float(squares[of].sum())
        if Q > 0 and min(abs(rate), abs(1 - rate)) < _SAME:
            away = NORMAL_QUANTILE**2 / (W * (W / Q) + NORMAL_QUANTILE**2)
            result[name] = (1 - away, 1.0) if rate > 0.5 else (0.0, away)
    return result
