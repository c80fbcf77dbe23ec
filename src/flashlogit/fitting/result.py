"""What a fit gives: parameters, the proof of how good they are, and states to go on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..objectives.certificate import Certificate
from ..objectives.objective import Objective
from ..solvers.driver import Ending, HistoryRow
from ..solvers.method import State
from ..solvers.unpenalised.finding import Separation

Parameters = tuple[Tensor, Tensor]
"""(weight [D], bias [1]), or [K, D] and [K] of K classes, float64, in the units of X."""


@dataclass(frozen=True)
class FitState:
    """A fit at an accepted point, from which another one of the same data, penalties and solver goes on.

    With the same number of threads it goes on as if it had never stopped, to the last bit.
    """

    solver: str
    """The method, as in `Fit.solver`."""
    tensors: State
    """What it knows, by name: to be saved as they are."""


@dataclass(frozen=True)
class FitPoint:
    """An accepted point of a fit: called, it gives its parameters."""

    state: FitState
    """What to go on from it with."""
    objective: Objective = field(repr=False)

    def __call__(self) -> Parameters:
        """Return weights and intercepts, in the units of X."""
        return parameters_of(self.objective, self.state.tensors["theta"])


Listener = Callable[[HistoryRow, FitPoint], object]
"""Called for each accepted point, with its row in the history."""


@dataclass(frozen=True)
class Fit:
    """A fitted model, and what is known about it."""

    weight: Tensor
    """[D] float64, in the units of X; [K, D] for more than two classes."""
    bias: Tensor
    """[1] float64, or [K]; 0 without an intercept."""
    certificate: Certificate
    """How far from the optimum it is at most."""
    tolerance: float
    """What was asked for of `certificate.relative`."""
    solver: str
    """The method that ran."""
    ending: Ending
    """Why it ended."""
    iterations: int
    """Evaluations of the objective over all rows, after the first."""
    passes: float
    """Passes over X; one over a part of its rows counts as that part."""
    bytes_read: float
    """Bytes of X that these read."""
    seconds: float
    """Time from the call to its end, without `compile_seconds`."""
    compile_seconds: float
    """Time within the fit in which kernels were compiled, or loaded from Triton's cache."""
    history: list[HistoryRow] = field(repr=False)
    """A row for each accepted point; its seconds are those since the call, with any compilation."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: how it ended if not well, collinear columns, separated classes."""
    separation: Separation | None = None
    """Whether the classes are separated, so that an unpenalised objective has no optimum."""

    @property
    def converged(self) -> bool:
        """Whether there is an optimum, and the certificate is within the tolerance."""
        return self.ending == "tolerance" and self.separation is None

    @property
    def objective(self) -> float:
        """P at the solution, in nats."""
        return self.certificate.objective

    @property
    def gap(self) -> float:
        """Proven bound on P - P*, in nats; see `Certificate.kind`."""
        return self.certificate.gap

    @property
    def relative_gap(self) -> float:
        """The same as a share of the null model's objective."""
        return self.certificate.relative


def parameters_of(objective: Objective, theta: Tensor) -> Parameters:
    """Return the weights and intercepts of theta [P C, 1] in the shapes that a `Fit` has."""
    weight, bias = objective.to_user(theta)
    return (weight[:, 0] if objective.loss.columns == 1 else weight.t().contiguous()), bias


def theta_of(objective: Objective, start: Parameters) -> Tensor:
    """Return the theta [P C, 1] of weights and intercepts in any of these shapes, with the least penalty."""
    weight, bias = (value.to(objective.X.device, torch.float64) for value in start)
    C = objective.loss.columns
    return objective.canonical(objective.from_user(weight.reshape(C, -1).t(), bias.reshape(C)))
