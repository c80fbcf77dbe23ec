"""What a fit without a penalty needs beside a solver: there may be no optimum, or many, and there is no duality gap.

With a penalty below rounding (`flashlogit.objectives.certificate.provable`) there is an optimum, however far away,
but no gap either; of many points as good as it, it is near the one with the smallest coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...objectives.certificate import Certificate
from ...objectives.logistic import ConvexObjective
from ..driver import Outcome, Solver
from ..newton_cg import ConjugateGradients
from ..problem import Problem
from ..proximal import factor, solve
from .collinearity import Collinear, find_collinear
from .separation import Separation, Undecided, fewest_columns, find_separation, smallest_margin

DENSE_COLUMNS = 2048
"""Most columns of which a matrix is made to look for collinear ones and to measure the Newton decrement."""
CG_STEPS = 200
_FLAT, VERY_FLAT = 0.05, 1e-3
"""Curvature in some direction, as a share of the null model's, from which separation is looked for, and from which it
is suspected where looking takes too long. A direction that the data leave free loses its curvature step by step."""


class Unpenalised:
    """Collinear columns, the Newton decrement and separation of one objective without a penalty above rounding."""

    def __init__(self, objective: ConvexObjective) -> None:
        """Looks for collinear columns, which takes a read of X with its second moments."""
        self.objective = objective
        self._bounded = objective.l1 > 0 or objective.l2 > 0
        self._gram: Tensor | None = None
        self.collinear: Collinear | None = None
        self._newton_step = torch.empty(0)
        self._known: tuple[Tensor, Tensor] | None = None
        coordinates = objective.coordinates
        D = coordinates.columns
        if D > DENSE_COLUMNS:
            return
        self._gram = objective.gram()
        self.collinear = find_collinear(self._gram, intercept=objective.intercept)
        basis = self.collinear.null_space
        if basis.shape[1]:
            padded = basis.new_zeros((objective.parameters, basis.shape[1]))
            padded[:D] = basis / coordinates.scale[:D, None]
            objective.null_space = torch.linalg.qr(padded).Q

    def notes(self, names: Sequence[str]) -> list[str]:
        """A sentence on collinear columns, if there are any."""
        return collinear_notes(self.collinear, names)

    def certify(self, solver: Solver) -> Certificate:
        """Half the squared Newton decrement."""
        whole = self._gram is not None and self.objective.null_space is None
        return without_gap(self.objective, solver, self._decrement, whole=whole)

    def separated(self) -> bool:
        """Whether every row is on its right side at the point just evaluated, which proves complete separation."""
        objective = self.objective
        if self._bounded:
            return False
        return bool(smallest_margin(objective.logits, objective.y, objective.sample_weight) > 0)

    def separation(self, outcome: Outcome) -> Separation | None:
        """Whether there is no optimum, where a solver has ended."""
        if self._bounded:
            return None
        if outcome.ending == "separated":
            return self._proven(outcome.theta)
        flatness = self._flatness(outcome.theta)
        if flatness > _FLAT:
            return None
        objective = self.objective
        found = find_separation(
            objective.X,
            objective.y,
            objective.sample_weight,
            intercept=objective.intercept,
            null_space=self._exchanges(),
        )
        if not isinstance(found, Undecided):
            return found
        if flatness > VERY_FLAT:
            return None
        return Separation(
            "suspected", f"the curvature of the loss has all but vanished in some direction ({found.reason})"
        )

    def _proven(self, theta: Tensor) -> Separation:
        """Complete separation, by the parameters at which every margin is positive."""
        coordinates = self.objective.coordinates
        weight, bias = coordinates.to_user(theta)
        # In these coordinates all columns have the same spread.
        standardized = theta[: coordinates.columns, 0].cpu()
        if (exchanges := self._exchanges()) is not None:
            units, center = 1 / coordinates.scale[: coordinates.columns].cpu(), coordinates.center.cpu()
            standardized = fewest_columns(standardized, float(bias), exchanges.cpu(), units, center)
        return Separation(
            "complete",
            f"the fit came to parameters that have all {len(self.objective.X):,} rows on their labels' sides",
            weight[:, 0].cpu(),
            float(bias),
            standardized,
        )

    def _exchanges(self) -> Tensor | None:
        """The null space without constant columns, whose share only the intercept can take."""
        found = self.collinear
        return found.null_space[:, len(found.constant) :] if found else None

    def optimum(self, outcome: Outcome) -> tuple[Tensor, Certificate]:
        """theta [P, 1] where a solver has ended, one Newton step further, and of all optima the one of least norm.

        The step is known from the certificate, and of a gap of 1e-10 it leaves about the square: a gap that is nothing
        to the loss of a million rows may still be a hundredth of a coefficient's standard error.
        """
        theta, certificate = step_further(self.objective, outcome, self._newton_step)
        if self.collinear is None:
            return theta, certificate
        coordinates = self.objective.coordinates
        D = coordinates.columns
        weight = self.collinear.minimum_norm(coordinates.centred(theta)[0])
        return torch.cat([weight / coordinates.scale[:D, None], theta[D:]]), certificate

    def _decrement(self, theta: Tensor, gradient: Tensor) -> float:
        if self._gram is not None:
            self._newton_step = -solve(factor(self._hessian(theta)), gradient)
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

    def _hessian(self, theta: Tensor) -> Tensor:
        """[1, P, P] float64: where a solver has ended both the decrement and the flatness ask for the same one."""
        if self._known is None or not torch.equal(self._known[0], theta):
            self._known = theta, self.objective.hessian(theta, dtype=torch.float64)
        return self._known[1]

    def _flatness(self, theta: Tensor) -> float:
        """Least curvature along any direction as a share of the null model's; 1 where no matrix is made."""
        if self._gram is None:
            return 1.0
        objective = self.objective
        mean = objective.mean_label if objective.intercept else 0.5
        null = objective.in_coordinates(self._gram * (mean * (1 - mean)), centred=True)[0]
        H = self._hessian(theta)[0]
        L = factor(null[None])[0]
        half = torch.linalg.solve_triangular(L, H, upper=False)
        least = torch.linalg.eigvalsh(torch.linalg.solve_triangular(L, half.t(), upper=False))[0]
        return float(least) if math.isfinite(float(least)) else 0.0


