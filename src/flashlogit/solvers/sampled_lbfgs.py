"""L-BFGS on a CPU, which looks at how fast the gradient falls and takes the Hessian of a sample when that pays.

The two-loop recursion (Nocedal 1980) begins with H0 = gamma M^-1. M is the identity at first, for the coordinates have
unit curvature on the diagonal. It becomes the Hessian of a sample of the rows once that is expected to spare more
passes over X than it costs: at the start where it is cheap; at once where the first step is refused, which shows an
eigenvalue far above the others; else by the rate that is seen, after some steps. The steps and changes of the gradient
that are remembered hold for any H0, so that what was learnt is kept.

A product of conjugate gradients costs as much as a step here, after which the gradient is that of a better point:
truncated Newton takes 1.2 to 10 times as many passes.

What happens between two passes is done in NumPy and by SciPy's BLAS. A product of torch's waits for all threads of
OpenMP, which takes milliseconds where the cores are busy: on two busy cores a fit of 16 passes over 20,000 x 1,024 took
1.6 s with the recursion in torch, and takes 0.26 s.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..objectives.objective import Objective, Point
from .lbfgs import TUNING as LBFGS
from .method import Search, Start, State, of_shapes
from .newton_cg import TUNING as NEWTON_CG
from .newton_cg import Preconditioner


@dataclass(frozen=True)
class Tuning:
    """When the Hessian of a sample is expected to pay; logarithms are natural ones."""

    usual_rate: float = 0.8
    """Logarithm of what a step divides the gradient by without one, on well conditioned data."""
    sampled_rate: float = 1.0
    """The same with one, as a share of half the logarithm of the sample's rows for each parameter."""
    refused_rate: float = 0.15
    """The logarithm without one where the first step is refused: eigenvalues lie apart then. 20,000 x 1,024 had 0.17
    with correlated columns and 0.04 with five large ones, 500 x 4,096 correlated 0.2, where the factors of a sample's
    Hessian take as long as 1,700 passes."""
    judged_after: int = 6
    """Least steps over which the rate is measured."""
    waited: float = 0.2
    """More are waited for where it costs much: so many of the passes that it costs."""
    most_waited: int = 50
    """Most steps over which the rate is measured."""
    product_bound: float = 20.0
    """At so many columns a row in the sampled Hessian costs as much as in a pass, in float32."""
    half_bound: float = 50.0
    """The same in bfloat16."""
    factor_bound: float = 20.0
    """At so many rows for each parameter, squared, factors cost as much as a pass."""
    most_weight: float = 1e30
    """Sum of weights beyond which sums over a sample are in float64, for those in float32 may overflow."""
    sure: float = 1.2
    """It has to spare so many times the passes that it costs, where the rate is measured."""


TUNING = Tuning()


