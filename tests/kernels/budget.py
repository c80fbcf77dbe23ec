"""Truth in float64, what plain float32 torch makes of the same data, and the error that is allowed.

Everything here is written out anew, apart from the project's own formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FLOAT32_SHARE = 1e-7
"""Of the sum of absolute terms: what is allowed beyond plain float32 torch's own error."""
FLOAT64_SHARE = 1e-14
"""The same for float64 arithmetic, where plain torch's error is not added."""


@dataclass
class Case:
    """Arguments of a pass; `options` are its keywords."""

    X: Tensor
    y: Tensor
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        return self.X, self.y, self.weight, self.bias


@dataclass
class Outcome:
    """Sums over rows, the absolute terms that were added up, and the rows' own values."""

    weight_grad: Tensor
    bias_grad: Tensor
    loss: Tensor
    weight_sum: Tensor
    absolute_weight_grad: Tensor
    losses: Tensor
    residuals: Tensor
    logits: Tensor


def make_case(
    n: int,
    d: int,
    *,
    storage: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    logit_scale: float = 2.0,
    drawn_on: torch.device | str = "cpu",
    **options: Any,
) -> Case:
    """A seeded random problem with hard labels and logits of a given standard deviation.

    Numbers are the same on every device if they are drawn on the CPU; a GPU draws millions of rows faster.
    """
    generator = torch.Generator(drawn_on).manual_seed(seed)
    X = torch.randn(n, d, generator=generator, device=drawn_on)
    weight = torch.randn(d, generator=generator, device=drawn_on) * logit_scale / math.sqrt(d)
    y = torch.rand(n, generator=generator, device=drawn_on) < 0.4
    bias = torch.tensor([0.3])
    options = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in options.items()}
    return Case(X.to(device, storage), y.to(device), weight.to(device), bias.to(device), options)


def compute(case: Case, dtype: torch.dtype) -> Outcome:
    """The sums by plain torch in `dtype`, from X as it is stored."""
    visited = case.options.get("rows")
    X, y, s = case.X, case.y, case.options.get("sample_weight")
    if visited is not None:
        X, y, s = X[visited.long()], y[visited.long()], None if s is None else s[visited.long()]
    X, y = X.to(dtype), y.to(dtype)
    if case.options.get("center") is not None:
        X = X - case.options["center"].to(dtype)
    s = torch.ones_like(y) if s is None else s.to(dtype)
    q = case.options.get("pos_weight")
    q = torch.ones((), dtype=dtype, device=X.device) if q is None else q.to(dtype)
    eps = case.options.get("eps", 1e-8)
    bound = math.log((1 - eps) / eps) if eps else math.inf
    z = X @ case.weight.to(dtype)
    if case.bias is not None:
        z = z + case.bias.to(dtype)
    c = z.clamp(-bound, bound)
    zero = torch.zeros_like(c)
    losses = s * ((1 - y) * torch.logaddexp(zero, c) + q * y * torch.logaddexp(zero, -c))
    residuals = s * ((1 - y) * torch.sigmoid(z) - q * y * torch.sigmoid(-z))
    if case.options.get("clamp_gradient") == "exact" and eps:
        residuals = torch.where(z.abs() > bound, 0.0, residuals)
    return Outcome(
        weight_grad=X.t() @ residuals,
        bias_grad=residuals.sum(),
        loss=losses.sum(),
        weight_sum=s.sum(),
        absolute_weight_grad=X.t().abs() @ residuals.abs(),
        losses=losses,
        residuals=residuals,
        logits=z,
    )


def plain_error(case: Case, name: str, exact: Tensor) -> float:
    """The largest error of plain float32 torch, over some orders of the columns.

    One order may round luckily: with a single row, an error of 0 is no rare thing.
    """
    D = case.X.shape[1]
    errors = []
    for shift in range(4):
        order = torch.arange(D, device=case.X.device).roll(shift * D // 4)
        # In the same layout, which decides in what order torch adds up.
        X = case.X[:, order] if case.X.stride(1) == 1 else case.X.t()[order].t()
        options = dict(case.options)
        if options.get("center") is not None:
            options["center"] = options["center"][order]
        shuffled = Case(X, case.y, case.weight[order], case.bias, options)
        value = getattr(compute(shuffled, torch.float32), name).double()
        errors.append((value - (exact[order] if name == "weight_grad" else exact)).abs().max().item())
    return max(errors)


def check(sums: Any, case: Case, *, float64: bool = False) -> None:
    """Assert that the sums of a pass keep to the budget."""
    truth = compute(case, torch.float64)
    share = FLOAT64_SHARE if float64 else FLOAT32_SHARE
    for name, terms in (
        ("weight_grad", truth.absolute_weight_grad),
        ("bias_grad", truth.residuals.abs().sum()),
        ("loss", truth.losses.sum()),
        ("weight_sum", truth.weight_sum),
    ):
        ours, exact = getattr(sums, name), getattr(truth, name)
        assert ours.dtype == torch.float64
        allowed = share * terms.max() * (1 + math.sqrt(case.X.shape[1]))
        if not float64:
            allowed = share * terms.max() + plain_error(case, name, exact)
        error = (ours - exact).abs().max()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"
    assert sums.nonfinite == 0
    torch.testing.assert_close(sums.max_abs_logit, truth.logits.abs().max(), rtol=1e-5, atol=1e-6)
