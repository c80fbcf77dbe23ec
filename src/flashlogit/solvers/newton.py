"""Newton's method with the whole Hessian, which is computed as seldom as will do.

    H = H(theta_0)        minimise g . x + 1/2 x^T H x + l1 |theta + x|        theta <- theta + x

A pass with the Hessian costs several without. An old Hessian, or one of a sample of the rows, is a good one as long as
every step brings the model's decrease down by a factor of ten; only when it does not is a new one computed. Meanwhile
each step corrects it along itself (a BFGS update), which costs nothing. The l1 term is part of the model (a proximal
Newton method), so that exact zeros come out of it; of many columns `flashlogit.solvers.working_set` chooses some first.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..objectives.objective import Objective
from .l1_model import minimise_model
from .method import Search, Start, State, of_shapes, read_back
from .proximal import factor, solve, try_factor


@dataclass(frozen=True)
class Tuning:
    """When a Hessian is computed anew, and when in float64."""

    good_ratio: float = 0.1
    """The Hessian is renewed where the decrease that the model predicts is more than this share of the last one."""
    wide_ratio: float = 0.3
    """The same share with an l1 term and more than `wide` parameters, where a Hessian takes ten passes: 20,000 x 300
    took 710 ms with 0.1, by 4 Hessians and 8 evaluations, and 320 with this, by 2 and 13."""
    wide: int = 129
    """Most parameters of a pass with the Hessian."""
    corrected_parameters: int = 513
    """Most parameters for which an old Hessian is corrected: beyond, new factors of it take longer than a step."""
    curved: float = 1e-3
    """Share of the old curvature along a step that the new one must have: with less, rounding may be all there is."""
    exact_below: float = 1e-3
    """Share of the null model's P at which a new float32 Hessian that leads no further has its rounding to blame."""
    one_step: float = 1e4
    """By what a step may divide the gap: where that would do, its point is evaluated as the last one. Up to 32 columns
    a pass of float64 takes next to no longer for that, and the read of X that it spares half as long as a pass."""
    host_columns: int = 128
    """Most parameters for which NumPy factors a Hessian. Torch's factors end with an operation that waits for all
    threads of OpenMP: on busy cores 65 columns took 12 ms in place of 0.02. At 1,025 NumPy's own threads took 2 s."""
    refusals: int = 4
    """After so many shorter steps along a new direction the rounding of a float32 Hessian is taken for the cause."""


TUNING = Tuning()


