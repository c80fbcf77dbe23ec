"""The picture of a run of `fit`: the relative gap that each contender reaches, over the time that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ..system.files import write_atomically
from .fit_report import ContenderRecord, FitReport, ProblemRecord, RungRecord
from .machine import name_of

DPI = 120
_PANEL_INCHES = (7.6, 5.4)
_PANELS_A_ROW = 2
_LEGEND_INCHES_A_LINE = 0.22
_LEGEND_COLUMNS = 2
_FLOOR, _TOP = 1e-16, 1.5
"""Smaller gaps are drawn at the floor: float64 does not tell them apart."""

# Okabe and Ito's palette, with greys for what it has no colour left for: a colour for each family.
_COLORS = {
    "flashlogit": "#0072B2",
    "scikit-learn": "#D55E00",
    "scikit-learn-intelex": "#E69F00",
    "glum": "#009E73",
    "cyanure": "#CC79A7",
    "torch": "#56B4E9",
    "JAX": "#7F7F7F",
    "cuML": "#000000",
}
_OTHER_COLOR = "#B8A200"
_MARKERS = "os^vDPX*"
_LINES = {"cuda": "solid", "cpu": "dashed"}


@dataclass(frozen=True)
class _Style:
    color: str
    marker: str
    line: str
    width: float
    alpha: float


def plot_fit_report(report: FitReport, path: Path) -> None:
    """Write the picture of `draw_fit_report` as a PNG, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    figure = draw_fit_report(report)
    write_atomically(path, lambda unfinished: figure.savefig(unfinished, format="png"))


def draw_fit_report(report: FitReport) -> Figure:
    """A panel for every problem, and a curve for every contender: the best gap that it reaches within a time."""
    styles = _styles(report)
    columns = max(1, min(_PANELS_A_ROW, len(report.problems)))
    rows = max(1, -(-len(report.problems) // columns))
    legend_lines = -(-(len(styles) + 1) // (_LEGEND_COLUMNS * columns))
    height = rows * _PANEL_INCHES[1] + 0.8 + legend_lines * _LEGEND_INCHES_A_LINE
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    machines = "; ".join(name_of(report.machine, device) for device in report.settings["devices"])
    figure.suptitle(f"{machines}\n{report.date[:10]}", parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(panels.flat):
        if i < len(report.problems):
            _draw_panel(axes, report.problems[i], styles, report.settings["gap"])
        else:
            axes.set_axis_off()
    _draw_legend(figure, styles, _LEGEND_COLUMNS * columns)
    return figure


def frontier(rungs: Sequence[RungRecord]) -> list[tuple[float, float]]:
    """(milliseconds, gap) of the settings that no quicker one equals, with ever smaller gaps."""
    found: list[tuple[float, float]] = []
    for rung in sorted((r for r in rungs if r.gap is not None), key=lambda r: (r.ms, r.gap)):
        gap = max(rung.gap or 0.0, _FLOOR)
        if not found or gap < found[-1][1]:
            found.append((rung.ms, gap))
    return found


def _draw_panel(axes: Axes, problem: ProblemRecord, styles: dict[str, _Style], gap: float) -> None:
    for contender in problem.contenders:
        points = frontier(contender.rungs)
        if not points:
            continue
        style = styles[contender.label]
        axes.plot(
            *zip(*points, strict=True),
            color=style.color,
            ls=style.line,
            marker=style.marker,
            lw=style.width,
            alpha=style.alpha,
            ms=5,
            zorder=3 if contender.ours else 2,
        )
        best = contender.best
        if best is not None and best.gap is not None and contender.status == "ok":
            height = max(best.gap, _FLOOR)
            axes.plot([best.ms], [height], "o", ms=11, mfc="none", mec=style.color, mew=1.5, zorder=4)
    axes.axhline(gap, color="black", lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR / 2, _TOP)
    axes.set(xlabel="milliseconds", ylabel="relative gap (P - P*) / P(intercept alone)")
    axes.set_title(f"{problem.name}: {problem.n:,} x {problem.d}, C = {problem.C:g}", parse_math=False)
    axes.grid(alpha=0.3)


def _draw_legend(figure: Figure, styles: dict[str, _Style], columns: int) -> None:
    """One for all panels, below them, where it covers no curve."""
    handles = [
        Line2D(
            [], [], color=s.color, ls=s.line, marker=s.marker, lw=s.width, alpha=s.alpha, ms=5, label=label
        )
        for label, s in styles.items()
    ]
    handles.append(
        Line2D([], [], color="black", lw=1, label="gap asked for; rings: settings that are compared")
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        frameon=False,
        handlelength=3.5,
    )


def _styles(report: FitReport) -> dict[str, _Style]:
    """By label: a colour for each family, a marker for each of its solvers, a line for each device."""
    drawn: dict[str, ContenderRecord] = {}
    for problem in report.problems:
        drawn |= {c.label: c for c in problem.contenders if c.rungs}
    markers: dict[str, dict[str, str]] = {}
    found = {}
    for label, contender in drawn.items():
        family = markers.setdefault(contender.family, {})
        marker = family.setdefault(contender.name, _MARKERS[len(family) % len(_MARKERS)])
        headline = contender.name == "flashlogit"
        found[label] = _Style(
            _COLORS.get(contender.family, _OTHER_COLOR),
            marker,
            _LINES.get(contender.device, "dotted"),
            2.6 if headline else 1.2,
            1.0 if headline or not contender.ours else 0.6,
        )
    return found
