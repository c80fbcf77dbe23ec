"""The picture of a report: the share of the read ceiling that each contender reaches, over the column count.

Drawn with matplotlib's object interface on an Agg canvas: no display, no pyplot, no global setting touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..system.files import write_atomically
from .machine import name_of
from .report import Record, Report
from .table import title_of

DPI = 120
_PANEL_INCHES = (8.2, 5.2)
_LEGEND_INCHES_A_LINE = 0.24
_LEGEND_COLUMNS = 2
_PANELS_A_ROW = 2


@dataclass(frozen=True)
class _Style:
    color: str
    line: str
    marker: str
    width: float


# Okabe and Ito's palette, whose colours stay apart for colour-blind readers: a colour for who computes, a line for
# what is computed.
_COLORS = {
    "flashlogit": "#0072B2",
    "flashlogit, float64": "#56B4E9",
    "flashlogit, rows padded": "#009E73",
    "torch eager": "#D55E00",
    "torch autograd": "#E69F00",
    "torch.compile": "#CC79A7",
}
_OTHER_COLOR = "#555555"
_LINES = {"onepass": ("solid", "o"), "hessian_product": ("dashed", "s"), "hessian": ("dotted", "^")}
_OTHER_LINE = ("dashdot", "D")


def plot_report(report: Report, path: Path) -> None:
    """Write the picture of `draw_report` as a PNG, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    figure = draw_report(report)
    write_atomically(path, lambda unfinished: figure.savefig(unfinished, format="png"))


def draw_report(report: Report) -> Figure:
    """A panel for every device and dtype, a line for every contender, and crosses where an answer was wrong."""
    drawn = [r for r in report.results if r.fraction is not None]
    groups = list(dict.fromkeys((r.device, r.dtype) for r in drawn)) or [("", "")]
    titles = list(dict.fromkeys(title_of(r) for r in drawn))
    columns = min(_PANELS_A_ROW, len(groups))
    rows = -(-len(groups) // columns)
    legend_lines = -(-(len(titles) + 2) // (_LEGEND_COLUMNS * columns))
    height = rows * _PANEL_INCHES[1] + 0.8 + legend_lines * _LEGEND_INCHES_A_LINE
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    devices = dict.fromkeys(device for device, _ in groups if device)
    machines = "; ".join(name_of(report.machine, device) for device in devices)
    figure.suptitle(f"{machines or 'nothing was measured'}\n{report.date[:10]}", parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(panels.flat):
        if i >= len(groups):
            axes.set_axis_off()
            continue
        device, dtype = groups[i]
        _draw_panel(axes, [r for r in drawn if (r.device, r.dtype) == groups[i]])
        axes.set_title(f"{device}, {dtype}")
    _draw_legend(figure, drawn, titles, _LEGEND_COLUMNS * columns)
    return figure


def _draw_panel(axes: Axes, records: Sequence[Record]) -> None:
    top = max([1.0, *(r.fraction or 0.0 for r in records if r.status == "ok")])
    for title in dict.fromkeys(title_of(r) for r in records):
        line = sorted((r for r in records if title_of(r) == title), key=lambda r: r.d)
        style = _style(line[0])
        wrong = [r for r in line if r.status != "ok"]
        axes.plot(
            [r.d for r in line],
            # NaN interrupts the line where an answer was wrong.
            [r.fraction or 0.0 if r.status == "ok" else math.nan for r in line],
            color=style.color,
            ls=style.line,
            marker=style.marker,
            lw=style.width,
            ms=5,
        )
        # A wrong answer may be a fast one: its cross stays within the panel.
        heights = [min(r.fraction or 0.0, 1.05 * top) for r in wrong]
        axes.plot([r.d for r in wrong], heights, "x", color=style.color, ms=9, mew=2, zorder=4)
    axes.axhline(1.0, color="black", lw=1)
    D = sorted({r.d for r in records}) or [1]
    axes.set_xscale("log", base=2)
    axes.set_xlim(D[0] / 1.3, D[-1] * 1.3)
    axes.set_ylim(0, 1.08 * top)
    ticks = [4**k for k in range(11) if D[0] / 1.3 <= 4**k <= D[-1] * 1.3]
    axes.xaxis.set_major_locator(FixedLocator(ticks or D))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="columns D", ylabel="share of the measured read ceiling")
    axes.grid(alpha=0.3)


def _draw_legend(figure: Figure, drawn: Sequence[Record], titles: Sequence[str], columns: int) -> None:
    """One for all panels, below them, where it covers no line."""
    first = {title: next(r for r in drawn if title_of(r) == title) for title in titles}
    handles = []
    for title, record in first.items():
        style = _style(record)
        handles.append(
            Line2D([], [], color=style.color, ls=style.line, marker=style.marker, lw=style.width, label=title)
        )
    handles.append(Line2D([], [], color="black", lw=1, label="ceiling: sum over as many bytes"))
    if any(r.status == "incorrect" for r in drawn):
        handles.append(Line2D([], [], color="black", ls="", marker="x", mew=2, label="wrong answer"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        frameon=False,
        handlelength=3.5,
    )


def _style(record: Record) -> _Style:
    who = record.contender.replace("flashlogit reference", "flashlogit")
    if record.arithmetic == "float64" != record.dtype:
        who += ", float64"
    line, marker = _LINES.get(record.pass_name, _OTHER_LINE)
    return _Style(_COLORS.get(who, _OTHER_COLOR), line, marker, 2.0 if record.ours else 1.3)
