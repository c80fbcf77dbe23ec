"""Loss, residual and curvature of rows from their logits, in torch: the twin of the kernels' `row_terms`.

loss = (1 - y) softplus(c) + q y softplus(-c)        r = (1 - y) sigmoid(z) - q y sigmoid(-z)        c = clamp(z)

Many small operations would cost more than the arithmetic: whatever can be decided once for all rows of a part is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

_SOFTPLUS_IS_LINEAR_FROM = 50.0
"""exp(-50) is below the rounding of 50 in float64; torch's own threshold of 20 is only good enough for float32."""


class Labels(Protocol):
    """Labels of consecutive rows, in the arithmetic's dtype, with pos_weight q.

    What they compute with is a row's margin: its logit z, of which a kind of labels may have changed the sign.
    """

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """What `residual` reads of each row, [m] each."""

    @property
    def residual(self) -> Callable[..., None]:
        """(z, out, *vectors): write r of rows to `out`, given the same rows of the vectors; z becomes the margin."""

    def loss(self, c: Tensor) -> Tensor:
        """Loss of all rows in place of their clamped margins c [m]."""

    def curvature(self, margin: Tensor, out: Tensor) -> Tensor:
        """dr/dz of all rows from their margins [m], in `out`."""

    def logits(self, margin: Tensor, out: Tensor) -> Tensor:
        """z of all rows from their margins [m], in `out`."""


def labels_of(y: Tensor, pos_weight: Tensor | None, room: Tensor) -> Labels:
    """Labels y [m] as they are cheapest to compute with; room [m] in the arithmetic's dtype becomes theirs.

    bool and uint8 hold 0 and 1 only. Others are looked at on the CPU; on a GPU it would wait for the device. All are 0
    or 1 where y (1 - y), which is never negative, adds up to 0: a dot product of what is needed anyway.
    """
    if y.dtype == torch.uint8:
        return HardLabels(room.copy_(y).mul_(-2).add_(1), _factor(y, pos_weight))
    y = y.to(room.dtype)
    torch.sub(1, y, out=room)
    if y.device.type == "cpu" and float(y.dot(room)) == 0.0:
        return HardLabels(room.sub_(y), _factor(y, pos_weight))
    return SoftLabels(room, y if pos_weight is None else y * pos_weight)


def _factor(y: Tensor, pos_weight: Tensor | None) -> Tensor | None:
    return None if pos_weight is None else torch.where(y > 0, pos_weight, 1.0)


class HardLabels:
    """Labels 0 and 1: with t = 1 - 2y all is a function of the margin t z, at half the price of soft labels."""

    def __init__(self, t: Tensor, factor: Tensor | None) -> None:
        self.t = t
        self.factor = factor

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """t, and the factor where there is one."""
        return (self.t,) if self.factor is None else (self.t, self.factor)

    @staticmethod
    def residual(z: Tensor, out: Tensor, t: Tensor, *factor: Tensor) -> None:
        """t sigmoid(t z), times q for positive rows."""
        torch.sigmoid(z.mul_(t), out=out)
        out.mul_(t)
        for q in factor:
            out.mul_(q)

    def loss(self, c: Tensor) -> Tensor:
        """softplus(c), times q for positive rows."""
        torch.ops.aten.softplus.out(c, 1, _SOFTPLUS_IS_LINEAR_FROM, out=c)
        return c if self.factor is None else c.mul_(self.factor)

    def curvature(self, margin: Tensor, out: Tensor) -> Tensor:
        """p (1 - p), times q for positive rows."""
        curvature = _bernoulli_variance(margin, out)
        return curvature if self.factor is None else curvature.mul_(self.factor)

    def logits(self, margin: Tensor, out: Tensor) -> Tensor:
        """t t z, which is z to the last digit."""
        return torch.mul(margin, self.t, out=out)


class SoftLabels:
    """Labels anywhere in [0, 1]: 1 - y and q y."""

    def __init__(self, off: Tensor, on: Tensor) -> None:
        self.off = off
        self.on = on

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """Both."""
        return self.off, self.on

    @staticmethod
    def residual(z: Tensor, out: Tensor, off: Tensor, on: Tensor) -> None:
        """(1 - y) p - q y (1 - p), which does not cancel where a label is 0 or 1."""
        torch.mul(off, torch.sigmoid(z), out=out)
        out.addcmul_(on, torch.sigmoid(-z), value=-1)

    def loss(self, c: Tensor) -> Tensor:
        """The two softplus together, with 0 times infinity taken as 0."""
        slope = torch.where(c > 0, self.off, self.on)
        magnitude = c.abs()
        linear = torch.where(slope == 0, 0.0, slope * magnitude)
        return torch.add(linear, (self.off + self.on) * torch.log1p(torch.exp(magnitude.neg_())), out=c)

    def logits(self, margin: Tensor, out: Tensor) -> Tensor:
        """The margins are the logits."""
        return out.copy_(margin)

    def curvature(self, margin: Tensor, out: Tensor) -> Tensor:
        """(1 - y + q y) p (1 - p)."""
        return _bernoulli_variance(margin, out).mul_(self.off + self.on)


def _bernoulli_variance(z: Tensor, out: Tensor) -> Tensor:
    """p - p^2 for the smaller of p and 1 - p, which does not cancel; in `out`."""
    p = torch.abs(z, out=out).neg_().sigmoid_()
    return p.addcmul_(p, p, value=-1)
