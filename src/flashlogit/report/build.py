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
from ..metrics.scores import SplitScores
from ..models.model import Model
from .charts import HistoryRows, history_chart
from .coefficients import rank_coefficients
from .content import Report, RunSummary, SolverSummary
from .decisions import CURVE_POINTS, Question, confuse, decide, threshold_stops
from .grid import GridReport
from .text import isolated, plural

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
    history: HistoryRows,
    summary: RunSummary,
    deviation: NDArray[np.float64],
    inference: Inference | None,
    why_no_inference: str,
    grid: GridReport | None = None,
    notes: Iterable[str] = (),
) -> Report:
    """Return everything that a run's page and pictures show.

    Args:
        settings, model: of the run.
        metrics, intervals, scores: by split; logits are [N], or [N, K] with class numbers for K > 2 classes.
        history: as `flashlogit.report.charts.history_chart` takes it.
        summary: what metrics.json says about the run.
        deviation: [D], the columns' standard deviations in the user's units.
        inference, why_no_inference: standard errors, or why there are none.
        grid: what the penalty was chosen from, if it was.
        notes: sentences on the data.
    """
    names = model.label_names

    def ask(positive: str, negative: str, splits: Iterable[tuple[str, SplitScores]], **options: Any) -> Question:
        asked = {"threshold": settings.report.threshold, "bins": settings.report.calibration_bins, **options}
        return Question(positive, negative, tuple(decide(name, split, **asked) for name, split in splits))

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
    return Report(
        title=settings.name,
        headline=next((name for name in ("test", "validation") if name in metrics), "train"),
        learned=summary.learned,
        notes=tuple(notes),
        facts=_facts(settings, summary, metrics, model, grid),
        settings=dump_settings(settings),
        metrics={name: of_split.to_json() for name, of_split in metrics.items()},
        intervals=intervals,
        history=history_chart(history, summary.learned),
        grid=grid,
        questions=tuple(questions),
        classes=len(names),
        confusions=confusions,
        coefficients=rank_coefficients(model, deviation, inference, why_no_inference),
        category=next(
            (name for column in encoded if isinstance(column, CategoryColumn) for name in column.features), None
        ),
    )


def _facts(
    settings: RunSettings,
    summary: RunSummary,
    metrics: Mapping[str, Metrics | ClassMetrics],
    model: Model,
    grid: GridReport | None,
) -> tuple[tuple[str, str], ...]:
    """Return short facts about the run for a list of terms."""
    names, loss, learned = model.label_names, settings.loss, summary.learned
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    listed = ", ".join(map(isolated, names[:_LISTED])) + more
    penalty = f"l1 = {loss.l1:g}, l2 = {loss.l2:g}" if loss.l1 or loss.l2 else "none"
    penalty = penalty if grid is None else f"{grid.parts}, chosen of {len(grid.penalty):,}"
    facts = [
        ("Rows", ", ".join(f"{of_split.rows:,} {name}" for name, of_split in metrics.items())),
        ("Columns", f"{len(model.feature_names):,}"),
        ("Positive class", names[1]) if len(names) == 2 else ("Classes", f"{len(names)}: {listed}"),
        ("Penalty", penalty),
    ]
    if isinstance(learned, SolverSummary):
        what = "Duality gap" if learned.certificate == "gap" else "Half squared Newton decrement"
        facts += [
            ("Solver", f"{learned.solver}, {plural(learned.iterations, 'iteration')}"),
            ("Objective", f"{learned.objective:.6g} nats"),
            (what, f"{learned.gap:.2g} nats, {learned.relative_gap:.2g} of the null model's"),
            ("Tolerance", f"{learned.tolerance:.2g} of the null model's objective"),
            ("Time", f"{learned.seconds:.3g} s, {learned.passes:.1f} passes over the data"),
        ]
    else:
        facts.append(("Epochs", f"{learned.epochs:,}, weights of epoch {learned.kept_epoch:,} kept"))
    machine = summary.gpu or plural(summary.threads, "CPU thread")
    return (
        *facts,
        ("Computed on", f"{summary.device} ({machine}), {summary.backend}"),
        ("Versions", f"flashlogit {summary.flashlogit}, torch {summary.torch}"),
        ("Seed", str(settings.seed)),
    )
