"""Loss, residual and curvature of rows from their logits, in torch: the twin of the kernels' `row_terms`.

loss = (1 - y) softplus(c) + q y softplus(-c)        r = (1 - y) sigmoid(z) - q y sigmoid(-z)        c = clamp(z)

Many small operations would cost more than the arithmetic: whatever can be decided once for all rows of a part is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

_SOFTPLUS_IS_LINEAR_FROM = 50.0
"""exp(-50) is below the rounding of 50 in float64; torch's own threshold of 20 is only good enough for float32."""


class Labels(Protocol):
    """Labels of consecutive rows, in the arithmetic's dtype, with pos_weight q."""

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """What `residual` reads of each row, [m] each."""

    @property
    def residual(self) -> Callable[..., None]:
        """(z, out, *vectors): write r of rows with logits z to `out`, given the same rows of the vectors."""

    def loss(self, c: Tensor) -> Tensor:
        """Loss of all rows from their clamped logits c [m], which it may overwrite."""

    def curvature(self, z: Tensor) -> Tensor:
        """dr/dz of all rows from their logits z [m]."""


def labels_of(y: Tensor, pos_weight: Tensor | None, compute_dtype: torch.dtype) -> Labels:
    """Labels y [m] as they are cheapest to compute with."""
    hard = _are_hard(y)
    y = y.to(compute_dtype)
    return HardLabels(y, pos_weight) if hard else SoftLabels(y, pos_weight)


def _are_hard(y: Tensor) -> bool:
    """Whether all labels are known to be 0 or 1.

    bool and uint8 hold nothing else. Others are looked at on the CPU, which costs two passes over y; on a GPU it would
    wait for the device. A dot product says in a tenth of the time of torch.equal whether y^2 - y is 0 throughout.
    """
    if y.dtype == torch.uint8 or y.device.type != "cpu":
        return y.dtype == torch.uint8
    difference = (y * y).sub_(y)
    return float(difference.dot(difference)) == 0.0


class HardLabels:
    """Labels 0 and 1: with t = 1 - 2y all is a function of t z, at half the price of soft labels."""

    def __init__(self, y: Tensor, pos_weight: Tensor | None) -> None:
        self.t = torch.rsub(y, 1, alpha=2)
        self.factor = None if pos_weight is None else torch.where(y > 0, pos_weight, 1.0)

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """t, and the factor where there is one."""
        return (self.t,) if self.factor is None else (self.t, self.factor)

    @staticmethod
    def residual(z: Tensor, out: Tensor, t: Tensor, *factor: Tensor) -> None:
        """t sigmoid(t z), times q for positive rows."""
        torch.mul(t, z, out=out)
        out.sigmoid_().mul_(t)
        for q in factor:
            out.mul_(q)

    def loss(self, c: Tensor) -> Tensor:
        """softplus(t c), times q for positive rows."""
        loss = softplus(c.mul_(self.t), threshold=_SOFTPLUS_IS_LINEAR_FROM)
        return loss if self.factor is None else loss.mul_(self.factor)

    def curvature(self, z: Tensor) -> Tensor:
        """p (1 - p), times q for positive rows."""
        curvature = _bernoulli_variance(z)
        return curvature if self.factor is None else curvature.mul_(self.factor)


class SoftLabels:
    """Labels anywhere in [0, 1]."""

    def __init__(self, y: Tensor, pos_weight: Tensor | None) -> None:
        self.y = y
        self.on = y if pos_weight is None else y * pos_weight

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """1 - y and q y."""
        return 1 - self.y, self.on

    @staticmethod
    def residual(z: Tensor, out: Tensor, off: Tensor, on: Tensor) -> None:
        """(1 - y) p - q y (1 - p), which does not cancel where a label is 0 or 1."""
        torch.mul(off, torch.sigmoid(z), out=out)
        out.addcmul_(on, torch.sigmoid(-z), value=-1)

    def loss(self, c: Tensor) -> Tensor:
        """The two softplus together, with 0 times infinity taken as 0."""
        off = 1 - self.y
        slope = torch.where(c > 0, off, self.on)
        magnitude = c.abs()
        linear = torch.where(slope == 0, 0.0, slope * magnitude)
        return linear + (off + self.on) * torch.log1p(torch.exp(magnitude.neg_()))

    def curvature(self, z: Tensor) -> Tensor:
        """(1 - y + q y) p (1 - p)."""
        return _bernoulli_variance(z).mul_(1 - self.y + self.on)


def _bernoulli_variance(z: Tensor) -> Tensor:
    """p (1 - p), whose smaller factor does not cancel."""
    p = torch.sigmoid(z.abs().neg_())
    return p * (1 - p)
