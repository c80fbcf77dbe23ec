"""The charts of a report: what each draws, says and lists as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .coefficients import LARGEST, Coefficients
from .content import Axis, Bar, Chart, EpochSummary, Panel, Report, Series, SolverSummary
from .decisions import GAIN_SHARES, HISTOGRAM_BINS, Curve, Decision, Question
from .grid import GridReport
from .text import decimal_places, digits, isolated, metric, number, shortened

_COUNTS_LOG_FROM = 200
"""Rows in a bin from which a linear axis would hide the small bins."""
_TABLE_POINTS = 11
_MARKED_POINTS = 30
"""Points of a curve up to which each gets a marker."""
_LABEL_CHARACTERS = 16
_HISTORY_POINTS = 400
_WIDE = 50.0
"""Ratio of the largest to the smallest value from which a linear axis hides the end of a curve."""
_TOLD_PERCENT = (1, 5, 10, 20, 30, 40, 50, 75, 100)
"""Hundredths of the rows in the table of gain and lift."""
_DRAWN_PERCENT = np.array([0, 1, *range(2, 101, 2)])
"""Those that are drawn."""
_LIFT_ROWS = 10
"""Rows from which on a lift is drawn."""
_WHOLE_FROM = 0.6
"""Greatest rate or probability from which the axes of the calibration end at 1."""
_LABEL_HEIGHT = 13.5
"""Units of height that the label of a line takes."""
PATH_COLORS, PATH_DASHES = 5, 4
"""Colours of the lines of coefficients; those of neighbours differ."""
_SMALLEST, _LARGEST = 1e-100, 1e100
"""Values drawn as they are; logarithmic axes overflow near the ends of float64."""

Subject = Sequence[tuple[str, str, Decision]]
"""Decisions whose curves one chart compares, each with its name and its style."""
_DIAGONAL = Series("guide", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
HistoryRows = Sequence[Mapping[str, float | None]]


def by_split(question: Question) -> Subject:
    """Return the question's decision in each split."""
    return [(decision.split, decision.split, decision) for decision in question.decisions]


def by_class(report: Report) -> Subject:
    """Return each class's decision against the rest in the headline split."""
    return [(q.positive, f"class {k}", q.headline(report.headline)) for k, q in enumerate(report.questions)]


def history_chart(history: HistoryRows, learned: SolverSummary | EpochSummary) -> Chart | None:
    """Return the chart of loss over epochs, or a solver's gap over its iterations; None where nothing can be drawn.

    Args:
        history: one mapping per epoch with `epoch`, `train_loss` and, where there is one, `validation_loss`; or one per
            iteration of a solver with `iteration` and `relative_gap`. What is None, NaN or above 1e100 is left out.
        learned: what the run says of them. Without a penalty the gap is half the squared Newton decrement.
    """
    if isinstance(learned, SolverSummary):
        title = "Duality gap" if learned.certificate == "gap" else "Half the squared Newton decrement"
        x_label, y_label, columns = "iteration", "share of the null objective", {"estimated": "relative_gap"}
    else:
        title, x_label, y_label = "Loss", "epoch", "mean loss (nats)"
        columns = {"train": "train_loss", "validation": "validation_loss"}
    found = {name: _recorded(history, x_label, column) for name, column in columns.items()}
    curves = {name: curve for name, curve in found.items() if len(curve.x)}
    if not curves:
        return None
    series = [_history_line(name, curve) for name, curve in curves.items()]
    x, y = (np.concatenate([getattr(curve, of) for curve in curves.values()]) for of in ("x", "y"))
    if "validation" in curves:
        best = curves["validation"].at([int(np.argmin(curves["validation"].y))])
        words = f"{digits(float(best.y[0]))}, epoch {best.x[0]:g}"
        star = Series("best", best.x, best.y, "points", np.array([4.5]), "lowest validation loss", words)
        series.append(star)
    if isinstance(learned, SolverSummary):
        y, ends, words = np.append(y, learned.tolerance), np.array([x.min(), x.max()]), number(learned.tolerance)
        series.append(Series("guide", ends, np.full(2, learned.tolerance), name="tolerance", words=words))
    low, high, positive = float(y.min()), float(y.max()), y[y > 0]
    if isinstance(learned, SolverSummary) or (len(positive) and high > _WIDE * positive.min()):
        vertical = Axis.decades(y_label, float(positive.min()), high)
    else:
        margin = 0.06 * (high - low)
        vertical = Axis.linear(y_label, max(low - margin, 0), high + margin)
    horizontal = Axis.linear(x_label, float(x.min()), float(x.max()), whole=True)
    return _tabulated(Chart(title, (Panel(horizontal, vertical, tuple(series)),)))


