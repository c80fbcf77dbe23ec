"""Sentences on why the numbers of a report may not mean what they seem to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..metrics.intervals import Interval
from ..metrics.scores import SplitScores
from .decisions import Decision, Question
from .text import decimal_places, isolated, metric, p_value, plural

FEW = 30
"""Rows of the rarest class of a split below which a reader is told so: the interval of a rate of so many spans 0.35."""
_LEVEL = 0.01
"""Chance that probabilities which are right are called wrong."""
_MATTERS = 0.05
"""Mean error of the probabilities, as a share of the rarer class's rate, below which nothing is said of it: of a
million rows every model's are significantly off."""


def caveats(
    headline: str,
    split: SplitScores,
    names: Sequence[str],
    metrics: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
    questions: Sequence[Question],
    *,
    class_weight: bool,
) -> Iterator[str]:
    """Yield what is wrong with the headline split.

    Args:
        headline: its name.
        split: its scores.
        names: of the classes.
        metrics, intervals: of the split, by name.
        questions: with the recalibration of the split's decisions.
        class_weight: whether the fit weighted the classes, which shifts every probability.
    """
    if headline == "train":
        yield (
            "No rows were held out: all metrics are of the rows that the model was trained on, and those of other rows"
            " are likely to be worse; set data.split.test, to 0.15 for example"
        )
        return
    counts = np.bincount(split.counted.y, minlength=len(names))
    rarest = int(counts.argmin())
    if counts[rarest] < FEW:
        kind = "rarer class" if len(names) == 2 else f"rarest of {len(names)} classes"
        area = next((name for name in ("roc_auc", "macro_roc_auc") if intervals.get(name)), None)
        if area is None:
            then = "they are too few to say how good the model is"
        else:
            value, (low, high) = metrics[area], intervals[area]
            then = f"the ROC AUC of {metric(value)} could as well be anything from {metric(low)} to {metric(high)}"
        rows = plural(int(counts[rarest]), f"{headline} row")
        yield f"Only {rows} of {isolated(names[rarest])}, the {kind}: {then}"
    yield from _calibration(headline, questions, class_weight)


def _calibration(headline: str, questions: Sequence[Question], class_weight: bool) -> Iterator[str]:
    """Yield a sentence where probabilities are off by more than chance explains, and by enough to matter: of more than
    two classes on the one that is the most surely off."""

    def p_of(decision: Decision) -> float:
        return 1.0 if decision.recalibration is None else decision.recalibration.p_value

    question = min(questions, key=lambda each: p_of(each.headline(headline)))
    decision = question.headline(headline)
    found = decision.recalibration
    if found is None or found.p_value >= _LEVEL / len(questions):
        return
    if found.moved < _MATTERS * min(decision.rate, 1 - decision.rate):
        return
    groups = decision.groups
    if found.slope_interval[1] < 1:
        how = "too near 0 and 1"
    elif found.slope_interval[0] > 1:
        how = "too far from 0 and 1"
    else:
        weight = groups.rows / groups.rows.sum()
        how = "too high" if weight @ (groups.mean_probability - groups.observed_rate) > 0 else "too low"
    of = f" of {isolated(question.positive)}" if len(questions) > 1 else ""
    why = ", as loss.class_weight makes them" if class_weight else ""
    p = p_value(found.p_value)
    yield (
        f"Probabilities{of} are {how}{why}: those of the {headline} rows are off by {metric(found.moved)} on average,"
        f" more than chance explains (p {p if p[0] == '<' else '= ' + p}), {recalibration_words(decision)}"
    )


def recalibration_words(decision: Decision) -> str:
    """Return slope and intercept of the regression on the logits with their intervals, or nothing."""
    found = decision.recalibration
    if found is None:
        return ""
    slope, intercept = (
        f"{decimal_places(value, 2)} (95%: {decimal_places(ends[0], 2)} to {decimal_places(ends[1], 2)})"
        for value, ends in ((found.slope, found.slope_interval), (found.intercept, found.intercept_interval))
    )
    return f"calibration slope {slope} and intercept {intercept}, where 1 and 0 are right"
