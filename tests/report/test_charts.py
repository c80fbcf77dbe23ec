"""What the charts draw, where it can be told from their text."""

from __future__ import annotations

import re

import pytest

from flashlogit.report.charts import coefficients_figure
from flashlogit.report.content import Coefficient, Coefficients


@pytest.mark.parametrize(
    ("strongest", "ticks"),
    [
        (4.3, ["−4", "−2", "0", "2", "4"]),
        (0.99, ["−1", "−0.5", "0", "0.5", "1"]),
        (-7e-6, ["−5e−6", "0", "5e−6"]),
    ],
)
def test_bars_have_numbers_on_both_sides(strongest: float, ticks: list[str]):
    rows = tuple(
        Coefficient(name, None, value, value, value, value)
        for name, value in (("a", strongest), ("b", strongest / 9))
    )
    figure = coefficients_figure(Coefficients(rows, (), 0, (), ""))
    assert figure is not None
    assert re.findall(r'text-anchor="middle">([−e\d.]+)<', figure.svg) == ticks
