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
"""Share of the sum of absolute terms that is allowed beyond plain float32 torch's own error."""
FLOAT64_SHARE = 1e-14
"""The same for float64 arithmetic, where plain torch's error is not added."""
ROW_ROUNDING = 3e-7
"""Allowed share of a single row's term, beyond plain torch's error: with a few rows that error may be 0 by luck."""


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
    curvatures: Tensor
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


def visited_rows(case: Case, dtype: torch.dtype) -> Tensor:
    """The rows of X that are visited, less the centre."""
    rows, center = case.options.get("rows"), case.options.get("center")
    X = (case.X if rows is None else case.X[rows.long()]).to(dtype)
    return X if center is None else X - center.to(dtype)


def compute(case: Case, dtype: torch.dtype) -> Outcome:
    """The sums by plain torch in `dtype`, from X as it is stored."""
    visited = case.options.get("rows")
    X, y, s = visited_rows(case, dtype), case.y, case.options.get("sample_weight")
    if visited is not None:
        y, s = y[visited.long()], None if s is None else s[visited.long()]
    y = y.to(dtype)
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
    probability = torch.sigmoid(z)
    curvatures = s * (1 - y + q * y) * probability * (1 - probability)
    if case.options.get("clamp_gradient") == "exact" and eps:
        residuals = torch.where(z.abs() > bound, 0.0, residuals)
        curvatures = torch.where(z.abs() > bound, 0.0, curvatures)
    sums = {"weight_grad": X.t() @ residuals, "bias_grad": residuals.sum(), "loss": losses.sum(), "weight_sum": s.sum()}
    rows = {"losses": losses, "residuals": residuals, "curvatures": curvatures, "logits": z}
    return Outcome(absolute_weight_grad=X.t().abs() @ residuals.abs(), **sums, **rows)


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


def with_ones(case: Case) -> Tensor:
    """The visited rows (x - center, 1) in float64."""
    X = visited_rows(case, torch.float64)
    return torch.cat([X, torch.ones_like(X[:, :1])], dim=1)


def allowance(X1: Tensor, terms: Tensor, plain: float, *, float64: bool) -> float:
    """The allowed error of sums of these absolute terms, given plain float32 torch's error."""
    if float64:
        return FLOAT64_SHARE * terms.max().item() * (1 + math.sqrt(X1.shape[1]))
    share = FLOAT32_SHARE + ROW_ROUNDING / math.sqrt(X1.shape[0])
    return share * terms.max().item() + plain


def check_product(passes: Any, case: Case, h: Tensor, **more: Any) -> None:
    """Assert that a product with the Hessian keeps to the budget of one-pass gradients."""
    v = torch.randn(case.X.shape[1], generator=torch.Generator().manual_seed(3)).to(case.X.device)
    v_bias = torch.tensor([0.7], device=case.X.device)
    options = {name: case.options.get(name) for name in ("rows", "center", "compute_dtype")}
    ours = passes.hessian_product(case.X, h, v, v_bias, **options, **more)
    X1 = with_ones(case)
    direction = torch.cat([v, v_bias])
    t = h.double() * (X1 @ direction.double())
    exact = X1.t() @ t
    plain = 0.0
    for shift in range(4):  # some orders of the columns, as for `plain_error`
        order = torch.arange(len(direction), device=v.device).roll(shift * len(direction) // 4)
        X32 = X1.float()[:, order]
        found = X32.t() @ (h.float() * (X32 @ direction[order]))
        plain = max(plain, (found - exact[order]).abs().max().item())
    assert ours.dtype == torch.float64
    assert ours.shape == (case.X.shape[1] + 1,)
    float64 = torch.float64 in (case.X.dtype, case.options.get("compute_dtype"))
    terms = X1.t().abs() @ t.abs()
    assert (ours - exact).abs().max() <= allowance(X1, terms, plain, float64=float64)


def check_hessian(passes: Any, case: Case, **more: Any) -> None:
    """Assert that loss, gradient and Hessian keep to the budget."""
    found = passes.bce_hessian(*case.arguments(), **case.options, **more)
    float64 = torch.float64 in (case.X.dtype, case.weight.dtype, case.options.get("compute_dtype"))
    check(found.sums, case, float64=float64)
    X1, h = with_ones(case), compute(case, torch.float64).curvatures
    exact, terms = (X1 * h[:, None]).t() @ X1, (X1.abs() * h[:, None]).t() @ X1.abs()
    plain = ((X1.float() * h.float()[:, None]).t() @ X1.float() - exact).abs().max().item()
    assert found.matrix.dtype == torch.float64
    assert (found.matrix - exact).abs().max() <= allowance(X1, terms, plain, float64=float64)
