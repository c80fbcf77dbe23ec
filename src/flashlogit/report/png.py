"""The report's charts as PNG, for slides and papers.

Drawn with matplotlib's object interface: no display, no pyplot, no global setting touched.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..system.files import write_atomically
from . import GRID_PICTURES, PICTURES, charts
from .content import Axis, Chart, Panel, Report, Series
from .text import amount, joined, number, shortened

DPI = 150
_SIZE = (6.4, 4.8)
_NAME_CHARACTERS = 28
_LEGEND_LINE, _CHARACTER = 0.19, 0.06
"""Inches of a line of the legend, and of a character in it."""
_LABEL_SHARE = 0.048
"""Share of the axes' height that the label of a line takes."""
_MANY_CLASSES = 6
_CELL = 0.45
"""Least inches of a cell of the confusion matrix."""
_GREY, _NEGATIVE, _POSITIVE = "#7f7f7f", "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Style:
    """How a series is drawn."""

    color: str
    line: Any = "solid"
    marker: str = "o"
    width: float = 1.8
    fill: Mapping[str, Any] = field(default_factory=lambda: {"fill": False})

    @property
    def stairs(self) -> dict[str, Any]:
        """Options of a histogram's patch."""
        return {"color": self.color, "ls": self.line, "lw": 1.2, **self.fill}


# Okabe and Ito's palette, whose colours stay apart for colour-blind readers; lines and markers differ too.
STYLES = {
    "train": Style("#0072B2"),
    "validation": Style("#D55E00", (0, (5, 2)), "s"),
    "test": Style("#009E73", (0, (1.5, 1.5)), "^"),
    "negative": Style(_NEGATIVE, fill={"fill": True, "alpha": 0.3}),
    "positive": Style(_POSITIVE, fill={"fill": False, "hatch": "///"}),
    "guide": Style(_GREY, "dashed", width=1),
    "threshold": Style("black", width=1),
    "best": Style("black", marker="*"),
}
_LINES = ("solid", "dashed", "dotted", "dashdot")
for _place, _color in enumerate(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B")):
    STYLES |= {f"path-{_place} dash-{k}": Style(_color, line, width=1.4) for k, line in enumerate(_LINES)}


def _style(name: str) -> Style:
    """Return the style of a series; classes have the ten colours of matplotlib's cycle, with another line the second
    time."""
    if name.startswith("class "):
        k = int(name.removeprefix("class "))
        return Style(f"C{k % 10}", _LINES[k % 4])
    return STYLES.get(name, Style("#CC79A7", (0, (5, 1.5, 1, 1.5)), "D"))


_CURVES = {
    "roc.png": charts.roc_chart,
    "precision_recall.png": charts.precision_recall_chart,
    "gain.png": charts.gain_chart,
    "calibration.png": charts.calibration_chart,
}


def write_pictures(report: Report, folder: Path) -> None:
    """Write every chart of the report as `<name>.png`; each appears whole or not at all.

    For K > 2 classes the curves are those of each class against the rest in the headline split.
    """
    folder.mkdir(exist_ok=True)
    for name in PICTURES if report.grid is None else (*PICTURES, *GRID_PICTURES):
        _write(draw_picture(report, name), folder / name)


def draw_picture(report: Report, name: str) -> Figure:
    """Return one of `PICTURES`, or of `GRID_PICTURES` of a run that has a grid, as a figure."""
    figure = Figure(figsize=_SIZE, dpi=DPI, layout="constrained")
    if name == "confusion.png":
        _draw_confusion(report, figure)
    else:
        figure.set_size_inches(_SIZE[0], _SIZE[1] + _draw(_chart(report, name), figure))
    return figure


def _draw_confusion(report: Report, figure: Figure) -> None:
    """Draw weight by class and decision, on a figure of the size that its counts need."""
    title, question = f"Confusion matrix, {report.headline} rows", report.questions[0]
    if report.confusions:
        shown = next(one for one in report.confusions if one.split == report.headline)
        weight, labels, whole = shown.weight, shown.labels, shown.whole
    else:
        one = question.headline(report.headline)
        title += f", threshold {one.thresholds[one.at]:.4g}"
        weight, whole = one.counts().reshape(2, 2).T, one.whole
        labels = (question.negative, question.positive)
    axes, k = figure.add_subplot(), len(labels)
    axes.set(title=title, xlabel="called", ylabel="is")
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    counts = [[amount(count, whole=whole) for count in row] for row in weight.tolist()]
    longest = max(len(count) for row in counts for count in row)
    names = [textwrap.fill(shortened(label, _NAME_CHARACTERS), 16 if k == 2 else _NAME_CHARACTERS) for label in labels]
    cell = max(_CELL, 0.065 * longest, 3.0 / k)
    figure.set_size_inches(max(_SIZE[0], cell * k + 2.6), max(_SIZE[1], cell * k + (2.4 if k > 2 else 1.6)))
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if k > 2 else {}
    axes.set_xticks(range(k), names, parse_math=False, **turned)
    axes.set_yticks(range(k), names, parse_math=False)
    size = min(14.0 if k == 2 else 10.0, 72 * 0.88 * cell / (0.62 * longest))
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            color = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, count, ha="center", va="center", color=color, fontsize=size)


