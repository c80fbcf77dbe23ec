"""The chart of how training went: loss over epochs, or gap over iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .content import Curve, HistoryChart, Line

_POINTS = 400
_WIDE = 50.0
"""Ratio of the largest to the smallest value from which a linear axis hides the end of a curve."""
_LARGEST = 1e100


def history_chart(
    history: Sequence[Mapping[str, float | None]], *, tolerance: float | None, proven: bool
) -> HistoryChart | None:
    """What of a history can be drawn; None where nothing can. Rows as for `flashlogit.report.plots.draw_run`."""
    if history and "relative_gap" in history[-1]:
        curve = _curve(history, "iteration", "relative_gap", above=0.0)
        if curve is None:
            return None
        return HistoryChart(
            "Duality gap" if proven else "Half the squared Newton decrement",
            "iteration",
            "share of the null objective",
            (Line("estimated", "train", curve),),
            log=True,
            tolerance=tolerance,
        )
    curves = {name: _curve(history, "epoch", f"{name}_loss", above=-1.0) for name in ("train", "validation")}
    lines = tuple(Line(name, name, curve) for name, curve in curves.items() if curve is not None)
    if not lines:
        return None
    values = np.concatenate([line.curve.y for line in lines])
    log = bool(values.min() > 0 and values.max() > _WIDE * values.min())
    return HistoryChart("Loss", "epoch", "mean loss (nats)", lines, log)


def _curve(history: Sequence[Mapping[str, float | None]], x: str, y: str, *, above: float) -> Curve | None:
    # None becomes NaN in a float array, and a comparison with NaN is false.
    pairs = np.array([(row[x], row.get(y)) for row in history], dtype=np.float64).reshape(-1, 2)
    pairs = pairs[(pairs[:, 1] > above) & (pairs[:, 1] <= _LARGEST)]
    if not len(pairs):
        return None
    kept = np.unique(np.linspace(0, len(pairs) - 1, min(_POINTS, len(pairs))).round().astype(int))
    return Curve(pairs[kept, 0], pairs[kept, 1])
