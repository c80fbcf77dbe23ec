"""Loss, residual and curvature of rows from their logits, in torch: the twin of the kernels' `row_terms`.

loss = (1 - y) softplus(c) + q y softplus(-c)        r = (1 - y) sigmoid(z) - q y sigmoid(-z)        c = clamp(z)

Many small operations would cost more than the arithmetic: whatever can be decided once for all rows of a part is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SOFTPLUS_IS_LINEAR_FROM = 50.0
"""exp(-50) is below the rounding of 50 in float64; torch's own threshold of 20 is only good enough for float32."""


def labels_of(y: Tensor, pos_weight: Tensor | None, s: Tensor | None, own: Tensor) -> Labels:
    """Return labels y [m] as they are cheapest to compute with; they keep `own` [m] in the arithmetic's dtype for
    themselves.

    bool and uint8 hold 0 and 1 only. Others are looked at on the CPU; on a GPU it would wait for the device. All are 0
    or 1 where y (1 - y), which is never negative, adds up to 0: a dot product of what is needed anyway.
    """
    if y.dtype == torch.uint8:
        return HardLabels(own.copy_(y).mul_(-2).add_(1), _factor(y, pos_weight, s))
    y = y.to(own.dtype)
    torch.sub(1, y, out=own)
    if y.device.type == "cpu" and float(y.dot(own)) == 0.0:
        return HardLabels(own.sub_(y), _factor(y, pos_weight, s))
    on = y if pos_weight is None else y * pos_weight
    return SoftLabels(own, on) if s is None else SoftLabels(own.mul_(s), on * s)


def _factor(y: Tensor, pos_weight: Tensor | None, s: Tensor | None) -> Tensor | None:
    """Return s q where y is 1 and s where it is 0; None for ones."""
    if pos_weight is None:
        return s
    q = torch.where(y > 0, pos_weight, 1.0)
    return q if s is None else q.mul_(s)


class HardLabels:
    """Labels 0 and 1: with t = 1 - 2y all is a function of the margin t z, at half the price of soft labels.

    factor: s, times q where y is 1, or None for ones.
    """

    def __init__(self, t: Tensor, factor: Tensor | None) -> None:
        self.t = t
        self.factor = factor

    def split(self, height: int) -> Sequence[Labels]:
        """Return the labels of blocks of so many rows."""
        t = torch.split(self.t, height)
        factors = [None] * len(t) if self.factor is None else torch.split(self.factor, height)
        return list(map(HardLabels, t, factors))

    def residual(self, z: Tensor, out: Tensor) -> None:
        """Write t sigmoid(t z), times the factor, to `out`; the logits z [m] become the margins."""
        torch.sigmoid(z.mul_(self.t), out=out)
        self._weighted(out.mul_(self.t))

    def loss(self, c: Tensor) -> Tensor:
        """Return softplus(c), times the factor, in place of the clamped margins c [m]."""
        torch.ops.aten.softplus.out(c, 1, _SOFTPLUS_IS_LINEAR_FROM, out=c)
        return self._weighted(c)

    def curvature(self, margin: Tensor, out: Tensor) -> Tensor:
        """Return p (1 - p), times the factor, in `out`."""
        return self._weighted(_bernoulli_variance(margin, out))

    def logits(self, margin: Tensor, out: Tensor) -> Tensor:
        """Return t t z, which is z to the last digit."""
        return torch.mul(margin, self.t, out=out)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.factor is None else values.mul_(self.factor)


class SoftLabels:
    """Labels anywhere in [0, 1]: off = s (1 - y) and on = s q y; a row's margin is its logit."""

    def __init__(self, off: Tensor, on: Tensor) -> None:
        self.off = off
        self.on = on

    def split(self, height: int) -> Sequence[Labels]:
        """Return the labels of blocks of so many rows."""
        return list(map(SoftLabels, torch.split(self.off, height), torch.split(self.on, height)))

    def residual(self, z: Tensor, out: Tensor) -> None:
        """Write (1 - y) p - q y (1 - p), which does not cancel where a label is 0 or 1, times s to `out`."""
        torch.mul(self.off, torch.sigmoid(z), out=out)
        out.addcmul_(self.on, torch.sigmoid(-z), value=-1)

    def loss(self, c: Tensor) -> Tensor:
        """Return the two softplus together, with 0 times infinity taken as 0."""
        slope = torch.where(c > 0, self.off, self.on)
        magnitude = c.abs()
        linear = torch.where(slope == 0, 0.0, slope * magnitude)
        return torch.add(linear, (self.off + self.on) * torch.log1p(torch.exp(magnitude.neg_())), out=c)

    def logits(self, margin: Tensor, out: Tensor) -> Tensor:
        """The margins are the logits."""
        return out.copy_(margin)

    def curvature(self, margin: Tensor, out: Tensor) -> Tensor:
        """Return (1 - y + q y) p (1 - p), times s."""
        return _bernoulli_variance(margin, out).mul_(self.off + self.on)


Labels = HardLabels | SoftLabels


def _bernoulli_variance(z: Tensor, out: Tensor) -> Tensor:
    """Return p - p^2 for the smaller of p and 1 - p, which does not cancel; in `out`."""
    p = torch.abs(z, out=out).neg_().sigmoid_()
    return p.addcmul_(p, p, value=-1)
