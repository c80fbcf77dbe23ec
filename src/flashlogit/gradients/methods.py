"""The gradient of the mean loss in five ways that share no code, for `flashlogit.gradients.check` to compare.

    by hand      dL/dp * dp/dz * dz/dw, factor by factor
    autograd     torch differentiates -(y log p + (1 - y) log(1 - p)), with log p = logsigmoid(z)
    reference    flashlogit.reference
    kernel       flashlogit_kernels
    differences  (L(w + h) - L(w - h)) / 2h

The loss and what `clamp_gradient` means are those of `flashlogit_kernels.contract.Clamp`.

How large a disagreement between two ways may be follows from what rounding can do to them. A disagreement is an error
relative to the size of the terms that are added up, not to their sum, which may cancel:

    |dL/dw_j - truth| / (1/S sum_i s_i |x_ij| (rho_i + 2 (r(z_i + d_i) - r(z_i - d_i)) / bound)),   d_i = bound * m_i.

rho_i = (1 - y_i) p_i + y_i (1 - p_i) is |r_i| for labels 0 and 1. The second term is what rounding z_i does to the
residual r: m_i = sum_j |x_ij w_j| + |b| is the size of the terms that are rounded, however small their sum. dL/db takes
x = 1; for the loss, rho is the loss itself, and its slope is at most the larger residual. So a bound is some roundings
of the dtype, whatever the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import flashlogit_kernels
from flashlogit_kernels.contract import Clamp

from .. import reference
from ..passes import Passes

BOUNDS = {torch.float64: (1e-12, 1e-10), torch.float32: (1e-6, 5e-4)}
"""Bounds for one row, and for a sum over rows: in float64 thousands of roundings; in float32 ten, and the most
that 16,384 rows of one sign can come to when they are added up one after the other, as plain torch does."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows, and the point at which the gradient is taken."""

    X: Tensor
    """[N, D] in its storage dtype."""
    y: Tensor
    """[N] in [0, 1]."""
    weight: Tensor
    """[D] float64."""
    bias: float
    clamp: Clamp
    sample_weight: Tensor | None = None
    """[N], or None for ones."""

    def on(self, device: torch.device) -> Problem:
        """Return the same on another device."""
        tensors: dict[str, Any] = {
            name: each.to(device) for name, each in vars(self).items() if isinstance(each, Tensor)
        }
        return replace(self, **tensors)

    def only(self, rows: slice | Tensor) -> Problem:
        """Return the problem of some of the rows."""
        s = self.sample_weight
        return replace(self, X=self.X[rows], y=self.y[rows], sample_weight=None if s is None else s[rows])

    def rows(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return X [N, D], y [N] and the weights s [N] in `dtype`."""
        y = self.y.to(dtype)
        s = torch.ones_like(y) if self.sample_weight is None else self.sample_weight.to(dtype)
        return self.X.to(dtype), y, s

    def parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return w [D] and b [] in `dtype`."""
        return self.weight.to(dtype), self.weight.new_tensor(self.bias, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Gradient:
    """Mean loss, dL/dw and dL/db; weight is float64 [D] on the CPU."""

    loss: float
    weight: Tensor
    bias: float

    @classmethod
    def mean(cls, loss: Tensor, weight: Tensor, bias: Tensor, s: Tensor) -> Gradient:
        """Divide sums over rows by the sum of the rows' weights s [N]."""
        S = s.sum(dtype=torch.float64).item()
        return cls(loss.item() / S, (weight.double() / S).cpu(), bias.item() / S)


def row_loss(z: Tensor, y: Tensor, clamp: Clamp) -> Tensor:
    """Return (1 - y) softplus(c) + y softplus(-c) with c = clamp(z, -Z, Z), the clamped cross-entropy of logits z."""
    c = z.clamp(-clamp.bound, clamp.bound)
    tail = torch.log1p(torch.exp(-c.abs()))
    return (1 - y) * (c.clamp(min=0) + tail) + y * ((-c).clamp(min=0) + tail)


@dataclass(frozen=True, eq=False)
class ChainRule:
    """The factors that dL/dw and dL/db share, one of each per row."""

    p: Tensor
    loss_by_p: Tensor
    """(p - y) / (p (1 - p)), or 0 beyond the clamp where clamp_gradient is "exact"."""
    p_by_z: Tensor
    """p (1 - p)."""
    loss_by_z: Tensor
    """The product of the two."""
    cancelled: Tensor
    """Whether p (1 - p) had to be cancelled on paper to get the product."""

    @classmethod
    def at(cls, z: Tensor, y: Tensor, clamp: Clamp) -> ChainRule:
        """Compute the factors at the logits z for the labels y."""
        # 1 - p as sigmoid(-z), and p - y as (1 - y) p - y (1 - p): a sure prediction would cancel all digits else.
        p, not_p = torch.sigmoid(z), torch.sigmoid(-z)
        difference = (1 - y) * p - y * not_p
        loss_by_p, p_by_z = difference / (p * not_p), p * not_p
        if clamp.zeroes_gradient:
            beyond = z.abs() > clamp.bound
            loss_by_p, difference = loss_by_p.masked_fill(beyond, 0), difference.masked_fill(beyond, 0)
        # The dtype cannot hold p (1 - p) or its reciprocal where a prediction is very sure.
        cancelled = torch.minimum(p, not_p) < torch.finfo(z.dtype).tiny
        return cls(p, loss_by_p, p_by_z, torch.where(cancelled, difference, loss_by_p * p_by_z), cancelled)


def by_hand(problem: Problem, dtype: torch.dtype) -> Gradient:
    """Multiply the factors of the chain rule."""
    w, b = problem.parameters(dtype)
    X, y, s = problem.rows(dtype)
    z = X @ w + b
    loss_by_z = s * ChainRule.at(z, y, problem.clamp).loss_by_z
    return Gradient.mean((s * row_loss(z, y, problem.clamp)).sum(), loss_by_z @ X, loss_by_z.sum(), s)


def by_autograd(problem: Problem, dtype: torch.dtype) -> Gradient:
    """Let torch differentiate the cross-entropy, its logarithms taken from the logit.

    The form sigmoid, clamp, log fails in float32 from a logit of 16.7 on: p is 1, and so is 1 - eps. Under "through"
    the gradient is that of the loss without its clamp, which is what the convention means.
    """

    def loss(bound: float) -> Tensor:
        c = (X @ w + b).clamp(-bound, bound)
        return -(s * (y * logsigmoid(c) + (1 - y) * logsigmoid(-c))).sum()

    clamp = problem.clamp
    X, y, s = problem.rows(dtype)
    w, b = (each.clone().requires_grad_() for each in problem.parameters(dtype))
    weight, bias = torch.autograd.grad(loss(clamp.bound if clamp.zeroes_gradient else torch.inf), (w, b))
    return Gradient.mean(loss(clamp.bound), weight, bias, s)


def by_reference(problem: Problem, dtype: torch.dtype) -> Gradient:
    """Take flashlogit's pass in plain torch."""
    return _by_pass(reference, problem, dtype)


def by_kernel(problem: Problem, dtype: torch.dtype) -> Gradient:
    """Take flashlogit's pass in Triton, on the problem's device."""
    return _by_pass(flashlogit_kernels, problem, dtype)


def _by_pass(passes: Passes, problem: Problem, dtype: torch.dtype) -> Gradient:
    # X stays as it is stored: reading bfloat16, say, is part of what is checked.
    X = problem.X.to(dtype) if problem.X.dtype == torch.float64 else problem.X
    sums = passes.bce_onepass(
        X,
        problem.y,
        *problem.parameters(dtype),
        sample_weight=problem.sample_weight,
        eps=problem.clamp.eps,
        clamp_gradient=problem.clamp.gradient,
        compute_dtype=dtype,
    )
    return Gradient.mean(sums.loss, sums.weight_grad, sums.bias_grad, sums.weight_sum)


def by_differences(problem: Problem, step: float, most: int) -> tuple[Gradient, Tensor]:
    """Take central differences, with steps that move no logit by more than `step`.

    Returns:
        The gradient for the first `most` columns, and these columns' largest values [K], in units of which it was
        taken: one step is right for all of them then.
    """
    w, b = problem.parameters(torch.float64)
    X, y, s = problem.rows(torch.float64)
    z = X @ w + b
    moved = X[:, :most]
    scale = moved.abs().amax(dim=0)
    scale = torch.where(scale > 0, scale, 1.0)
    # What a step does to each logit; a row's own change is taken before the sum, where it could drown.
    shift = step * torch.cat([moved / scale, torch.ones_like(moved[:, :1])], dim=1)
    up, down = z[:, None] + shift, z[:, None] - shift
    change = row_loss(up, y[:, None], problem.clamp) - row_loss(down, y[:, None], problem.clamp)
    slopes = s @ change / (2 * step)
    loss = (s * row_loss(z, y, problem.clamp)).sum()
    return Gradient.mean(loss, slopes[:-1] * scale, slopes[-1], s), scale


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
