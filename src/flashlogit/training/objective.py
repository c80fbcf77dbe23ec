"""The objective that training minimises, over the rows of one split.

    P(w, b) = 1/S sum_i s_i loss_i + l2/2 ||w||^2,      S = sum_i s_i

s_i is the row's weight times its class's; the intercept b is not penalised. It knows its rows and its backend; what is
above it sees losses and gradients only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flashlogit_kernels.contract import BCESums, Clamp

from ..config.settings import ClassWeight
from ..data import Rows
from ..passes.backend import Backend
from ..system.errors import UserError


@dataclass(frozen=True)
class Gradient:
    """dP/dw [D] and dP/db [1] in the parameters' dtype, and the sums over rows that they came from."""

    weight: Tensor
    bias: Tensor
    sums: BCESums


class Objective:
    """P(w, b) over `rows`, whose sample_weight already holds the class weights."""

    def __init__(self, rows: Rows, clamp: Clamp, l2: float, backend: Backend) -> None:
        self.rows = rows
        self.clamp = clamp
        self.l2 = l2
        self._passes = backend.passes
        self.weight_sum = (
            len(rows) if rows.sample_weight is None else rows.sample_weight.sum(dtype=torch.float64).item()
        )

    def sums(self, w: Tensor, b: Tensor, rows: Tensor | None = None) -> BCESums:
        """Sums of one pass over all rows, or over those numbered `rows` [n] int64, at w [D] and b [1]."""
        return self._passes.bce_onepass(
            self.rows.X,
            self.rows.y,
            w,
            b,
            sample_weight=self.rows.sample_weight,
            rows=rows,
            eps=self.clamp.eps,
            clamp_gradient=self.clamp.gradient,
        )

    def mean_loss(self, w: Tensor, b: Tensor) -> float:
        """1/S sum_i s_i loss_i over all rows, without the penalty. Waits for the device."""
        return float(self.sums(w, b).loss) / self.weight_sum

    def gradient(self, w: Tensor, b: Tensor, rows: Tensor | None = None) -> Gradient:
        """Gradient of P, estimated without bias from a mini-batch where `rows` [n] is given.

        A batch is scaled by N / (n S) and not by its own weight sum, whose expectation would not be the gradient of P.
        """
        sums = self.sums(w, b, rows)
        share = 1.0 if rows is None else len(self.rows) / rows.shape[0]
        scale = share / self.weight_sum
        return Gradient(
            weight=(sums.weight_grad * scale).to(w.dtype).add_(w.detach(), alpha=self.l2),
            bias=(sums.bias_grad * scale).to(b.dtype).reshape(1),
            sums=sums,
        )


def with_class_weight(rows: Rows, class_weight: tuple[float, ...]) -> Rows:
    """The rows with their weights multiplied by their class's, [K] in the order of the classes."""
    if all(factor == 1 for factor in class_weight):
        return rows
    dtype = torch.float32 if rows.sample_weight is None else rows.sample_weight.dtype
    factor = torch.tensor(class_weight, dtype=dtype, device=rows.X.device)[rows.y.to(torch.int64)]
    weight = factor if rows.sample_weight is None else factor * rows.sample_weight
    return Rows(rows.X, rows.y, weight)


def class_weights(rows: Rows, setting: ClassWeight | str | None, *, classes: int = 2) -> tuple[float, ...]:
    """Factors [K] in the order of the classes; "balanced" gives all classes of the training `rows` the weight S / K.

    Raises:
        UserError: factors of the negative and the positive class where there are more than two.
    """
    if setting is None:
        return (1.0,) * classes
    if isinstance(setting, ClassWeight):
        if classes > 2:
            raise UserError(
                f"loss.class_weight names a negative and a positive class, and there are {classes} classes; set it to"
                " balanced or null, or give rows weights of their own (data.weight)"
            )
        return setting.negative, setting.positive
    weight = None if rows.sample_weight is None else rows.sample_weight.double()
    mass = torch.bincount(rows.y.to(torch.int64), weights=weight, minlength=classes).double()
    return tuple((mass.sum() / (classes * mass)).tolist())
