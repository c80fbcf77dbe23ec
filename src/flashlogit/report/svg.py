"""Charts as SVG text whose colours come from the page's style sheet, so that dark mode and print restyle them.

Nothing here draws a glyph that is not text: labels can be found, selected and read aloud.
"""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from .content import Chart, Panel, Series
from .grid import Floats
from .text import joined, number

WIDTH = 360
"""Units across every chart: a phone shows them about as CSS pixels, a desktop larger."""
_TOP, _RIGHT, _GAP, _BELOW = 10.0, 16.0, 14.0, 46.0
_BAR_LEFT, _BAR_CHARACTERS = 148.0, 18
_LABEL = 13.0
"""Units of height between two labels."""
_LEADER = 14.0
"""Units between a line's label and the panel, which a thin line crosses."""


def draw_svg(chart: Chart, identity: str) -> Markup:
    """Return an <svg> that says what it shows to those who do not see it; `identity` begins its ids."""
    # The upright axes' numbers have room in the size that phones have, and the label beside them.
    longest = max((len(number(tick)) for panel in chart.panels for tick in panel.y.ticks), default=0)
    numbers, right = max(60.0, 32 + 7.6 * longest), _RIGHT
    left = _BAR_LEFT if chart.panels[0].bars else numbers
    if any(series.label for series in chart.panels[0].series):
        left, right = _BAR_LEFT + _LEADER, numbers - 8
    top, parts = _TOP, []
    for panel in chart.panels:
        parts.append(_Frame(panel, left, right, top).markup(last=panel is chart.panels[-1]))
        top += panel.height + _GAP
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {top - _GAP + _BELOW:g}" role="img"'
        f' aria-labelledby="{identity}-t" aria-describedby="{identity}-d">'
        f'<title id="{identity}-t">{escape(chart.subject or chart.title)}</title>'
        f'<desc id="{identity}-d">{escape(chart.description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def swatch(series: Series) -> Markup:
    """Return a legend's sample of a line, with its marker if it has some, or of a filled shape."""
    if series.kind == "stairs":
        inside = f'<rect class="stairs {series.style}" x="3" y="2" width="22" height="10"/>'
    else:
        line = f'<line class="line {series.style}" x1="1" x2="27" y1="7" y2="7"/>'
        inside = line if series.kind == "line" else ""
        if series.size is not None:
            inside += _marker(14, 7, 3.2, series.style)
    return Markup(f'<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true">{inside}</svg>')


