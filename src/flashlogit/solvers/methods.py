"""A solver by its name, at its start or where a state left it."""

from __future__ import annotations

from torch import Tensor

from .driver import Solver, State, of_shapes
from .lbfgs import LBFGS
from .newton import Newton
from .newton_cg import NewtonCG
from .problem import Problem


def make_solver(
    name: str, objective: Problem, theta: Tensor, *, tolerance: float, hessian: Tensor | None = None
) -> Solver:
    """The solver at theta [P, 1]; Newton's takes up the Hessian [1, P, P] of a sample."""
    if name == "newton":
        return Newton(objective, theta, hessian=hessian)
    if name == "newton-cg":
        return NewtonCG(objective, theta, tolerance=tolerance)
    return LBFGS(objective, theta)


def resumed_solver(name: str, objective: Problem, state: State, *, tolerance: float) -> Solver:
    """The solver as it was when it gave the state, whose objective is the same.

    Raises:
        ValueError: a state of another solver or of another problem's size.
    """
    (theta,) = of_shapes(state, theta=(objective.parameters, 1))
    if name == "newton":
        return Newton(objective, theta, state=state)
    if name == "newton-cg":
        return NewtonCG(objective, theta, tolerance=tolerance, state=state)
    return LBFGS(objective, theta, state=state)
