"""The point that a solver has reached, and the next one it tries.

Everything is a tensor on the device of X, and every decision a `torch.where`: a search waits for no value from the
device. What its owner has to know is read back at once, for each point that is tried: `Search.numbers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..objectives.logistic import Point

_SUFFICIENT = 1e-4
"""Share of the predicted decrease that a step must bring (Armijo's rule)."""
_ROUNDING = 2e-14
"""Of P: differences below are noise of its float64 sum, and no step is refused for one."""


def read_back(tensors: Sequence[Tensor]) -> list[float]:
    """The largest element of each of several tensors of one size, for one wait for their device."""
    rows = torch.stack([tensor.reshape(-1).to(torch.float64) for tensor in tensors])
    return [max(row) for row in rows.tolist()]


@dataclass(frozen=True)
class Numbers:
    """What is read back of a search: refusals in a row, P, the estimated gap, |gradient| and the step's length.

    Of several models the largest of each.
    """

    refused: float
    value: float
    gap: float
    gradient_norm: float
    step: float


class Evaluates(Protocol):
    """What a search asks of an objective."""

    l1_of: Tensor

    def evaluate(self, theta: Tensor, *, curvature: bool = False, keep: bool = False) -> Point: ...


class Search:
    """A backtracking line search over theta [P, K] along directions that its owner gives.

    theta, at: the accepted point and the objective there. direction [P, K] and step [K]: what is tried next,
    theta + step * direction. refused [K]: refusals in a row.
    """

    def __init__(self, objective: Evaluates, theta: Tensor, at: Point) -> None:
        self.objective = objective
        self.theta = theta
        self.at = at
        self.direction = torch.zeros_like(theta)
        self.step = torch.ones_like(at.value)
        self.refused = torch.zeros_like(at.value)
        self._numbers: Numbers | None = None

    @property
    def numbers(self) -> Numbers:
        """What is read back after the last trial; waits for the device the first time it is asked for."""
        if self._numbers is None:
            at = self.at
            found = [self.refused, at.value, at.gap, at.gradient.norm(dim=0), self.step]
            self._numbers = Numbers(*read_back(found))
        return self._numbers

    def aim(self, direction: Tensor) -> None:
        """Choose where to go from the accepted point; a refused step keeps its length."""
        self.direction = direction
        self.step = torch.where(self.refused > 0, self.step, 1.0)

    def predicted(self, trial: Tensor) -> Tensor:
        """Change of P that the linear model of its smooth part predicts, [K]; below 0."""
        l1 = self.objective.l1_of
        return (self.at.gradient * (trial - self.theta) + l1 * (trial.abs() - self.theta.abs())).sum(dim=0)

    def advance(self, *, curvature: bool = False, keep: bool = False) -> Tensor:
        """Evaluate the trial point and go there if it is good enough; bool [K], whether it was.

        The step after a refusal minimises the parabola through what is known, within 0.1 to 0.5 of the last.
        """
        trial = self.theta + self.step * self.direction
        new = self.objective.evaluate(trial, curvature=curvature, keep=keep)
        predicted = self.predicted(trial)
        change = new.value - self.at.value
        accepted = change <= _SUFFICIENT * predicted + _ROUNDING * self.at.value.abs()
        parabola = -0.5 * predicted / (change - predicted)
        shorter = self.step * torch.where(parabola.isfinite(), parabola, 0.1).clamp(0.1, 0.5)
        self.at = Point(
            *(
                torch.where(accepted, b, a)
                for a, b in zip(vars(self.at).values(), vars(new).values(), strict=True)
            )
        )
        self.theta = torch.where(accepted, trial, self.theta)
        self.step = torch.where(accepted, 1.0, shorter)
        self.refused = torch.where(accepted, 0.0, self.refused + 1)
        self._numbers = None
        return accepted
