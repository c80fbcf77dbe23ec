"""Truncated Newton: the direction by conjugate gradients, each step of which is one read of X.

    H x = -g        until |g + H x| <= eta |g|

Nothing of size D x D is made, so that D may be anything. The coordinates have unit curvature on the diagonal, which is
a Jacobi preconditioner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flashlogit.convex import ConvexObjective

from .replay import Record, Replay
from .search import Search

_LOOSEST = 0.03
"""First eta. At 20,000 x 1,024: 39 reads of X in all; 43 with 0.1, and 40 to 45 with other schedules."""


class NewtonCG:
    """State of the method at an accepted point; `advance` is one Newton step."""

    def __init__(
        self,
        objective: ConvexObjective,
        theta: Tensor,
        *,
        tolerance: float,
        record: Record | None = None,
        reads: int = 1,
    ) -> None:
        """Start at theta [P, 1]; `tolerance` is on the relative gap, and no residual need be much smaller.

        With `record` products are replayed, and the residual read back every `reads` of them.
        """
        self.objective = objective
        self._reads = reads
        # With l1 = 0 the gap is sum_j g_j^2 / (2 l2_j).
        l2 = float(objective.l2_of[: objective.coordinates.columns].min())
        self._goal = math.sqrt(2 * l2 * tolerance * objective.null_value)
        self.search = Search(objective, theta, objective.evaluate(theta, curvature=True, keep=True))
        self._first = self._norm()
        self.decrement = math.inf
        self._aimed = False
        self._run = ConjugateGradients(objective, self.search.at.gradient)
        self._product = Replay(self._run.advance, self._get, self._put, record)

    def advance(self) -> bool:
        """Find a direction, unless the last one was refused, and try it; whether it was good enough."""
        if not self._aimed:
            self._aim()
        accepted = bool(self.search.advance(curvature=True, keep=True).all())
        self._aimed = not accepted
        return accepted

    def _get(self) -> list[Tensor]:
        return [*self._run.state, self.objective.curvature]

    def _put(self, tensors: Sequence[Tensor]) -> None:
        *run, self.objective.curvature = tensors
        self._run.put(run)

    def _norm(self) -> float:
        return float(self.search.at.gradient.norm())

    def _aim(self) -> None:
        norm = self._norm()
        eta = max(min(_LOOSEST, norm / self._first), 0.5 * self._goal / norm, 1e-4) if norm > 0 else 1.0
        run, objective = self._run, self.objective
        run.begin(self.search.at.gradient)
        for _ in range(0, 2 * objective.parameters + 10, self._reads):
            for _ in range(self._reads):
                passes = objective.reads
                self._product()
                objective.reads = passes + objective.share
            if float(run.residual_norm) <= eta * norm:
                break
        self.decrement = 0.5 * max(0.0, -float((self.search.at.gradient * run.x).sum()))
        self.search.aim(run.x)


class ConjugateGradients:
    """Solves H x = -g for x [P, K], one product at a time; what is solved stays as it is."""

    def __init__(self, objective: ConvexObjective, g: Tensor) -> None:
        self._objective = objective
        self.begin(g)

    def begin(self, g: Tensor) -> None:
        """From x = 0 on, with another right-hand side."""
        self.x = torch.zeros_like(g)
        self._r = -g
        self._p = -g
        self._rr = (g * g).sum(dim=0)

    @property
    def state(self) -> list[Tensor]:
        """What the next step depends on, beside the curvature that the objective keeps."""
        return [self.x, self._r, self._p, self._rr]

    def put(self, tensors: Sequence[Tensor]) -> None:
        """Go on from such a state."""
        self.x, self._r, self._p, self._rr = tensors

    @property
    def residual_norm(self) -> Tensor:
        """|g + H x|, [] over all models."""
        return self._rr.sum().sqrt()

    def advance(self) -> None:
        """One step, without waiting for the device."""
        Hp = self._objective.product(self._p)
        curvature = (self._p * Hp).sum(dim=0)
        alpha = torch.where(curvature > 0, self._rr / curvature, 0.0)
        self.x = self.x + alpha * self._p
        self._r = self._r - alpha * Hp
        rr = (self._r * self._r).sum(dim=0)
        beta = torch.where(self._rr > 0, rr / self._rr, 0.0)
        self._p = self._r + beta * self._p
        self._rr = rr
