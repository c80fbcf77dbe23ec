"""L-BFGS, one pass over X for each step and no matrix of size D x D; with an l1 term, its proximal kin.

The last m steps S and changes of the gradient Y give estimates of the Hessian B and its inverse H in the compact form
of Byrd, Nocedal and Schnabel 1994 (theorems 2.2 and 2.3), which is a few small matrix products; the two-loop recursion
is a chain of 4 m vector operations, each a launch of its own on a GPU. Without an l1 term the direction is -H g. With
one, the next point minimises g . x + 1/2 x^T B x + l1 |theta + x| by products with B only (Lee, Sun and Saunders 2014,
"Proximal Newton-type methods"). OWL-QN, which projects -H g on an orthant, was tried: half of its steps were refused,
and 20,000 x 1,024 with l1 = 1e-3 had a relative gap of 2e-2 after 404 passes over X; this one, of 7e-7 after 71.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..objectives.objective import Objective
from .method import Search, Start, State, of_shapes
from .proximal import accelerated


@dataclass(frozen=True)
class Tuning:
    """How much is remembered, and how far the model with an l1 term is minimised."""

    memory: int = 20
    """Pairs kept. At 20,000 x 1,024, to a relative gap of 1e-8: 102 passes with 5, 78 with 10, 57 with 20, 55 with
    40."""
    inner_steps: int = 300
    """Most steps of the proximal gradient method on the model: each costs two products with [m, P]."""
    curved: float = 1e-14
    """Least s . y as a share of |y|^2 at which a pair is kept: below, rounding may be all there is."""


TUNING = Tuning()


class LBFGS:
    """State of the method; `advance` is one evaluation, and waits for the device at its end, with an l1
    term also now and then while the model is minimised."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        self.search = Search(objective.l1_of, start.at or objective.evaluate(start.theta, certified=True))
        self._pairs = Pairs(start.theta, start.state)
        self._expected = self._set_direction()

    @property
    def decrement(self) -> float:
        """The decrease of P that the estimate expects of the next step; waits for the device."""
        return float(self._expected.sum())

    def advance(self) -> bool:
        """Try the next point; return whether it was good enough."""
        self.step()
        return self.search.numbers.refused == 0

    def state(self) -> State:
        """Return the pairs."""
        return self._pairs.state()

    def step(self) -> None:
        """Try the next point without waiting for the device, unless there is an l1 term."""
        search, before = self.search, self.search.at
        accepted = search.judge(self.objective.evaluate(search.trial, certified=True))
        self._pairs.remember(search.theta - before.theta, search.at.gradient - before.gradient, accepted)
        self._expected = self._set_direction()

    def _set_direction(self) -> Tensor:
        search, l1 = self.search, self.objective.l1_of
        gradient = search.at.gradient
        if self.objective.l1 > 0:
            times = self._pairs.hessian()
            end = accelerated(times, gradient, search.theta, l1, steps=TUNING.inner_steps)
        else:
            end = search.theta - self._pairs.inverse_times(gradient)
        # What the classes of a softmax have in common is curved by the penalty alone: taken off at once, half of the
        # steps are enough.
        direction = self.objective.canonical(end) - search.theta
        search.set_direction(direction)
        return -0.5 * search.predicted(search.theta + direction)


class Pairs:
    """The last steps and changes of the gradient, [m, P, K] each, the newest first; places not yet used hold zeros."""

    def __init__(self, theta: Tensor, state: State | None = None) -> None:
        P, K = theta.shape
        if state is None:
            empty = theta.new_zeros((TUNING.memory, P, K))
            state = {"steps": empty, "changes": empty, "used": theta.new_zeros((TUNING.memory, K))}
        self._steps, self._changes, self._used = of_shapes(
            state, steps=(TUNING.memory, P, K), changes=(TUNING.memory, P, K), used=(TUNING.memory, K)
        )

    def state(self) -> State:
        """Return all of it."""
        return {"steps": self._steps, "changes": self._changes, "used": self._used}

    def remember(self, step: Tensor, change: Tensor, accepted: Tensor) -> None:
        """Keep a pair [P, K] where a step was taken along which the gradient changed as a convex function's does."""
        curved = (step * change).sum(dim=0) > TUNING.curved * change.square().sum(dim=0)
        keep = accepted & curved

        def pushed(newest: Tensor, history: Tensor) -> Tensor:
            moved = torch.cat([newest.to(history.dtype)[None], history[:-1]])
            return torch.where(keep, moved, history)

        self._steps, self._changes = pushed(step, self._steps), pushed(change, self._changes)
        self._used = pushed(torch.ones_like(keep), self._used)

    def inverse_times(self, v: Tensor) -> Tensor:
        """Return H v for v [P, K]."""
        S, Y, SY, empty = self._products()
        columns = v.t()[:, :, None]
        YY = Y @ Y.mT
        # With the newest first, the theorem's upper triangle is a lower one.
        R = torch.tril(SY) + empty
        curvature = SY.diagonal(dim1=1, dim2=2)
        gamma = 1 / self._size(curvature, YY)
        a = torch.linalg.solve_triangular(R, S @ columns, upper=False)
        middle = curvature[:, :, None] * a + gamma * (YY @ a) - gamma * (Y @ columns)
        c = torch.linalg.solve_triangular(R.mT, middle, upper=True)
        product: Tensor = gamma * columns + S.mT @ c - gamma * (Y.mT @ a)
        return product[:, :, 0].t()

    def hessian(self) -> Callable[[Tensor], Tensor]:
        """Return what multiplies by B: sigma v - U M^-1 U^T v with U = (sigma S, Y)."""
        S, Y, SY, empty = self._products()
        curvature = SY.diagonal(dim1=1, dim2=2)
        sigma = self._size(curvature, Y @ Y.mT)
        L = torch.triu(SY, diagonal=1)
        upper = torch.cat([sigma * (S @ S.mT) + empty, L], dim=2)
        lower = torch.cat([L.mT, -torch.diag_embed(curvature) - empty], dim=2)
        U = torch.cat([sigma * S, Y], dim=1)
        inner = torch.linalg.solve_ex(torch.cat([upper, lower], dim=1), U)[0]

        def times(v: Tensor) -> Tensor:
            columns = v.t()[:, :, None]
            product: Tensor = sigma * columns - U.mT @ (inner @ columns)
            return product[:, :, 0].t()

        return times

    def _products(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return S and Y as [K, m, P], S Y^T, and ones on the diagonal where a place is empty, [K, m, m]."""
        S, Y = self._steps.permute(2, 0, 1), self._changes.permute(2, 0, 1)
        return S, Y, S @ Y.mT, torch.diag_embed(1 - self._used.t())

    @staticmethod
    def _size(curvature: Tensor, YY: Tensor) -> Tensor:
        """Return sigma [K, 1, 1], the curvature along the newest step; 1 before there is any."""
        newest = curvature[:, 0]
        return torch.where(newest > 0, YY[:, 0, 0] / newest, 1.0)[:, None, None]
