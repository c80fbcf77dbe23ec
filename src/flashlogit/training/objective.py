"""The objective that training minimises, over the rows of one split.

    P(w, b) = 1/S sum_i s_i loss_i + l2/2 ||w||^2,      S = sum_i s_i

s_i is the row's weight times its class's; the intercept b is not penalised.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from flashlogit_kernels.contract import BCESums, Clamp

from ..config.settings import ClassWeight
from ..data import Rows
from ..passes import Backend
from ..system.errors import UserError


class Objective:
    """P(w, b) over `rows`, whose sample_weight already holds the class weights.

    ``sums(w, b)`` is a pass over all rows at w [D] and b [1], and ``sums(w, b, rows=numbers)`` one over some of them.
    """

    def __init__(self, rows: Rows, clamp: Clamp, l2: float, backend: Backend) -> None:
        s = rows.sample_weight
        self.rows = rows
        self.l2 = l2
        self.weight_sum = len(rows) if s is None else s.sum(dtype=torch.float64).item()
        self.sums = functools.partial(
            backend.passes.bce_onepass,
            rows.X,
            rows.y,
            sample_weight=s,
            eps=clamp.eps,
            clamp_gradient=clamp.gradient,
        )

    def mean_loss(self, w: Tensor, b: Tensor) -> float:
        """1/S sum_i s_i loss_i over all rows, without the penalty. Waits for the device."""
        return float(self.sums(w, b).loss) / self.weight_sum

    def gradient(self, sums: BCESums, w: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """dP/dw [D] and dP/db [1] at w, in its dtype, estimated without bias from the sums over n rows.

        They are scaled by N / (n S) and not by the batch's own weight sum, whose expectation would not be the gradient
        of P.
        """
        scale = len(self.rows) / n / self.weight_sum
        weight_grad = (sums.weight_grad * scale).to(w.dtype).add_(w, alpha=self.l2)
        return weight_grad, (sums.bias_grad * scale).to(w.dtype).reshape(1)


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
                f"it names a negative and a positive class, and there are {classes} classes",
                setting="loss.class_weight",
                remedy="set it to balanced or null, or give rows weights of their own (data.weight)",
            )
        return setting.negative, setting.positive
    weight = None if rows.sample_weight is None else rows.sample_weight.double()
    mass = torch.bincount(rows.y.to(torch.int64), weights=weight, minlength=classes).double()
    return tuple((mass.sum() / (classes * mass)).tolist())
