"""Truncated Newton: the direction by conjugate gradients, each step of which is one read of X.

    H x = -g        until |g + H x| <= eta |g|

The coordinates have unit curvature on the diagonal, which is a Jacobi preconditioner and all there is beyond 4,096
columns, where nothing of size D x D is made; up to there the Hessian of a sample is a better one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .driver import State, of_shapes
from .precondition import Preconditioner, precondition
from .problem import Problem
from .search import Search

_LOOSEST = 0.03
"""First eta. At 20,000 x 1,024: 39 reads of X in all; 43 with 0.1, and 40 to 45 with other schedules."""

_JUDGED_AFTER = 10
"""Products with one right-hand side before it is judged how fast the residual falls: of the first ten it may be two
that lower it."""

_REFUSALS = 4
"""Shorter steps along a direction, after which the rounding of float32 products is taken for the cause."""


class NewtonCG:
    """State of the method at an accepted point; `advance` is one Newton step."""

    def __init__(
        self, objective: Problem, theta: Tensor, *, tolerance: float, state: State | None = None
    ) -> None:
        """Start at theta [P, 1], or go on from a state there; `tolerance` is on the relative gap, and no residual need
        be much smaller."""
        self.objective = objective
        # With l1 = 0 the gap is sum_j g_j^2 / (2 l2_j).
        penalties = objective.l2_of[objective.l2_of > 0]
        l2 = float(penalties.min()) if objective.penalised and penalties.numel() else 0.0
        self._goal = math.sqrt(2 * l2 * tolerance * objective.null_value)
        self._target = self._goal or math.sqrt(2 * tolerance * objective.null_value)
        if state is not None and bool(of_shapes(state, exact=())[0]):
            objective.product_dtype = torch.float64
        self.search = Search(objective, theta, objective.evaluate(theta, curvature=True, keep=True))
        self._first = self.search.numbers.gradient_norm
        # No direction is known yet, but no step gains more than all of P.
        self._slope = theta.new_full((), -2 * self.search.numbers.value)
        self._aimed = False
        self._preconditioner = Preconditioner(objective, state)
        if state is not None:
            first, self._slope = of_shapes(state, first=(), slope=())
            self._first = float(first)
        elif self._first > 0 and self._preconditioner.pays(math.log(max(self._first / self._target, 1.0))):
            self._preconditioner.make()
        self._prepare()

    @property
    def decrement(self) -> float:
        """The decrease of P that the quadratic model expected of the last direction."""
        return 0.5 * max(0.0, -float(self._slope))

    def advance(self) -> bool:
        """Find a direction, unless the last one was refused, and try it; whether it was good enough."""
        if not self._aimed:
            self._aim()
        before = self.search.numbers
        self.search.advance(curvature=True, keep=True)
        after = self.search.numbers
        self._aimed = after.refused > 0
        if self.objective.product_dtype != torch.float64 and (
            after.refused >= _REFUSALS
            or (not self._aimed and after.value >= before.value and after.gap > 0.5 * before.gap)
        ):
            self._sharpen()
        return after.refused == 0

    def _sharpen(self) -> None:
        """Go on with products and a preconditioner in float64."""
        self.objective.product_dtype = torch.float64
        self.objective.evaluate(self.search.theta, curvature=True, keep=True)
        self.search.refused = torch.zeros_like(self.search.refused)
        self._aimed = False
        self._preconditioner.dtype = torch.float64
        if self._preconditioner.factors is not None:
            self._preconditioner.make()
        self._prepare()

    def state(self) -> State:
        """The preconditioner, the first gradient's norm, the decrease that was expected, and whether products are in
        float64."""
        first = torch.tensor(self._first, dtype=torch.float64)
        exact = torch.tensor(self.objective.product_dtype == torch.float64)
        return {"first": first, "slope": self._slope, "exact": exact, **self._preconditioner.state()}

    def _prepare(self) -> None:
        """Conjugate gradients with the preconditioner as it is."""
        self._run = ConjugateGradients(
            self.objective, self.search.at.gradient, factors=self._preconditioner.factors
        )

    def _aim(self) -> None:
        norm = self.search.numbers.gradient_norm
        eta = max(min(_LOOSEST, norm / self._first), 0.5 * self._goal / norm, 1e-4) if norm > 0 else 1.0
        run, objective = self._run, self.objective
        run.begin(self.search.at.gradient)
        poor = False
        for products in range(1, 2 * objective.parameters + 10):
            run.advance()
            residual = float(run.residual_norm)
            if residual <= eta * norm:
                break
            if products >= _JUDGED_AFTER:
                rate = math.log(max(norm / residual, 1e-9)) / products
                poor = self._preconditioner.pays(math.log(max(residual / self._target, 1.0)), rate)
                if poor:  # what has been found leads down in any case
                    break
        self._slope = (self.search.at.gradient * run.x).sum()
        # What the classes of a softmax have in common is curved by the penalty alone, and conjugate gradients would be
        # the last to find it: 20,000 x 100 with 5 classes and l2 = 1e-6 took 1,178 reads of X, and takes 52.
        theta = self.search.theta
        self.search.aim(objective.settled(theta + run.x) - theta)
        if poor:
            self._preconditioner.make()
            self._prepare()


class ConjugateGradients:
    """Solves H x = -g for x [P, K], one product at a time; what is solved stays as it is.

    factors [1, P, P]: of a preconditioner, see `precondition`.
    """

    def __init__(self, objective: Problem, g: Tensor, *, factors: Tensor | None = None) -> None:
        self._objective = objective
        self._factors = factors
        self.begin(g)

    def begin(self, g: Tensor) -> None:
        """From x = 0 on, with another right-hand side."""
        self.x = torch.zeros_like(g)
        self._r = -g
        self._p = precondition(self._factors, self._r)
        self._rz = (self._r * self._p).sum(dim=0)

    @property
    def residual_norm(self) -> Tensor:
        """|g + H x|, [] over all models."""
        return self._r.square().sum().sqrt()

    def advance(self) -> None:
        """One step, without waiting for the device."""
        Hp = self._objective.product(self._p)
        curvature = (self._p * Hp).sum(dim=0)
        alpha = torch.where(curvature > 0, self._rz / curvature, 0.0)
        self.x = self.x + alpha * self._p
        self._r = self._r - alpha * Hp
        z = precondition(self._factors, self._r)
        rz = (self._r * z).sum(dim=0)
        beta = torch.where(self._rz > 0, rz / self._rz, 0.0)
        self._p = z + beta * self._p
        self._rz = rz
