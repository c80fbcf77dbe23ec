"""One epoch of mini-batches over arrays: what `LogisticRegression.partial_fit` is made of.

Adam (Kingma and Ba 2015) on coefficients of columns about their means and in units of their spread, both of the rows
seen so far: a change of variables only, so that one learning rate suits columns of any unit. The penalty stays on the
raw columns' coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..nn.loss import bce_loss
from ..objectives.coordinates import Coordinates, Moments
from .optimizers import State, adam, shuffled_batches

_CURVATURE = 0.25
"""Assumed curvature of a row's loss, its largest: nothing is known of the logits yet."""


@dataclass
class MiniBatches:
    """Weights while they are trained: weight [K, D] and bias [K] float64 in the units of X; K = 1 for two classes."""

    weight: Tensor
    bias: Tensor
    intercept: bool
    seen: Moments | None = None
    """Moments of the columns over all rows so far."""
    scale: Tensor | None = None
    """Scale of the coordinates in which the optimiser's state is."""
    state: dict[str, Any] = field(default_factory=dict)
    """State of Adam between two epochs, as torch.optim has it: models of earlier versions were pickled with that."""

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
            generator: gives the order; on the CPU, so that it is the same on every device.
        """
        # Whatever a caller has switched off around this call: inference mode would make tensors that know no gradient.
        with torch.inference_mode(False), torch.enable_grad():
            if X.is_inference():
                X = X.clone()
            kept = None if sample_weight is None else sample_weight > 0
            here = Moments.of(X if kept is None or bool(kept.all()) else X[kept])
            self.seen = here if self.seen is None else self.seen.joined(here)
            coordinates = self.seen.coordinates(X.device, curvature=_CURVATURE, l2=0.0, intercept=self.intercept)
            theta = coordinates.from_user(self.weight.t(), self.bias).detach().requires_grad_()
            state = self._state_in(coordinates)
            mean_weight = 1.0 if sample_weight is None else float(sample_weight.double().mean())
            dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
            for rows in shuffled_batches(len(X), batch_size, generator, X.device):
                # Centred here: of a column that is far from 0, and constant so far, the gradient would be rounding.
                W, b = coordinates.centred(theta)
                s = None if sample_weight is None else sample_weight[rows]
                centred = (X[rows].double() - coordinates.center).to(dtype)
                loss = _losses(centred, y[rows], W.to(dtype), b.to(dtype), s) / (len(rows) * mean_weight)
                penalty = l1 * W.abs().sum() + 0.5 * l2 * W.square().sum()
                (gradient,) = torch.autograd.grad(loss + penalty, theta)
                adam(theta.detach(), gradient, state, learning_rate)
            with torch.no_grad():
                W, b = coordinates.to_user(theta)
            if not bool(W.isfinite().all()) or not bool(b.isfinite().all()):
                raise ValueError(
                    f"learning_rate is {learning_rate:g}, at which the coefficients have grown beyond all numbers; make"
                    " it smaller (0.01 suits most data)"
                )
            self.state, self.scale = {"state": {0: state}}, coordinates.scale
            self.weight, self.bias = W.t().contiguous(), b

    def _state_in(self, c: Coordinates) -> State:
        """Return a copy of Adam's state, whose gradients grow with a coordinate's scale."""
        if self.scale is None:
            return {}
        ratio = (c.scale / self.scale)[:, None]
        powers = {"exp_avg": ratio, "exp_avg_sq": ratio.square()}
        return {name: value * powers.get(name, 1.0) for name, value in self.state["state"][0].items()}


def _losses(X: Tensor, y: Tensor, W: Tensor, b: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Return the weighted sum of the rows' losses, []."""
    if W.shape[1] == 1:
        return bce_loss(X, y, W[:, 0], b, sample_weight=sample_weight, eps=0.0, reduction="sum").double()
    losses = torch.nn.functional.cross_entropy(X @ W + b, y, reduction="none").double()
    return losses.sum() if sample_weight is None else (losses * sample_weight).sum()
