"""A report from what a finished run has in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..config.load import dump_settings
from ..config.settings import RunSettings
from ..data.columns.encoding import CategoryColumn
from ..fitting.inference import Inference
from ..metrics.binary import Metrics
from ..metrics.intervals import Interval
from ..metrics.multiclass import ClassMetrics
from ..metrics.scores import SplitScores
from ..models.model import Model
from .charts import HistoryRows, history_chart
from .coefficients import rank_coefficients
from .content import ClassConfusion, Question, Report
from .decisions import CURVE_POINTS, confuse, decide, threshold_stops
from .names import isolated
from .summary import EpochSummary, RunSummary, SolverSummary

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
    notes: Iterable[str] = (),
) -> Report:
    """Everything that a run's page and pictures show.

    Args:
        settings, model: of the run.
        metrics, intervals, scores: by split; logits are [N], or [N, K] with class numbers for K > 2 classes.
        history: as `flashlogit.report.charts.history_chart` takes it.
        summary: what metrics.json says about the run.
        deviation: [D], the columns' standard deviations in the user's units.
        inference, why_no_inference: standard errors, or why there are none.
        notes: sentences on the data.
    """
    names, threshold, bins = model.label_names, settings.report.threshold, settings.report.calibration_bins
    shown = np.arange(2)
    confusions: tuple[ClassConfusion, ...] = ()
    if len(names) > 2:
        counts = np.bincount(np.asarray(scores["train"].y).astype(np.int64), minlength=len(names))
        shown = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES]).astype(np.int64)
        others = f"{len(names) - len(shown)} other classes"
        confusions = tuple(confuse(name, split, names, shown, others) for name, split in scores.items())
        questions = tuple(_against_the_rest(int(k), names, scores, threshold, bins) for k in shown)
    else:
        stops = threshold_stops(scores.values())
        decisions = tuple(
            decide(name, split, threshold=threshold, bins=bins, stops=stops) for name, split in scores.items()
        )
        questions = (Question(names[1], names[0], decisions),)
    learned = summary.learned
    solved = learned if isinstance(learned, SolverSummary) else None
    said = solved.notes if solved else ()
    warned = solved is not None and not solved.converged
    return Report(
        title=settings.name,
        headline=next((name for name in ("test", "validation") if name in metrics), "train"),
        statement=solved.statement if solved else _epochs(cast(EpochSummary, learned)),
        proven=solved is not None and solved.proven,
        verdict=_verdict(solved),
        warnings=said if warned else (),
        notes=(*notes, *(() if warned else said)),
        facts=_facts(settings, summary, metrics, model),
        settings=dump_settings(settings),
        metrics={name: of_split.to_json() for name, of_split in metrics.items()},
        intervals=intervals,
        history=history_chart(
            history,
            tolerance=settings.solver.tolerance if settings.solver else None,
            proven=solved is not None and solved.certificate == "gap",
        ),
        questions=questions,
        classes=len(names),
        shown_classes=len(shown),
        confusions=confusions,
        coefficients=rank_coefficients(model, deviation, inference, why_no_inference),
        category=_category(model),
    )


def _against_the_rest(
    k: int, names: tuple[str, ...], scores: Mapping[str, SplitScores], threshold: float, bins: int
) -> Question:
    decisions = tuple(
        decide(name, split.against_the_rest(k), threshold=threshold, bins=bins, points=CURVE_POINTS // 2)
        for name, split in scores.items()
    )
    return Question(names[k], "all other classes", decisions)


def _category(model: Model) -> str | None:
    columns = () if model.encoding is None else model.encoding.columns
    return next((column.features[0] for column in columns if isinstance(column, CategoryColumn)), None)


def _verdict(solved: SolverSummary | None) -> str:
    """The badge beside the statement."""
    if solved is None:
        return "not certified"
    if solved.proven:
        return "✓ certified"
    if solved.separation is not None:
        return f"classes {'may be' if solved.separation == 'suspected' else 'are'} separated"
    return "converged, no proof possible" if solved.converged else "not converged"


def _epochs(learned: EpochSummary) -> str:
    return (
        f"trained by mini-batches for {plural(learned.epochs, 'epoch')}, weights of epoch {learned.kept_epoch:,} kept;"
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
    summary: RunSummary,
    metrics: Mapping[str, Metrics | ClassMetrics],
    model: Model,
) -> tuple[tuple[str, str], ...]:
    """Short facts about the run for a list of terms."""
    names, loss, learned = model.label_names, settings.loss, summary.learned
    facts = [
        ("Rows", ", ".join(f"{of_split.rows:,} {name}" for name, of_split in metrics.items())),
        ("Columns", f"{len(model.feature_names):,}"),
        ("Positive class", names[1]) if len(names) == 2 else ("Classes", f"{len(names)}: {_listed(names)}"),
        ("Penalty", f"l1 = {loss.l1:g}, l2 = {loss.l2:g}" if loss.l1 or loss.l2 else "none"),
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
