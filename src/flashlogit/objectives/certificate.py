"""How far an objective is from its optimum at most: the duality gap, in float64.

    P(w, b) = 1/S sum_i s_i loss_i + sum_j (l1_j |w_j| + l2_j / 2 w_j^2)

For u with u_i in [-y_i, 1 - y_i] and, where the intercept is free, sum_i s_i u_i = 0, weak duality gives

    P(w, b) - P* <= P(w, b) - D(u) = 1/S sum_i s_i KL(y_i + u_i | p_i)  +  sum_j [ w_j a_j + pen_j(w_j) + pen*_j(-a_j) ]

with a = X^T (s u) / S, pen* the penalty's conjugate and KL the divergence between Bernoulli variables. Written so, all
terms are at least 0 and nothing cancels: P - D itself, as a difference, could not be told from 0 below 1e-16 P. With
u = r the divergences vanish; with l1 = 0 what is left is sum_j (dP/dw_j)^2 / (2 l2_j).

The residuals r = p - y need not add up to 0. To first order those of an intercept t lower do,

    u_i = r_i - t h_i,      h_i = p_i (1 - p_i),      t = sum_i s_i r_i / sum_i s_i h_i

and for |t| <= 1 they are within bounds, as y_i + u_i = p_i (1 - t (1 - p_i)). The price is KL <= t^2 h_i, by the
chi-squared bound. Solving for the best intercept instead gives the same to first order, and took longer than the pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.fits import FARTHEST_SHIFT as FARTHEST_SHIFT

from .coordinates import Coordinates

Array = Any
"""A tensor or a NumPy array."""
_ROUNDING = 2.0**-53
"""Least rounding error of the mean gradient, as a share of the root mean square of a row's part in it."""
_LARGE = 1e4
"""Weights that columns next to copies of each other may have, in units of their standard deviations."""


@dataclass(frozen=True)
class Certificate:
    """A proven bound on P(w, b) - P*, or what stands in for it, at the point (w, b).

    kind: "gap" for the duality gap; "decrement" for half the squared Newton decrement of a fit without a penalty, or
    with one below rounding, which is the gap of the quadratic model and bounds nothing far from the optimum.
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
        """Return the bound in words."""
        if self.kind == "gap":
            relative = f"relative to the null model: {self.relative:.1e}"
            return f"the objective is within {self.gap:.1e} of the optimum ({relative})"
        return (
            f"half the squared Newton decrement is {self.gap:.1e} (relative to the null model: {self.relative:.1e});"
            " without a penalty, or with one below rounding, there is no finite certificate"
        )


def provable(
    l1: float,
    l2: float,
    rounding: float,
    sizes: tuple[float, float],
    *,
    tolerance: float,
    null: float,
    classes: int = 1,
) -> tuple[bool, bool]:
    """Return whether a gap is to be proven by l1, and by l2: not where rounding errors would hide one of `tolerance`.

    With l2 > 0 a gap is at least sum_j e_j^2 / (2 l2), e_j being the rounding error of dP/dw_j, and with l1 alone about
    max_j (e_j / l1)^2 of P: columns are shrunk until the largest |dP/dw_j| is l1. Where neither is large enough, what
    stands in for a gap leaves the penalty out and adds all of it in the end. So a penalty that may itself be more than
    the tolerance still has to prove what it can.

    Args:
        rounding, sizes: of the columns' errors, and of what they are penalised by: see `Coordinates`.
        tolerance: on the gap relative to `null`, the null model's P.
        classes: whose weights are penalised.
    """
    error = classes * _ROUNDING * _ROUNDING * rounding
    goal = tolerance * null
    # Not "<=": values of X that are not finite are found later, and named.
    by_l1, by_l2 = not error > tolerance * l1 * l1, not error > 2 * goal * l2
    counts_l1 = classes * l1 * _LARGE * sizes[0] > goal
    counts_l2 = classes * l2 * 0.5 * _LARGE * _LARGE * sizes[1] > goal
    if counts_l1 and not by_l2:
        by_l1 = True
    return l1 > 0 and by_l1, l2 > 0 and (by_l2 or counts_l2)


def float32_gap(l2: float, coordinates: Coordinates) -> float:
    """Return about the gap, in nats, that rounding errors of a gradient summed in float32 make by l2 > 0."""
    return float32_noise(coordinates.rounding / (2 * l2))


Size = TypeVar("Size", float, NDArray[np.float64])


def float32_noise(errors: Size) -> Size:
    """Return about the gap, in nats, that rounding errors of float32 make: `errors` is v sd_j^2 / (2 l2_j), summed over
    the columns."""
    return (2.0**-24) ** 2 * errors


def penalty_gap(w: Array, a: Array, l1: Array, l2: Array) -> Array:
    """Return w_j a_j + pen_j(w_j) + pen*_j(-a_j), each at least 0, in the shape of w: tensors, or NumPy arrays.

    Infinite where l2_j = 0 and |a_j| > l1_j: there the conjugate is.
    """
    xp = np if isinstance(w, np.ndarray) else torch
    toward = -a * xp.sign(w)  # the loss's pull on |w|; |a| where w = 0
    excess = abs(a) - l1
    size = abs(w)
    inside = size * (l1 - toward) + 0.5 * l2 * size**2
    outside = xp.where((toward > l1) & (w != 0), (l2 * size - excess) ** 2 / (2 * l2), inside + excess**2 / (2 * l2))
    outside = xp.where(l2 > 0, outside, xp.inf)
    return xp.where(excess > 0, outside, inside)


def l1_gap(w: Array, a: Array, l1: Array | float) -> Array:
    """Return the same where l2_j = 0 and |a_j| is at most l1_j, or more by rounding alone as after a shrinkage."""
    xp = np if isinstance(w, np.ndarray) else torch
    return xp.clip(l1 * abs(w) + w * a, 0.0, None)


def shrinkage(a: Array, l1: Array, l2: Array) -> Array:
    """Return the largest tau up to 1 that makes tau a feasible, [K]: min_j l1_j / |a_j| over columns with l2_j = 0."""
    xp = np if isinstance(a, np.ndarray) else torch
    return xp.amin(xp.where((l2 > 0) | (abs(a) <= l1), 1.0, l1 / abs(a)), 0)


def shrunk_divergence(z: Tensor, y: Tensor, tau: float, shift: float | Tensor) -> Tensor:
    """Return KL(y + tau u | p) of every row, [N] float64, for logits z [N] float64, y [N] and u = r - shift h.

    With v = y + tau u = p - q, q = (1 - tau) r + tau shift h: KL = v log1p(-q / p) + (1 - v) log1p(q / (1 - p)), in
    which the terms of first order in q cancel to its own accuracy.
    """
    y = y.to(z.dtype)
    p, off = torch.sigmoid(z), torch.sigmoid(-z)
    # p - y without cancellation for labels 0 and 1: (1 - y) p - y (1 - p).
    q = (1 - tau) * ((1 - y) * p - y * off) + tau * shift * p * off
    v, rest = p - q, off + q
    on = torch.where(v > 0, v * torch.log1p(-q / p), 0.0)
    return (on + torch.where(rest > 0, rest * torch.log1p(q / off), 0.0)).clamp(min=0.0)