class SampledLBFGS:
    """State of the method at an accepted point; `advance` is one evaluation. For one class, without an l1 term."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        P, state = objective.parameters, start.state
        # With l1 = 0 the gap is sum_j g_j^2 / (2 l2_j).
        least = float(torch.where(objective.l2_of > 0, objective.l2_of, torch.inf).amin())
        l2 = least if objective.penalised and least < math.inf else 1.0
        self._target = max(math.sqrt(2 * l2 * start.tolerance * objective.null_value), sys.float_info.min)
        self._preconditioner = Preconditioner(objective, state if state and "sample_rows" in state else None)
        self._dtype = objective.product_dtype
        if objective.loss.weight_sum > TUNING.most_weight:
            self._dtype, self._preconditioner.rough = torch.float64, False
        self.search = Search(objective.l1_of, self._evaluate(start.theta))
        m = LBFGS.memory
        self._steps, self._changes = np.zeros((m, P)), np.zeros((m, P))
        self._norms: list[float] = []
        """Norms of the gradient at the last points since M was made, the newest last."""
        if state is not None:
            steps, changes = of_shapes(state, steps=(m, P, 1), changes=(m, P, 1))
            self._steps, self._changes = steps[:, :, 0].numpy().copy(), changes[:, :, 0].numpy().copy()
            if "norms" in state:
                (norms,) = of_shapes(state, norms=(TUNING.most_waited + 1,))
                self._norms = [norm for norm in norms.tolist() if norm > 0]
        else:
            if start.hessian is not None:
                self._preconditioner.take(start.hessian)
            self._look()
        self.decrement = self._set_direction()

    def advance(self) -> bool:
        """Try the next point; return whether it was good enough."""
        search, before = self.search, self.search.at
        search.judge(self._evaluate(search.trial))
        if search.numbers.refused > 0:
            # The first step is right where the eigenvalues are alike.
            unknown = self._preconditioner.factors is None and not self._steps.any()
            if unknown and self._pays(math.log(search.numbers.gradient_norm / self._target), TUNING.refused_rate):
                self._make()
                search.restart()
                self.decrement = self._set_direction()
            return False
        s = (search.at.theta - before.theta)[:, 0].numpy()
        y = (search.at.gradient - before.gradient)[:, 0].numpy()
        if s @ y > LBFGS.curved * (y @ y):
            self._steps = np.concatenate([s[None], self._steps[:-1]])
            self._changes = np.concatenate([y[None], self._changes[:-1]])
        self._look()
        self.decrement = self._set_direction()
        return True

    def state(self) -> State:
        """Return the pairs, the newest first; the norms of the last gradients, and the sample's Hessian."""
        norms = torch.zeros(TUNING.most_waited + 1, dtype=torch.float64)
        norms[: len(self._norms)] = torch.tensor(self._norms, dtype=torch.float64)
        pairs = [torch.from_numpy(each)[:, :, None] for each in (self._steps, self._changes)]
        used = (pairs[0] != 0).any(dim=1).to(torch.float64)
        known = {"steps": pairs[0], "changes": pairs[1], "used": used, "norms": norms}
        return known | self._preconditioner.state()

    def _evaluate(self, theta: Tensor) -> Point:
        sampled = self.objective.parameters <= NEWTON_CG.most_parameters
        return self.objective.evaluate(theta, products=self._dtype if sampled else None, certified=True)

    def _look(self) -> None:
        """Take up the gradient's norm, and make M where it pays."""
        norm = self.search.numbers.gradient_norm
        if not norm > 0:
            return
        first = not self._norms and self._preconditioner.factors is None
        window = min(max(TUNING.judged_after, math.ceil(TUNING.waited * self._cost())), TUNING.most_waited)
        self._norms = [*self._norms, norm][-window - 1 :]
        steps = len(self._norms) - 1
        if first or steps == window:
            least = min(self._norms)  # it does not fall at every step
            rate = None if first else math.log(self._norms[0] / least) / steps
            if self._pays(math.log(least / self._target), rate):
                self._make()

    def _make(self) -> None:
        """Take the Hessian of a sample at the accepted point, and look at the rate anew."""
        if self._preconditioner.factors is not None:
            self._preconditioner.dtype = torch.float64
        self._preconditioner.make(self.search.at)
        self._norms = self._norms[-1:]

    def _cost(self) -> float:
        """Return about what the next sample's Hessian and its factors cost, in passes over X."""
        preconditioner, P, N = self._preconditioner, self.objective.parameters, len(self.objective.X)
        bound = TUNING.half_bound if preconditioner.rough else TUNING.product_bound
        return preconditioner.sample_rows / N * P / bound + P * P / (TUNING.factor_bound * N)

    def _pays(self, left: float, rate: float | None) -> bool:
        """Return whether a sample's Hessian spares passes: `left` is the logarithm by which the gradient is to fall,
        rate that of a step at present, if it is known."""
        P = self.objective.parameters
        if NEWTON_CG.most_parameters < P:
            return False
        apart = math.log(max(self._preconditioner.sample_rows / P, 2.0))
        needed = self._cost() + left / (TUNING.sampled_rate * 0.5 * apart)
        return left > (needed * TUNING.usual_rate if rate is None else TUNING.sure * needed * max(rate, 0.0))

    def _set_direction(self) -> float:
        """Choose the direction; return half of what the linear model expects of it."""
        g = self.search.at.gradient[:, 0].numpy()
        used = int((self._steps != 0).any(axis=1).sum())
        curvature = [s @ y for s, y in zip(self._steps[:used], self._changes, strict=False)]
        q, alphas = g.copy(), [0.0] * used
        for k in range(used):
            alphas[k] = (self._steps[k] @ q) / curvature[k]
            q -= alphas[k] * self._changes[k]
        r = self._sampled_inverse(q)
        if used:
            y = self._changes[0]
            r *= curvature[0] / (y @ self._sampled_inverse(y))
        for k in reversed(range(used)):
            r += (alphas[k] - (self._changes[k] @ r) / curvature[k]) * self._steps[k]
        self.search.set_direction(torch.from_numpy(-r)[:, None])
        return max(0.0, 0.5 * float(g @ r))

    def _sampled_inverse(self, v: Any) -> Any:
        """Return M^-1 v [P], which may be v itself."""
        return self._preconditioner.times(torch.from_numpy(v)[:, None])[:, 0].numpy()
