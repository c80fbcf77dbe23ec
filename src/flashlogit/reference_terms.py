"""Loss and residual of rows from their logits, in torch: the twin of the kernels' `row_terms`.

loss = (1 - y) softplus(c) + q y softplus(-c)        r = (1 - y) sigmoid(z) - q y sigmoid(-z)
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Labels(Protocol):
    """Labels of consecutive rows, in the arithmetic's dtype, with pos_weight q."""

    def residual(self, z: Tensor, rows: slice, out: Tensor) -> None:
        """Write r of the labels `rows` with logits z to `out`, all of one shape."""

    def loss(self, c: Tensor) -> Tensor:
        """Loss of all rows from their clamped logits c [m]."""

    def curvature(self, z: Tensor) -> Tensor:
        """dr/dz of all rows from their logits z [m]."""


def labels_of(y: Tensor, pos_weight: Tensor | None, compute_dtype: torch.dtype) -> Labels:
    """Labels y [m] as they are cheapest to compute with.

    bool and uint8 hold 0 and 1 only. Other labels are looked at on the CPU, where that costs two passes over y; on a
    GPU it would wait for the device.
    """
    hard = y.dtype == torch.uint8 or (y.device.type == "cpu" and torch.equal(y * y, y))
    y = y.to(compute_dtype)
    return HardLabels(y, pos_weight) if hard else SoftLabels(y, pos_weight)


class HardLabels:
    """Labels 0 and 1: with t = 1 - 2y all is a function of t z, at half the price of soft labels."""

    def __init__(self, y: Tensor, pos_weight: Tensor | None) -> None:
        self.t = 1 - 2 * y
        self.factor = None if pos_weight is None else torch.where(y > 0, pos_weight, 1.0)

    def residual(self, z: Tensor, rows: slice, out: Tensor) -> None:
        """t sigmoid(t z), times q for positive rows."""
        t = self.t[rows]
        torch.mul(t, z, out=out)
        out.sigmoid_().mul_(t)
        if self.factor is not None:
            out.mul_(self.factor[rows])

    def loss(self, c: Tensor) -> Tensor:
        """softplus(t c), times q for positive rows."""
        loss = logsigmoid((self.t * c).neg_()).neg_()
        return loss if self.factor is None else loss.mul_(self.factor)


    def curvature(self, z: Tensor) -> Tensor:
        """p (1 - p), times q for positive rows."""
        curvature = _bernoulli_variance(z)
        return curvature if self.factor is None else curvature.mul_(self.factor)


class SoftLabels:
    """Labels anywhere in [0, 1]."""

    def __init__(self, y: Tensor, pos_weight: Tensor | None) -> None:
        self.y = y
        self.pos_weight = pos_weight

    def residual(self, z: Tensor, rows: slice, out: Tensor) -> None:
        """(1 - y) p - q y (1 - p): lerp gives each end exactly, so that a label of 0 or 1 does not cancel."""
        negative = torch.sigmoid(-z).neg_()
        if self.pos_weight is not None:
            negative *= self.pos_weight
        torch.lerp(torch.sigmoid(z), negative, self.y[rows], out=out)

    def loss(self, c: Tensor) -> Tensor:
        """The two softplus together, with 0 times infinity taken as 0."""
        on = self.y if self.pos_weight is None else self.y * self.pos_weight
        off = 1 - self.y
        slope = torch.where(c > 0, off, on)
        linear = torch.where(slope == 0, 0.0, slope * c.abs())
        return linear + (on + off) * torch.log1p(torch.exp(-c.abs()))

    def curvature(self, z: Tensor) -> Tensor:
        """(1 - y + q y) p (1 - p)."""
        curvature = _bernoulli_variance(z)
        if self.pos_weight is not None:
            curvature *= 1 - self.y + self.y * self.pos_weight
        return curvature


def _bernoulli_variance(z: Tensor) -> Tensor:
    """p (1 - p), whose smaller factor does not cancel."""
    p = torch.sigmoid(z.abs().neg_())
    return p * (1 - p)


def magnitudes(z: Tensor) -> tuple[Tensor | int, Tensor]:
    """Number of non-finite entries, and the largest finite magnitude.

    Extremes keep NaN, so that on the CPU one look at them settles the usual case at a tenth of the price.
    """
    extreme = torch.stack(z.aminmax()).abs().max()
    if z.device.type == "cpu" and extreme.isfinite():
        return 0, extreme.to(torch.float64)
    finite = z.isfinite()
    return (~finite).sum(), torch.where(finite, z.abs(), 0.0).max().to(torch.float64)
