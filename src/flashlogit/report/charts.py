"""The charts of a report: what each draws, says and lists as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .chart import Axis, Bar, Chart, Panel, Series, digits, number
from .content import Coefficients, Curve, Decision, Question, Report
from .decisions import HISTOGRAM_BINS
from .names import isolated, plain, shortened, shortened_all

_COUNTS_LOG_FROM = 200
"""Rows in a bin from which a linear axis would hide the small bins."""
_TABLE_POINTS = 11
_MARKED_POINTS = 30
"""Points of a curve up to which each gets a marker."""
_LABEL_CHARACTERS = 20
_HISTORY_POINTS = 400
_WIDE = 50.0
"""Ratio of the largest to the smallest value from which a linear axis hides the end of a curve."""
_SMALLEST, _LARGEST = 1e-100, 1e100
"""Values drawn as they are; logarithmic axes overflow near the ends of float64."""

Subject = Sequence[tuple[str, str, Decision]]
"""Decisions whose curves one chart compares, each with its name and its style."""
_DIAGONAL = Series("guide", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
HistoryRows = Sequence[Mapping[str, float | None]]


def by_split(question: Question) -> Subject:
    """The question's decision in each split."""
    return [(decision.split, decision.split, decision) for decision in question.decisions]


def by_class(report: Report) -> Subject:
    """Each class's decision against the rest in the headline split."""
    return [(q.positive, f"class {k}", q.headline(report.headline)) for k, q in enumerate(report.questions)]


def history_chart(history: HistoryRows, *, tolerance: float | None, proven: bool) -> Chart | None:
    """Loss over epochs, or a solver's gap over its iterations; None where nothing can be drawn.

    Args:
        history: one mapping per epoch with `epoch`, `train_loss` and, where there is one, `validation_loss`; or one per
            iteration of a solver with `iteration` and `relative_gap`. What is None, NaN or above 1e100 is left out.
        tolerance: of a solver, on its relative gap.
        proven: whether that is a duality gap; without a penalty it is half the squared Newton decrement.
    """
    if history and "relative_gap" in history[-1]:
        title = "Duality gap" if proven else "Half the squared Newton decrement"
        x_label, y_label = "iteration", "share of the null objective"
        found = {"estimated": _recorded(history, "iteration", "relative_gap", above=0.0)}
        styles = {"estimated": "train"}
    else:
        title, x_label, y_label = "Loss", "epoch", "mean loss (nats)"
        found = {
            split: _recorded(history, "epoch", f"{split}_loss", above=-1.0)
            for split in ("train", "validation")
        }
        styles = {split: split for split in found}
    curves = {name: curve for name, curve in found.items() if len(curve.x)}
    if not curves:
        return None
    series = [_history_line(name, styles[name], curve) for name, curve in curves.items()]
    if "validation" in curves:
        x, y = curves["validation"].x, curves["validation"].y
        best = [int(np.argmin(y))]
        words = f"{digits(float(y[best[0]]))}, epoch {x[best[0]]:g}"
        series.append(
            Series("best", x[best], y[best], "points", np.array([4.5]), "lowest validation loss", words)
        )
    x, y = (np.concatenate([getattr(curve, of) for curve in curves.values()]) for of in ("x", "y"))
    log = True
    if "estimated" in curves:
        if tolerance is not None:
            y = np.append(y, tolerance)
            ends = np.array([x.min(), x.max()])
            series.append(
                Series("guide", ends, np.full(2, tolerance), name="tolerance", words=number(tolerance))
            )
    else:
        log = bool((y > 0).any() and y.max() > _WIDE * y[y > 0].min())
    low, high = float(y.min()), float(y.max())
    margin = 0.06 * (high - low)
    vertical = (
        Axis.decades(y_label, float(y[y > 0].min()), high)
        if log
        else Axis.linear(y_label, max(low - margin, 0), high + margin)
    )
    ends_at = "; ".join(f"{name} ends at {digits(float(curve.y[-1]))}" for name, curve in curves.items())
    return Chart(
        title,
        title,
        f"{y_label} over {x_label}: {ends_at}.",
        (Panel(Axis.linear(x_label, float(x.min()), float(x.max()), whole=True), vertical, tuple(series)),),
        heads=("", x_label.capitalize(), y_label.capitalize()),
        rows=_table((name, curve) for name, curve in curves.items()),
    )


