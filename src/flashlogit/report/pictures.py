"""The page's charts as PNG, for slides and papers: drawn from the same report, so that they show the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flashlogit.atomic import write_atomically
from flashlogit.plots import OTHER_STYLE, STYLES
from flashlogit.report.amounts import amount
from flashlogit.report.charts import COUNTS_LOG_FROM, digits
from flashlogit.report.content import Curve, Decision, Question, Report
from flashlogit.report.decisions import HISTOGRAM_BINS

DPI = 150
_SIZE = (6.4, 4.8)
_NEGATIVE, _POSITIVE = "#0072B2", "#D55E00"
_GREY = "#7f7f7f"
_NAME_CHARACTERS = 28


def write_pictures(report: Report, folder: Path) -> None:
    """Write every chart of the report as `<name>.png`; each appears whole or not at all.

    For K > 2 classes the curves are those of each class against the rest in the headline split.
    """
    folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        figure = Figure(figsize=_SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(report, figure.add_subplot())
        write_atomically(folder / name, partial(figure.savefig, format="png"))


def _training(report: Report, axes: Axes) -> None:
    history = report.history
    if history is None:
        _nothing(axes, "Training", "nothing was recorded")
        return
    _title(axes, history.title, history.x_label, history.y_label)
    for line in history.lines:
        style = STYLES[line.role]
        axes.plot(line.curve.x, line.curve.y, c=style.color, ls=style.line, label=line.name)
    if history.log:
        axes.set_yscale("log")
    if history.tolerance is not None:
        axes.axhline(
            history.tolerance, color=_GREY, ls="--", lw=1, label=f"tolerance {digits(history.tolerance)}"
        )
    _legend(axes)


def _roc(report: Report, axes: Axes) -> None:
    _title(axes, "ROC", "false positive rate", "true positive rate (recall)")
    axes.axline((0, 0), slope=1, color=_GREY, lw=0.8)
    for question, decision in _curves(report):
        _curve(axes, decision.roc, report, question, decision, f"AUC {digits(decision.roc_auc)}")
    _unit_square(axes)


def _precision_recall(report: Report, axes: Axes) -> None:
    _title(axes, "Precision and recall", "recall", "precision")
    for question, decision in _curves(report):
        area = f"AP {digits(decision.average_precision)}"
        _curve(axes, decision.precision_recall, report, question, decision, area)
    _unit_square(axes)


def _calibration(report: Report, axes: Axes) -> None:
    _title(axes, "Calibration", "predicted probability", "observed rate")
    counts = axes.twinx()
    # Counts lie behind the curve.
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.axline((0, 0), slope=1, color=_GREY, lw=0.8)
    headline = [decision for _, decision in _curves(report) if decision.split == report.headline]
    rows = np.zeros(headline[0].bins)
    for decision in headline:
        rows[decision.calibration.bin] += decision.calibration.rows
    edges = np.linspace(0, 1, len(rows) + 1)
    counts.stairs(rows, edges, fill=True, color="#d9d9d9")
    counts.set(yscale="log", ylim=(0.5, max(10.0, rows.max()) ** 2))
    counts.set_ylabel(f"rows in bin, {report.headline}")
    for question, decision in _curves(report):
        curve = decision.calibration
        points = Curve(curve.mean_probability, curve.observed_rate)
        _curve(axes, points, report, question, decision, f"error {digits(curve.error, 3)}", marker=True)
    _unit_square(axes)


def _scores(report: Report, axes: Axes) -> None:
    _title(axes, f"Scores by class, {report.headline} rows", "predicted probability", "rows")
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    headline = [(q, d) for q, d in _curves(report) if d.split == report.headline]
    if len(headline) == 1:
        question, decision = headline[0]
        negative, positive = _named(question.negative), _named(question.positive)
        axes.stairs(decision.negative_rows, edges, fill=True, color=_NEGATIVE, alpha=0.3, label=negative)
        axes.stairs(decision.positive_rows, edges, color=_POSITIVE, lw=1.8, hatch="//", label=positive)
        axes.axvline(decision.thresholds[decision.at], color="black", lw=1)
    else:
        for i, (question, decision) in enumerate(headline):
            axes.stairs(decision.positive_rows, edges, color=f"C{i % 10}", label=_named(question.positive))
        axes.set_xlabel("predicted probability of the own class")
    most = max(int(max(d.positive_rows.max(), d.negative_rows.max())) for _, d in headline)
    if most > COUNTS_LOG_FROM:
        axes.set(yscale="log", ylabel="rows (logarithmic)", ylim=(0.5, 1.5 * most))
    else:
        axes.set_ylim(bottom=0)
    _legend(axes)


def _confusion(report: Report, axes: Axes) -> None:
    if report.confusions:
        shown = next(one for one in report.confusions if one.split == report.headline)
        weight, labels, whole = shown.weight, shown.labels, shown.whole
        title = f"Confusion matrix, {report.headline} rows"
    else:
        question = report.questions[0]
        one = next(d for d in question.decisions if d.split == report.headline)
        tp, fp = one.true_positive[one.at], one.false_positive[one.at]
        weight = np.array([[one.negatives - fp, fp], [one.positives - tp, tp]])
        labels, whole = (question.negative, question.positive), one.whole
        title = f"Confusion matrix, {report.headline} rows, threshold {one.thresholds[one.at]:.4g}"
    _title(axes, title, "called", "is")
    axes.grid(False)
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [_named(label) for label in labels]
    k = len(names)
    axes.set_xticks(range(k), names, rotation=45 if k > 2 else 0, ha="right" if k > 2 else "center")
    axes.set_yticks(range(k), names)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    for i in range(k):
        for j in range(k):
            color = "white" if share[i, j] > 0.5 else "black"
            count = amount(weight[i, j], whole=whole)
            axes.text(j, i, count, ha="center", va="center", color=color, fontsize=14 if k == 2 else 7)


def _coefficients(report: Report, axes: Axes) -> None:
    rows = report.coefficients.largest[::-1]
    if not rows:
        _nothing(axes, "Largest coefficients", "the model has no columns")
        return
    _title(axes, "Largest coefficients", "change of the logit per standard deviation", "")
    values = np.array([row.per_deviation for row in rows], dtype=np.float64)
    places = np.arange(len(rows))
    axes.barh(places, values, color=np.where(values > 0, _POSITIVE, _NEGATIVE))
    names = [_named(row.column if row.label is None else f"{row.column} → {row.label}") for row in rows]
    axes.set_yticks(places, names, fontsize="small")
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.axvline(0, color="black", lw=0.8)


PICTURES: dict[str, Callable[[Report, Axes], None]] = {
    "training.png": _training,
    "roc.png": _roc,
    "precision_recall.png": _precision_recall,
    "calibration.png": _calibration,
    "scores.png": _scores,
    "confusion.png": _confusion,
    "coefficients.png": _coefficients,
}
"""Name of each file, and what draws it."""


def _curves(report: Report) -> list[tuple[Question, Decision]]:
    """What is drawn: all splits of two classes, or the headline split of every class."""
    return [
        (question, decision)
        for question in report.questions
        for decision in question.decisions
        if len(report.questions) == 1 or decision.split == report.headline
    ]


def _curve(
    axes: Axes,
    curve: Curve | None,
    report: Report,
    question: Question,
    decision: Decision,
    words: str,
    *,
    marker: bool = False,
) -> None:
    several = len(report.questions) > 1
    name = _named(question.positive) if several else decision.split
    if curve is None:
        axes.plot([], [], " ", label=f"{name}: one class only, no curve")
        return
    style = STYLES.get(decision.split, OTHER_STYLE)
    number = report.questions.index(question)
    color = f"C{number % 10}" if several else style.color
    line = ("solid", "dashed", "dotted", "dashdot")[number % 4] if several else style.line
    axes.plot(
        curve.x,
        curve.y,
        c=color,
        ls=line,
        marker=style.marker if marker else "",
        mfc="none",
        label=f"{name}: {words}",
    )


def _named(name: str) -> str:
    """A user's name at a length that leaves room for the picture."""
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"


def _title(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Below the picture where it can cover no curve."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure()
    if labels and figure is not None:
        legend = figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(3, len(labels)),
            fontsize="small",
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _nothing(axes: Axes, title: str, words: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
