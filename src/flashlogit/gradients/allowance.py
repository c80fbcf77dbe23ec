"""How large a disagreement between two ways to a gradient may be, from what rounding can do to them.

A disagreement is an error relative to the size of the terms that are added up, not to their sum, which may cancel:

    |dL/dw_j - truth| / (1/S sum_i s_i |x_ij| (rho_i + 2 |r(z_i +- d_i) - r(z_i)| / bound)),    d_i = bound * m_i.

rho_i = (1 - y_i) p_i + y_i (1 - p_i) is |r_i| for labels 0 and 1. The second term is what rounding z_i does to the
residual: of the size of m_i = sum_j |x_ij w_j| + |b| are the terms that are rounded, however small their sum. dL/db
takes x = 1, and the loss itself stands for rho and r. So a bound is some roundings of the dtype, whatever the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flashlogit_kernels.contract import Clamp

from .methods import PLAIN_ROWS, Gradient, Problem, Steps, by_autograd, row_loss

FLOAT64_BOUND = 1e-12
"""Of a disagreement in float64 arithmetic, for one row: some thousand roundings."""
FLOAT64_SUM_BOUND = 1e-10
"""The same for a sum over rows: above what the roundings of 2^18 rows, which a pass may add up at once, can come to."""
FLOAT32_BOUND = 1e-6
"""Of a disagreement in float32 arithmetic, for one row: about ten roundings."""
FLOAT32_SUM_BOUND = 1e-5
"""The same for a sum over rows, on top of plain torch's own error on the same rows."""
INTERPRETED_SUM_BOUND = 1e-4
"""Also allowed in Triton's interpreter: it adds up a tile's rows, up to 2048, one after the other."""
_PLAIN_LIMIT = PLAIN_ROWS * 2.0**-24
"""The most that plain torch's own error can allow: its rows' roundings, all of one sign."""
DIFFERENCES_BOUND = 1e-8
"""Of a disagreement of finite differences, apart from what the rounding of the loss does to them."""


@dataclass(frozen=True, eq=False)
class Allowance:
    """A bound, and what a disagreement is relative to: weight is float64 [D]."""

    bound: float
    loss: float
    weight: Tensor
    bias: float

    def worst(self, gradient: Gradient, truth: Gradient) -> tuple[float, str]:
        """The largest relative error, and the name of the number that has it: "loss", "dL/dw[3]" or "dL/db"."""
        K = gradient.weight.shape[0]
        errors = {
            "loss": _relative(gradient.loss - truth.loss, self.loss),
            "dL/db": _relative(gradient.bias - truth.bias, self.bias),
        }
        by_column = (gradient.weight - truth.weight[:K]).abs() / self.weight[:K]
        by_column = by_column.nan_to_num(nan=math.inf)
        j = int(by_column.argmax())
        errors[f"dL/dw[{j}]"] = by_column[j].item()
        name = max(errors, key=errors.__getitem__)
        return errors[name], name


def allowance_of(problem: Problem, dtype: torch.dtype, truth: Gradient) -> Allowance:
    limits = torch.finfo(dtype)
    # Below the smallest normal number a dtype has no relative precision.
    floor = limits.tiny / limits.eps
    single = problem.X.shape[0] == 1
    if dtype == torch.float64:
        return _scales(problem, FLOAT64_BOUND if single else FLOAT64_SUM_BOUND, floor=floor)
    if single:
        return _scales(problem, FLOAT32_BOUND, floor=floor)
    # Rows of one sign add up their roundings too, in plain torch as in the reference (7e-4 was measured for 2 * 10^6
    # rows of a constant column). The same sums in float64 have to be right to FLOAT64_SUM_BOUND all the same.
    scales = _scales(problem, FLOAT32_SUM_BOUND, floor=floor)
    plain, _ = scales.worst(by_autograd(problem, dtype), truth)
    return replace(scales, bound=scales.bound + min(plain, _PLAIN_LIMIT))


def difference_allowance(problem: Problem, steps: Steps) -> Allowance:
    """The same for finite differences, which divide the rounding of the loss by their step."""
    limits = torch.finfo(torch.float64)
    scales = _scales(problem, DIFFERENCES_BOUND, floor=limits.tiny / limits.eps, margin=2 * steps.logit)
    rounding = 4 * limits.eps * scales.loss / scales.bound
    return replace(
        scales,
        weight=scales.weight[: steps.weight.shape[0]] + rounding / steps.weight.cpu(),
        bias=scales.bias + rounding / steps.bias,
    )


def _scales(problem: Problem, bound: float, *, floor: float, margin: float = 0.0) -> Allowance:
    """The denominators of the module's formula, plus `floor` for every row.

    Under "exact" the gradient jumps at the clamp. A row that rounding, or a step of `margin`, can bring to its other
    side may be there altogether.
    """
    clamp = problem.clamp
    w, b = problem.parameters(torch.float64)
    loss, bias, weight = 0.0, 0.0, torch.zeros_like(w)
    for X, y, s in problem.blocks(torch.float64):
        z = X @ w + b
        shift = bound * (X.abs() @ w.abs() + b.abs())
        soft = torch.where((y > 0) & (y < 1), y, 0.0)  # a soft label is rounded too
        c = z.clamp(-clamp.bound, clamp.bound)
        loss_size = row_loss(z, y, clamp) + (_rho(c, y) + soft) * c.abs()
        # Twice the change, since what z's rounding gives is rounded in turn.
        loss_size += 2 * _loss_change(z, y, clamp, shift) / bound
        loss += (s * (loss_size + floor)).sum().item()
        rho = _rho(z, y)
        residual = rho + soft + 2 * _residual_change(z, y, shift) / bound
        if clamp.zeroes_gradient:
            jumps = (z.abs() - clamp.bound).abs() <= margin + shift
            residual += torch.where(jumps, rho / bound, 0.0)
        residual = s * residual
        bias += (residual + s * floor).sum().item()
        weight += residual @ X.abs() + floor * (s @ (1 + X.abs()))
    S = problem.weight_sum
    return Allowance(bound, loss / S, (weight / S).cpu(), bias / S)


def _rho(z: Tensor, y: Tensor) -> Tensor:
    """(1 - y) p + y (1 - p): the residual without its cancellation."""
    return (1 - y) * torch.sigmoid(z) + y * torch.sigmoid(-z)


def _residual_change(z: Tensor, y: Tensor, shift: Tensor) -> Tensor:
    """How far the residual moves at most where z moves by up to `shift`; it rises with z."""

    def residual(z: Tensor) -> Tensor:
        return (1 - y) * torch.sigmoid(z) - y * torch.sigmoid(-z)

    return torch.maximum(residual(z + shift) - residual(z), residual(z) - residual(z - shift))


def _loss_change(z: Tensor, y: Tensor, clamp: Clamp, shift: Tensor) -> Tensor:
    """How far the loss moves at most where z moves by up to `shift`; it falls until p is y and rises from there."""
    lowest = torch.logit(y).clamp(z - shift, z + shift)
    here = row_loss(z, y, clamp)
    changes = [(row_loss(point, y, clamp) - here).abs() for point in (z - shift, lowest, z + shift)]
    return torch.stack(changes).amax(dim=0)


def _relative(error: float, scale: float) -> float:
    """|error| / scale; infinite where either is NaN, which no comparison would notice."""
    ratio = abs(error) / scale
    return math.inf if math.isnan(ratio) else ratio
