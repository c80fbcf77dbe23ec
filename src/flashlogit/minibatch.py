"""One epoch of mini-batches over arrays: what `LogisticRegression.partial_fit` is made of.

Adam (Kingma and Ba 2015) on coefficients of columns about their means and in units of their spread, both of the rows
that came first: a change of variables only, so that one learning rate suits columns of any unit. The penalty stays on
the raw columns' coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .coordinates import Coordinates, measure_coordinates
from .loss import bce_loss


@dataclass
class MiniBatches:
    """Weights while they are trained: weight [K, D] and bias [K] float64 in the units of X; K = 1 for two classes."""

    weight: Tensor
    bias: Tensor
    coordinates: Coordinates
    moments: dict[str, Any] = field(default_factory=dict)
    """State of the optimiser between two epochs."""

    @classmethod
    def begin(cls, X: Tensor, weight: Tensor, bias: Tensor, *, intercept: bool) -> MiniBatches:
        """From weights, with the columns' means and spreads in X [n, D]."""
        coordinates = measure_coordinates(X, None, curvature=0.25, l2=0.0, intercept=intercept)
        return cls(weight, bias, coordinates)

    def epoch(
        self,
        X: Tensor,
        y: Tensor,
        sample_weight: Tensor | None,
        *,
        l1: float,
        l2: float,
        learning_rate: float,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        """Visit every row of X [n, D] once, in random order.

        Args:
            y: [n] int64 class numbers.
            sample_weight: [n] or None.
            l1, l2: penalties of the mean loss over these rows; that of l1 is followed by its subgradient.
            generator: of the order, on the CPU.
        """
        theta = self._theta().requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=learning_rate)
        if self.moments:
            optimizer.load_state_dict(self.moments)
            optimizer.param_groups[0]["lr"] = learning_rate
        n, device = len(X), X.device
        mean_weight = 1.0 if sample_weight is None else float(sample_weight.double().mean())
        order = torch.randperm(n, generator=generator).to(device)
        for rows in torch.split(order, batch_size):
            W, b = self._user(theta)
            s = None if sample_weight is None else sample_weight[rows]
            loss = _losses(X[rows], y[rows], W, b, s) / (len(rows) * mean_weight)
            penalty = l1 * W.abs().sum() + 0.5 * l2 * W.square().sum()
            optimizer.zero_grad()
            (loss + penalty).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self.moments = optimizer.state_dict()
        with torch.no_grad():
            W, b = self._user(theta)
            self.weight, self.bias = W.t().contiguous(), b

    def _theta(self) -> Tensor:
        """[P, K], a leaf of its own."""
        c = self.coordinates
        rows = [self.weight.t()]
        if c.intercept:
            rows.append((self.bias + self.weight @ c.center)[None, :])
        return (torch.cat(rows) / c.scale[:, None]).detach().clone()

    def _user(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """W [D, K] and b [K] in the units of X."""
        return self.coordinates.to_user(theta)


def _losses(X: Tensor, y: Tensor, W: Tensor, b: Tensor, sample_weight: Tensor | None) -> Tensor:
    """The weighted sum of the rows' losses, []."""
    dtype = X.dtype if X.dtype in (torch.float32, torch.float64) else torch.float32
    W, b = W.to(dtype), b.to(dtype)
    if W.shape[1] == 1:
        return bce_loss(X, y, W[:, 0], b, sample_weight=sample_weight, eps=0.0, reduction="sum").double()
    losses = torch.nn.functional.cross_entropy(X.to(dtype) @ W + b, y, reduction="none").double()
    return losses.sum() if sample_weight is None else (losses * sample_weight).sum()
