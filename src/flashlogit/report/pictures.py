"""The page's charts as PNG, for slides and papers: drawn from the same report, so that they show the same numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from .amounts import amount
from .charts import COUNTS_LOG_FROM, digits
from .content import Curve, Decision, Question, Report
from .decisions import HISTOGRAM_BINS
from .names import plain, shortened, shortened_pair
from .plots import OTHER_STYLE, STYLES, write_png

DPI = 150
_SIZE = (6.4, 4.8)
_NEGATIVE, _POSITIVE = "#0072B2", "#D55E00"
_GREY = "#7f7f7f"
_NAME_CHARACTERS = 28
_LEGEND_LINE = 0.19
_CHARACTER = 0.066
"""Inches of a line of the legend, and of a character in it."""
_MANY_CLASSES = 6
_CELL = 0.45
"""Least inches of a cell of the confusion matrix."""


def write_pictures(report: Report, folder: Path) -> None:
    """Write every chart of the report as `<name>.png`; each appears whole or not at all.

    For K > 2 classes the curves are those of each class against the rest in the headline split.
    """
    folder.mkdir(exist_ok=True)
    for name in PICTURES:
        write_png(draw_picture(report, name), folder / name)


def draw_picture(report: Report, name: str) -> Figure:
    """One of `PICTURES`."""
    figure = Figure(figsize=_SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    PICTURES[name](report, figure.add_subplot())
    return figure


def _training(report: Report, axes: Axes) -> None:
    history = report.history
    if history is None:
        _nothing(axes, "Training", "nothing was recorded")
        return
    _title(axes, history.title, history.x_label, history.y_label)
    for line in history.lines:
        style = STYLES[line.role]
        axes.plot(line.curve.x, line.curve.y, c=style.color, ls=style.line, label=line.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if history.log:
        axes.set_yscale("log")
    if history.tolerance is not None:
        axes.axhline(
            history.tolerance, color=_GREY, ls="--", lw=1, label=f"tolerance {digits(history.tolerance)}"
        )
    _legend(axes)


def _roc(report: Report, axes: Axes) -> None:
    _title(axes, _of_classes("ROC", report), "false positive rate", "true positive rate (recall)")
    axes.axline((0, 0), slope=1, color=_GREY, lw=0.8)
    for question, decision in _curves(report):
        _curve(axes, decision.roc, report, question, decision, f"AUC {digits(decision.roc_auc)}")
    _unit_square(axes)


def _precision_recall(report: Report, axes: Axes) -> None:
    _title(axes, _of_classes("Precision and recall", report), "recall", "precision")
    for question, decision in _curves(report):
        area = f"AP {digits(decision.average_precision)}"
        _curve(axes, decision.precision_recall, report, question, decision, area)
    _unit_square(axes)


def _calibration(report: Report, axes: Axes) -> None:
    _title(axes, _of_classes("Calibration", report), "predicted probability", "observed rate")
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
    most = max(10.0, rows.max())
    # The counts take the lower half; above them the axis has nothing to count.
    counts.set(yscale="log", ylim=(0.5, most**2))
    ticks = [tick for tick in LogLocator(numticks=6).tick_values(1, most) if 1 <= tick <= most]
    counts.yaxis.set_major_locator(FixedLocator(ticks))
    counts.yaxis.set_minor_locator(FixedLocator([]))
    several = len(report.questions) > 1
    counts.set_ylabel(f"{'class decisions' if several else 'rows'} in bin, {report.headline}", loc="bottom")
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
            axes.stairs(
                decision.positive_rows, edges, color=f"C{i % 10}", label=_class_named(question, report)
            )
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
    counts = [[amount(count, whole=whole) for count in of_row] for of_row in weight.tolist()]
    k, longest = len(labels), max(len(count) for of_row in counts for count in of_row)
    names = [_named(label) if k > 2 else textwrap.fill(_named(label), 16) for label in labels]
    cell = max(_CELL, 0.065 * longest, 3.0 / k)
    _enlarge(axes, cell * k + 2.6, cell * k + (2.4 if k > 2 else 1.6))
    axes.set_xticks(range(k), names, rotation=45 if k > 2 else 0, ha="right" if k > 2 else "center")
    if k > 2:
        axes.tick_params(axis="x", pad=2)
        for text in axes.get_xticklabels():
            text.set_rotation_mode("anchor")
    axes.set_yticks(range(k), names)
    size = min(14.0 if k == 2 else 10.0, 72 * 0.88 * cell / (0.62 * longest))
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    for i in range(k):
        for j in range(k):
            color = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, counts[i][j], ha="center", va="center", color=color, fontsize=size)


def _coefficients(report: Report, axes: Axes) -> None:
    rows = report.coefficients.largest[::-1]
    if not rows:
        _nothing(axes, "Largest coefficients", "the model has no columns")
        return
    _title(axes, "Largest coefficients", "change of the logit per standard deviation", "")
    values = np.array([row.per_deviation for row in rows], dtype=np.float64)
    places = np.arange(len(rows))
    axes.set_axisbelow(True)
    axes.barh(places, values, color=np.where(values > 0, _POSITIVE, _NEGATIVE))
    names = [
        _named(row.column)
        if row.label is None
        else " → ".join(shortened_pair(plain(row.column), plain(row.label), _NAME_CHARACTERS))
        for row in rows
    ]
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
    name = _class_named(question, report) if several else decision.split
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


def _named(name: str, most: int = _NAME_CHARACTERS) -> str:
    """A user's name at a length that leaves room for the picture."""
    return shortened(plain(name), most)


def _class_named(question: Question, report: Report) -> str:
    """A class in a legend; of many, at a length of which two columns fit."""
    many = len(report.questions) > _MANY_CLASSES
    return _named(question.positive, 24 if many else _NAME_CHARACTERS)


def _of_classes(title: str, report: Report) -> str:
    """A title of curves, which of K > 2 classes are those of one split."""
    if len(report.questions) == 1:
        return title
    return f"{title}, {report.headline} rows, each class against the rest"


def _enlarge(axes: Axes, width: float, height: float) -> None:
    """Make the picture at least so many inches wide and high."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.set_size_inches(max(_SIZE[0], width), max(_SIZE[1], height))


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
        longest = max(len(label) for label in labels) * _CHARACTER + 0.5
        columns = min(3, len(labels), max(1, int(_SIZE[0] / longest)))
        _enlarge(axes, _SIZE[0], _SIZE[1] + _LEGEND_LINE * (-(-len(labels) // columns) - 1))
        legend = figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            fontsize="small",
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _nothing(axes: Axes, title: str, words: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
