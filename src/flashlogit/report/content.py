"""What a run says about itself and what its report says, before any of it is drawn: page and pictures show the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..metrics.intervals import Interval
from ..metrics.null_model import Reference
from .coefficients import Coefficients
from .decisions import ClassConfusion, Question, Worst
from .grid import Floats, GridReport
from .text import digits, isolated, joined, plural


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
        least = (high - low) / ticks
        power = 10.0 ** math.floor(math.log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
        step = max(step, 1.0) if whole else step
        # An end that is a tick but for rounding is one.
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return cls(label, low, high, tuple(k * step for k in range(first, last + 1)))

    @classmethod
    def decades(cls, label: str, low: float, high: float, ticks: int = 6) -> Axis:
        """Return an axis of powers of ten around positive values, with at most so many ticks."""
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        high = high if high > low else low * 10
        return cls(label, low, high, _powers(low, high, ticks), log=True)

    @classmethod
    def counts(cls, label: str, most: int, ticks: int) -> Axis:
        """Return a logarithmic axis from half a row, so that one can be seen, to a little above the most."""
        high = max(10.0, most * 1.3)
        return cls(label, 0.5, high, _powers(1.0, high, ticks), log=True)


def _powers(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return the powers of ten in [low, high]: all of them, or, for at most so many, every second, every third, ..."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = -(-(last - first + 1) // most)
    return tuple(10.0**exponent for exponent in range(first, last + 1) if exponent % stride == 0)


@dataclass(frozen=True)
class Series:
    """Points of a panel; none for what has an entry in the legend only.

    Stairs are heights y [H] between edges x [H + 1]. `size` [P] is the radius of the points' markers, `error` [P] half
    the height of bars around them, or [2, P] how far these reach below and above. `style` is a split, `positive`,
    `negative`, `guide`, `threshold`, `best`, `class 3` or `path-3 dash-1`, a colour and a kind of line.
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
    error: Floats | None = None
    label: tuple[str, ...] = ()
    """Names beside the line's first point, left of the panel; the axis is then at its right."""

    @property
    def ends(self) -> tuple[Floats, Floats]:
        """The lower and the upper ends of its bars, [P] each."""
        below, above = np.broadcast_to(0.0 if self.error is None else self.error, (2, len(self.y)))
        return self.y - below, self.y + above


@dataclass(frozen=True)
class Bar:
    """A bar from 0, with the names of its column and, for K > 2 classes, of its class."""

    names: tuple[str, ...]
    value: float
    signed: bool = True
    """Whether its colour tells the sign."""


@dataclass(frozen=True)
class Panel:
    """Series on two axes, or bars below each other."""

    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    bars: tuple[Bar, ...] = ()
    height: float = 220
    """Units, of which a chart is 360 wide."""

    def label_places(self, least: float) -> list[tuple[Series, float]]:
        """Return the series that have labels, each with the height of its label as a fraction of the panel's: near the
        line's first point, and apart by `least`, as far as there is room."""
        found = [series for series in self.series if series.label]
        wanted = np.array([float(self.y(series.y[0])) for series in found])
        order, steps = np.argsort(wanted, kind="stable"), np.arange(len(found)) * least
        slack = wanted[order] - steps
        # Between the least and the greatest rising sequence: neighbours that would overlap give way to both sides.
        rising = (np.maximum.accumulate(slack) + np.minimum.accumulate(slack[::-1])[::-1]) / 2
        places = np.clip(rising, 0, max(0.0, 1 - steps[-1])) + steps if found else steps
        return [(found[i], float(place)) for i, place in zip(order.tolist(), places, strict=True)]


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


@dataclass(frozen=True)
class SolverSummary:
    """How a solver's fit ended, as `flashlogit.fitting.fit.Fit` has it."""

    solver: str
    ending: str
    converged: bool
    objective: float
    null_objective: float
    certificate: str
    """`gap` where the gap is a duality gap; `decrement` where it is half the squared Newton decrement."""
    gap: float
    relative_gap: float
    tolerance: float
    statement: str
    """One sentence that says what the certificate proves."""
    notes: tuple[str, ...]
    separation: str | None
    """`complete`, `quasi-complete` or `suspected`; None where the classes are not separated."""
    iterations: int
    passes: float
    terabytes_per_second: float
    seconds: float
    compile_seconds: float

    @property
    def proven(self) -> bool:
        """Whether a duality gap within the tolerance proves the optimum."""
        return self.converged and self.certificate == "gap"

    @property
    def verdict(self) -> str:
        """The statement in two or three words, which say too why there may be no proof."""
        if self.proven:
            return "optimum proven"
        if self.separation is not None:
            return f"classes {'may be' if self.separation == 'suspected' else 'are'} separated"
        return "converged, no proof possible" if self.converged else "not converged"


@dataclass(frozen=True)
class EpochSummary:
    """How training by mini-batches ended."""

    epochs: int
    kept_epoch: int

    # What a report asks a solver's summary too.
    notes: ClassVar[tuple[str, ...]] = ()
    converged: ClassVar[bool] = True
    proven: ClassVar[bool] = False
    verdict: ClassVar[str] = "optimum not proven"

    @property
    def statement(self) -> str:
        """One sentence that says what such training proves."""
        return (
            f"trained by mini-batches for {plural(self.epochs, 'epoch')}, weights of epoch {self.kept_epoch:,} kept;"
            " such training comes near the optimum and proves nothing about its distance"
        )


@dataclass(frozen=True)
class RunSummary:
    """A finished run: how the model was learned, and on what."""

    device: str
    backend: str
    learned: SolverSummary | EpochSummary
    flashlogit: str
    """Version of the package."""
    torch: str
    """Version of torch."""
    gpu: str | None
    """Name of the GPU; None where the CPU computed."""
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Return `run` of metrics.json: all fields by name, those of `learned` among them."""
        learned = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.learned).items()}
        outer = {name: getattr(self, name) for name in ("flashlogit", "torch", "gpu", "threads")}
        return {"device": self.device, "backend": self.backend, **learned, **outer}


@dataclass(frozen=True)
class Report:
    """A whole report. `headline` is the split that a reader should look at first: test rows, if there are any."""

    title: str
    headline: str
    learned: SolverSummary | EpochSummary
    warnings: tuple[str, ...]
    """Sentences on why the numbers may not mean what they seem to."""
    notes: tuple[str, ...]
    """Sentences on the data."""
    card: tuple[tuple[str, str], ...]
    """Terms and texts: what is predicted, from what."""
    facts: tuple[tuple[str, str], ...]
    """Terms and texts: how the model was learned."""
    settings: str
    metrics: Mapping[str, Mapping[str, float | None]]
    """By split, in the order of `flashlogit.report.text.SPLITS`, and name; None where one is undefined."""
    references: Mapping[str, Reference]
    """What the null model reaches, by split."""
    intervals: Mapping[str, Mapping[str, Interval]]
    history: Chart | None
    grid: GridReport | None
    questions: tuple[Question, ...]
    labels: tuple[str, ...]
    """Names of the classes."""
    confusions: tuple[ClassConfusion, ...]
    coefficients: Coefficients
    category: str | None
    """A column that stands for one value of a column of categories, as an example; None where there is none."""
    worst: Worst | None
    """Rows of the headline split; None where their numbers are not known."""