class _Frame:
    """A panel at its place in the chart."""

    def __init__(self, panel: Panel, left: float, right: float, top: float) -> None:
        self._panel, self._left, self._top = panel, left, top
        self._width = WIDTH - right - left

    def _at(self, x: Floats | float, y: Floats | float) -> list[tuple[float, float]]:
        across = self._left + self._width * np.atleast_1d(self._panel.x(x))
        down = self._top + self._panel.height * (1 - np.atleast_1d(self._panel.y(y)))
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def markup(self, *, last: bool) -> str:
        """Return grid, axes and marks; numbers and label of the x axis below the last panel only."""
        panel = self._panel
        left, right, top, bottom = self._left, self._left + self._width, self._top, self._top + panel.height
        parts, labels = [], self._labels()
        for tick in panel.y.ticks:
            b = self._at(panel.x.low, tick)[0][1]
            parts.append(f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{b:.1f}" y2="{b:.1f}"/>')
            beside = (right + 6, b + 4, "start") if labels else (left - 6, b + 4, "end")
            parts.append(_text("tick", number(tick), *beside))
        for tick in panel.x.ticks:
            a = self._at(tick, panel.y.low)[0][0]
            parts.append(f'<line class="grid" x1="{a:.1f}" x2="{a:.1f}" y1="{top:g}" y2="{bottom:g}"/>')
            if last:
                parts.append(_text("tick", number(tick), a, bottom + 16))
        if panel.bars:
            parts += self._bars()
        else:
            parts.append(f'<line class="axis" x1="{left:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
            parts += (self._mark(series) for series in panel.series if len(series.x))
            parts += labels
        if last:
            parts.append(_text("label", panel.x.label, (left + right) / 2, bottom + 34))
        if panel.y.label:
            parts.append(
                f'<text class="label" transform="translate({WIDTH - 4 if labels else 12} {(top + bottom) / 2:g})'
                f' rotate(-90)"'
                f' text-anchor="middle">{escape(panel.y.label)}</text>'
            )
        return "".join(parts)

    def _mark(self, series: Series) -> str:
        if series.kind == "stairs":
            return self._stairs(series)
        places = self._at(series.x, series.y)
        if series.style == "threshold":  # which the page's script moves
            (a, b), (_, c) = places
            return (
                f'<line class="threshold" data-left="{self._left:g}" data-width="{self._width:g}" x1="{a:.1f}"'
                f' x2="{a:.1f}" y1="{c:g}" y2="{b:g}"/>'
            )
        line = f'<polyline class="line {series.style}" points="{_points(places)}"/>'
        size = [] if series.size is None else series.size.tolist()
        markers = (_marker(a, b, r, series.style) for (a, b), r in zip(places, size, strict=False))
        return "".join([line if series.kind == "line" else "", *self._error_bars(series), *markers])

    def _error_bars(self, series: Series) -> list[str]:
        if series.error is None:
            return []
        ends = zip(*(self._at(series.x, end) for end in reversed(series.ends)), strict=True)
        # What reaches below the axis ends there.
        bottom = self._top + self._panel.height
        return [
            f'<line class="error {series.style}" x1="{a:.1f}" x2="{a:.1f}" y1="{b:.1f}" y2="{min(c, bottom):.1f}"/>'
            for (a, b), (_, c) in ends
        ]

    def _labels(self) -> list[str]:
        """Return the names beside the lines that have some, each with a thin line to its own's first point."""
        parts = []
        for series, place in self._panel.label_places(_LABEL / self._panel.height):
            (a, b), y = self._at(series.x[:1], series.y[:1])[0], self._top + self._panel.height * (1 - place)
            x = self._left - _LEADER
            parts.append(f'<polyline class="leader {series.style}" points="{_points([(x, y), (a, b)])}"/>')
            short, whole = joined(series.label, _BAR_CHARACTERS), joined(series.label)
            parts.append(
                f'<text class="tick column" x="{x - 4:g}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(short)}<title>{escape(whole)}</title></text>"
            )
        return parts

    def _stairs(self, series: Series) -> str:
        """Return the outline of a histogram, closed along the axis."""
        base = np.full(1, self._panel.y.low)
        places = self._at(np.repeat(series.x, 2), np.concatenate([base, np.repeat(series.y, 2), base]))
        outline = "" if series.style in ("negative", "positive") else "outline "
        return f'<polygon class="stairs {outline}{series.style}" points="{_points(places)}"/>'

    def _bars(self) -> list[str]:
        step = self._panel.height / len(self._panel.bars)
        (zero, bottom), parts = self._at(0.0, 0.0)[0], []
        for i, bar in enumerate(self._panel.bars):
            end, y = self._at(bar.value, 0.0)[0][0], self._top + i * step
            sign = "positive" if bar.value > 0 else "negative"
            parts.append(
                f'<text class="tick column" x="{self._left - 6:g}" y="{y + 13.5:g}" text-anchor="end">'
                f"{escape(joined(bar.names, _BAR_CHARACTERS))}<title>{escape(joined(bar.names))}</title></text>"
                f'<rect class="bar {sign if bar.signed else "plain"}" x="{min(zero, end):.1f}"'
                f' y="{y + 4:g}" width="{abs(end - zero):.1f}" height="{step - 7:g}"/>'
            )
        parts.append(f'<line class="axis" x1="{zero:g}" x2="{zero:g}" y1="{self._top:g}" y2="{bottom:g}"/>')
        return parts


def _points(places: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def _text(style: str, text: str, x: float, y: float, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _marker(a: float, b: float, r: float, style: str) -> str:
    """Return a circle, for `validation` a square and for `test` a triangle of about the same area."""
    if style == "validation":
        return f'<rect class="mark {style}" x="{a - r:.1f}" y="{b - r:.1f}" width="{2 * r:.1f}" height="{2 * r:.1f}"/>'
    if style == "test":
        corners = [(a, b - 1.3 * r), (a + 1.2 * r, b + r), (a - 1.2 * r, b + r)]
        return f'<polygon class="mark {style}" points="{_points(corners)}"/>'
    return f'<circle class="mark {style}" cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}"/>'
