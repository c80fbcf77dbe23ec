"""An interior-point method for a quadratic model plus an l1 term: as fast where the matrix is badly conditioned.

    m(x) = s . (x - x0) + 1/2 (x - x0)^T H (x - x0) + sum_j l1_j |x_j|

x = p - q with p, q >= 0, and u = l1 + m', v = l1 - m' >= 0 for the derivative m' of the quadratic part; at the minimum
p u = q v = 0. Mehrotra's predictor and corrector (1992) solve, for targets t of these products,

    H dx - du = -ru      -H dx - dv = -rv      u dp + p du = tp      v dq + q dv = tq
    (H + 1 / W) dx = what is left without the others,      W = p / u + q / v
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .proximal import factor, solve, steepest_descent


@dataclass(frozen=True)
class Tuning:
    """How the central path is followed, and how far."""

    steps: int = 60
    """Most factors. 300 columns in units over twelve decades, half of them copies, took 20 to 30."""
    centred: float = 1e-20
    """Share of the first mean product at which x is the minimum to rounding."""
    to_the_wall: float = 0.99
    """Share of the way to the nearest bound that a step takes."""


TUNING = Tuning()


def interior_point(H: Tensor, slope: Tensor, start: Tensor, l1: Tensor) -> Tensor:
    """The minimum of m to rounding, [P] float64 with exact zeros, for H [P, P], which has a Cholesky factor.

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
        W = pairs.p / pairs.u + pairs.q / pairs.v
        M = H.clone()
        M.diagonal()[pen] += 1 / W
        system = _System(M, factor(M[None]), W, pen, rest, ru, rv)
        _, ahead = system.step(pairs, -pairs.p * pairs.u, -pairs.q * pairs.v)
        reached = pairs.moved(ahead, pairs.longest(ahead)).mean_product()
        target = (reached / mu) ** 3 * mu
        dx, move = system.step(
            pairs,
            target - pairs.p * pairs.u - ahead.p * ahead.u,
            target - pairs.q * pairs.v - ahead.q * ahead.v,
        )
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
        """The mean of all p u and q v."""
        return float(self.p @ self.u + self.q @ self.v) / (2 * len(self.p))

    def moved(self, change: _Pairs, length: float) -> _Pairs:
        return _Pairs(*(a + length * b for a, b in zip(vars(self).values(), vars(change).values(), strict=True)))

    def longest(self, change: _Pairs) -> float:
        """The length up to 1 at which the first of them becomes 0."""
        both = zip(vars(self).values(), vars(change).values(), strict=True)
        return min(float(torch.where(d < 0, -a / d, 1.0).min().clamp(max=1.0)) for a, d in both)


@dataclass(frozen=True)
class _System:
    """What is the same for a predictor and its corrector: M = H + 1 / W, its factors, and what is left to be met."""

    M: Tensor
    factors: Tensor
    W: Tensor
    pen: Tensor
    rest: Tensor
    ru: Tensor
    rv: Tensor

    def step(self, at: _Pairs, tp: Tensor, tq: Tensor) -> tuple[Tensor, _Pairs]:
        """dx [P], and the changes of the pairs."""
        pen = self.pen
        rhs = -self.rest
        rhs[pen] = (tp / at.u - tq / at.v - at.p / at.u * self.ru + at.q / at.v * self.rv) / self.W
        dx = solve(self.factors, rhs[:, None])[:, 0]
        dx = dx + solve(self.factors, (rhs - self.M @ dx)[:, None])[:, 0]
        Hdx = rhs[pen] - dx[pen] / self.W
        du, dv = Hdx + self.ru, self.rv - Hdx
        dp, dq = (tp - at.p * du) / at.u, (tq - at.q * dv) / at.v
        # The larger of the two from dx, since its slack may be so small that the quotient is all rounding.
        larger = at.p / at.u > at.q / at.v
        return dx, _Pairs(torch.where(larger, dx[pen] + dq, dp), torch.where(larger, dq, dp - dx[pen]), du, dv)
