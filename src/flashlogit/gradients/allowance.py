"""How large a disagreement between two ways to a gradient may be, from what rounding can do to them.

A disagreement is an error relative to the size of the terms that are added up, not to their sum, which may cancel:

    |dL/dw_j - truth| / (1/S sum_i s_i |x_ij| (rho_i + 2 (r(z_i + d_i) - r(z_i - d_i)) / bound)),   d_i = bound * m_i.

rho_i = (1 - y_i) p_i + y_i (1 - p_i) is |r_i| for labels 0 and 1. The second term is what rounding z_i does to the
residual r: m_i = sum_j |x_ij w_j| + |b| is the size of the terms that are rounded, however small their sum. dL/db takes
x = 1; for the loss, rho is the loss itself, and its slope is at most the larger residual. So a bound is some roundings
of the dtype, whatever the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .methods import Gradient, Problem, row_loss

BOUNDS = {torch.float64: (1e-12, 1e-10), torch.float32: (1e-6, 5e-4)}
"""Bounds for one row, and for a sum over rows: in float64 thousands of roundings; in float32 ten, and the most
that 16,384 rows of one sign can come to when they are added up one after the other, as plain torch does."""


@dataclass(frozen=True, eq=False)
class Allowance:
    """A bound, and the sizes that a disagreement is relative to."""

    bound: float
    size: Gradient

    @classmethod
    def of(cls, problem: Problem, dtype: torch.dtype) -> Allowance:
        """Compute the denominators of the module's formula."""
        clamp, limits = problem.clamp, torch.finfo(dtype)
        bound = BOUNDS[dtype][len(problem.y) > 1]
        # Below its smallest normal number a dtype has no relative precision.
        floor = limits.tiny / limits.eps
        w, b = problem.parameters(torch.float64)
        X, y, s = problem.rows(torch.float64)
        z = X @ w + b
        terms = X.abs() @ w.abs() + b.abs()
        low, high = _residual(z - bound * terms, y), _residual(z + bound * terms, y)
        # A soft label is rounded too.
        rho = (1 - y) * torch.sigmoid(z) + y * torch.sigmoid(-z) + torch.where((y > 0) & (y < 1), y, 0.0)
        residual = rho + 2 * (high - low) / bound
        if clamp.zeroes_gradient:
            # The gradient jumps at the clamp, and rounding may bring a row to its other side.
            jumps = (z.abs() - clamp.bound).abs() <= bound * terms
            residual += torch.where(jumps, rho / bound, 0.0)
        c = z.clamp(-clamp.bound, clamp.bound)
        loss = row_loss(z, y, clamp) + rho * c.abs() + 2 * terms * torch.maximum(low.abs(), high.abs())
        weight = (s * residual) @ X.abs() + floor * (s @ (1 + X.abs()))
        return cls(bound, Gradient.mean((s * (loss + floor)).sum(), weight, (s * (residual + floor)).sum(), s))

    def worst(self, gradient: Gradient, truth: Gradient) -> tuple[float, str]:
        """Return the largest relative error, and the number that has it: "loss", "dL/dw[3]" or "dL/db"."""
        errors = (gradient.weight - truth.weight).abs() / self.size.weight
        by_name = {
            "loss": abs(gradient.loss - truth.loss) / self.size.loss,
            "dL/db": abs(gradient.bias - truth.bias) / self.size.bias,
            f"dL/dw[{int(errors.argmax())}]": errors.max().item(),  # NaN is the largest to torch
        }
        # No comparison would notice a NaN.
        by_name = {name: math.inf if math.isnan(error) else error for name, error in by_name.items()}
        name = max(by_name, key=by_name.__getitem__)
        return by_name[name], name


def _residual(z: Tensor, y: Tensor) -> Tensor:
    """Return p - y, without its cancellation; it rises with z."""
    return (1 - y) * torch.sigmoid(z) - y * torch.sigmoid(-z)