def collinear_notes(found: Collinear | None, names: Sequence[str]) -> list[str]:
    """A sentence on collinear columns, `names` [D] being those of all, if there are any."""
    if not found:
        return []
    return [f"{found.describe(names)}; of all optima the one with the smallest coefficients is given"]


def without_gap(
    objective: Problem, solver: Solver, decrement: Callable[[Tensor, Tensor], float], *, whole: bool
) -> Certificate:
    """What stands in for a gap: the decrement of P's smooth part, and all of a penalty that the decrement leaves out.

    That is an l1 term; and the l2 term, unless the decrement is `whole`, which is of the exact Hessian and of all
    directions. No more can be gained by either, since P* is at least the rest's least. Where there is a penalty, and
    with it an optimum, P itself is a gap if it is less: P* is at least 0.
    """
    search, theta = solver.search, solver.search.theta
    value, gap = search.numbers.value, decrement(theta, search.at.gradient)
    if objective.l1 > 0 or objective.l2 > 0:
        l2_of = 0.0 if whole else objective.l2_of
        gap += float((objective.l1_of * theta.abs() + 0.5 * l2_of * theta.square()).sum())
        if value <= gap:
            return Certificate("gap", value, value, objective.null_value)
    return Certificate("decrement", gap, value, objective.null_value)


def step_further(objective: Problem, outcome: Outcome, step: Tensor) -> tuple[Tensor, Certificate]:
    """The point [P, 1] one Newton step after a solver's end, if it is no worse, and its certificate; one read of X.

    The gap stays that of the point before: an upper estimate.
    """
    before = outcome.certificate
    if outcome.ending != "tolerance" or before.gap == 0:
        return outcome.theta, before
    theta = outcome.theta + step
    value = float(objective.evaluate(theta).value)
    if not value <= before.objective:
        return outcome.theta, before
    return theta, replace(before, objective=value)
