"""Truncated Newton: the direction by conjugate gradients, each step of which is one pass over X.

    H x = -g        until |g + H x| <= eta |g|

The coordinates have unit curvature on the diagonal, which is a Jacobi preconditioner and all there is beyond 4,096
columns, where nothing of size D x D is made; up to there the Hessian of a sample is a better one. In whatever units
columns are, and however nearly collinear, the Hessian of n of the rows differs from that of all by factors between
(1 - sqrt(P / n))^2 and (1 + sqrt(P / n))^2, so that each product divides the error by about sqrt(n / P). Without one,
20,000 x 768 whose singular values span three decades takes 4,400 products, and with two decades 750.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..objectives.design import half_dtype
from ..objectives.objective import Objective, Point
from .method import Search, Start, State, of_shapes
from .proximal import factor


@dataclass(frozen=True)
class Tuning:
    """How far a direction is solved for, what is done where products are inexact, and when a preconditioner pays."""

    loosest: float = 0.03
    """First eta. At 20,000 x 1,024: 39 passes over X in all; 43 with 0.1, and 40 to 45 with other schedules."""
    tightest: float = 1e-4
    """Least eta."""
    judged_after: int = 10
    """After so many products with one right-hand side it is judged how fast the residual falls: of the first ten it
    may be two that lower it."""
    fastest: float = 10.0
    """A product is not expected to divide the residual by more. On a GPU it is read back once that would be enough."""
    refusals: int = 4
    """After so many shorter steps along a direction the rounding of float32 products is taken for the cause."""
    most_parameters: int = 4097
    """Most parameters of a class: beyond, the matrix and its factors take too much memory and time."""
    share: int = 8
    """A sample has one row in so many, but at least `least_rows` and at most `most_rows` for each parameter."""
    least_rows: int = 8
    """Least rows of a sample for each parameter."""
    most_rows: int = 64
    """Most rows of a sample for each parameter, unless `share` asks for fewer."""
    product_bound: float = 40.0
    """At so many columns a row in the sampled Hessian costs as much as in a product, in float32."""
    half_bound: float = 130.0
    """The same in bfloat16."""
    factor_bound: float = 12.0
    """At so many rows for each parameter, squared, factors cost as much as a product over the rows."""
    usual_rate: float = 0.43
    """Natural logarithm of what a product divides the residual by without a preconditioner, on well conditioned
    data."""
    sure: float = 1.5
    """A preconditioner has to spare so many times the products that it costs: how fast others converge is an
    estimate."""
    half_noise: float = 1e-2
    """Share of the diagonal that is added to a matrix in bfloat16: smaller eigenvalues are noise."""


TUNING = Tuning()


class NewtonCG:
    """State of the method at an accepted point; `advance` is one Newton step."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        state = start.state
        # With l1 = 0 the gap is sum_j g_j^2 / (2 l2_j).
        least = float(torch.where(objective.l2_of > 0, objective.l2_of, torch.inf).amin())
        l2 = least if objective.penalised and least < math.inf else 0.0
        self._goal = math.sqrt(2 * l2 * start.tolerance * objective.null_value)
        self._target = self._goal or math.sqrt(2 * start.tolerance * objective.null_value)
        exact = state is not None and bool(of_shapes(state, exact=())[0])
        self._dtype = torch.float64 if exact else objective.product_dtype
        self.search = Search(objective.l1_of, self._evaluate(start.theta))
        self._first = self.search.numbers.gradient_norm
        # No direction is known yet, but no step gains more than all of P.
        self._slope = start.theta.new_full((), -2 * self.search.numbers.value)
        self._directed = False
        # A GPU idles from the time that something is read back until the next product is launched.
        self._reads_late = objective.X.is_cuda
        self._preconditioner = Preconditioner(objective, state)
        if state is not None:
            first, self._slope = of_shapes(state, first=(), slope=())
            self._first = float(first)
        elif self._first > 0 and self._preconditioner.pays(math.log(max(self._first / self._target, 1.0))):
            self._preconditioner.make(self.search.at)

    @property
    def decrement(self) -> float:
        """The decrease of P that the quadratic model expected of the last direction; waits for the device."""
        return 0.5 * max(0.0, -float(self._slope))

    def advance(self) -> bool:
        """Find a direction, unless the last one was refused, and try it; return whether it was good enough."""
        if not self._directed:
            self._set_direction()
        before = self.search.numbers
        self.search.judge(self._evaluate(self.search.trial))
        after = self.search.numbers
        self._directed = after.refused > 0
        if self._dtype != torch.float64 and (
            after.refused >= TUNING.refusals
            or (not self._directed and after.value >= before.value and after.gap > 0.5 * before.gap)
        ):
            self._sharpen()
        return after.refused == 0

    def state(self) -> State:
        """Return the preconditioner, the first gradient's norm, the decrease that was expected, and whether products
        are in float64."""
        first = torch.tensor(self._first, dtype=torch.float64)
        exact = torch.tensor(self._dtype == torch.float64)
        return {"first": first, "slope": self._slope, "exact": exact, **self._preconditioner.state()}

    def _evaluate(self, theta: Tensor) -> Point:
        return self.objective.evaluate(theta, products=self._dtype, certified=True)

    def _sharpen(self) -> None:
        """Go on with products and a preconditioner in float64."""
        self._dtype = torch.float64
        self.search.restart(self._evaluate(self.search.theta))
        self._directed = False
        self._preconditioner.dtype = torch.float64
        if self._preconditioner.factors is not None:
            self._preconditioner.make(self.search.at)

    def _set_direction(self) -> None:
        norm = self.search.numbers.gradient_norm
        eta = 1.0
        if norm > 0:
            eta = max(min(TUNING.loosest, norm / self._first), 0.5 * self._goal / norm, TUNING.tightest)
        at, objective = self.search.at, self.objective
        run = ConjugateGradients(objective, at, precondition=self._preconditioner.times)
        goal = max(eta * norm, sys.float_info.min)
        poor, residual, seen = False, norm, 0
        for products in range(1, 2 * objective.parameters + 10):
            run.advance()
            if self._reads_late and products - seen < math.log(max(residual, goal) / goal, TUNING.fastest):
                continue
            residual, seen = float(run.residual_norm), products
            if residual <= goal:
                break
            if products >= TUNING.judged_after:
                rate = math.log(max(norm / residual, 1e-9)) / products
                poor = self._preconditioner.pays(math.log(max(residual / self._target, 1.0)), rate)
                if poor:  # what has been found leads down in any case
                    break
        self._slope = (at.gradient * run.x).sum()
        # What the classes of a softmax have in common is curved by the penalty alone, and conjugate gradients would be
        # the last to find it: 20,000 x 100 with 5 classes and l2 = 1e-6 took 1,178 passes over X, and takes 52.
        self.search.set_direction(objective.canonical(at.theta + run.x) - at.theta)
        if poor:
            self._preconditioner.make(at)