def _history_line(name: str, style: str, curve: Curve) -> Series:
    """The curve, with the extremes of each stretch of a long one, so that no peak is lost; markers on a short one."""
    kept = np.arange(len(curve.x))
    if len(kept) > _HISTORY_POINTS:
        starts = np.linspace(0, len(kept), _HISTORY_POINTS // 2).astype(np.int64)
        extremes = [a + f(curve.y[a:b]) for a, b in pairwise(starts) for f in (np.argmin, np.argmax)]
        kept = np.unique([0, *extremes, len(kept) - 1])
    size = np.full(len(kept), 3.0) if len(kept) <= _MARKED_POINTS else None
    words = f"{digits(float(curve.y[-1]))} at the end" if name == "estimated" else ""
    return Series(style, curve.x[kept], curve.y[kept], size=size, name=name, words=words)


def _recorded(history: HistoryRows, x: str, y: str, *, above: float) -> Curve:
    # None becomes NaN in a float array, and a comparison with NaN is false.
    pairs = np.array([(row[x], row.get(y)) for row in history], dtype=np.float64).reshape(-1, 2)
    pairs = pairs[(pairs[:, 1] > above) & (pairs[:, 1] <= _LARGEST)]
    return Curve(pairs[:, 0], np.where(pairs[:, 1] < _SMALLEST, 0.0, pairs[:, 1]))


def roc_chart(subject: Subject, positive: str) -> Chart:
    """True positive rate over false positive rate."""
    curves = [(name, style, one.roc, f"AUC {digits(one.roc_auc)}") for name, style, one in subject]
    axes = ("false positive rate", "true positive rate (recall)")
    return _unit_chart("ROC curve", f"ROC curve of {isolated(positive)}", axes, curves, (_DIAGONAL,))


def precision_recall_chart(subject: Subject, positive: str) -> Chart:
    """Precision over recall."""
    curves = [
        (name, style, one.precision_recall, f"average precision {digits(one.average_precision)}")
        for name, style, one in subject
    ]
    title = f"Precision over recall of {isolated(positive)}"
    return _unit_chart("Precision and recall", title, ("recall", "precision"), curves, ())


def _unit_chart(
    title: str,
    subject: str,
    axes: tuple[str, str],
    curves: Sequence[tuple[str, str, Curve | None, str]],
    first: tuple[Series, ...],
) -> Chart:
    nothing = Curve(np.empty(0), np.empty(0))
    series = [
        Series(style, curve.x, curve.y, name=name, words=words)
        if curve is not None
        else Series(style, nothing.x, nothing.y, name=name, words="one class only, no curve")
        for name, style, curve, words in curves
    ]
    x, y = (Axis.linear(label, 0, 1) for label in axes)
    return Chart(
        title,
        subject,
        _spoken(series),
        (Panel(x, y, (*first, *series)),),
        heads=("", *(label.partition(" (")[0].capitalize() for label in axes)),
        rows=_table((name, curve) for name, _, curve, _ in curves if curve is not None),
    )


def calibration_chart(subject: Subject, positive: str) -> Chart:
    """Observed rate over predicted probability, and below it the rows of every bin."""
    most = max(int(decision.calibration.rows.max()) for _, _, decision in subject)
    probability = Axis.linear("predicted probability", 0, 1)
    rates, counts, rows = [_DIAGONAL], [], []
    for name, style, decision in subject:
        curve, bins = decision.calibration, decision.bins
        words = f"expected error {digits(curve.error, 3)}"
        size = np.sqrt(curve.share) * 5 + 2
        rates.append(Series(style, curve.mean_probability, curve.observed_rate, "line", size, name, words))
        in_bin = np.zeros(bins)
        in_bin[curve.bin] = curve.rows
        counts.append(Series(style, np.linspace(0, 1, bins + 1), in_bin, "stairs"))
        columns = zip(
            curve.bin.tolist(), curve.mean_probability, curve.observed_rate, curve.rows, strict=True
        )
        rows += [
            (name, f"{number(k / bins)}–{number((k + 1) / bins)}", digits(p), digits(rate), f"{n:,}")
            for k, p, rate, n in columns
        ]
    return Chart(
        "Calibration",
        f"Calibration of {isolated(positive)}",
        _spoken(rates[1:]),
        (
            Panel(probability, Axis.linear("observed rate", 0, 1), tuple(rates), height=180),
            Panel(probability, Axis.counts("rows (log)", most, 4), tuple(counts), height=66),
        ),
        note="On the diagonal, probabilities are what happens. Larger markers: more weight; below: rows per bin.",
        heads=("", "Probability", "Mean probability", "Observed rate", "Rows"),
        rows=tuple(rows),
    )


def scores_chart(question: Question, split: str, *, threshold: bool) -> Chart:
    """How many rows of each class have which probability, in one split; with a line at the threshold, if asked for."""
    decision = question.headline(split)
    stairs = [
        (style, name, rows, f"{int(rows.sum()):,} rows")
        for style, name, rows in (
            ("negative", question.negative, decision.negative_rows),
            ("positive", question.positive, decision.positive_rows),
        )
    ]
    of = f"“{isolated(shortened(plain(question.positive), _LABEL_CHARACTERS))}”"
    chart = _score_chart(stairs, split, of)
    panel = chart.panels[0]
    if threshold:
        at = np.full(2, decision.thresholds[decision.at])
        line = Series("threshold", at, np.array([panel.y.low, panel.y.high]))
        panel = replace(panel, series=(*panel.series, line))
        chart = replace(chart, panels=(panel,), note="The upright line is the threshold.")
    edges = panel.series[0].x
    rows = tuple(
        (f"{number(edges[i])}–{number(edges[i + 1])}", f"{a:,}", f"{b:,}")
        for i, (a, b) in enumerate(zip(decision.negative_rows, decision.positive_rows, strict=True))
        if a or b
    )
    return replace(chart, heads=("Probability", question.negative, question.positive), rows=rows)


def class_scores_chart(report: Report) -> Chart:
    """How likely each class's own rows are found to be of it, in the headline split."""
    stairs = [(style, name, decision.positive_rows, "") for name, style, decision in by_class(report)]
    return _score_chart(stairs, report.headline, "the own class")


def _score_chart(stairs: Sequence[tuple[str, str, NDArray[np.int64], str]], split: str, of: str) -> Chart:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    most = max(1, *(int(rows.max()) for _, _, rows, _ in stairs))
    counts = (
        Axis.counts("rows (logarithmic)", most, 6)
        if most > _COUNTS_LOG_FROM
        else Axis.linear("rows", 0, most * 1.05, whole=True)
    )
    series = tuple(
        Series(style, edges, rows.astype(np.float64), "stairs", name=name, words=words)
        for style, name, rows, words in stairs
    )
    title = f"Scores by class, {split} rows"
    panel = Panel(Axis.linear(f"predicted probability of {of}", 0, 1), counts, series)
    return Chart(title, title, _spoken(series), (panel,))


def coefficients_chart(coefficients: Coefficients) -> Chart | None:
    """The largest coefficients for a standard deviation more of the column, as bars from 0; None without any."""
    bars = []
    for row in coefficients.largest:
        assert row.per_deviation is not None
        names = [row.column] if row.label is None else [row.column, row.label]
        short = shortened_all([plain(name) for name in names], _LABEL_CHARACTERS)
        label, name = (" → ".join(map(isolated, of)) for of in (short, names))
        bars.append(Bar(label, name, row.per_deviation))
    if not bars:
        return None
    reach = 1.04 * (max(abs(bar.value) for bar in bars) or 1.0)
    # Ticks of one side, mirrored: of both sides at once, a reach just below a round number would have 0 alone.
    side = Axis.linear("", 0, reach, 3).ticks
    x = Axis("logit per standard deviation", -reach, reach, (*(-tick for tick in side[:0:-1]), *side))
    title = "Largest coefficients"
    strongest = coefficients.largest[0]
    return Chart(
        title,
        title,
        f"Bars from 0, the largest first: {isolated(strongest.column)} changes the logit by"
        f" {digits(strongest.per_deviation)} for a standard deviation more. The table lists all.",
        (Panel(x, Axis("", 0, 1, ()), bars=tuple(bars), height=19.0 * len(bars)),),
    )


def _table(curves: Iterable[tuple[str, Curve]]) -> tuple[tuple[str, ...], ...]:
    """Some points of each curve."""
    rows = []
    for name, curve in curves:
        kept = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), _TABLE_POINTS)).astype(np.int64))
        rows += [(name, digits(float(curve.x[i])), digits(float(curve.y[i]))) for i in kept]
    return tuple(rows)


def _spoken(series: Iterable[Series]) -> str:
    said = "; ".join(f"{isolated(one.name)}: {one.words}" for one in series if one.name)
    return said + ". The table below has the numbers."
