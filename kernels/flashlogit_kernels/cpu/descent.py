"""Coordinate descent, compiled where Numba is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import _descent

Array = NDArray[np.float64]


def descend(H: Array, slope: Array, x: Array, l1: Array, *, sweeps: int, goal: float) -> float:
    """Take x towards the minimum of a quadratic model plus an l1 term by coordinate descent.

        m(d) = slope . d + 1/2 d^T H d + sum_j l1_j |x_j + d_j|

    One sweep takes every x_j in turn to the minimum over it alone, x_j = S(H_jj x_j - slope_j, l1_j) / H_jj with the
    soft threshold S (Friedman, Hastie and Tibshirani 2010), so that zeros are exact. It costs P operations, and P more
    for each x_j that moves. Variables without a positive curvature stay where they are. m falls with each move.

    Args:
        H: [P, P] float64, symmetric, its rows contiguous.
        slope: [P] float64, the gradient of the quadratic part at x; overwritten by that at the end.
        x: [P] float64, overwritten.
        l1: [P] float64, at least 0.
        sweeps: most sweeps.
        goal: ends after a sweep whose moves times their curvatures have at most this norm.

    Returns:
        That norm, of the last sweep: about the subgradient of least norm that is left.
    """
    return _descend()(H, slope, x, l1, sweeps, goal)


@functools.cache
def _descend() -> Callable[..., float]:
    """Return the loop: of Numba, which is imported when it is first needed, or of Python."""
    try:
        from numba.extending import overload

        from .loops import loop
    except ImportError:
        return _descent.descend
    overload(_descent.add)(lambda total, factor, row: _descent.add_each)
    compiled: Callable[..., float] = loop(_descent.descend)
    return compiled
