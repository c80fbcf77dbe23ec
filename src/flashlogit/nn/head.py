"""A linear layer with one output whose loss is computed in the pass that reads its input."""

from __future__ import annotations

from typing import TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from flashlogit_kernels.contract import Clamp, ClampGradient

from .loss import Reduction, bce_loss


class LossWeights(TypedDict, total=False):
    """Weights of rows and of the positive part, as in `flashlogit.bce_loss`."""

    sample_weight: Tensor | None
    pos_weight: Tensor | float | None


class LogisticHead(nn.Linear):
    """nn.Linear(in_features, 1) with a fused loss; its state_dict is that layer's, weight [1, D] and bias [1].

    ``head(X)`` gives logits [N, 1] as nn.Linear does; ``head(X, y)`` gives the loss of `flashlogit.bce_loss`.
    """

    def __init__(
        self,
        in_features: int,
        bias: bool = True,
        *,
        eps: float = 1e-8,
        clamp_gradient: ClampGradient = "through",
        reduction: Reduction = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Same meaning as in nn.Linear and `flashlogit.bce_loss`; raises ValueError for an option out of bounds."""
        super().__init__(in_features, 1, bias=bias, device=device, dtype=dtype)
        self.clamp = Clamp(eps, clamp_gradient)
        self.reduction: Reduction = reduction

    @overload
    def forward(self, X: Tensor) -> Tensor: ...

    @overload
    def forward(self, X: Tensor, y: Tensor, **weights: Unpack[LossWeights]) -> Tensor: ...

    def forward(self, X: Tensor, y: Tensor | None = None, **weights: Unpack[LossWeights]) -> Tensor:
        """Return the logits [N, 1] of X [N, D]; with labels y [N] the loss instead."""
        if y is None:
            return super().forward(X)
        eps, gradient = self.clamp.eps, self.clamp.gradient
        return bce_loss(
            X,
            y,
            self.weight,
            self.bias,
            eps=eps,
            clamp_gradient=gradient,
            reduction=self.reduction,
            **weights,
        )

    def extra_repr(self) -> str:
        """Return the options behind nn.Linear's own."""
        options = f"eps={self.clamp.eps}, clamp_gradient={self.clamp.gradient!r}, reduction={self.reduction!r}"
        return f"{super().extra_repr()}, {options}"
