"""A linear layer with one output whose loss is computed in the pass that reads its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flashlogit_kernels.contract import Clamp, ClampGradient

from .loss import Reduction, bce_loss


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

    def forward(
        self,
        X: Tensor,
        y: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        pos_weight: Tensor | float | None = None,
    ) -> Tensor:
        """Return the logits [N, 1] of X [N, D]; with labels y [N] the loss instead, as `flashlogit.bce_loss` has it."""
        if y is None:
            return super().forward(X)
        return bce_loss(
            X,
            y,
            self.weight,
            self.bias,
            sample_weight=sample_weight,
            pos_weight=pos_weight,
            eps=self.clamp.eps,
            clamp_gradient=self.clamp.gradient,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Return the options behind nn.Linear's own."""
        options = f"eps={self.clamp.eps}, clamp_gradient={self.clamp.gradient!r}, reduction={self.reduction!r}"
        return f"{super().extra_repr()}, {options}"
