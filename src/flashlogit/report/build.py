"""A report from what a finished run has in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.load import dump_settings
from ..config.settings import RunSettings
from ..data.columns.encoding import CategoryColumn
from ..metrics.binary import Metrics
from ..metrics.intervals import METHOD, Interval
from ..metrics.intervals_multiclass import METHOD as CLASS_METHOD
from ..metrics.multiclass import ClassMetrics
from ..models.model import Model
from .coefficients import rank_coefficients
from .content import (
    ClassConfusion,
    Decision,
    MetricValue,
    Question,
    Report,
    WaldStatistics,
)
from .decisions import CURVE_POINTS, confuse, decide, threshold_stops
from .histories import history_chart
from .names import isolated
from .plots import SplitScores

MAX_CLASSES = 20
"""Classes with curves of their own and rows in the confusion matrix: the most frequent ones."""

_LISTED = 10
"""Classes named in a list of facts."""
_RATES = ("precision", "recall", "specificity", "f1")


def build_report(
    settings: RunSettings,
    model: Model,
    metrics: Mapping[str, Metrics | ClassMetrics],
    intervals: Mapping[str, Mapping[str, Interval]],
    scores: Mapping[str, SplitScores],
    *,
    history: Sequence[Mapping[str, float | None]],
    about: Mapping[str, Any],
    deviation: NDArray[np.float64],
    inference: WaldStatistics | None,
    why_no_inference: str,
    notes: Iterable[str] = (),
) -> Report:
    """Everything that a run's page and pictures show.

    Args:
        settings, model: of the run.
        metrics, intervals, scores: by split; logits are [N], or [N, K] with class numbers for K > 2 classes.
        history: as `flashlogit.report.plots.draw_run` takes it.
        about: what metrics.json says about the run.
        deviation: [D], the columns' standard deviations in the user's units.
        inference, why_no_inference: standard errors, or why there are none.
        notes: sentences on the data.
    """
    names, threshold, bins = model.label_names, settings.report.threshold, settings.report.calibration_bins
    headline = next((name for name in ("test", "validation") if name in metrics), "train")
    several = len(names) > 2
    shown = np.arange(2)
    confusions: tuple[ClassConfusion, ...] = ()
    if several:
        counts = np.bincount(np.asarray(scores["train"].y).astype(np.int64), minlength=len(names))
        shown = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES]).astype(np.int64)
        others = f"{len(names) - len(shown)} other classes"
        confusions = tuple(confuse(name, split, names, shown, others) for name, split in scores.items())
        questions = tuple(_against_the_rest(int(k), names, scores, threshold, bins) for k in shown)
    else:
        stops = threshold_stops(scores.values())
        decisions = tuple(
            decide(
                name, split, threshold=threshold, bins=bins, metrics=_two_class(metrics[name]), stops=stops
            )
            for name, split in scores.items()
        )
        questions = (Question(names[1], names[0], decisions),)
    proven = bool(about.get("converged")) and about.get("certificate") == "gap"
    said = tuple(about.get("notes", ()))
    warned = "solver" in about and not about.get("converged")
    return Report(
        title=settings.name,
        headline=headline,
        statement=about.get("statement") or _epochs(about),
        proven=proven,
        verdict=_verdict(about, proven=proven),
        warnings=said if warned else (),
        notes=tuple(notes) + (() if warned else said),
        facts=_facts(settings, about, metrics, model),
        settings=dump_settings(settings),
        metrics={
            name: _values(of_split.to_json(), intervals.get(name, {})) for name, of_split in metrics.items()
        },
        interval_method=CLASS_METHOD if several else METHOD,
        history=history_chart(
            history,
            tolerance=settings.solver.tolerance if settings.solver else None,
            proven=about.get("certificate") == "gap",
        ),
        questions=questions,
        classes=len(names),
        shown_classes=len(shown),
        confusions=confusions,
        coefficients=rank_coefficients(model, deviation, inference, why_no_inference),
        category=_category(model),
    )


def rates_at(decision: Decision, at: int | None = None) -> dict[str, float | None]:
    """Precision, recall, specificity and F1 at a threshold's place, the run's by default; None for 0 / 0."""
    at = decision.at if at is None else at
    tp, fp = float(decision.true_positive[at]), float(decision.false_positive[at])
    P, N = decision.positives, decision.negatives
    quotients = ((tp, tp + fp), (tp, P), (N - fp, N), (2 * tp, tp + fp + P))
    return {name: a / b if b > 0 else None for name, (a, b) in zip(_RATES, quotients, strict=True)}


def _two_class(metrics: Metrics | ClassMetrics) -> Metrics | None:
    return metrics if isinstance(metrics, Metrics) else None


def _against_the_rest(
    k: int, names: tuple[str, ...], scores: Mapping[str, SplitScores], threshold: float, bins: int
) -> Question:
    decisions = tuple(
        decide(
            name,
            SplitScores(split.rest.logits(k), (split.y == k).astype(np.uint8), split.sample_weight),
            threshold=threshold,
            bins=bins,
            points=CURVE_POINTS // 2,
        )
        for name, split in scores.items()
    )
    return Question(names[k], "all other classes", decisions)


def _category(model: Model) -> str | None:
    columns = () if model.encoding is None else model.encoding.columns
    return next((column.features[0] for column in columns if isinstance(column, CategoryColumn)), None)


def _values(values: Mapping[str, float | None], intervals: Mapping[str, Interval]) -> dict[str, MetricValue]:
    return {name: MetricValue(value, intervals.get(name)) for name, value in values.items()}


def _verdict(about: Mapping[str, Any], *, proven: bool) -> str:
    """The badge beside the statement."""
    if proven:
        return "✓ certified"
    separation = about.get("separation")
    if separation is not None:
        return "classes may be separated" if separation == "suspected" else "classes are separated"
    if about.get("converged"):
        return "converged, no proof possible"
    return "not converged" if "solver" in about else "not certified"


def _epochs(about: Mapping[str, Any]) -> str:
    epochs, kept = about.get("epochs"), about.get("kept_epoch")
    if epochs is None:
        return ""
    return (
        f"trained by mini-batches for {plural(epochs, 'epoch')}, weights of epoch {kept:,} kept;"
        " such training comes near the optimum and proves nothing about its distance"
    )


def plural(count: int, what: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    """Names for a sentence, the first ones of many; each apart from the direction of the others."""
    few = [isolated(name) for name in names[:_LISTED]]
    more = len(names) - len(few)
    return ", ".join(few) + (f" and {more:,} more" if more else "")


def _facts(
    settings: RunSettings,
    about: Mapping[str, Any],
    metrics: Mapping[str, Metrics | ClassMetrics],
    model: Model,
) -> tuple[tuple[str, str], ...]:
    """Short facts about the run for a list of terms."""
    rows = ", ".join(f"{of_split.rows:,} {name}" for name, of_split in metrics.items())
    facts = [("Rows", rows), ("Columns", f"{len(model.feature_names):,}")]
    names = model.label_names
    facts.append(
        ("Positive class", names[1]) if len(names) == 2 else ("Classes", f"{len(names)}: {_listed(names)}")
    )
    loss = settings.loss
    facts.append(("Penalty", f"l1 = {loss.l1:g}, l2 = {loss.l2:g}" if loss.l1 or loss.l2 else "none"))
    if "solver" in about:
        facts.append(("Solver", f"{about['solver']}, {plural(about['iterations'], 'iteration')}"))
        facts.append(("Objective", f"{about['objective']:.6g} nats"))
        what = "Duality gap" if about["certificate"] == "gap" else "Half squared Newton decrement"
        facts.append((what, f"{about['gap']:.2g} nats, {about['relative_gap']:.2g} of the null model's"))
        facts.append(("Tolerance", f"{about['tolerance']:.2g} of the null model's objective"))
        facts.append(("Time", f"{about['seconds']:.3g} s, {about['passes']:.1f} passes over the data"))
    elif "epochs" in about:
        facts.append(("Epochs", f"{about['epochs']:,}, weights of epoch {about['kept_epoch']:,} kept"))
    if "device" in about:
        machine = about.get("gpu") or plural(about.get("threads", 1), "CPU thread")
        facts.append(("Computed on", f"{about['device']} ({machine}), {about.get('backend', '')}"))
    if "flashlogit" in about:
        facts.append(("Versions", f"flashlogit {about['flashlogit']}, torch {about.get('torch', '')}"))
    facts.append(("Seed", str(settings.seed)))
    return tuple(facts)
