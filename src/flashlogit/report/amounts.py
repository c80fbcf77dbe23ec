"""A number of rows or a sum of weights as text, the same in the page, in its script and in the pictures."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

_DIGITS = 5
"""Significant digits of what is no whole number."""
_LONGEST = 9
"""Digits before the point from which on a power of ten takes their place."""


def amount(value: float, *, whole: bool) -> str:
    """`1,234`, `12.345` or `1.2346e−6`. What is whole has all of its digits below 10^9.

    Halves are rounded up, as JavaScript's `toFixed` and `toExponential` do: `amount` in script.js is the same function.
    """
    if value == 0:
        return "0"
    exponent = int(f"{value:.{_DIGITS - 1}e}".partition("e")[2])
    if exponent >= _LONGEST or (exponent < -4 and not whole):
        return f"{_rounded(Decimal(value).scaleb(-exponent), _DIGITS - 1)}e{exponent}".replace("-", "−")
    return f"{_rounded(Decimal(value), 0 if whole else max(_DIGITS - 1 - exponent, 0)):,}"


def are_whole(weight: NDArray[np.floating] | None) -> bool:
    """Whether sums of these weights are whole numbers; None stands for ones."""
    return weight is None or bool((np.rint(weight) == weight).all())


def _rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
