"""A chart as a record, which knows nothing of how it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from .text import digits, isolated, joined

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """From values to fractions of an axis, with its ticks."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, values: Floats | float) -> Floats:
        values = np.asarray(values, dtype=np.float64)
        if self.log:
            values = np.log10(np.maximum(values, self.low))
            return (values - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (values - self.low) / (self.high - self.low)

    @classmethod
    def linear(cls, label: str, low: float, high: float, ticks: int = 5, *, whole: bool = False) -> Axis:
        """Return an axis with round numbers as ticks within the range, which is as given, or around its one value."""
        if not high > low:
            room = max(0.5, 1e-3 * abs(low))
            low, high = low - room, high + room
        places = MaxNLocator(ticks, integer=whole, steps=[1, 2, 5, 10], min_n_ticks=1).tick_values(low, high)
        within = tuple(float(t) for t in places if low - 1e-9 <= t <= high + 1e-9 * (high - low))
        return cls(label, low, high, within)

    @classmethod
    def decades(cls, label: str, low: float, high: float) -> Axis:
        """Return an axis of powers of ten around positive values."""
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        high = high if high > low else low * 10
        places = LogLocator(numticks=6).tick_values(low, high)
        within = tuple(float(t) for t in places if low * 0.999 <= t <= high * 1.001)
        return cls(label, low, high, within, log=True)

    @classmethod
    def counts(cls, label: str, most: int, ticks: int) -> Axis:
        """Return a logarithmic axis from half a row, so that one can be seen, to a little above the most."""
        high = max(10.0, most * 1.3)
        places = LogLocator(numticks=ticks).tick_values(1, high)
        return cls(label, 0.5, high, tuple(float(t) for t in places if 1 <= t <= high), log=True)


@dataclass(frozen=True)
class Series:
    """Points of a panel; none for what has an entry in the legend only.

    Stairs are heights y [H] between edges x [H + 1]. `size` [P] is the radius of the points' markers. `style` is a
    split, `positive`, `negative`, `guide`, `threshold`, `best` or `class 3`.
    """

    style: str
    x: Floats
    y: Floats
    kind: Literal["line", "points", "stairs"] = "line"
    size: Floats | None = None
    name: str = ""
    """In the legend; empty for what is not in it."""
    words: str = ""
    """About the name, and apart from it: a name may run from right to left."""


@dataclass(frozen=True)
class Bar:
    """A bar from 0, with the names of its column and, for K > 2 classes, of its class."""

    names: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Panel:
    """Series on two axes, or bars below each other."""

    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    bars: tuple[Bar, ...] = ()
    height: float = 220
    """Units, of which a chart is 360 wide."""


@dataclass(frozen=True)
class Chart:
    """Panels below each other that share their x axis, and the same numbers as a table."""

    title: str
    panels: tuple[Panel, ...]
    subject: str = ""
    """The title for those who do not see the page around it, where it says more."""
    note: str = ""
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def legend(self) -> tuple[Series, ...]:
        """Series that have names."""
        return tuple(series for panel in self.panels for series in panel.series if series.name)

    @property
    def description(self) -> str:
        """What those are told who do not see the chart."""
        panel = self.panels[0]
        named = [(joined(bar.names), f"{digits(bar.value)} {panel.x.label}") for bar in panel.bars[:1]]
        named += [(isolated(series.name), series.words) for series in self.legend]
        return "; ".join(f"{name}: {words}" for name, words in named) + ". The table has the numbers."
