"""What a fit of more than two classes without a penalty needs beside a solver; see
`flashlogit.solvers.unpenalised.logistic`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...objectives.certificate import Certificate
from ...objectives.softmax import SoftmaxObjective
from ..driver import Outcome, Solver
from ..newton_cg import ConjugateGradients
from ..proximal import factor, solve
from .collinearity import Collinear, find_collinear
from .logistic import CG_STEPS, DENSE_COLUMNS, VERY_FLAT, collinear_notes, step_further, without_gap
from .separation import Separation

DENSE_PARAMETERS = 1024
"""Most parameters, of all classes, of which a matrix is made."""


class UnpenalisedSoftmax:
    """Collinear columns, the Newton decrement and separation of one softmax objective, see `Unpenalised`."""

    def __init__(self, objective: SoftmaxObjective) -> None:
        """Looks for collinear columns, which takes a read of X with its second moments."""
        self.objective = objective
        self._bounded = objective.l1 > 0 or objective.l2 > 0
        self.collinear: Collinear | None = None
        self._newton_step = torch.empty(0)
        self._dense = objective.parameters <= DENSE_PARAMETERS
        if objective.coordinates.columns > DENSE_COLUMNS:
            return
        self.collinear = find_collinear(objective.gram(), intercept=objective.intercept)
        if self.collinear and self._dense:
            objective.flatten_along(self.collinear.null_space)

    def notes(self, names: Sequence[str]) -> list[str]:
        """A sentence on collinear columns, if there are any."""
        return collinear_notes(self.collinear, names)

    def certify(self, solver: Solver) -> Certificate:
        """Half the squared Newton decrement."""
        whole = self._dense and self.objective.null_space is None
        return without_gap(self.objective, solver, self._decrement, whole=whole)

    def separated(self) -> bool:
        """Whether every row's largest logit is its own class's, at the point just evaluated: complete separation."""
        return not self._bounded and self.objective.separated()

    def separation(self, outcome: Outcome) -> Separation | None:
        """Whether there is no optimum, where a solver has ended: proven if complete, else judged by the curvature."""
        if self._bounded:
            return None
        if outcome.ending == "separated":
            return Separation(
                "complete",
                f"the fit came to parameters that have all {len(self.objective.X):,} rows on their labels' sides",
            )
        if self._flatness(outcome.theta) > VERY_FLAT:
            return None
        return Separation("suspected", "the curvature of the loss has all but vanished in some direction")

    def optimum(self, outcome: Outcome) -> tuple[Tensor, Certificate]:
        """theta [P K, 1] where a solver has ended, one Newton step further, and of all optima the one of least norm."""
        objective = self.objective
        theta, certificate = step_further(objective, outcome, self._newton_step)
        if not self.collinear:
            return theta, certificate
        weight, bias = objective.to_user(theta)
        intercept = bias + objective.coordinates.center @ weight
        weight = self.collinear.minimum_norm(weight)
        return objective.from_user(weight, intercept - objective.coordinates.center @ weight), certificate

    def _decrement(self, theta: Tensor, gradient: Tensor) -> float:
        if self._dense:
            H = self.objective.hessian(theta, dtype=torch.float64)
            self._newton_step = -solve(factor(H), gradient)
            return -0.5 * float((gradient * self._newton_step).sum())
        self.objective.evaluate(theta, curvature=True)
        run = ConjugateGradients(self.objective, gradient)
        norm = float(gradient.norm())
        for _ in range(CG_STEPS):
            if float(run.residual_norm) <= 1e-3 * norm:
                break
            run.advance()
        self._newton_step = run.x
        return 0.5 * max(0.0, -float((gradient * run.x).sum()))

    def _flatness(self, theta: Tensor) -> float:
        """Least curvature along any direction as a share of the null model's; 1 where no matrix is made."""
        if not self._dense:
            return 1.0
        objective = self.objective
        null = objective.hessian(objective.null_theta(), dtype=torch.float64)
        H = objective.hessian(theta, dtype=torch.float64)[0]
        L = factor(null)[0]
        half = torch.linalg.solve_triangular(L, H, upper=False)
        least = float(torch.linalg.eigvalsh(torch.linalg.solve_triangular(L, half.t(), upper=False))[0])
        return least if math.isfinite(least) else 0.0