def _history_line(name: str, curve: Curve) -> Series:
    """Return the curve, with the extremes of each stretch of a long one, so that no peak is lost; markers on a short
    one."""
    kept = np.arange(len(curve.x))
    if len(kept) > _HISTORY_POINTS:
        starts = np.linspace(0, len(kept), _HISTORY_POINTS // 2).astype(np.int64)
        extremes = [a + f(curve.y[a:b]) for a, b in pairwise(starts) for f in (np.argmin, np.argmax)]
        kept = np.unique([0, *extremes, len(kept) - 1])
    shown, style = curve.at(kept), "train" if name == "estimated" else name
    size = np.full(len(kept), 3.0) if len(kept) <= _MARKED_POINTS else None
    words = f"{digits(float(curve.y[-1]))} at the end"
    return Series(style, shown.x, shown.y, size=size, name=name, words=words)


def _recorded(history: HistoryRows, x: str, y: str) -> Curve:
    """Return what of two columns can be drawn: gaps above 0, and losses from 0 on."""
    # None becomes NaN in a float array, and a comparison with NaN is false.
    pairs = np.array([(row[x], row.get(y)) for row in history], dtype=np.float64).reshape(-1, 2)
    least = _SMALLEST if y == "relative_gap" else 0.0
    pairs = pairs[(pairs[:, 1] >= least) & (pairs[:, 1] <= _LARGEST)]
    return Curve(pairs[:, 0], np.where(pairs[:, 1] < _SMALLEST, 0.0, pairs[:, 1]))


def roc_chart(subject: Subject, positive: str) -> Chart:
    """Return the chart of the true positive rate over the false positive rate."""
    x, y = Axis.linear("false positive rate", 0, 1), Axis.linear("true positive rate (recall)", 0, 1)
    series = (_curve(name, style, one.roc, "AUC", one.roc_auc) for name, style, one in subject)
    panel = Panel(x, y, (_DIAGONAL, *series))
    return _tabulated(Chart("ROC curve", (panel,), f"ROC curve of {isolated(positive)}"), metric)


def precision_recall_chart(subject: Subject, positive: str) -> Chart:
    """Return the chart of precision over recall, with a line at the first split's base rate."""
    series = [
        _curve(name, style, one.precision_recall, "average precision", one.average_precision)
        for name, style, one in subject
    ]
    _, style, first = subject[0]
    if style == first.split and first.precision_recall is not None:
        words = f"{metric(first.rate)}, of any ranking at random"
        series.append(Series("guide", _DIAGONAL.x, np.full(2, first.rate), name="base rate", words=words))
    panel = Panel(Axis.linear("recall", 0, 1), Axis.linear("precision", 0, 1), tuple(series))
    return _tabulated(Chart("Precision and recall", (panel,), f"Precision over recall of {isolated(positive)}"), metric)


def gain_chart(subject: Subject, positive: str) -> Chart:
    """Return the chart of the share of the positive labels that the most probable rows have, and below it of the lift:
    how many times as many that is as among as many rows drawn at random."""
    gains, lifts, rows = [_DIAGONAL], [Series("guide", _DIAGONAL.x, np.ones(2))], []
    highest = 1.0
    for name, style, one in subject:
        if one.gain is None:
            gains.append(Series(style, np.empty(0), np.empty(0), name=name, words="no positive row"))
            continue
        lift = one.gain[1:] / GAIN_SHARES[1:]
        # The lift of less than some rows is 0 or all that there can be.
        start = min(100, max(1, int(np.ceil(100 * _LIFT_ROWS / one.groups.rows.sum())))) - 1
        highest = max(highest, float(lift[start:].max()))
        words, drawn = f"in the first tenth lift {lift[9]:.2f}", _DRAWN_PERCENT[start < _DRAWN_PERCENT]
        gains.append(Series(style, GAIN_SHARES[_DRAWN_PERCENT], one.gain[_DRAWN_PERCENT], name=name, words=words))
        lifts.append(Series(style, GAIN_SHARES[drawn], lift[drawn - 1]))
        told = ((k, one.gain_from[k], one.gain[k], lift[k - 1]) for k in _TOLD_PERCENT)
        rows += [(name, f"{k}%", metric(p), f"{found:.1%}", decimal_places(times, 2)) for k, p, found, times in told]
    share = Axis.linear("share of the rows, the most probable first", 0, 1)
    return Chart(
        "Gain and lift",
        (
            Panel(share, Axis.linear("positives found", 0, 1), tuple(gains), height=180),
            Panel(share, Axis.linear("lift", 0, highest * 1.05, 3), tuple(lifts), height=76),
        ),
        f"Gain and lift of {isolated(positive)}",
        note="How many of the positive rows are among the most probable ones; below, how many times as many as chance.",
        heads=("", "Share of the rows", "Probability from", "Positives found", "Lift"),
        rows=tuple(rows),
    )


def _curve(name: str, style: str, curve: Curve | None, area: str, value: float | None) -> Series:
    if curve is None:
        return Series(style, np.empty(0), np.empty(0), name=name, words="one class only, no curve")
    return Series(style, curve.x, curve.y, name=name, words=f"{area} {metric(value)}")


def _tabulated(chart: Chart, text: Callable[[float], str] = digits) -> Chart:
    """Return the chart with some points of each of its lines as a table, written by `text`."""
    (panel,) = chart.panels
    rows = [
        (series.name, text(float(series.x[i])), text(float(series.y[i])))
        for series in chart.legend
        if series.kind == "line" and series.style != "guide"
        for i in np.unique(np.linspace(0, len(series.x) - 1, min(len(series.x), _TABLE_POINTS)).astype(int))
    ]
    heads = (axis.label.partition(" (")[0].capitalize() for axis in (panel.x, panel.y))
    return replace(chart, heads=("", *heads), rows=tuple(rows))


def calibration_chart(subject: Subject, positive: str) -> Chart:
    """Return the chart of the observed rate over the predicted probability in groups of equal weight, with the
    intervals of the first split's rates."""
    series, rows, highest = [], [], 0.0
    for place, (name, style, decision) in enumerate(subject):
        groups = decision.groups
        # Those of three splits cross each other, and those of many classes still more.
        bars = place == 0 and style == decision.split
        error = np.array([groups.observed_rate - groups.low, groups.high - groups.observed_rate]) if bars else None
        words, size = f"expected error {metric(decision.calibration_error)}", np.full(len(groups.rows), 3.0)
        rates = groups.mean_probability, groups.observed_rate
        series.append(Series(style, *rates, size=size, name=name, words=words, error=error))
        highest = max(highest, *(float(of.max()) for of in (*rates, *([groups.high] if bars else []))))
        ends = [f"{metric(a)}–{metric(b)}" for a, b in zip(groups.least, groups.most, strict=True)]
        intervals = [f"{metric(a)}–{metric(b)}" for a, b in zip(groups.low, groups.high, strict=True)]
        counts = (f"{n:,}" for n in groups.rows.tolist())
        texts = zip(ends, map(metric, rates[0]), map(metric, rates[1]), intervals, counts, strict=True)
        rows += [(name, *of_group) for of_group in texts]
    # Both axes end where the rates do: those of a rare class would all be in the corner.
    reach = 1.0 if highest > _WHOLE_FROM else 1.05 * highest
    diagonal = np.array([0.0, reach])
    panel = Panel(
        Axis.linear("predicted probability", 0, reach),
        Axis.linear("observed rate", 0, reach),
        (Series("guide", diagonal, diagonal), *series),
    )
    first, style, decision = subject[0]
    whose = f" with 95% intervals of the {first} rows" if style == decision.split else ""
    return Chart(
        "Calibration",
        (panel,),
        f"Calibration of {isolated(positive)}",
        note=f"On the diagonal, probabilities are what happens. Each marker is a group of equally many rows{whose}.",
        heads=("", "Probability", "Mean probability", "Observed rate", "95% interval", "Rows"),
        rows=tuple(rows),
    )


def _between(k: int, bins: int) -> str:
    return f"{number(k / bins)}–{number((k + 1) / bins)}"


def scores_chart(question: Question, split: str, *, threshold: bool) -> Chart:
    """Return the chart of how many rows of each class have which probability, in one split; with a line at the
    threshold, if asked for."""
    decision = question.headline(split)
    sides = zip(("negative", "positive"), (question.negative, question.positive), decision.histogram, strict=True)
    stairs = [_histogram(name, style, rows, f"{rows.sum():,} rows") for style, name, rows in sides]
    chart = _score_chart(stairs, split, f"“{isolated(shortened(question.positive, _LABEL_CHARACTERS))}”")
    pairs = enumerate(decision.histogram.T.tolist())
    rows = [(_between(i, HISTOGRAM_BINS), f"{a:,}", f"{b:,}") for i, (a, b) in pairs if a or b]
    chart = replace(chart, heads=("Probability", question.negative, question.positive), rows=tuple(rows))
    if not threshold:
        return chart
    (panel,) = chart.panels
    at, ends = np.full(2, decision.thresholds[decision.at]), np.array([panel.y.low, panel.y.high])
    panel = replace(panel, series=(*panel.series, Series("threshold", at, ends)))
    return replace(chart, panels=(panel,), note="The upright line is the threshold.")


def class_scores_chart(report: Report) -> Chart:
    """Return the chart of how likely each class's own rows are found to be of it, in the headline split."""
    stairs = [_histogram(name, style, decision.histogram[1]) for name, style, decision in by_class(report)]
    return _score_chart(stairs, report.headline, "the own class")


def _histogram(name: str, style: str, rows: NDArray[np.int64], words: str = "") -> Series:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return Series(style, edges, rows.astype(np.float64), "stairs", name=name, words=words)


def _score_chart(stairs: Sequence[Series], split: str, of: str) -> Chart:
    most = max(1, *(int(series.y.max()) for series in stairs))
    if most > _COUNTS_LOG_FROM:
        counts = Axis.counts("rows (logarithmic)", most, 6)
    else:
        counts = Axis.linear("rows", 0, most * 1.05, whole=True)
    panel = Panel(Axis.linear(f"predicted probability of {of}", 0, 1), counts, tuple(stairs))
    return Chart(f"Scores by class, {split} rows", (panel,))


def coefficients_chart(coefficients: Coefficients) -> Chart | None:
    """Return the chart of the largest coefficients for a standard deviation more of the column, as bars from 0; where a
    column of the file has several, of what the columns of the file contribute. None without any."""
    if coefficients.columns:
        return _importance_chart(coefficients)
    bars = [
        Bar((row.column,) if row.label is None else (row.column, row.label), row.per_deviation or 0.0)
        for row in coefficients.largest
        if not row.reference
    ]
    if not bars:
        return None
    reach = 1.04 * (max(abs(bar.value) for bar in bars) or 1.0)
    # Ticks of one side, mirrored: of both sides at once, a reach just below a round number would have 0 alone.
    side = Axis.linear("", 0, reach, 3).ticks
    x = Axis("logit per standard deviation", -reach, reach, (*(-tick for tick in side[:0:-1]), *side))
    panel = Panel(x, Axis("", 0, 1, ()), bars=tuple(bars), height=19.0 * len(bars))
    return Chart("Largest coefficients", (panel,))


def _importance_chart(coefficients: Coefficients) -> Chart:
    shown = coefficients.columns[:LARGEST]
    bars = tuple(Bar((column.name,), column.contribution, signed=False) for column in shown)
    x = Axis.linear("logit, standard deviation", 0, 1.04 * (shown[0].contribution or 1.0), 4)
    total = len(coefficients.columns) + coefficients.columns_left_out
    some = f": the {len(shown)} greatest of {total:,}" if total > len(shown) else ""
    return Chart(
        f"Importance of columns{some}",
        (Panel(x, Axis("", 0, 1, ()), bars=bars, height=19.0 * len(bars)),),
        note="How far a column, with all of its features, moves the logit: the standard deviation, over the training"
        " rows, of what it adds.",
    )


def penalty_chart(grid: GridReport) -> Chart | None:
    """Return the chart of the mean held-out loss over the penalty, with bars of one standard error; None where fewer
    than two penalties can be drawn."""
    known = np.isfinite(grid.held_out_loss)
    if known.sum() < 2:
        return None
    x, y, error = grid.penalty[known], grid.held_out_loss[known], np.nan_to_num(grid.standard_error[known])
    low, high = float((y - error).min()), float((y + error).max())
    if high > _WIDE * y.min():
        vertical = Axis.decades("mean held-out loss (nats)", float(y.min()) / 2, high)
    else:
        margin = 0.06 * (high - low)
        # A tick of 0 in the corner would be in the way of the first penalty's.
        bottom = -margin if low < 1.5 * margin else low - margin
        vertical = Axis.linear("mean held-out loss (nats)", bottom, high + margin)
    horizontal, size = _penalties(grid), np.full(len(x), 3.0)
    at, loss = grid.penalty[[grid.chosen]], grid.held_out_loss[[grid.chosen]]
    series = [
        _chosen(grid, vertical),
        Series("train", x, y, size=size, name="mean over the folds", words="bars are one standard error", error=error),
    ]
    if grid.select == "one_standard_error":
        bound = float(grid.held_out_loss[grid.least] + grid.standard_error[grid.least])
        ends = np.array([horizontal.low, horizontal.high])
        series.append(Series("guide", ends, np.full(2, bound), name="least loss + its error", words=digits(bound)))
    words = f"{digits(float(at[0]))}, loss {digits(float(loss[0]))}"
    series.append(Series("best", at, loss, "points", np.array([5.0]), "chosen penalty", words))
    return Chart("Held-out loss over the penalty", (Panel(horizontal, vertical, tuple(series)),))


def path_chart(grid: GridReport) -> Chart | None:
    """Return the chart of the largest coefficients over the penalty; None where there are none, or one penalty."""
    if len(grid.penalty) < 2 or not grid.names:
        return None
    margin = 0.04 * (float(np.ptp(grid.path)) or 1.0)
    label = "logit per standard deviation"
    vertical = Axis.linear(label, float(grid.path.min()) - margin, float(grid.path.max()) + margin)
    order = np.argsort(-grid.path[0], kind="stable").tolist()
    lines = [
        Series(
            f"path-{place % PATH_COLORS} dash-{place // PATH_COLORS % PATH_DASHES}",
            grid.penalty,
            grid.path[:, j],
            label=grid.names[j],
        )
        for place, j in enumerate(order)
    ]
    chosen = replace(_chosen(grid, vertical), name="chosen penalty", words=digits(float(grid.penalty[grid.chosen])))
    panel = Panel(_penalties(grid, 4), vertical, (chosen, *lines), height=max(220.0, _LABEL_HEIGHT * len(lines)))
    values = zip(grid.penalty.tolist(), grid.path[:, order].tolist(), strict=True)
    some = f": the {len(lines)} largest of {grid.coefficients:,}" if len(lines) < grid.coefficients else ""
    of = "The largest at the chosen penalty" if some else "All of them"
    return Chart(
        f"Coefficients over the penalty{some}",
        (panel,),
        note=f"{of}, for one standard deviation more of the column; means over the folds.",
        heads=("Penalty", *(" → ".join(grid.names[j]) for j in order)),
        rows=tuple((digits(penalty), *map(digits, row)) for penalty, row in values),
    )


def _penalties(grid: GridReport, ticks: int = 6) -> Axis:
    """Return the axis of the penalties; one of 0 stands at its left end."""
    positive = grid.penalty[grid.penalty > 0]
    label = "penalty l1 + l2" if grid.l1_ratio else "penalty l2"
    return Axis.decades(label, float(positive.min()), float(positive.max()), ticks)


def _chosen(grid: GridReport, vertical: Axis) -> Series:
    """Return the upright line at the chosen penalty."""
    return Series("guide", np.full(2, grid.penalty[grid.chosen]), np.array([vertical.low, vertical.high]))
