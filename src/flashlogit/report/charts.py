"""The page's charts: what each draws, says and lists as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from .content import Coefficients, Curve, HistoryChart, Question
from .decisions import HISTOGRAM_BINS
from .names import isolated, plain, shortened, shortened_pair
from .svg import Panel, Scale, chart, number, room

Legend = tuple[tuple[str, str, str], ...]
"""Style, name, and words about it, which may be none. They are kept apart: a name may run from right to left."""
COUNTS_LOG_FROM = 200
"""Rows in a bin from which a linear axis would hide the small bins."""
_TABLE_POINTS = 11
_MARKED_POINTS = 30
_LABEL_CHARACTERS = 20


@dataclass(frozen=True)
class Figure:
    """A chart with its legend and the same numbers as a table."""

    title: str
    note: str
    svg: Markup
    legend: Legend
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: bool = False
    """Whether the lines have markers."""


def digits(value: float | None, places: int = 4) -> str:
    """A number with some significant digits, or a dash."""
    return "–" if value is None else number(float(f"{value:.{places}g}"))


def history_figure(history: HistoryChart) -> Figure:
    """Loss or gap."""
    x = np.concatenate([line.curve.x for line in history.lines])
    y = np.concatenate([line.curve.y for line in history.lines])
    if history.tolerance is not None:
        y = np.append(y, history.tolerance)
    low, high = float(y.min()), float(y.max())
    margin = 0.06 * (high - low)
    vertical = Scale.decades(low, high) if history.log else Scale.linear(max(low - margin, 0), high + margin)
    panel = Panel(
        Scale.linear(float(x.min()), float(x.max()), whole=True),
        vertical,
        history.x_label,
        history.y_label,
        left=room(vertical),
    )
    marked = all(len(line.curve.x) <= _MARKED_POINTS for line in history.lines)
    legend = [(line.role, line.name, "") for line in history.lines]
    if history.tolerance is not None:
        panel.rule(history.tolerance)
        legend.append(("guide", "tolerance", number(history.tolerance)))
    for line in history.lines:
        panel.line(line.curve.x, line.curve.y, line.role)
        if marked:
            panel.points(line.curve.x, line.curve.y, line.role, [3.0] * len(line.curve.x))
    ends = "; ".join(f"{line.name} ends at {digits(float(line.curve.y[-1]))}" for line in history.lines)
    rows = tuple(
        (line.name, digits(float(line.curve.x[i])), digits(float(line.curve.y[i])))
        for line in history.lines
        for i in _some(len(line.curve.x))
    )
    svg = chart(
        "history", history.title, f"{history.y_label} over {history.x_label}: {ends}.", [panel.markup()]
    )
    heads = ("", history.x_label.capitalize(), history.y_label.capitalize())
    return Figure(history.title, "", svg, tuple(legend), heads, rows, marked)


def roc_figure(question: Question, identity: str) -> Figure:
    """True positive rate over false positive rate of every split."""
    panel = Panel(
        Scale.linear(0, 1), Scale.linear(0, 1), "false positive rate", "true positive rate (recall)"
    )
    panel.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "guide")
    legend = _curves(panel, question, "roc", "roc_auc", "AUC")
    return Figure(
        "ROC curve",
        "",
        chart(identity, f"ROC curve of {isolated(question.positive)}", _spoken(legend), [panel.markup()]),
        legend,
        ("", "False positive rate", "True positive rate"),
        _curve_rows(question, "roc"),
    )


def precision_recall_figure(question: Question, identity: str) -> Figure:
    """Precision over recall of every split."""
    panel = Panel(Scale.linear(0, 1), Scale.linear(0, 1), "recall", "precision")
    legend = _curves(panel, question, "precision_recall", "average_precision", "average precision")
    return Figure(
        "Precision and recall",
        "",
        chart(
            identity,
            f"Precision over recall of {isolated(question.positive)}",
            _spoken(legend),
            [panel.markup()],
        ),
        legend,
        ("", "Recall", "Precision"),
        _curve_rows(question, "precision_recall"),
    )


def calibration_figure(question: Question, identity: str) -> Figure:
    """Observed rate over predicted probability, and below it the rows of every bin."""
    most = max(int(decision.calibration.rows.max()) for decision in question.decisions)
    unit, rows_scale = Scale.linear(0, 1), Scale.counts(most, 4)
    left = room(unit, rows_scale)
    rates = Panel(unit, unit, y_label="observed rate", left=left, height=180, x_ticks=False)
    counts = Panel(
        unit,
        rows_scale,
        "predicted probability",
        "rows (log)",
        left=left,
        top=204,
        height=66,
    )
    rates.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "guide")
    rows = []
    for decision in question.decisions:
        curve = decision.calibration
        rates.line(curve.mean_probability, curve.observed_rate, decision.split)
        size = np.sqrt(curve.share) * 5 + 2
        rates.points(curve.mean_probability, curve.observed_rate, decision.split, size.tolist())
        in_bin = np.zeros(decision.bins)
        in_bin[curve.bin] = curve.rows
        counts.stairs(np.linspace(0, 1, decision.bins + 1), in_bin, f"outline {decision.split}")
        rows += [
            (
                decision.split,
                f"{number(k / decision.bins)}–{number((k + 1) / decision.bins)}",
                digits(float(p)),
                digits(float(rate)),
                f"{int(n):,}",
            )
            for k, p, rate, n in zip(
                curve.bin.tolist(), curve.mean_probability, curve.observed_rate, curve.rows, strict=True
            )
        ]
    legend = tuple(
        (decision.split, decision.split, f"expected error {digits(decision.calibration.error, 3)}")
        for decision in question.decisions
    )
    return Figure(
        "Calibration",
        "On the diagonal, probabilities are what happens. Larger markers: more weight; below: rows per bin.",
        chart(
            identity,
            f"Calibration of {isolated(question.positive)}",
            _spoken(legend),
            [rates.markup(), counts.markup()],
            height=314,
        ),
        legend,
        ("", "Probability", "Mean probability", "Observed rate", "Rows"),
        tuple(rows),
        marked=True,
    )


def scores_figure(question: Question, split: str, identity: str, *, threshold: bool) -> Figure:
    """How many rows of each class have which probability, in one split; with a line at the threshold, if asked for."""
    decision = next(one for one in question.decisions if one.split == split)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    most = int(max(decision.negative_rows.max(), decision.positive_rows.max(), 1))
    log = most > COUNTS_LOG_FROM
    counts = Scale.counts(most, 6) if log else Scale.linear(0, most * 1.05, whole=True)
    panel = Panel(
        Scale.linear(0, 1),
        counts,
        f"predicted probability of “{isolated(_short(question.positive))}”",
        "rows (logarithmic)" if log else "rows",
        left=room(counts),
    )
    panel.stairs(edges, decision.negative_rows.astype(np.float64), "negative")
    panel.stairs(edges, decision.positive_rows.astype(np.float64), "positive")
    if threshold:
        place = panel.left + panel.width * float(decision.thresholds[decision.at])
        panel.marks.append(
            f'<line class="threshold" data-left="{panel.left:g}" data-width="{panel.width:g}" x1="{place:.1f}"'
            f' x2="{place:.1f}" y1="{panel.top:g}" y2="{panel.top + panel.height:g}"/>'
        )
    legend = (
        ("negative", question.negative, f"{int(decision.negative_rows.sum()):,} rows"),
        ("positive", question.positive, f"{int(decision.positive_rows.sum()):,} rows"),
    )
    # A pattern beside the colour: shapes that cross stay apart without it.
    defs = (
        f'<defs><pattern id="{identity}-hatch" width="5" height="5" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><line class="hatch" y2="5"/></pattern></defs>'
    )
    markup = panel.markup().replace(
        'class="stairs positive"', f'class="stairs positive" style="fill:url(#{identity}-hatch)"'
    )
    rows = tuple(
        (f"{number(edges[i])}–{number(edges[i + 1])}", f"{int(a):,}", f"{int(b):,}")
        for i, (a, b) in enumerate(zip(decision.negative_rows, decision.positive_rows, strict=True))
        if a or b
    )
    return Figure(
        f"Scores by class, {split} rows",
        "The upright line is the threshold." if threshold else "",
        chart(identity, f"Scores by class, {split} rows", _spoken(legend), [markup], defs=defs),
        legend,
        ("Probability", question.negative, question.positive),
        rows,
    )


def coefficients_figure(coefficients: Coefficients) -> Figure | None:
    """The largest coefficients for a standard deviation more of the column, as bars from 0."""
    rows = coefficients.largest
    if not rows:
        return None
    values = np.array([row.per_deviation for row in rows], dtype=np.float64)
    reach = float(np.abs(values).max()) or 1.0
    row_height, top, left, width = 19.0, 8.0, 148.0, 200.0
    zero, unit = left + width / 2, width / 2 / (reach * 1.04)
    height = top + row_height * len(rows)
    # Ticks of one side, mirrored: of both sides at once, a reach just below a round number would have 0 alone.
    side = Scale.linear(0, reach * 1.04, 3).ticks
    parts = []
    for tick in (*(-tick for tick in side[:0:-1]), *side):
        a = zero + tick * unit
        parts.append(f'<line class="grid" x1="{a:.1f}" x2="{a:.1f}" y1="{top:g}" y2="{height:g}"/>')
        parts.append(
            f'<text class="tick" x="{a:.1f}" y="{height + 15:g}" text-anchor="middle">{number(tick)}</text>'
        )
    for i, row in enumerate(rows):
        value = float(values[i])
        y = top + i * row_height
        column, label = row.column, row.label
        name = isolated(column) if label is None else f"{isolated(column)} → {isolated(label)}"
        short = (
            isolated(_short(column))
            if label is None
            else " → ".join(map(isolated, shortened_pair(plain(column), plain(label), _LABEL_CHARACTERS - 1)))
        )
        style = "positive" if value > 0 else "negative"
        parts.append(
            f'<text class="tick column" x="{left - 6:g}" y="{y + 13.5:g}" text-anchor="end">{escape(short)}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="bar {style}" x="{min(zero, zero + value * unit):.1f}" y="{y + 4:g}"'
            f' width="{abs(value) * unit:.1f}" height="{row_height - 7:g}"/>'
        )
    parts.append(f'<line class="axis" x1="{zero:g}" x2="{zero:g}" y1="{top:g}" y2="{height:g}"/>')
    middle = left + width / 2
    parts.append(
        f'<text class="label" x="{middle:g}" y="{height + 33:g}" text-anchor="middle">'
        "logit per standard deviation</text>"
    )
    strongest = isolated(rows[0].column)
    return Figure(
        "Largest coefficients",
        "",
        chart(
            "coefficients-chart",
            "Largest coefficients",
            f"Bars from 0, the largest first: {strongest} changes the logit by {digits(float(values[0]))}"
            " for a standard deviation more. The table lists all.",
            parts,
            height=height + 42,
        ),
        (),
        (),
        (),
    )


def _curves(panel: Panel, question: Question, curve: str, area: str, word: str) -> Legend:
    legend = []
    for decision in question.decisions:
        points: Curve | None = getattr(decision, curve)
        if points is None:
            legend.append((decision.split, decision.split, "one class only, no curve"))
            continue
        panel.line(points.x, points.y, decision.split)
        legend.append((decision.split, decision.split, f"{word} {digits(getattr(decision, area))}"))
    return tuple(legend)


def _curve_rows(question: Question, curve: str) -> tuple[tuple[str, ...], ...]:
    rows = []
    for decision in question.decisions:
        points: Curve | None = getattr(decision, curve)
        if points is not None:
            rows += [
                (decision.split, digits(float(points.x[i])), digits(float(points.y[i])))
                for i in _some(len(points.x))
            ]
    return tuple(rows)


def _some(count: int) -> NDArray[np.int64]:
    kept: NDArray[np.int64] = np.unique(np.linspace(0, count - 1, min(count, _TABLE_POINTS)).astype(np.int64))
    return kept


def _spoken(legend: Legend) -> str:
    return (
        "; ".join(f"{isolated(name)}: {words}" for _, name, words in legend)
        + ". The table below has the numbers."
    )


def _short(name: str, most: int = _LABEL_CHARACTERS) -> str:
    return shortened(plain(name), most)
