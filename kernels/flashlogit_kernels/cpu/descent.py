"""Coordinate descent, compiled where Numba is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import _descent

Array = NDArray[np.float64]


def descend(H: Array, slope: Array, x: Array, l1: Array, *, sweeps: int, goal: float, compiled: bool = True) -> float:
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
        compiled: whether to load a compiled loop, which takes half a second in a process that has not.

    Returns:
        That norm, of the last sweep: about the subgradient of least norm that is left.
    """
    return (_compiled()[0] if compiled else _descent.descend)(H, slope, x, l1, sweeps, goal)


def newton(
    columns: Array, y: Array, s: Array, x: Array, l1: Array, l2: Array, *, share: float, steps: int
) -> tuple[float, bool] | None:
    """Take x towards the least logistic objective over a few columns by Newton's method and coordinate descent.

        sum_i s_i (log(1 + exp(z_i)) - y_i z_i) + sum_j (l1_j |x_j| + l2_j / 2 x_j^2),      z = x . columns

    All in one thread, in float64; a step takes N P^2 / 2 products. Armijo's rule shortens a step that leads too far.

    Args:
        columns: [P, N] float64, each column contiguous.
        y, s: [N] float64, labels in [0, 1] and weights.
        x: [P] float64, overwritten by a point that is no worse.
        l1, l2: [P] float64, at least 0.
        share: ends where so much of the first subgradient's norm is left.
        steps: most steps.

    Returns:
        The objective, and whether so little of the subgradient is left; None, and x as it was, without Numba.
    """
    loop = _compiled()[1]
    return None if loop is None else loop(columns, y, s, x, l1, l2, share, steps)


@functools.cache
def _compiled() -> tuple[Callable[..., float], Callable[..., tuple[float, bool]] | None]:
    """Return the loops: of Numba, which is imported when it is first needed, or of Python, which has one of them."""
    try:
        from .fits import _l1
    except ImportError:
        return _descent.descend, None
    return _l1.descend, _l1.newton
