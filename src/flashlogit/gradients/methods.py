"""The gradient of the mean loss in five ways that share no code, for `flashlogit.gradients.check` to compare.

    by hand               dL/dp * dp/dz * dz/dw, factor by factor
    autograd              torch differentiates -(y log p + (1 - y) log(1 - p)), with log p = logsigmoid(z)
    reference             flashlogit.reference
    kernel                flashlogit_kernels
    finite differences    (L(w + h) - L(w - h)) / 2h

The loss and what `clamp_gradient` means are those of `flashlogit_kernels.contract.Clamp`. Every way walks X in row
blocks, so that its temporaries stay small however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import flashlogit_kernels
from flashlogit_kernels.contract import BCESums, Clamp, PassOptions

from .. import reference

DIFFERENCE_COLUMNS = 50
"""Columns at most whose derivative is also taken by finite differences, each of which costs two products with X."""
_BLOCK_NUMBERS = 1 << 22
"""Numbers in a temporary: 32 MiB in float64."""
_BLOCK_ROWS = 1 << 10
"""Rows in a block: few, since torch's float32 product on a CPU adds them up one after the other."""
PLAIN_ROWS = 1 << 18
"""Rows in a block for autograd, which stands for plain torch: as many as any pass adds up at once."""
_LOGIT_STEP = 1e-5
"""Finite differences move a logit by about this: the cube root of float64's precision, where the error is least."""
_SATURATED = 1e3
"""Beyond this logit the float64 loss is a straight line, and a step in proportion to the logit loses nothing."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows, and the point at which the gradient is taken.

    X [N, D] in its storage dtype; y [N] in [0, 1]; sample_weight [N] or None for ones; weight [D] float64.
    """

    X: Tensor
    y: Tensor
    weight: Tensor
    bias: float
    clamp: Clamp
    sample_weight: Tensor | None = None

    def with_clamp(self, clamp: Clamp) -> Problem:
        """The same rows and point under another clamp."""
        return replace(self, clamp=clamp)

    def on(self, device: torch.device) -> Problem:
        """The same on another device."""
        s = self.sample_weight
        return replace(
            self,
            X=self.X.to(device),
            y=self.y.to(device),
            weight=self.weight.to(device),
            sample_weight=None if s is None else s.to(device),
        )

    @property
    def weight_sum(self) -> float:
        """S, by which the mean divides."""
        if self.sample_weight is None:
            return float(self.X.shape[0])
        return self.sample_weight.sum(dtype=torch.float64).item()

    def parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(w [D], b []) in `dtype`."""
        return self.weight.to(dtype), self.weight.new_tensor(self.bias, dtype=dtype)

    def blocks(
        self, dtype: torch.dtype, *, rows: int = _BLOCK_ROWS, width: int = 1
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(X, y, s) of up to `rows` rows at a time in `dtype`, fewer where D or `width` numbers a row need room."""
        N, D = self.X.shape
        height = max(1, min(rows, _BLOCK_NUMBERS // max(D, width)))
        for start in range(0, N, height):
            part = slice(start, start + height)
            y = self.y[part].to(dtype)
            s = torch.ones_like(y) if self.sample_weight is None else self.sample_weight[part].to(dtype)
            yield self.X[part].to(dtype), y, s


@dataclass(frozen=True, eq=False)
class Gradient:
    """Mean loss, dL/dw and dL/db; weight is float64 [D] on the CPU, shorter where only the first columns are known."""

    loss: float
    weight: Tensor
    bias: float


class _Totals:
    """Sums over row blocks, kept in float64 whatever a block was computed in."""

    def __init__(self, problem: Problem, columns: int) -> None:
        self._weight_sum = problem.weight_sum
        self._loss = problem.weight.new_zeros(())
        self._weight = problem.weight.new_zeros(columns)
        self._bias = problem.weight.new_zeros(())

    def add(self, loss: Tensor, weight: Tensor, bias: Tensor) -> None:
        self._loss += loss
        self._weight += weight
        self._bias += bias

    def mean(self) -> Gradient:
        S = self._weight_sum
        return Gradient(self._loss.item() / S, (self._weight / S).cpu(), self._bias.item() / S)


def row_loss(z: Tensor, y: Tensor, clamp: Clamp) -> Tensor:
    """Clamped cross-entropy of logits z: (1 - y) softplus(c) + y softplus(-c) with c = clamp(z, -Z, Z)."""
    c = z.clamp(-clamp.bound, clamp.bound)
    tail = torch.log1p(torch.exp(-c.abs()))
    return (1 - y) * (c.clamp(min=0) + tail) + y * ((-c).clamp(min=0) + tail)


@dataclass(frozen=True, eq=False)
class ChainRule:
    """The factors that dL/dw and dL/db share, one of each per row.

    loss_by_p = (p - y) / (p (1 - p)), or 0 beyond the clamp where clamp_gradient is "exact"; p_by_z = p (1 - p);
    loss_by_z is their product, and `cancelled` says where p (1 - p) had to be cancelled on paper to get it.
    """

    p: Tensor
    loss_by_p: Tensor
    p_by_z: Tensor
    loss_by_z: Tensor
    cancelled: Tensor

    @classmethod
    def at(cls, z: Tensor, y: Tensor, clamp: Clamp) -> ChainRule:
        """The factors at the logits z for the labels y."""
        # 1 - p as sigmoid(-z), and p - y as (1 - y) p - y (1 - p): a sure prediction would cancel all digits else.
        p, not_p = torch.sigmoid(z), torch.sigmoid(-z)
        difference = (1 - y) * p - y * not_p
        loss_by_p, p_by_z = difference / (p * not_p), p * not_p
        if clamp.zeroes_gradient:
            beyond = z.abs() > clamp.bound
            loss_by_p, difference = loss_by_p.masked_fill(beyond, 0), difference.masked_fill(beyond, 0)
        # Of a very sure prediction the dtype cannot hold p (1 - p) or its reciprocal any more.
        cancelled = torch.minimum(p, not_p) < torch.finfo(z.dtype).tiny
        return cls(p, loss_by_p, p_by_z, torch.where(cancelled, difference, loss_by_p * p_by_z), cancelled)


def by_hand(problem: Problem, dtype: torch.dtype) -> Gradient:
    """The chain rule, factor by factor."""
    w, b = problem.parameters(dtype)
    totals = _Totals(problem, w.shape[0])
    for X, y, s in problem.blocks(dtype):
        z = X @ w + b
        loss_by_z = s * ChainRule.at(z, y, problem.clamp).loss_by_z
        totals.add((s * row_loss(z, y, problem.clamp)).sum(), loss_by_z @ X, loss_by_z.sum())
    return totals.mean()


def by_autograd(problem: Problem, dtype: torch.dtype) -> Gradient:
    """torch's own derivative of the cross-entropy, its logarithms taken from the logit.

    The form sigmoid, clamp, log fails in float32 from a logit of 16.7 on: p is 1, and so is 1 - eps. Under "through"
    the gradient is that of the loss without its clamp, which is what the convention means.
    """
    clamp = problem.clamp
    bound = clamp.bound if clamp.zeroes_gradient else float("inf")
    w, b = (parameter.requires_grad_() for parameter in map(torch.clone, problem.parameters(dtype)))
    totals = _Totals(problem, w.shape[0])
    for X, y, s in problem.blocks(dtype, rows=PLAIN_ROWS):
        z = X @ w + b
        loss = _cross_entropy(z.clamp(-bound, bound), y, s)
        gradients = torch.autograd.grad(loss, (w, b))
        with torch.no_grad():
            totals.add(_cross_entropy(z.clamp(-clamp.bound, clamp.bound), y, s), *gradients)
    return totals.mean()


def _cross_entropy(c: Tensor, y: Tensor, s: Tensor) -> Tensor:
    return -(s * (y * logsigmoid(c) + (1 - y) * logsigmoid(-c))).sum()


def by_reference(problem: Problem, dtype: torch.dtype) -> Gradient:
    """flashlogit's pass in plain torch."""
    X, w, b = _pass_arguments(problem, dtype)
    return _mean_of(reference.bce_onepass(X, problem.y, w, b, **_pass_options(problem, dtype)))


def by_kernel(problem: Problem, dtype: torch.dtype) -> Gradient:
    """flashlogit's pass in Triton, on the problem's device."""
    X, w, b = _pass_arguments(problem, dtype)
    return _mean_of(flashlogit_kernels.bce_onepass(X, problem.y, w, b, **_pass_options(problem, dtype)))


def _pass_arguments(problem: Problem, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    # X stays as it is stored: reading bfloat16, say, is part of what is checked.
    X = problem.X.to(dtype) if problem.X.dtype == torch.float64 else problem.X
    return X, *problem.parameters(dtype)


def _pass_options(problem: Problem, dtype: torch.dtype) -> PassOptions:
    return PassOptions(
        sample_weight=problem.sample_weight,
        eps=problem.clamp.eps,
        clamp_gradient=problem.clamp.gradient,
        compute_dtype=dtype,
    )


def _mean_of(sums: BCESums) -> Gradient:
    S = sums.weight_sum.item()
    return Gradient(sums.loss.item() / S, (sums.weight_grad / S).cpu(), sums.bias_grad.item() / S)


@dataclass(frozen=True, eq=False)
class Steps:
    """Half steps of the central differences: weight float64 [K] for the first K columns; logit is what moves z."""

    weight: Tensor
    bias: float
    logit: float


def difference_steps(problem: Problem) -> Steps:
    """Steps that move no logit by more than about 1e-5 (or 1e-5 of it, where all are far out on the line)."""
    D = problem.X.shape[1]
    K = min(D, DIFFERENCE_COLUMNS)
    w, b = problem.parameters(torch.float64)
    largest = w.new_zeros(K)
    nearest = w.new_full((), torch.inf)
    for X, _, _ in problem.blocks(torch.float64):
        largest = torch.maximum(largest, X[:, :K].abs().amax(dim=0))
        nearest = torch.minimum(nearest, (X @ w + b).abs().min())
    step = _LOGIT_STEP * (nearest.item() if nearest > _SATURATED else 1.0)
    # An empty column moves nothing; a step must still show in w + h.
    largest = torch.where(largest == 0, 1.0, largest).clamp(min=1e-290)
    resolution = 8 * torch.finfo(torch.float64).eps
    return Steps(
        weight=torch.maximum((step / largest).clamp(max=1e290), resolution * w[:K].abs()),
        bias=max(step, resolution * abs(problem.bias)),
        logit=step,
    )


def by_differences(problem: Problem, steps: Steps) -> Gradient:
    """Central differences of the float64 loss, for the first columns and the intercept."""
    w, b = problem.parameters(torch.float64)
    K = steps.weight.shape[0]
    column = torch.arange(K, device=w.device)
    # Points 0 .. K-1 move one weight each and point K moves the intercept, upwards and downwards.
    up, down = (w[:, None].repeat(1, K + 1) for _ in range(2))
    up[column, column] += steps.weight
    down[column, column] -= steps.weight
    b_up, b_down = b.repeat(K + 1), b.repeat(K + 1)
    b_up[K] += steps.bias
    b_down[K] -= steps.bias
    # The steps as they came out in float64, not as they were meant.
    taken = torch.cat([up[column, column] - down[column, column], b_up[K:] - b_down[K:]])

    totals = _Totals(problem, K)
    for X, y, s in problem.blocks(torch.float64, width=2 * K + 2):
        # Row by row before the sum: what a step does not move must cancel to nothing, or a rare column drowns in it.
        change = row_loss(X @ up + b_up, y[:, None], problem.clamp)
        change -= row_loss(X @ down + b_down, y[:, None], problem.clamp)
        slopes = (s @ change) / taken
        totals.add((s * row_loss(X @ w + b, y, problem.clamp)).sum(), slopes[:K], slopes[K])
    return totals.mean()
