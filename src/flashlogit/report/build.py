"""A report from what a finished run has in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..config.load import dump_settings
from ..config.settings import RunSettings
from ..data.columns.encoding import CategoryColumn
from ..metrics.evaluation import ClassMetrics, Metrics
from ..metrics.intervals import Interval
from ..metrics.null_model import Reference
from ..metrics.scores import SplitScores
from ..models.model import Model
from .caveats import caveats
from .charts import HistoryRows, history_chart
from .coefficients import rank_coefficients
from .content import Report, RunSummary, SolverSummary
from .decisions import CURVE_POINTS, Question, confuse, decide, threshold_stops, worst_rows
from .grid import GridReport
from .importance import features_by_column
from .text import digits, in_order, isolated, metric, plural

if TYPE_CHECKING:
    from ..fitting.inference import Inference

MAX_CLASSES = 20
"""Classes with curves of their own and rows in the confusion matrix: the most frequent ones."""

_LISTED = 10
"""Classes named in a list of facts."""


def build_report(
    settings: RunSettings,
    model: Model,
    metrics: Mapping[str, Metrics | ClassMetrics],
    intervals: Mapping[str, Mapping[str, Interval]],
    scores: Mapping[str, SplitScores],
    *,
    references: Mapping[str, Reference],
    history: HistoryRows,
    summary: RunSummary,
    deviation: NDArray[np.float64],
    contribution: NDArray[np.float64],
    inference: Inference | None,
    why_no_inference: str,
    grid: GridReport | None = None,
    numbers: Mapping[str, NDArray[np.int64]] | None = None,
    notes: Iterable[str] = (),
    warnings: Iterable[str] = (),
    provenance: Iterable[tuple[str, str]] = (),
) -> Report:
    """Return everything that a run's page and pictures show.

    Args:
        settings, model: of the run.
        metrics, intervals, scores: by split; logits are [N], or [N, K] with class numbers for K > 2 classes.
        references: what the null model reaches, by split.
        history: as `flashlogit.report.charts.history_chart` takes it.
        summary: what metrics.json says about the run.
        deviation: [D], the columns' standard deviations in the user's units.
        contribution: [C], as `flashlogit.report.importance.contribution_deviation` returns it.
        inference, why_no_inference: standard errors, or why there are none.
        grid: what the penalty was chosen from, if it was.
        numbers: [N] by split, the rows' numbers in their file, where they are known.
        notes: sentences on the data.
        warnings: sentences on why the numbers may mislead, shown at the top with those that are found here.
        provenance: terms and texts that the model card has beside its own, such as the data's hash.
    """
    names, order = model.label_names, in_order(scores)
    headline = order[0]
    scores = {name: scores[name] for name in order}

    def ask(positive: str, negative: str, splits: Iterable[tuple[str, SplitScores]], **options: Any) -> Question:
        asked = {"threshold": settings.report.threshold, "bins": settings.report.calibration_bins, **options}
        decided = (decide(name, split, **asked, recalibrated=name == headline) for name, split in splits)
        return Question(positive, negative, tuple(decided))

    if len(names) > 2:
        counts = np.bincount(scores["train"].y, minlength=len(names))
        shown = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES]).astype(np.int64)
        others = f"{len(names) - len(shown)} other classes"
        confusions = tuple(confuse(name, split, names, shown, others) for name, split in scores.items())
        questions = []
        for k in shown.tolist():
            against = ((name, split.against_the_rest(k)) for name, split in scores.items())
            questions.append(ask(names[k], "all other classes", against, points=CURVE_POINTS // 2))
    else:
        confusions = ()
        questions = [ask(names[1], names[0], scores.items(), stops=threshold_stops(scores.values()))]
    encoded = () if model.encoding is None else model.encoding.columns
    measured, split = {name: metrics[name].to_json() for name in order}, scores[headline]
    weighted = settings.loss.class_weight is not None
    found = caveats(headline, split, names, measured[headline], intervals[headline], questions, class_weight=weighted)
    number = (numbers or {}).get(headline)
    return Report(
        title=settings.name,
        headline=headline,
        learned=summary.learned,
        warnings=(*warnings, *found),
        notes=tuple(notes),
        card=tuple({**dict(_card(settings, summary, model, references, measured, grid)), **dict(provenance)}.items()),
        facts=_facts(settings, summary),
        settings=dump_settings(settings),
        metrics=measured,
        references=references,
        intervals=intervals,
        history=history_chart(history, summary.learned),
        grid=grid,
        questions=tuple(questions),
        labels=names,
        confusions=confusions,
        coefficients=rank_coefficients(model, deviation, contribution, inference, why_no_inference),
        category=next(
            (name for column in encoded if isinstance(column, CategoryColumn) for name in column.features), None
        ),
        worst=None if number is None else worst_rows(split, number, names, settings.report.threshold),
    )


def _card(
    settings: RunSettings,
    summary: RunSummary,
    model: Model,
    references: Mapping[str, Reference],
    metrics: Mapping[str, Mapping[str, float | None]],
    grid: GridReport | None,
) -> Iterable[tuple[str, str]]:
    """Yield what the model predicts, from what, and how it was penalised."""
    names, loss, label = model.label_names, settings.loss, getattr(settings.data, "label", None)
    if label is not None:
        yield "Label", isolated(str(label.column))
    if len(names) == 2:
        yield "Positive class", f"{isolated(names[1])}, against {isolated(names[0])}"
        rates = (f"{metric(float(references[name].shares[1]))} {name}" for name in metrics)
        yield "Base rate", ", ".join(rates)
    else:
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        yield "Classes", f"{len(names)}: {', '.join(map(isolated, names[:_LISTED]))}{more}"
    yield "Rows", ", ".join(f"{of_split['rows']:,} {name}" for name, of_split in metrics.items())
    columns, features = len(features_by_column(model)), len(model.feature_names)
    yield "Columns", f"{columns:,}" + (f", from which {features:,} features are made" if features > columns else "")
    penalty = f"l1 = {loss.l1:g}, l2 = {loss.l2:g}" if loss.l1 or loss.l2 else "none"
    yield "Penalty", penalty if grid is None else f"{grid.parts}, chosen of {len(grid.penalty):,}"
    if len(names) == 2:
        yield "Threshold", f"{settings.report.threshold:.4g}"
    yield "Versions", f"flashlogit {summary.flashlogit}, torch {summary.torch}"


def _facts(settings: RunSettings, summary: RunSummary) -> tuple[tuple[str, str], ...]:
    """Return short facts about how the model was learned for a list of terms."""
    learned, facts = summary.learned, []
    if isinstance(learned, SolverSummary):
        what = "Duality gap" if learned.certificate == "gap" else "Half squared Newton decrement"
        facts += [
            ("Solver", f"{learned.solver}, {plural(learned.iterations, 'iteration')}"),
            ("Objective", f"{learned.objective:.6g} nats"),
            (what, f"{digits(learned.gap, 2)} nats, {digits(learned.relative_gap, 2)} of the null model’s"),
            ("Tolerance", f"{digits(learned.tolerance, 2)} of the null model’s objective"),
            ("Time", f"{learned.seconds:.3g} s, {learned.passes:.1f} passes over the data"),
        ]
    else:
        facts.append(("Epochs", f"{learned.epochs:,}, weights of epoch {learned.kept_epoch:,} kept"))
    machine = summary.gpu or plural(summary.threads, "CPU thread")
    return (*facts, ("Computed on", f"{summary.device} ({machine}), {summary.backend}"), ("Seed", str(settings.seed)))