def _chart(report: Report, name: str) -> Chart | None:
    """Return the chart in a file; its curves are those of all splits, or for K > 2 classes of each in the headline
    split."""
    several = bool(report.confusions)
    if name in _CURVES:
        subject = charts.by_class(report) if several else charts.by_split(report.questions[0])
        chart, of = _CURVES[name](subject, ""), f", {report.headline} rows, each class against the rest"
        return replace(chart, title=chart.title + of) if several else chart
    if name == "scores.png":
        if several:
            return charts.class_scores_chart(report)
        return charts.scores_chart(report.questions[0], report.headline, threshold=True)
    if report.grid is not None and name in GRID_PICTURES:
        return charts.penalty_chart(report.grid) if name == "penalty.png" else charts.path_chart(report.grid)
    return report.history if name == "training.png" else charts.coefficients_chart(report.coefficients)


def _draw(chart: Chart | None, figure: Figure) -> float:
    """Draw a chart on a figure; return the inches of height that its legend needs more."""
    if chart is None:
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing to draw", ha="center", va="center", transform=axes.transAxes)
        return 0.0
    heights = [panel.height for panel in chart.panels]
    every = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    every[0].set_title(chart.title, parse_math=False, fontsize="medium" if len(chart.title) > 40 else "large")
    for axes, panel in zip(every, chart.panels, strict=True):
        _draw_panel(axes, panel)
        axes.set_ylabel(panel.y.label)
        _label_lines(axes, panel)
    every[-1].set_xlabel(chart.panels[-1].x.label)
    return _legend(chart, figure, every[0])


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    _scale(axes, "x", panel.x)
    _scale(axes, "y", panel.y)
    for series in panel.series:
        if len(series.x):
            _draw_series(axes, panel, series)
    if panel.bars:
        values = np.array([bar.value for bar in panel.bars])
        places = np.arange(len(values))
        warm = np.array([bar.signed and bar.value > 0 for bar in panel.bars])
        axes.barh(places, values, color=np.where(warm, _POSITIVE, _NEGATIVE))
        axes.set_yticks(
            places, [joined(bar.names, _NAME_CHARACTERS) for bar in panel.bars], fontsize="small", parse_math=False
        )
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.axvline(0, color="black", lw=0.8)


def _label_lines(axes: Axes, panel: Panel) -> None:
    """Write the names of lines that have some left of the axes, and put its numbers at the right."""
    places = panel.label_places(_LABEL_SHARE)
    if places:
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
    for series, place in places:
        axes.annotate(
            joined(series.label, _NAME_CHARACTERS),
            xy=(float(series.x[0]), float(series.y[0])),
            xytext=(-0.03, place),
            textcoords="axes fraction",
            ha="right",
            va="center",
            fontsize="small",
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (1, 0.5), "shrinkA": 0, "shrinkB": 0, "lw": 0.8}
            | {"color": _style(series.style).color},
        )


def _scale(axes: Axes, name: Literal["x", "y"], axis: Axis) -> None:
    """Set the chart's own ticks, and leave a little room beyond its ends."""
    if axis.log:
        room = (axis.high / axis.low) ** 0.02
        axes.set(**{f"{name}scale": "log", f"{name}lim": (axis.low / room, axis.high * room)})
    else:
        room = 0.02 * (axis.high - axis.low)
        axes.set(**{f"{name}lim": (axis.low - room, axis.high + room)})
    getattr(axes, f"set_{name}ticks")(axis.ticks, [number(tick) for tick in axis.ticks])
    axes.tick_params(axis=name, which="minor", length=0)


def _draw_series(axes: Axes, panel: Panel, series: Series) -> None:
    style = _style(series.style)
    y = np.maximum(series.y, panel.y.low)
    if series.kind == "stairs":
        axes.stairs(y, series.x, baseline=panel.y.low, **style.stairs)
        return
    if series.kind == "line":
        axes.plot(series.x, y, c=style.color, ls=style.line, lw=style.width)
    if series.error is not None:
        low, high = series.ends
        axes.vlines(series.x, np.maximum(low, panel.y.low), high, style.color, lw=1)
    if series.size is not None:  # hollow, so that splits that agree do not hide each other
        face = "#F0E442" if series.style == "best" else "none"
        area = (2 * series.size) ** 2
        axes.scatter(series.x, y, area, marker=style.marker, fc=face, ec=style.color, clip_on=False, zorder=3)


def _legend(chart: Chart, figure: Figure, axes: Axes) -> float:
    """Put it below the picture, where it can cover no curve."""
    many = len(chart.legend) > _MANY_CLASSES
    handles, labels = [], []
    for series in chart.legend:
        style = _style(series.style)
        if series.kind == "stairs":
            handle: Any = Patch(**style.stairs)
        else:
            line = style.line if series.kind == "line" else "none"
            marker = "" if series.size is None else style.marker
            (handle,) = axes.plot([], [], c=style.color, ls=line, marker=marker, mfc="none")
        handles.append(handle)
        name = shortened(series.name, 24 if many else _NAME_CHARACTERS)
        # Two columns have room for the last two words of many, such as "error 0.01".
        words = " ".join(series.words.split()[-2:]) if many else series.words
        labels.append(f"{name}: {words}" if words else name)
    if not labels:
        return 0.0
    longest = max(map(len, labels)) * _CHARACTER + 0.5
    columns = min(3, len(labels), max(1, int(_SIZE[0] / longest)))
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _LEGEND_LINE * (-(-len(labels) // columns) - 1)


def _write(figure: Figure, path: Path) -> None:
    """Write a figure; it appears whole or not at all.

    A name in a script that matplotlib's own font lacks becomes boxes. Nobody can mend that by a warning on the
    terminal for each of its characters; the page has the name.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        write_atomically(path, lambda unfinished: figure.savefig(unfinished, format="png"))
