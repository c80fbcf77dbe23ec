"""Minimum of a quadratic model plus an l1 term: Cholesky factors, subgradients, gradient descent, interior points.

    m(x) = s . (x - x0) + 1/2 (x - x0)^T H (x - x0) + sum_j l1_j |x_j|

Gradient descent needs products with H only. An interior-point method is as fast where H is badly conditioned:
x = p - q with p, q >= 0, and u = l1 + m', v = l1 - m' >= 0 for the derivative m' of the quadratic part; at the minimum
p u = q v = 0. Mehrotra's predictor and corrector (1992) solve, for targets t of these products,

    H dx - du = -ru      -H dx - dv = -rv      u dp + p du = tp      v dq + q dv = tq
    (H + 1 / W) dx = what is left without the others,      W = p / u + q / v
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tuning:
    """How far the minimum is sought, and how the central path of the interior-point method is followed."""

    power_steps: int = 20
    """With 10 the largest eigenvalue came out so small that the steps diverged, at 650 parameters of a softmax."""
    steps: int = 60
    """Most factors. 300 columns in units over twelve decades, half of them copies, took 20 to 30."""
    centred: float = 1e-20
    """Share of the first mean product at which x is the minimum to rounding."""
    to_the_wall: float = 0.99
    """Share of the way to the nearest bound that a step takes."""


TUNING = Tuning()


def factor(H: Tensor) -> Tensor:
    """Return lower Cholesky factors [K, P, P] of H [K, P, P], to whose diagonals just enough is added for there to be
    one."""
    result, found = try_factor(H)
    if bool(found.all()):
        return result
    size = H.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[:, None, None]
    eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    for jitter in (1e-13, 1e-10, 1e-7, 1e-4, 1.0):
        factors, info = torch.linalg.cholesky_ex(H + jitter * size * eye)
        good = (info == 0) & factors.isfinite().all(dim=-1).all(dim=-1)
        result = torch.where((good & ~found)[:, None, None], factors, result)
        found = found | good
        if bool(found.all()):
            break
    return torch.where(found[:, None, None], result, torch.nan)


def try_factor(H: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower Cholesky factors [K, P, P] of H [K, P, P] as it is, and whether it has any, [K] bool, without
    waiting for the device."""
    factors, info = torch.linalg.cholesky_ex(H)
    return factors, (info == 0) & factors.isfinite().all(dim=-1).all(dim=-1)


def solve(factors: Tensor, v: Tensor) -> Tensor:
    """Return H^-1 v for v [P, K] and the Cholesky factors [K, P, P] of H."""
    return torch.cholesky_solve(v.t()[:, :, None], factors)[:, :, 0].t()


def accelerated(
    times: Callable[[Tensor], Tensor], gradient: Tensor, theta: Tensor, l1: Tensor, *, steps: int
) -> Tensor:
    """Return the last point of accelerated proximal gradient descent on m from theta [P, K], given products with H
    only.

    Beck and Teboulle 2009 (FISTA), restarted where the momentum points uphill (O'Donoghue and Candes 2015). It ends
    when nothing moves any more, and reads a value back every tenth step to know.
    """
    # Not of ones: those a softmax's Hessian may map to 0.
    v = 1 + torch.cos(2.4 * torch.arange(len(theta), dtype=theta.dtype, device=theta.device))[:, None]
    v = v.expand_as(theta)
    for _ in range(TUNING.power_steps):
        v = times(v / v.norm(dim=0))
    size = 1.1 * v.norm(dim=0)
    x = ahead = theta
    t = torch.ones_like(size)
    for step in range(steps):
        moved = ahead - (gradient + times(ahead - theta)) / size
        new = torch.sign(moved) * (moved.abs() - l1 / size).clamp(min=0.0)
        uphill = ((ahead - new) * (new - x)).sum(dim=0) > 0
        t_new = torch.where(uphill, 1.0, 0.5 * (1 + (1 + 4 * t * t).sqrt()))
        ahead = new + torch.where(uphill, 0.0, (t - 1) / t_new) * (new - x)
        still = step % 10 == 9 and bool((new - x).norm() <= 1e-9 * (new - theta).norm())
        x, t = new, t_new
        if still:
            break
    return x


def steepest_descent(gradient: Tensor, theta: Tensor, l1: Tensor) -> Tensor:
    """Return minus the subgradient of least norm of the smooth part plus l1 |theta|, elementwise."""
    at_zero = -torch.sign(gradient) * (gradient.abs() - l1).clamp(min=0.0)
    return torch.where(theta != 0, -(gradient + l1 * torch.sign(theta)), at_zero)


