"""Where a solver starts: at the optimum of a sample of the rows, which costs next to nothing.

The optimum of n rows lies about P / (2 n) above that of all rows, in nats, and their Hessian is right to 2 sqrt(P / n)
of itself in every direction: a solver that starts there with it has one digit of the coefficients already, or two.
"""

from __future__ import annotations

from torch import Tensor

from .newton import Newton
from .problem import Problem

SHRINK = 16
"""Rows of a sample are one in so many, so that a dozen passes over it cost less than one over all."""
_ROWS_A_PARAMETER = 64
"""A sample has at least so many rows for each parameter; its Hessian is then right to a quarter."""
_LEAST_ROWS = 2048
_STEPS = 12


def start_from_sample(objective: Problem, theta: Tensor) -> tuple[Tensor, Tensor | None]:
    """A better start than theta [P, 1], and the Hessian of the sample's objective there, [1, P, P].

    Gives theta itself and None where a sample would say too little: few rows, or a rare class.
    """
    rows = len(objective.X) // SHRINK
    if rows < max(_LEAST_ROWS, _ROWS_A_PARAMETER * objective.parameters):
        return theta, None
    sample = objective.sample(rows)
    if sample is None:
        return theta, None
    theta, hessian = start_from_sample(sample, theta)
    newton = Newton(sample, theta, hessian=hessian)
    # What a sample's optimum is off by anyway.
    goal = 0.02 * objective.parameters / rows
    for _ in range(_STEPS):
        if newton.decrement <= goal:
            break
        newton.advance()
    objective.reads += sample.reads
    return newton.search.theta, sample.hessian(newton.search.theta)