class Newton:
    """State of the method at an accepted point; `advance` is one evaluation, and what follows from it."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        self.hessian = start.hessian
        self._factors: Tensor | None = None
        self._new = self._was_new = False
        self._dtype: torch.dtype | None = None
        self._last = math.inf
        self._as_last = False
        """Whether the accepted point was evaluated as the last one: its certificate has other last digits then."""
        self._near = TUNING.one_step * start.tolerance * objective.null_value
        if start.state is not None:
            P, K = start.theta.shape
            # A step that a kernel made keeps an inverse, which may not be sound: the Hessian is computed anew.
            if "last" in start.state:
                self.hessian, new, before, last = of_shapes(start.state, hessian=(K, P, P), new=(), was_new=(), last=())
                self._new, self._was_new = bool(new), bool(before)
                self._last = float(last) if last >= 0 else math.inf
            self._dtype = torch.float64 if bool(of_shapes(start.state, exact=())[0]) else None
            self._as_last = bool(start.state.get("as_last", False))
        at = start.at or objective.evaluate(start.theta, certified=True, last=self._as_last)
        self.search = Search(objective.l1_of, at)
        self._decrement: float | None = None

    @property
    def decrement(self) -> float:
        """The decrease of P that the model expects of the next step, which is found when it is first asked for."""
        if self._decrement is None:
            self._decrement = self._set_direction()
            wide = self.objective.l1 > 0 and self.objective.parameters > TUNING.wide
            if self._decrement > (TUNING.wide_ratio if wide else TUNING.good_ratio) * self._last:
                if self._was_new and self._decrement < TUNING.exact_below * self.objective.null_value:
                    self._dtype = torch.float64
                self._renew()
        return self._decrement

    def advance(self) -> bool:
        """Try the next point; return whether it was good enough."""
        last, before, search = self.decrement, self.search.at, self.search
        near = search.numbers.gap <= self._near
        search.judge(self.objective.evaluate(search.trial, certified=True, last=near))
        refused = search.numbers.refused
        if refused > 0:
            inexact = self._dtype is None and self.objective.product_dtype != torch.float64
            if self._new and inexact and refused >= TUNING.refusals:
                self._dtype = torch.float64
                self._renew()
            elif not self._new and refused > 1:
                self._renew()
            return False
        self._as_last = near
        self._last, self._decrement, self._was_new, self._new = last, None, self._new, False
        if self.objective.parameters <= TUNING.corrected_parameters:
            self._correct(search.theta - before.theta, search.at.gradient - before.gradient)
        return True

    def state(self) -> State:
        """Return the Hessian, if there is one yet; whether it is new, and was at the last point; whether it is to be in
        float64; the last decrement, or -1; whether the point was evaluated as the last one."""
        new, was_new, exact = (torch.tensor(each) for each in (self._new, self._was_new, self._dtype is not None))
        last = torch.tensor(self._last if math.isfinite(self._last) else -1.0, dtype=torch.float64)
        of_hessian = {"hessian": self.hessian, "was_new": was_new, "last": last} if self.hessian is not None else {}
        return {"new": new, "exact": exact, "as_last": torch.tensor(self._as_last), **of_hessian}

    def _renew(self) -> None:
        """Compute the Hessian at the accepted point, and go on along its direction."""
        self.hessian = None
        self._last = math.inf
        self.search.restart()
        self._decrement = self._set_direction()

    def _correct(self, s: Tensor, y: Tensor) -> None:
        """Make H s = y, s being the last step and y what it changed in the gradient, [P, K]."""
        assert self.hessian is not None
        H = self.hessian
        Hs = _times(H, s)
        bent, curved = (s * Hs).sum(dim=0), (s * y).sum(dim=0)
        less, more = (Hs / bent.sqrt()).t()[:, :, None], (y / curved.sqrt()).t()[:, :, None]
        good = (bent > 0) & (curved > TUNING.curved * bent)
        self.hessian = torch.where(good[:, None, None], H - less @ less.mT + more @ more.mT, H)
        self._factors = None

    def _set_direction(self) -> float:
        """Choose the direction; return half the squared Newton decrement, or what the model expects to gain."""
        if self.hessian is None:
            self.hessian = self.objective.hessian(self.search.theta, dtype=self._dtype)
            self._factors, self._new = None, True
        H, search = self.hessian, self.search
        g = search.at.gradient
        if self.objective.l1 > 0:
            theta, l1, models = search.theta, self.objective.l1_of, [slice(k, k + 1) for k in range(len(H))]
            minima = [minimise_model(H[k], g[:, k], theta[:, k], l1[:, k]) for k in models]
            end = torch.cat([x for x, _ in minima], dim=1)
            if self._dtype is None and not all(convex for _, convex in minima):
                # Rounding of float32 has curved it downwards, where columns are next to copies of each other.
                self._dtype, self.hessian = torch.float64, None
                return self._set_direction()
            search.set_direction(self.objective.canonical(end) - theta)
            (change,) = read_back([self._change(H, end - theta, end)])
            return max(0.0, -change)
        found = None
        if self._factors is None:
            small = not H.is_cuda and H.shape[-1] <= TUNING.host_columns
            self._factors, found = _factored_on_host(H) if small else try_factor(H)
        direction = -solve(self._factors, g)
        values = [self._change(H, direction, search.theta + direction)]
        change, *sound = read_back(values if found is None else [*values, found.all()])
        if 0.0 in sound:
            self._factors = factor(H)
            direction = -solve(self._factors, g)
            (change,) = read_back([self._change(H, direction, search.theta + direction)])
        search.set_direction(direction)
        return max(0.0, -change)

    def _change(self, H: Tensor, direction: Tensor, end: Tensor) -> Tensor:
        """Return what the models change by in all along `direction` [P, K], which leads to `end`, []."""
        model = (self.search.at.gradient + 0.5 * _times(H, direction)) * direction
        if self.objective.l1 > 0:
            model = model + self.objective.l1_of * (end.abs() - self.search.theta.abs())
        return model.sum()


def _factored_on_host(H: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `try_factor` does in NumPy."""
    factors = np.full(H.shape, np.nan, H.numpy().dtype)
    for factor_of, matrix in zip(factors, H.numpy(), strict=True):
        with contextlib.suppress(np.linalg.LinAlgError):
            factor_of[:] = np.linalg.cholesky(matrix)
    return torch.from_numpy(factors), torch.from_numpy(np.isfinite(factors).all(axis=(1, 2)))


def _times(H: Tensor, v: Tensor) -> Tensor:
    """Return the products [P, K] of H [K, P, P] with the columns of v [P, K]."""
    return (H @ v.t()[:, :, None])[:, :, 0].t()
