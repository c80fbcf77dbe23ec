"""What every solution is judged by: the objective in float64, and its optimum by Newton's method.

    P(w, b) = 1/N sum_i loss_i + l2/2 ||w||_2^2,      l2 = 1 / (C N),      b free and not penalised

NumPy and SciPy alone: no contender's code. X is walked in blocks of rows, of which only one is in float64 at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

Vector = NDArray[np.float64]

REFERENCE_COLUMNS = 2048
"""Most columns for which the optimum is computed here; beyond, the best known is the best of the contenders."""
EXACT = 1e-14
"""Of the null model's objective: how close to the optimum `reference_optimum` gets."""

_BLOCK_NUMBERS = 1 << 22
_NEWTON_STEPS = 100
_HALVINGS = 40
_SUFFICIENT = 1e-4
_ROUNDING = 1e-15


class Truth:
    """P over X [N, D] and y [N] of 0 and 1, evaluated in float64."""

    def __init__(self, X: NDArray[np.floating], y: NDArray[np.integer], l2: float) -> None:
        self.X, self.y, self.l2 = X, y, l2

    @property
    def null_bias(self) -> float:
        """Intercept of the model that has nothing else."""
        positives = int(np.count_nonzero(self.y))
        return math.log(positives / (len(self.y) - positives))

    @property
    def null(self) -> float:
        """P of that model."""
        share = np.count_nonzero(self.y) / len(self.y)
        return -sum(p * math.log(p) for p in (share, 1 - share))

    def objective(self, weight: Vector, bias: float) -> float:
        """P(w, b); NaN where the parameters are not finite."""
        weight = np.asarray(weight, dtype=np.float64)
        if not (np.isfinite(weight).all() and math.isfinite(bias)):
            return math.nan
        sums = [float(_losses(X @ weight + bias, y).sum()) for X, y in self._blocks()]
        return math.fsum(sums) / len(self.y) + 0.5 * self.l2 * float(weight @ weight)

    def derivatives(self, theta: Vector) -> tuple[Vector, NDArray[np.float64]]:
        """Gradient [D + 1] and Hessian [D + 1, D + 1] at theta = (w, b)."""
        D, N = self.X.shape[1], len(self.y)
        gradient, hessian = np.zeros(D + 1), np.zeros((D + 1, D + 1))
        for X, y in self._blocks():
            p = expit(X @ theta[:D] + theta[D])
            r, h = p - y, p * (1 - p)
            gradient[:D] += X.T @ r
            gradient[D] += r.sum()
            scaled = np.sqrt(h)[:, None] * X
            hessian[:D, :D] += scaled.T @ scaled
            hessian[:D, D] += X.T @ h
            hessian[D, D] += h.sum()
        hessian[D, :D] = hessian[:D, D]
        gradient, hessian = gradient / N, hessian / N
        gradient[:D] += self.l2 * theta[:D]
        hessian[np.arange(D), np.arange(D)] += self.l2
        return gradient, hessian

    def _blocks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.integer]]]:
        height = max(1, _BLOCK_NUMBERS // self.X.shape[1])
        for start in range(0, len(self.y), height):
            rows = slice(start, start + height)
            yield self.X[rows].astype(np.float64), self.y[rows]


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where Newton's method ended: P there, and half the squared Newton decrement, which is P - P* to second order."""

    weight: Vector
    bias: float
    value: float
    decrement: float
    steps: int
    exact: bool
    """Whether the decrement is at most `EXACT` of the null model's objective."""


def reference_optimum(truth: Truth) -> Optimum:
    """The optimum by Newton's method with a line search, from the null model."""
    D = truth.X.shape[1]
    theta = np.zeros(D + 1)
    theta[D] = truth.null_bias
    value, steps = truth.objective(theta[:D], truth.null_bias), 0
    while True:
        gradient, hessian = truth.derivatives(theta)
        direction = -cho_solve(cho_factor(hessian), gradient)
        decrement = -0.5 * float(gradient @ direction)
        # A few digits beyond what is promised: one more step costs little and squares the error.
        if decrement <= 1e-4 * EXACT * truth.null or steps == _NEWTON_STEPS:
            break
        step = _line_search(truth, theta, direction, value, decrement)
        if step is None:
            break
        theta, value = step
        steps += 1
    return Optimum(theta[:D], float(theta[D]), value, decrement, steps, bool(decrement <= EXACT * truth.null))


def _line_search(
    truth: Truth, theta: Vector, direction: Vector, value: float, decrement: float
) -> tuple[Vector, float] | None:
    """The longest of the steps 1, 1/2, 1/4, ... that lowers P enough, but for rounding; None if none does."""
    slack = _ROUNDING * value
    for halving in range(_HALVINGS):
        size = 0.5**halving
        candidate = theta + size * direction
        found = truth.objective(candidate[:-1], float(candidate[-1]))
        if found <= value - _SUFFICIENT * size * 2 * decrement + slack:
            return candidate, found
    return None


def _losses(z: Vector, y: NDArray[np.integer]) -> Vector:
    """Of each row: log(1 + exp(-z)) for a 1, log(1 + exp(z)) for a 0, without overflow or cancellation."""
    found: Vector = np.logaddexp(0.0, np.where(y > 0, -z, z))
    return found
