"""How far an objective is from its optimum at most: the duality gap, in float64.

    P(w, b) = 1/S sum_i s_i loss_i + sum_j (l1_j |w_j| + l2_j / 2 w_j^2)

For u with u_i in [-y_i, 1 - y_i] and, where the intercept is free, sum_i s_i u_i = 0, weak duality gives

    P(w, b) - P* <= P(w, b) - D(u) = 1/S sum_i s_i KL(y_i + u_i | p_i)  +  sum_j [ w_j a_j + pen_j(w_j) + pen*_j(-a_j) ]

with a = X^T (s u) / S, pen* the penalty's conjugate and KL the divergence between Bernoulli variables. Written so, all
terms are at least 0 and nothing cancels: P - D itself, as a difference, could not be told from 0 below 1e-16 P. With
u = r the divergences vanish; with l1 = 0 what is left is sum_j (dP/dw_j)^2 / (2 l2_j).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .reference_blocks import over_parts

_SOFTPLUS_IS_LINEAR_FROM = 40.0
"""Logit from which log(1 + exp(z)) is z to the last digit of a float64; torch's own choice, 20, loses eight of them."""


@dataclass(frozen=True)
class Certificate:
    """A proven bound on P(w, b) - P*, or what stands in for it, at the point (w, b).

    kind: "gap" for the duality gap; "decrement" for half the squared Newton decrement of a fit without a penalty, which
    is the gap of the quadratic model and bounds nothing far from the optimum.
    gap, objective and null_objective (the intercept-only model's P) in nats.
    """

    kind: Literal["gap", "decrement"]
    gap: float
    objective: float
    null_objective: float

    @property
    def relative(self) -> float:
        """The gap as a share of the null model's objective, which is what `tolerance` bounds."""
        return self.gap / self.null_objective

    def sentence(self) -> str:
        """The bound in words."""
        if self.kind == "gap":
            relative = f"relative to the null model: {self.relative:.1e}"
            return f"the objective is within {self.gap:.1e} of the optimum ({relative})"
        return (
            f"half the squared Newton decrement is {self.gap:.1e} (relative to the null model: {self.relative:.1e});"
            " without a penalty there is no finite certificate"
        )


def penalty_gap(w: Tensor, a: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
    """w_j a_j + pen_j(w_j) + pen*_j(-a_j), each at least 0, in the shape of w.

    Infinite where l2_j = 0 and |a_j| > l1_j: there the conjugate is.
    """
    toward = -a * torch.sign(w)  # the loss's pull on |w|; |a| where w = 0
    excess = a.abs() - l1
    size = w.abs()
    inside = size * (l1 - toward) + 0.5 * l2 * size.square()
    outside = torch.where(
        (toward > l1) & (w != 0),
        (l2 * size - excess).square() / (2 * l2),
        inside + excess.square() / (2 * l2),
    )
    outside = torch.where(l2 > 0, outside, torch.inf)
    return torch.where(excess > 0, outside, inside)


def shrinkage(a: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
    """The largest factor up to 1 that makes tau a feasible: min_j l1_j / |a_j| over the columns with l2_j = 0. [K]."""
    ratio = torch.where((l2 > 0) | (a.abs() <= l1), 1.0, l1 / a.abs())
    return ratio.amin(dim=0)


def shrunk_divergence(z: Tensor, y: Tensor, tau: float) -> Tensor:
    """KL(y + tau r | p) of every row, [N] float64, for logits z [N] float64, y [N] and r = p - y.

    With v = y + tau r = p - q, q = (1 - tau) r: KL = v log1p(-q / p) + (1 - v) log1p(q / (1 - p)), in which the terms
    of first order in q cancel to its own accuracy.
    """
    y = y.to(z.dtype)
    p, off = torch.sigmoid(z), torch.sigmoid(-z)
    # p - y without cancellation for labels 0 and 1: (1 - y) p - y (1 - p).
    q = (1 - tau) * ((1 - y) * p - y * off)
    v, rest = p - q, off + q
    on = torch.where(v > 0, v * torch.log1p(-q / p), 0.0)
    return (on + torch.where(rest > 0, rest * torch.log1p(q / off), 0.0)).clamp(min=0.0)


def balancing_shift(z: Tensor, y: Tensor, s: Tensor | None) -> tuple[float, Tensor]:
    """The change of the intercept for which sum_i s_i (sigmoid(z_i + shift) - y_i) = 0, and those residuals s r [N].

    A scalar Newton iteration, kept between bounds that hold the root: by itself it runs away from rows that are surely
    wrong. z is [N] float64; y and s are [N], s None for ones.
    """
    residual = torch.empty_like(z)
    shift = 0.0

    def sums(part: slice) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(z[part] + shift)
        r, h = p - y[part], p * (1 - p)
        if s is not None:
            r, h = r * s[part], h * s[part]
        residual[part] = r
        return r.sum(), h.sum()

    scale = float(z.shape[0] if s is None else s.sum(dtype=torch.float64))
    low, high, best = -float(z.max()) - 60.0, -float(z.min()) + 60.0, torch.inf
    for _ in range(100):
        total, slope = over_parts(z[:, None], len(z), sums, _add)
        low, high = (low, min(high, shift)) if total > 0 else (max(low, shift), high)
        # Rounding leaves about this much; more steps only walk about in it.
        if abs(total) <= 4e-16 * scale or (abs(total) < 1e-13 * scale and abs(total) >= best):
            break
        best = abs(total)
        step = shift - total / slope if slope > 0 else torch.nan
        shift = step if low < step < high else 0.5 * (low + high)
    return shift, residual


def mean_loss(z: Tensor, y: Tensor, s: Tensor | None) -> float:
    """Weighted mean of log(1 + exp(z)) - y z, in the arguments' terms of `balancing_shift`."""

    def sums(part: slice) -> tuple[Tensor, Tensor]:
        loss = softplus(z[part], threshold=_SOFTPLUS_IS_LINEAR_FROM) - z[part] * y[part]
        weight = torch.ones_like(loss) if s is None else s[part]
        return (loss * weight).sum(), weight.sum(dtype=torch.float64)

    total, weight = over_parts(z[:, None], len(z), sums, _add)
    return total / weight


def _add(parts: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    first, second = zip(*parts, strict=True)
    return float(torch.stack(first).sum()), float(torch.stack(second).sum())
