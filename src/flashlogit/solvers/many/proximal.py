"""Directions of many models with an l1 term: each one's minimum of a quadratic model plus the l1 term.

    minimise g_k . d + 1/2 d^T B_k d + sum_j l1_jk |theta_jk + d_j|

B_k is the Hessian of a sample of the rows, which models of one target and one penalty share at first, corrected along
each accepted step by what it changed in the gradient (a BFGS update, as in `flashlogit.solvers.newton`). All of it runs
on the host, as for single fits (`flashlogit.solvers.l1_model`); each model has its coordinate descent in one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flashlogit_kernels.cpu.descent import descend
from flashlogit_kernels.cpu.pool import share

from ...objectives.models import Array, ModelObjectives, ModelPoints
from ..l1_model import minimise_model
from .hessians import Preconditioner

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tuning:
    """How far a model is minimised, and what corrects it."""

    left: float = 1e-3
    """Share of the first moves' norm that is left: the next step starts from there."""
    sweeps: tuple[int, int] = (10, 300)
    """Sweeps of coordinate descent, at least and at most, before what else there is for a badly conditioned B."""
    products: int = 5_000_000
    """As many as take so many products, if all variables move."""
    curved: float = 1e-3
    """Share of the old curvature along a step that the new one must have: with less, rounding may be all there is."""


TUNING = Tuning()


class ProximalDirections:
    """B_k of the models of a wave, Q x Q numbers each; they begin as what a preconditioner, made, has."""

    def __init__(self, preconditioner: Preconditioner) -> None:
        self._preconditioner = preconditioner
        self.renew()

    def renew(self) -> None:
        """Go on with another Hessian of the sample."""
        self._B: Floats = _host(self._preconditioner.matrices())

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some of the models."""
        self._B = self._B[models]

    def learn(self, moved: Array, change: Array, accepted: Array) -> None:
        """Make B s = y for the steps s and changes of the gradient y [Q, K] of the models `accepted` [K]."""
        S, Y, went = _host(moved), _host(change), np.flatnonzero(_host(accepted))

        def update(place: int) -> None:
            k = went[place]
            B, s, y = self._B[k], S[:, k], Y[:, k]
            Bs = np.einsum("ij,j", B, s)  # the BLAS would give a large B to threads of its own
            bent, curved = s @ Bs, s @ y
            if bent > 0 and curved > TUNING.curved * bent:
                B += np.outer(y / curved, y) - np.outer(Bs / bent, Bs)

        share(update, len(went))

    def at(self, point: ModelPoints, objectives: ModelObjectives, wanted: Array) -> Array:
        """Return where the models `wanted` [K] go from a point, [Q, K], and 0 for the others."""
        theta, g = (np.ascontiguousarray(_host(each).T) for each in (point.theta, point.gradient))
        l1 = np.ascontiguousarray(_host(objectives.array("l1_of")).T)
        ends, some = theta.copy(), np.flatnonzero(_host(wanted))
        sweeps = min(max(TUNING.products // theta.shape[1] ** 2, TUNING.sweeps[0]), TUNING.sweeps[1])
        done = np.ones(len(some), bool)

        def minimise(place: int) -> None:
            k = some[place]
            slope, x = g[k].copy(), ends[k]
            goal = TUNING.left * descend(self._B[k], slope, x, l1[k], sweeps=1, goal=0.0)
            if goal > 0:
                done[place] = descend(self._B[k], slope, x, l1[k], sweeps=sweeps, goal=goal) <= goal

        share(minimise, len(some))
        for k in some[~done]:
            H, *columns = (torch.from_numpy(each[k]) for each in (self._B, g, theta, l1))
            ends[k] = minimise_model(H[None], *(each[:, None] for each in columns))[0][:, 0].numpy()
        return objectives.on_device(np.ascontiguousarray((ends - theta).T))


def _host(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
