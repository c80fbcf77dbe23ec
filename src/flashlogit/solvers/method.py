"""What every method of minimisation has in common: where it begins, its state, the point that it has reached, and the
next one that it tries.

In a search everything is a tensor on the device of X, and every decision a `torch.where`: it waits for no value from
the device. What its owner has to know is read back at once, for each point that is tried: `Search.numbers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..objectives.objective import Objective, Point
from ..objectives.row_loss import KeptRows

Basis = Literal["estimated", "rough", "proven"]
State = dict[str, Tensor]
"""Tensors by name from which a method goes on as if it had never stopped. They are never written to once given."""
SUFFICIENT = 1e-4
"""Armijo's rule: a step must bring this share of the decrease that the linear model predicts."""
ROUNDING = 2e-14
"""Differences below this share of P are noise of its float64 sum, and no step is refused for one."""


@dataclass(frozen=True)
class Start:
    """Where a method begins: theta [P, K], and perhaps the Hessian [K, P, P] of a sample, or a state to go on from.

    tolerance: on the relative gap, below which nothing need be solved for. at: the point itself, if it is known.
    coefficients: what a pass takes there, if that is known: w [D] and, at the next multiple of four, b.
    """

    theta: Tensor
    tolerance: float
    hessian: Tensor | None = None
    state: State | None = None
    at: Point | None = None
    coefficients: Tensor | None = None

    @classmethod
    def resumed(cls, objective: Objective, state: State, tolerance: float) -> Start:
        """Return the point of a state; ValueError where it is of another problem's size."""
        (theta,) = of_shapes(state, theta=(objective.parameters, 1))
        return cls(theta, tolerance, state=state)


class Reached(Protocol):
    """The point that a method has reached."""

    @property
    def numbers(self) -> Numbers:
        """What is known of the last trial."""

    @property
    def theta(self) -> Tensor:
        """The accepted parameters [P, K]."""

    @property
    def at(self) -> Point:
        """The accepted point."""


class Method(Protocol):
    """A solver at an accepted point."""

    @property
    def search(self) -> Reached:
        """What it has reached."""

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


def read_back(tensors: Sequence[Tensor]) -> list[float]:
    """Return the largest element of each of several tensors of one shape, for one wait for their device."""
    rows = torch.stack(list(tensors)).reshape(len(tensors), -1)
    return [float(max(row)) for row in rows.tolist()]


@dataclass(frozen=True)
class Numbers:
    """What is read back of a search: refusals in a row, P, the gap, |gradient| and the step's length.

    Each is the largest of all models. basis: whether the gap is an estimate of what `Objective.certify` would prove, is
    proven itself, or is as rough as sums in float32, with which the method goes on to better ones by itself.
    """

    refused: float
    value: float
    gap: float
    gradient_norm: float
    step: float
    basis: Basis = "estimated"


class Search:
    """A backtracking line search over theta [P, K] along directions that its owner sets.

    at: the accepted point; its `rows` are there once `numbers` are known. direction [P, K] and step [K]: what is tried
    next is theta + step * direction. refused [K]: refusals in a row.
    """

    def __init__(self, l1_of: Tensor, at: Point) -> None:
        self.at = at
        self.direction = torch.zeros_like(at.theta)
        self.step = torch.ones_like(at.value)
        self.refused = torch.zeros_like(at.value)
        self._l1_of = l1_of
        self._tried: tuple[Tensor, KeptRows | None, KeptRows | None] | None = None
        self._numbers: Numbers | None = None

    @property
    def numbers(self) -> Numbers:
        """What is known of the last trial; waits for the device the first time it is asked for."""
        if self._numbers is None:
            at = self.at
            found = [self.refused, at.value, at.gap, at.gradient.norm(dim=0), self.step]
            refused, value, gap, gradient_norm, step = read_back(found)
            self._numbers = Numbers(refused, value, gap, gradient_norm, step)
            if self._tried is not None:
                accepted, before, new = self._tried
                taken = new if self._numbers.refused == 0 else _merged_rows(accepted, before, new)
                self.at, self._tried = replace(at, rows=taken), None
        return self._numbers

    @property
    def theta(self) -> Tensor:
        """The accepted parameters [P, K]."""
        return self.at.theta

    @property
    def trial(self) -> Tensor:
        """The parameters [P, K] to try next."""
        return self.theta + self.step * self.direction

    def set_direction(self, direction: Tensor) -> None:
        """Choose where to go from the accepted point; a refused step keeps its length."""
        self.direction = direction
        self.step = torch.where(self.refused > 0, self.step, 1.0)

    def restart(self, at: Point | None = None) -> None:
        """Forget refusals; `at`: the accepted point, evaluated anew."""
        self.refused = torch.zeros_like(self.refused)
        self.at = at or self.at

    def predicted(self, trial: Tensor) -> Tensor:
        """Return the change of P that the linear model of its smooth part predicts, [K]; below 0."""
        l1 = self._l1_of
        return (self.at.gradient * (trial - self.theta) + l1 * (trial.abs() - self.theta.abs())).sum(dim=0)

    def judge(self, new: Point) -> Tensor:
        """Go to the trial point, which has been evaluated, if it is good enough; return whether it was, [K] bool.

        A model that went there stays until its owner sets a new direction, while others of the K try shorter steps.
        The step after a refusal minimises the parabola through what is known, within 0.1 to 0.5 of the last.
        """
        at = self.at
        predicted = self.predicted(new.theta)
        change = new.value - at.value
        accepted = change <= SUFFICIENT * predicted + ROUNDING * at.value.abs()
        parabola = -0.5 * predicted / (change - predicted)
        shorter = self.step * torch.where(parabola.isfinite(), parabola, 0.1).clamp(0.1, 0.5)
        self._tried = accepted, at.rows, new.rows
        self.at = Point(
            theta=torch.where(accepted, new.theta, at.theta),
            gradient=torch.where(accepted, new.gradient, at.gradient),
            value=torch.where(accepted, new.value, at.value),
            gap=torch.where(accepted, new.gap, at.gap),
        )
        if len(accepted) > 1:
            self.direction = torch.where(accepted, 0.0, self.direction)
        self.step = torch.where(accepted, 1.0, shorter)
        self.refused = torch.where(accepted, 0.0, self.refused + 1)
        self._numbers = None
        return accepted


def _merged_rows(accepted: Tensor, before: KeptRows | None, new: KeptRows | None) -> KeptRows | None:
    """Return what is kept of the rows where some of K models, [N, K], have gone on and others have not."""
    if len(accepted) == 1 or before is None or new is None:
        return before
    pairs = {field.name: (getattr(before, field.name), getattr(new, field.name)) for field in fields(new)}
    return KeptRows(**{name: None if b is None else torch.where(accepted, b, a) for name, (a, b) in pairs.items()})
