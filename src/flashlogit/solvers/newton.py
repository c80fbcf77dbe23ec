"""Newton's method with the whole Hessian, which is computed as seldom as will do.

    H = H(theta_0)        minimise g . x + 1/2 x^T H x + l1 |theta + x|        theta <- theta + x

A pass with the Hessian costs several without. An old Hessian, or one of a sample of the rows, is a good one as long as
every step brings the model's decrease down by a factor of ten; only when it does not is a new one computed. Meanwhile
each step corrects it along itself (a BFGS update), which costs nothing. The l1 term is part of the model (a proximal
Newton method), so that exact zeros come out of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .driver import State, of_shapes
from .l1_model import minimise_model
from .problem import Problem
from .proximal import factor, solve, try_factor
from .search import Search, read_back

_GOOD_RATIO = 0.1
"""Of the decrease that the model predicts, from one step to the next: above it, the Hessian is renewed."""
_CORRECTED_PARAMETERS = 513
"""Most parameters for which an old Hessian is corrected: beyond, new factors of it would take longer than a step."""
_CURVED = 1e-3
"""Of the old curvature along a step: with less, rounding may be all there is of the new one."""
_EXACT_BELOW = 1e-3
"""Where a new float32 Hessian leads no further although less than this share of the null model's P is left, its
rounding is to blame."""

_REFUSALS = 4
"""Shorter steps along a new direction, after which the rounding of a float32 Hessian is taken for the cause."""


class Newton:
    """State of the method at an accepted point; `advance` is one evaluation, and what follows from it."""

    def __init__(
        self, objective: Problem, theta: Tensor, *, hessian: Tensor | None = None, state: State | None = None
    ) -> None:
        """Start at theta [P, 1], perhaps with the Hessian [1, P, P] of a sample, or go on from a state there."""
        self.objective = objective
        self.hessian = hessian
        self._factors: Tensor | None = None
        self._new = False
        self._dtype: torch.dtype | None = None
        if state is not None:
            P = objective.parameters
            self.hessian, new, exact = of_shapes(state, hessian=(1, P, P), new=(), exact=())
            self._new = bool(new)
            self._dtype = torch.float64 if bool(exact) else None
        self.search = Search(objective, theta, objective.evaluate(theta, keep=True))
        self.decrement = self._aim()

    def advance(self) -> bool:
        """Try the next point; whether it was good enough."""
        before, gradient = self.search.theta, self.search.at.gradient
        self.search.advance(keep=True)
        refused = self.search.numbers.refused
        if refused > 0:
            inexact = self._dtype is None and self.objective.product_dtype != torch.float64
            if self._new and inexact and refused >= _REFUSALS:
                self._dtype = torch.float64
                self._renew()
            elif not self._new and refused > 1:
                self._renew()
            return False
        last, was_new, self._new = self.decrement, self._new, False
        if self.objective.parameters <= _CORRECTED_PARAMETERS:
            self._correct(self.search.theta - before, self.search.at.gradient - gradient)
        self.decrement = self._aim()
        if self.decrement > _GOOD_RATIO * last:
            if was_new and self.decrement < _EXACT_BELOW * self.objective.null_value:
                self._dtype = torch.float64
            self._renew()
        return True

    def state(self) -> State:
        """The Hessian; whether it is new, and in float64 from now on."""
        assert self.hessian is not None
        new, exact = torch.tensor(self._new), torch.tensor(self._dtype is not None)
        return {"hessian": self.hessian, "new": new, "exact": exact}

    def _renew(self) -> None:
        self.hessian = self.objective.hessian(self.search.theta, dtype=self._dtype)
        self._factors = None
        self._new = True
        self.search.refused = torch.zeros_like(self.search.refused)
        self.decrement = self._aim()

    def _correct(self, s: Tensor, y: Tensor) -> None:
        """Make H s = y, s being the last step and y what it changed in the gradient, [P, 1]."""
        assert self.hessian is not None
        Hs = (self.hessian @ s.t()[:, :, None])[:, :, 0].t()
        bent, curved = (s * Hs).sum(dim=0), (s * y).sum(dim=0)
        good = (bent > 0) & (curved > _CURVED * bent)
        less = torch.einsum("pk,qk->kpq", Hs / bent.sqrt(), Hs / bent.sqrt())
        more = torch.einsum("pk,qk->kpq", y / curved.sqrt(), y / curved.sqrt())
        self.hessian = torch.where(good[:, None, None], self.hessian - less + more, self.hessian)
        self._factors = None

    def _aim(self) -> float:
        """Choose the direction; half the squared Newton decrement, or what the model expects to gain."""
        if self.hessian is None:
            self.hessian = self.objective.hessian(self.search.theta, dtype=self._dtype)
            self._new = True
        H, search = self.hessian, self.search
        g = search.at.gradient
        if self.objective.l1 > 0:
            end, convex = minimise_model(H, g, search.theta, self.objective.l1_of)
            if not convex and self._dtype is None:
                # Rounding of float32 has curved it downwards, where columns are next to copies of each other.
                self._dtype, self.hessian = torch.float64, None
                return self._aim()
            search.aim(self.objective.settled(end) - search.theta)
            (change,) = read_back([self._change(H, end - search.theta, end)])
            return max(0.0, -change)
        found = None
        if self._factors is None:
            self._factors, found = try_factor(H)
        direction = -solve(self._factors, g)
        values = [self._change(H, direction, search.theta + direction)]
        change, *sound = read_back(values if found is None else [*values, found.all()])
        if 0.0 in sound:
            self._factors = factor(H)
            direction = -solve(self._factors, g)
            (change,) = read_back([self._change(H, direction, search.theta + direction)])
        search.aim(direction)
        return max(0.0, -change)

    def _change(self, H: Tensor, direction: Tensor, end: Tensor) -> Tensor:
        """What the model changes by along `direction` [P, 1], which leads to `end`, []."""
        theta, l1 = self.search.theta, self.objective.l1_of
        model = (
            self.search.at.gradient * direction
            + 0.5 * torch.einsum("kpq,qk->pk", H, direction) * direction
            + l1 * (end.abs() - theta.abs())
        )
        return model.sum()
