"""Charts as SVG text whose colours come from the page's style sheet, so that dark mode and print restyle them.

Nothing here draws a glyph that is not text: labels can be found, selected and read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

WIDTH = 360
"""Units across every chart: a phone shows them about as CSS pixels, a desktop larger."""


@dataclass(frozen=True)
class Scale:
    """From values to fractions of an axis, with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.asarray(values, dtype=np.float64)
        if self.log:
            values = np.log10(np.maximum(values, self.low))
            return (values - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (values - self.low) / (self.high - self.low)

    @classmethod
    def linear(cls, low: float, high: float, ticks: int = 5, *, whole: bool = False) -> Scale:
        """Round numbers as ticks within the range, which is as given."""
        if not high > low:
            low, high = low - 0.5, high + 0.5
        places = MaxNLocator(ticks, integer=whole, steps=[1, 2, 5, 10], min_n_ticks=1).tick_values(low, high)
        within = tuple(float(t) for t in places if low - 1e-9 <= t <= high + 1e-9 * (high - low))
        return cls(low, high, within)

    @classmethod
    def decades(cls, low: float, high: float, ticks: int = 6) -> Scale:
        """Powers of ten around positive values."""
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        high = high if high > low else low * 10
        places = LogLocator(numticks=ticks).tick_values(low, high)
        within = tuple(float(t) for t in places if low * 0.999 <= t <= high * 1.001)
        return cls(low, high, within, log=True)

    @classmethod
    def counts(cls, most: int, ticks: int) -> Scale:
        """Logarithmic, from half a row, so that a single one can be seen, to a little above the most."""
        high = max(10.0, most * 1.3)
        places = LogLocator(numticks=ticks).tick_values(1, high)
        return cls(0.5, high, tuple(float(t) for t in places if 1 <= t <= high), log=True)


def number(value: float) -> str:
    """A tick's label: 0.2, 1,000, 10^6 as 1e6."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < 1e-3:
        mantissa, exponent = f"{value:.3g}".partition("e")[::2]
        if not exponent:
            mantissa, exponent = f"{value:.2e}".split("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:,.10g}" if size < 1 else f"{value:,.6g}"
    return text.replace("-", "−")


def room(*scales: Scale) -> float:
    """Units on the left for the upright axes' numbers, in the size that phones have, and for the label beside them."""
    return max(60.0, 32 + 7.6 * max(len(number(tick)) for scale in scales for tick in scale.ticks))


@dataclass
class Panel:
    """A rectangle with two axes, filled mark by mark; units as of the chart."""

    x: Scale
    y: Scale
    x_label: str = ""
    y_label: str = ""
    left: float = 60
    top: float = 10
    height: float = 220
    x_ticks: bool = True
    marks: list[str] = field(default_factory=list)

    @property
    def width(self) -> float:
        """What the labels on the left leave."""
        return WIDTH - 12 - self.left

    def _at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = self.left + self.width * self.x(x)
        down = self.top + self.height * (1 - self.y(y))
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def line(self, x: NDArray[np.float64], y: NDArray[np.float64], style: str) -> None:
        """A polyline."""
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in self._at(x, y))
        self.marks.append(f'<polyline class="line {style}" points="{points}"/>')

    def points(
        self, x: NDArray[np.float64], y: NDArray[np.float64], style: str, radius: Sequence[float]
    ) -> None:
        """Markers: circles, squares or triangles by the style."""
        for (a, b), r in zip(self._at(x, y), radius, strict=True):
            self.marks.append(marker(a, b, r, style))

    def stairs(self, edges: NDArray[np.float64], heights: NDArray[np.float64], style: str) -> None:
        """The outline of a histogram, closed along the axis: heights [H] between edges [H + 1]."""
        base = np.full(1, self.y.low)
        x = np.repeat(edges, 2)
        y = np.concatenate([base, np.repeat(heights, 2), base])
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in self._at(x, y))
        self.marks.append(f'<polygon class="stairs {style}" points="{points}"/>')

    def rule(self, y: float) -> None:
        """A dashed line across."""
        self.line(np.array([self.x.low, self.x.high]), np.array([y, y]), "guide")

    def markup(self) -> str:
        """Grid, axes and marks."""
        parts = []
        right, bottom = self.left + self.width, self.top + self.height
        for tick in self.y.ticks:
            b = self.top + self.height * (1 - float(self.y(np.array(tick))))
            parts.append(f'<line class="grid" x1="{self.left:g}" x2="{right:g}" y1="{b:.1f}" y2="{b:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{self.left - 6:g}" y="{b + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            )
        for tick in self.x.ticks:
            a = self.left + self.width * float(self.x(np.array(tick)))
            parts.append(f'<line class="grid" x1="{a:.1f}" x2="{a:.1f}" y1="{self.top:g}" y2="{bottom:g}"/>')
            if self.x_ticks:
                parts.append(
                    f'<text class="tick" x="{a:.1f}" y="{bottom + 16:g}" text-anchor="middle">{number(tick)}</text>'
                )
        parts.append(
            f'<line class="axis" x1="{self.left:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>'
        )
        parts += self.marks
        if self.x_label:
            middle = self.left + self.width / 2
            parts.append(
                f'<text class="label" x="{middle:g}" y="{bottom + 34:g}" text-anchor="middle">'
                f"{escape(self.x_label)}</text>"
            )
        if self.y_label:
            middle = self.top + self.height / 2
            parts.append(
                f'<text class="label" transform="translate(12 {middle:g}) rotate(-90)" text-anchor="middle">'
                f"{escape(self.y_label)}</text>"
            )
        return "".join(parts)


def marker(a: float, b: float, r: float, style: str) -> str:
    """A circle, for `validation` a square and for `test` a triangle of about the same area."""
    if style == "validation":
        return f'<rect class="mark {style}" x="{a - r:.1f}" y="{b - r:.1f}" width="{2 * r:.1f}" height="{2 * r:.1f}"/>'
    if style == "test":
        corners = f"{a:.1f},{b - 1.3 * r:.1f} {a + 1.2 * r:.1f},{b + r:.1f} {a - 1.2 * r:.1f},{b + r:.1f}"
        return f'<polygon class="mark {style}" points="{corners}"/>'
    return f'<circle class="mark {style}" cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}"/>'


def chart(
    identity: str, title: str, description: str, parts: Iterable[str], height: float = 276, defs: str = ""
) -> Markup:
    """An <svg> that says what it shows to those who do not see it."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img"'
        f' aria-labelledby="{identity}-t" aria-describedby="{identity}-d">'
        f'<title id="{identity}-t">{escape(title)}</title><desc id="{identity}-d">{escape(description)}</desc>'
        f"{defs}{''.join(parts)}</svg>"
    )
