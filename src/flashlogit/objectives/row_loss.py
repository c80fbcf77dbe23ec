"""What the losses of rows take and give: sums over rows, and what the certificate needs of each.

A model has C columns of weights, W [D, C] and b [C]: one for two classes, one for each class of a softmax. Both losses,
`Logistic` and `Softmax`, offer the same:

    sums              losses and gradients, and what is to be kept of the rows
    product, hessian  of the sum of losses, by W and b
    margin            how far the rows are on their labels' sides, at the least
    intercept_...     of the intercepts alone, and `shrunk_divergence`: for the certificate
    null_...          of the null model, which has intercepts only
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Coefficients(NamedTuple):
    """W [D, C] and b [C] for X less `Design.center`, as a pass takes them; or sums by them, as a pass gives them."""

    W: Tensor
    b: Tensor

    def to(self, dtype: torch.dtype) -> Coefficients:
        """Return both in a dtype."""
        return Coefficients(self.W.to(dtype), self.b.to(dtype))


class Keep(NamedTuple):
    """What to keep of the rows.

    products: the dtype of the curvature to keep for `product`, None for none. intercepts: whether to keep what
    `intercept_hessian` and `intercept_product` need. margins: whether to keep what `margin` and `shrunk_divergence` do.
    border: whether the product is likely to be asked for, and is summed at once where that spares a read of X.
    """

    products: torch.dtype | None
    intercepts: bool
    margins: bool
    border: bool = False


@dataclass(frozen=True)
class KeptRows:
    """What a pass kept of the rows at a point, as far as it was asked for.

    curvature: for products, in their dtype: s_i h_i [N] of a logistic loss, the probabilities [N, C] of a softmax.
    exact: s_i h_i [N] float64. logits: [N] float64. margin: the smallest one of a row of positive weight, [].
    intercepts: second derivative of the sum by the intercepts, [C, C]. border: the same by the weights and, last, by
    the intercept, sum_i s_i h_i (x_i - c, 1) [D + 1].
    """

    curvature: Tensor | None = None
    exact: Tensor | None = None
    logits: Tensor | None = None
    margin: Tensor | None = None
    intercepts: Tensor | None = None
    border: Tensor | None = None


@dataclass(frozen=True)
class RowSums:
    """The sum of s_i loss_i [] and its derivatives, all float64, and what was kept of the rows."""

    loss: Tensor
    gradient: Coefficients
    rows: KeptRows


@dataclass(frozen=True)
class Targets:
    """Labels y [N] and weights sample_weight [N] float32 or float64 of rows, or None for ones.

    shares: of every class's rows in the sum of weights; without an intercept equal ones, as the null model has them.
    weight_sum: S, the sum of the weights.
    """

    y: Tensor
    sample_weight: Tensor | None
    shares: tuple[float, ...]
    weight_sum: float
    intercept: bool

    @cached_property
    def null_value(self) -> float:
        """The mean loss of the model with intercepts only, in nats; without an intercept that of W = 0."""
        return sum(-share * math.log(share) for share in self.shares if share > 0)


def check_weights(*, negative: bool, total: float) -> None:
    """Raise ValueError for weights of which some are negative or NaN, or whose sum is not positive and finite."""
    if negative or not 0 < total < math.inf:
        raise ValueError(
            "sample_weight holds a negative, infinite or NaN value, or only zeros; weights must be at least 0, and"
            " finite"
        )