class ConjugateGradients:
    """Solves H x = -g for x [P, K] at a point that was evaluated for products, one product at a time.

    A model that is solved stays as it is. precondition: gives M^-1 r for r [P, K], for a matrix M near H.
    """

    def __init__(
        self, objective: Objective, at: Point, *, precondition: Callable[[Tensor], Tensor] = lambda r: r
    ) -> None:
        self._objective, self._at, self._precondition = objective, at, precondition
        # A power of two, for which no digit changes: what is left of a gradient may be too small for float32.
        largest = at.gradient.abs().amax(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        self._size = largest / torch.frexp(largest).mantissa
        self._zero = torch.zeros_like(largest)
        self._x = torch.zeros_like(at.gradient)
        self._r = -at.gradient / self._size
        self._p = precondition(self._r)
        self._rz = (self._r * self._p).sum(dim=0)

    @property
    def x(self) -> Tensor:
        """What is known of the solution, [P, K]."""
        return self._x * self._size

    @property
    def residual_norm(self) -> Tensor:
        """|g + H x| of all models together, []."""
        return (self._r * self._size).square().sum().sqrt()

    def advance(self) -> None:
        """Make one step, without waiting for the device."""
        Hp = self._objective.product(self._at, self._p)
        curvature = (self._p * Hp).sum(dim=0)
        alpha = torch.where(curvature > 0, self._rz / curvature, self._zero)
        self._x = self._x + alpha * self._p
        self._r = self._r - alpha * Hp
        z = self._precondition(self._r)
        rz = (self._r * z).sum(dim=0)
        beta = torch.where(self._rz > 0, rz / self._rz, self._zero)
        self._p = z + beta * self._p
        self._rz = rz


class Preconditioner:
    """M = L L^T near the Hessian, made when it is expected to pay; as it was in a state, if one is given."""

    def __init__(self, objective: Objective, state: State | None = None) -> None:
        P, N = len(objective.scale), len(objective.X)
        self._objective, self._P, self._N = objective, P, N
        self.sample_rows = min(N, max(TUNING.least_rows * P, min(N // TUNING.share, TUNING.most_rows * P)))
        self.rough = half_dtype(objective.X) is not None
        self.factors: Tensor | None = None
        """L, [1, P, P]."""
        self.dtype = torch.float32
        """The factors' dtype: no digit of them is in a solution, but conjugate gradients may need them all the same."""
        self._inverse: Tensor | None = None
        if state is not None:
            sample_rows, rough, exact = of_shapes(state, sample_rows=(), rough=(), exact_factors=())
            self.sample_rows, self.rough = int(sample_rows), bool(rough)
            self.dtype = torch.float64 if bool(exact) else torch.float32
            if "factors" in state:
                (self.factors,) = of_shapes(state, factors=(1, P, P))

    def state(self) -> State:
        """Return the factors, if there are any, and how the next ones would be made."""
        made: State = {} if self.factors is None else {"factors": self.factors}
        how = {"sample_rows": self.sample_rows, "rough": self.rough, "exact_factors": self.dtype == torch.float64}
        return {name: torch.tensor(value) for name, value in how.items()} | made

    def pays(self, left: float, rate: float | None = None) -> bool:
        """Return whether making it, for the first time or anew, would save products.

        left: the natural logarithm of the factor by which the residual is still to fall; rate: of that by which a
        product makes it fall at present, if that has been seen.
        """
        P, N = self._P, self._N
        if TUNING.most_parameters < P:
            return False
        bound = TUNING.half_bound if self.rough else TUNING.product_bound
        cost = self.sample_rows / N * P / bound + P * P / (TUNING.factor_bound * N)
        needed = cost + left / (0.5 * math.log(max(self.sample_rows / P, 2.0)))
        return left > (needed * TUNING.usual_rate if rate is None else TUNING.sure * needed * max(rate, 0.0))

    def make(self, at: Point) -> None:
        """Make it of the Hessian at a point: first roughly, if that is faster, then of ever more rows.

        One that is not finite counts for none. Products in bfloat16 were NaN for the rest of a process in which another
        library's solver had run, and all steps were refused.
        """
        if self.rough:  # and so well conditioned that float32 has factors
            self.rough = False
            H = self._objective.sampled_hessian(at, self.sample_rows, rough=True)
            H.diagonal(dim1=1, dim2=2).mul_(1 + TUNING.half_noise)
            self.take(H)
            if self.factors is not None:
                return
        H = self._objective.sampled_hessian(at, self.sample_rows, rough=False).to(torch.float64)
        self.sample_rows = min(self._N, 2 * self.sample_rows)
        self.take(H)

    def take(self, hessian: Tensor) -> None:
        """Make it of a matrix [1, P, P], unless that has no factors."""
        # In the layout in which a state is saved: with another one products differ in their last digits.
        factors = factor(hessian).to(self.dtype).contiguous()
        self.factors, self._inverse = factors if bool(factors.isfinite().all()) else None, None

    def times(self, r: Tensor) -> Tensor:
        """Return M^-1 r for r [P, K] float64, or [P K, 1] row by row; r itself where there is no M."""
        if self.factors is None:
            return r
        if not r.is_cuda:
            return precondition(self.factors, r)
        if self._inverse is None:
            self._inverse = inverted(self.factors)
        return precondition_by_inverse(self._inverse, r)


def inverted(factors: Tensor) -> Tensor:
    """Return L^-1 [P, P] of factors [1, P, P], in their dtype and right to its last digits.

    On an H100 a triangular solve with one column of 1,025 takes 64 us, and a product with a matrix of them 4. Two
    products with L^-1 stay symmetric and positive definite, as one with the rounded inverse of L L^T need not.
    """
    eye = torch.eye(factors.shape[-1], dtype=torch.float64, device=factors.device)
    inverse: Tensor = torch.linalg.solve_triangular(factors[0].to(torch.float64), eye, upper=False)
    return inverse.to(factors.dtype)


def precondition_by_inverse(inverse: Tensor, r: Tensor) -> Tensor:
    """Return M^-1 r as `precondition` does, for r of a size that the dtype of L^-1 [P, P] holds."""
    columns = r.reshape(len(inverse), -1).to(inverse.dtype)
    columns = columns[:, 0] if columns.shape[1] == 1 else columns  # for a product with a vector
    return (inverse.t() @ (inverse @ columns)).to(r.dtype).reshape(r.shape)


def precondition(factors: Tensor, r: Tensor) -> Tensor:
    """Return M^-1 r for r [P, K] float64, or [P K, 1] row by row, and factors [1, P, P], on a CPU.

    Column by column, by SciPy's BLAS: where cores are busy, torch's solves wait for threads of OpenMP, for 15 ms each.
    """
    from scipy.linalg import blas  # its import takes a tenth of a second, and most small fits need no factors

    upper = factors[0].numpy().T  # whose columns lie contiguously
    solve = blas.strsv if upper.dtype == np.float32 else blas.dtrsv
    columns = r.numpy().reshape(len(upper), -1)
    # Scaled, for what is left of a gradient may be too small for float32.
    size = np.maximum(np.abs(columns).max(axis=0), sys.float_info.min)
    scaled = (columns / size).astype(upper.dtype)
    for k in range(scaled.shape[1]):
        scaled[:, k] = solve(upper, solve(upper, scaled[:, k], trans=1))
    return torch.from_numpy((scaled.astype(np.float64) * size).reshape(r.shape))
