"""What a report says, before any of it is drawn: the page and the pictures show the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.calibration import Calibration
from ..metrics.intervals import Interval
from .chart import Chart

_ROUNDING = 1e-12
"""Of all weight: a difference of sums that is no larger is 0."""


@dataclass(frozen=True)
class Curve:
    """Points to draw, [P] float64 each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def at(self, places: ArrayLike) -> Curve:
        """Some of the points."""
        kept = np.asarray(places, dtype=np.intp)
        return Curve(self.x[kept], self.y[kept])


@dataclass(frozen=True)
class Decision:
    """One yes-or-no question (the positive class, or a class against the rest), asked of the rows of one split.

    thresholds, true_positive and false_positive are [T]: the weight of the rows called positive at each threshold, by
    their label. `at` is the place of the run's own threshold. `whole`: all weights are whole numbers. Histogram
    counts are [H] plain rows that have a weight.
    """

    split: str
    thresholds: NDArray[np.float64]
    true_positive: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    at: int
    weighted: bool
    whole: bool
    roc: Curve | None
    roc_auc: float | None
    precision_recall: Curve | None
    average_precision: float | None
    calibration: Calibration
    bins: int
    negative_rows: NDArray[np.int64]
    positive_rows: NDArray[np.int64]

    def counts(self, at: int | None = None) -> NDArray[np.float64]:
        """Weights of true and false negatives, false and true positives at a threshold's place, by default the run's.

        All rows have a probability of at least the first threshold, 0. A difference of sums that is no larger than
        their rounding is 0.
        """
        at = self.at if at is None else at
        tp, fp = self.true_positive, self.false_positive
        counts = np.array([fp[0] - fp[at], tp[0] - tp[at], fp[at], tp[at]])
        return np.where(counts > _ROUNDING * (tp[0] + fp[0]), counts, 0.0)


@dataclass(frozen=True)
class Question:
    """A decision's splits, with the name of what counts as positive; one for two classes, K for K > 2."""

    positive: str
    negative: str
    decisions: tuple[Decision, ...]

    def headline(self, split: str) -> Decision:
        """The decision about the rows of a split."""
        return next(one for one in self.decisions if one.split == split)


@dataclass(frozen=True)
class ClassConfusion:
    """Weight of one split's rows by class (rows of `weight` [k, k]) and likeliest class (columns)."""

    split: str
    labels: tuple[str, ...]
    weight: NDArray[np.float64]
    weighted: bool
    whole: bool


@dataclass(frozen=True)
class Coefficient:
    """A column's coefficient in the user's units and for one standard deviation more of it.

    label is the class for K > 2 classes. log_odds and log_odds_per_deviation are the same two numbers as logarithms of
    odds ratios: for K > 2 classes less their mean over the classes. The last five are None without standard errors.
    """

    column: str
    label: str | None
    coefficient: float
    per_deviation: float | None
    log_odds: float
    log_odds_per_deviation: float | None
    standard_error: float | None = None
    z: float | None = None
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None


@dataclass(frozen=True)
class Coefficients:
    """The largest by what a standard deviation more of the column changes, then others, then the intercepts."""

    largest: tuple[Coefficient, ...]
    others: tuple[Coefficient, ...]
    left_out: int
    intercepts: tuple[Coefficient, ...]
    why_no_inference: str
    """Why there are no standard errors; empty where there are."""

    @property
    def inferred(self) -> bool:
        """Whether there are standard errors."""
        return not self.why_no_inference


@dataclass(frozen=True)
class Report:
    """A whole report. `headline` is the split that a reader should look at first: test rows, if there are any."""

    title: str
    headline: str
    statement: str
    proven: bool
    """Whether the statement is a certificate of the optimum within the tolerance."""
    verdict: str
    """The same in two or three words, which say too why there may be no proof."""
    warnings: tuple[str, ...]
    """Sentences on a solver that did not reach an optimum."""
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    settings: str
    metrics: Mapping[str, Mapping[str, float | None]]
    """By split and name; None where one is undefined."""
    intervals: Mapping[str, Mapping[str, Interval]]
    history: Chart | None
    questions: tuple[Question, ...]
    classes: int
    shown_classes: int
    confusions: tuple[ClassConfusion, ...]
    coefficients: Coefficients
    category: str | None
    """A column that stands for one value of a column of categories, as an example; None where there is none."""

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits, the headline's first: a phone shows no more without scrolling."""
        return sorted(self.metrics, key=lambda name: name != self.headline)
