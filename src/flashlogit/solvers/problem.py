"""What solvers ask of the objective that they minimise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch import Tensor

from ..objectives.certificate import Certificate
from ..objectives.coordinates import Coordinates
from ..objectives.logistic import Point

if TYPE_CHECKING:
    from .driver import Outcome, Solver
    from .unpenalised.separation import Separation


class Problem(Protocol):
    """An objective over theta [P, 1]: `flashlogit.objectives.logistic.ConvexObjective` for two classes, where all is
    documented, and
    `flashlogit.objectives.softmax.SoftmaxObjective` for more, whose theta holds its K models side by side."""

    X: Tensor
    l1: float
    l2: float
    l1_of: Tensor
    l2_of: Tensor
    coordinates: Coordinates
    penalised: bool
    product_dtype: torch.dtype
    reads: float

    @property
    def parameters(self) -> int: ...

    @property
    def null_value(self) -> float: ...

    def null_theta(self) -> Tensor: ...

    def settled(self, theta: Tensor) -> Tensor: ...

    def evaluate(self, theta: Tensor, *, curvature: bool = False, keep: bool = False) -> Point: ...

    def product(self, v: Tensor) -> Tensor: ...

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor: ...

    def sampled_hessian(self, rows: int, *, rough: bool = False) -> Tensor: ...

    def sample(self, rows: int) -> Self | None: ...

    def certify(self, theta: Tensor) -> Certificate: ...


class WithoutPenalty(Protocol):
    """What a fit without a penalty needs beside a solver: `flashlogit.solvers.unpenalised.logistic` documents it."""

    def notes(self, names: Sequence[str]) -> list[str]: ...

    def certify(self, solver: Solver) -> Certificate: ...

    def separated(self) -> bool: ...

    def separation(self, outcome: Outcome) -> Separation | None: ...

    def optimum(self, outcome: Outcome) -> tuple[Tensor, Certificate]: ...
