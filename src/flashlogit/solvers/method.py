"""What every method of minimisation has in common: where it begins, its state, and what the driver asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..objectives.objective import Objective
from .search import Search

State = dict[str, Tensor]
"""Tensors by name from which a method goes on as if it had never stopped. They are never written to once given."""


@dataclass(frozen=True)
class Start:
    """Where a method begins: theta [P, K], and perhaps the Hessian [1, P, P] of a sample, or a state to go on from.

    tolerance: on the relative gap, below which nothing need be solved for.
    """

    theta: Tensor
    tolerance: float
    hessian: Tensor | None = None
    state: State | None = None

    @classmethod
    def resumed(cls, objective: Objective, state: State, tolerance: float) -> Start:
        """Return the point of a state; ValueError where it is of another problem's size."""
        (theta,) = of_shapes(state, theta=(objective.parameters, 1))
        return cls(theta, tolerance, state=state)


class Method(Protocol):
    """A solver at an accepted point."""

    search: Search

    @property
    def decrement(self) -> float:
        """The decrease of P that the method's model expects of its next step."""

    def advance(self) -> bool:
        """Evaluate one trial point, and return whether it was accepted."""

    def state(self) -> State:
        """Return what to go on from, beside theta."""


def of_shapes(state: State, **shapes: tuple[int, ...]) -> list[Tensor]:
    """Return the tensors of these names; ValueError where one is missing or of another shape, as in another problem's.

    All but single values must be floating-point numbers.
    """
    for name, shape in shapes.items():
        found = tuple(state[name].shape) if name in state else None
        if found != shape or (shape and not state[name].is_floating_point()):
            of = f" of {state[name].dtype}" if name in state else ""
            raise ValueError(f"the state's {name} is {found}{of}; must be {shape} to go on from, of numbers")
    return [state[name] for name in shapes]