def interior_point(H: Tensor, slope: Tensor, start: Tensor, l1: Tensor) -> Tensor:
    """Return the minimum of m to rounding, [P] float64 with exact zeros, for H [P, P], which has a Cholesky factor.

    Args:
        H: the matrix.
        slope: s [P].
        start: x0 [P].
        l1: [P], some of them above 0.
    """
    pen = torch.nonzero(l1 > 0).reshape(-1)
    x, bound = start.clone(), l1[pen]
    size = 0.1 * float(torch.maximum(x.abs(), steepest_descent(slope, x, l1).abs()).max())
    at = slope[pen]
    least = 0.1 * float((at.abs() - bound).clamp(min=0.0).max()) + 0.1 * bound
    pairs = _Pairs(
        x[pen].clamp(min=0.0) + size,
        (-x[pen]).clamp(min=0.0) + size,
        torch.maximum(bound + at, least),
        torch.maximum(bound - at, least),
    )
    first = mu = pairs.mean_product()
    for _ in range(TUNING.steps):
        here = slope + H @ (x - start)
        rest = here.index_fill(0, pen, 0.0)
        ru, rv = bound + here[pen] - pairs.u, bound - here[pen] - pairs.v
        M = H.clone()
        M.diagonal()[pen] += 1 / (pairs.p / pairs.u + pairs.q / pairs.v)
        step = partial(_step, pairs, M, factor(M[None]), pen, rest, ru, rv)
        _, ahead = step(-pairs.p * pairs.u, -pairs.q * pairs.v)
        reached = pairs.moved(ahead, pairs.longest(ahead)).mean_product()
        target = (reached / mu) ** 3 * mu
        dx, move = step(target - pairs.p * pairs.u - ahead.p * ahead.u, target - pairs.q * pairs.v - ahead.q * ahead.v)
        length = TUNING.to_the_wall * pairs.longest(move)
        pairs = pairs.moved(move, length)
        x = x + length * dx
        x[pen] = pairs.p - pairs.q
        mu = pairs.mean_product()
        if not mu > TUNING.centred * first:
            break
    zero = (pairs.p <= pairs.u) & (pairs.q <= pairs.v)
    x[pen] = torch.where(zero, 0.0, x[pen])
    return x


@dataclass(frozen=True)
class _Pairs:
    """p and q and their slacks u and v, or changes of them, all of the penalised variables."""

    p: Tensor
    q: Tensor
    u: Tensor
    v: Tensor

    def mean_product(self) -> float:
        """Return the mean of all p u and q v."""
        return float(self.p @ self.u + self.q @ self.v) / (2 * len(self.p))

    def moved(self, change: _Pairs, length: float) -> _Pairs:
        return _Pairs(*(a + length * b for a, b in zip(vars(self).values(), vars(change).values(), strict=True)))

    def longest(self, change: _Pairs) -> float:
        """Return the length up to 1 at which the first of them becomes 0."""
        both = zip(vars(self).values(), vars(change).values(), strict=True)
        return min(float(torch.where(d < 0, -a / d, 1.0).min().clamp(max=1.0)) for a, d in both)


def _step(
    at: _Pairs, M: Tensor, factors: Tensor, pen: Tensor, rest: Tensor, ru: Tensor, rv: Tensor, tp: Tensor, tq: Tensor
) -> tuple[Tensor, _Pairs]:
    """Return dx [P] and the changes of the pairs, for M = H + 1 / W and its factors, and what is left to be met."""
    W = at.p / at.u + at.q / at.v
    rhs = -rest
    rhs[pen] = (tp / at.u - tq / at.v - at.p / at.u * ru + at.q / at.v * rv) / W
    dx = solve(factors, rhs[:, None])[:, 0]
    dx = dx + solve(factors, (rhs - M @ dx)[:, None])[:, 0]
    Hdx = rhs[pen] - dx[pen] / W
    du, dv = Hdx + ru, rv - Hdx
    dp, dq = (tp - at.p * du) / at.u, (tq - at.q * dv) / at.v
    # The larger of the two from dx, since its slack may be so small that the quotient is all rounding.
    larger = at.p / at.u > at.q / at.v
    return dx, _Pairs(torch.where(larger, dx[pen] + dq, dp), torch.where(larger, dq, dp - dx[pen]), du, dv)
