"""Truth in float64, what plain float32 torch makes of the same data, and the error that is allowed.

Everything here is written out anew, apart from the project's own formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.contract import HESSIAN_COLUMNS
from flashlogit_kernels.gpu.launch import LaunchConfig

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
SMALL, MEDIUM = LaunchConfig(block_n=8, num_warps=4, programs_per_sm=1), LaunchConfig(16, 4, 1)
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

    @property
    def visited(self) -> slice | Tensor:
        return self.options["rows"].long() if "rows" in self.options else slice(None)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        return self.X, self.y, self.weight, self.bias


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
    X = case.X[case.visited].to(dtype)
    return X - case.options.get("center", torch.zeros(())).to(X)


def compute(case: Case, dtype: torch.dtype) -> SimpleNamespace:
    """The sums over rows by plain torch in `dtype`, from X as it is stored, the absolute terms that are added up to the
    gradient, and the rows' own values."""
    X, y, s = visited_rows(case, dtype), case.y[case.visited].to(dtype), case.options.get("sample_weight")
    s = torch.ones_like(y) if s is None else s[case.visited].to(dtype)
    q = case.options.get("pos_weight", torch.ones(())).to(X)
    eps = case.options.get("eps", 1e-8)
    bound = math.log((1 - eps) / eps) if eps else math.inf
    z = X @ case.weight.to(dtype) + (0.0 if case.bias is None else case.bias.to(dtype))
    c = z.clamp(-bound, bound)
    zero = torch.zeros_like(c)
    losses = s * ((1 - y) * torch.logaddexp(zero, c) + q * y * torch.logaddexp(zero, -c))
    p = torch.sigmoid(z)
    residuals, curvatures = s * ((1 - y) * p - q * y * torch.sigmoid(-z)), s * (1 - y + q * y) * p * (1 - p)
    if case.options.get("clamp_gradient") == "exact" and eps:
        residuals, curvatures = (torch.where(z.abs() > bound, 0.0, each) for each in (residuals, curvatures))
    sums = {"weight_grad": X.t() @ residuals, "bias_grad": residuals.sum(), "loss": losses.sum(), "weight_sum": s.sum()}
    rows = {"losses": losses, "residuals": residuals, "curvatures": curvatures, "logits": z}
    return SimpleNamespace(absolute_weight_grad=X.t().abs() @ residuals.abs(), **sums, **rows)


def orders(n: int, device: torch.device) -> Iterator[Tensor]:
    """Some orders of n columns. One may round luckily: with a single row, plain torch's error is often 0."""
    return (torch.arange(n, device=device).roll(shift * n // 4) for shift in range(4))


def plain_error(case: Case, name: str, exact: Tensor) -> float:
    """The largest error of plain float32 torch, over some orders of the columns."""
    errors = []
    for order in orders(case.X.shape[1], case.X.device):
        # In the same layout, which decides in what order torch adds up.
        X = case.X[:, order] if case.X.stride(1) == 1 else case.X.t()[order].t()
        options = case.options | {name: v[order] for name, v in case.options.items() if name == "center"}
        value = getattr(compute(Case(X, case.y, case.weight[order], case.bias, options), F32), name).double()
        errors.append((value - (exact[order] if name == "weight_grad" else exact)).abs().max().item())
    return max(errors)


def allowance(terms: Tensor, plain: float, columns: int, *, float64: bool, rows: float = math.inf) -> float:
    """The allowed error of sums of these absolute terms over rows, given plain float32 torch's error."""
    if float64:
        return FLOAT64_SHARE * terms.max().item() * (1 + math.sqrt(columns))
    return (FLOAT32_SHARE + ROW_ROUNDING / math.sqrt(rows)) * terms.max().item() + plain


def check(sums: Any, case: Case, *, float64: bool = False) -> None:
    """Assert that the sums of a pass keep to the budget."""
    truth = compute(case, F64)
    sizes = {"weight_grad": truth.absolute_weight_grad, "bias_grad": truth.residuals.abs().sum()}
    sizes |= {"loss": truth.losses.sum(), "weight_sum": truth.weight_sum}
    for name, terms in sizes.items():
        ours, exact = getattr(sums, name), getattr(truth, name)
        assert ours.dtype == F64
        plain = 0.0 if float64 else plain_error(case, name, exact)
        error, allowed = (ours - exact).abs().max(), allowance(terms, plain, case.X.shape[1], float64=float64)
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"
    assert sums.nonfinite == 0
    torch.testing.assert_close(sums.max_abs_logit, truth.logits.abs().max(), rtol=1e-5, atol=1e-6)


def with_ones(case: Case) -> Tensor:
    """The visited rows (x - center, 1) in float64."""
    X = visited_rows(case, F64)
    return torch.cat([X, torch.ones_like(X[:, :1])], dim=1)


def check_product(passes: Any, case: Case, h: Tensor, **more: Any) -> None:
    """Assert that a product with the Hessian keeps to the budget of one-pass gradients."""
    v = torch.randn(case.X.shape[1], generator=torch.Generator().manual_seed(3)).to(case.X.device)
    v_bias = torch.tensor([0.7], device=case.X.device)
    options = {name: case.options.get(name) for name in ("rows", "center", "compute_dtype")}
    ours = passes.hessian_product(case.X, h, v, v_bias, **options, **more)
    X1, direction = with_ones(case), torch.cat([v, v_bias])
    t = h.double() * (X1 @ direction.double())
    exact, plain = X1.t() @ t, 0.0
    for order in orders(len(direction), v.device):
        X32 = X1.float()[:, order]
        found = X32.t() @ (h.float() * (X32 @ direction[order]))
        plain = max(plain, (found - exact[order]).abs().max().item())
    assert (ours.dtype, ours.shape) == (F64, direction.shape)
    float64, (rows, columns) = F64 in (case.X.dtype, case.options.get("compute_dtype")), X1.shape
    allowed = allowance(X1.t().abs() @ t.abs(), plain, columns, float64=float64, rows=rows)
    assert (ours - exact).abs().max() <= allowed


def check_hessian(passes: Any, case: Case, **more: Any) -> None:
    """Assert that loss, gradient and Hessian keep to the budget."""
    found = passes.bce_hessian(*case.arguments(), **case.options, **more)
    float64 = F64 in (case.X.dtype, case.weight.dtype, case.options.get("compute_dtype"))
    check(found.sums, case, float64=float64)
    X1, h = with_ones(case), compute(case, F64).curvatures
    exact, terms = (X1 * h[:, None]).t() @ X1, (X1.abs() * h[:, None]).t() @ X1.abs()
    plain = ((X1.float() * h.float()[:, None]).t() @ X1.float() - exact).abs().max().item()
    assert found.matrix.dtype == F64
    allowed = allowance(terms, plain, X1.shape[1], float64=float64, rows=len(X1))
    assert (found.matrix - exact).abs().max() <= allowed


def launched(passes: ModuleType, launch: LaunchConfig | None) -> dict[str, Any]:
    """A launch for the kernels, nothing for the reference."""
    return {"launch": launch} if passes.__name__ == "flashlogit_kernels" else {}


def check_all(passes: ModuleType, case: Case, launch: LaunchConfig | None = SMALL) -> None:
    """Assert that all passes over a case keep to the budget, and that the rows' own values are right.

    Without a launch they run as the launch table has it.
    """
    more, truth = launched(passes, launch), compute(case, F64)
    float64 = F64 in (case.X.dtype, case.weight.dtype, case.options.get("compute_dtype"))
    sums = passes.bce_onepass(*case.arguments(), **case.options, **more)
    check(sums, case, float64=float64)
    assert sums.residual is sums.curvature is sums.logits is None
    wanted = passes.bce_onepass(*case.arguments(), **case.options, **more, residual=True, curvature=True, logits=True)
    assert torch.equal(sums.packed, wanted.packed)
    check_border(passes, case, sums, **more)
    rows = passes.bce_rows(*case.arguments(), **case.options)
    rtol = 1e-12 if float64 else 5e-6
    pairs = [(wanted.residual, truth.residuals), (wanted.curvature, truth.curvatures), (wanted.logits, truth.logits)]
    for ours, exact in [*pairs, (rows.residual, truth.residuals), (rows.loss, truth.losses)]:
        assert ours.dtype == (F64 if float64 else F32)
        atol = rtol * max(1.0, truth.logits.abs().max().item()) * max(1.0, exact.abs().max().item())
        torch.testing.assert_close(ours.double(), exact, rtol=rtol, atol=atol)
    check_product(passes, case, truth.curvatures, **more)
    check_column_sums(passes, case, truth.residuals.to(F64 if float64 else F32))
    if case.X.shape[1] <= HESSIAN_COLUMNS:
        check_hessian(passes, case, **launched(passes, launch and MEDIUM))


def check_border(passes: ModuleType, case: Case, without: Any, **more: Any) -> None:
    """Assert that a border is right up to some roundings of its terms, and hardly changes the sums before it."""
    sums = passes.bce_onepass(*case.arguments(), **case.options, **more, border=True)
    float64 = F64 in (case.X.dtype, case.weight.dtype, case.options.get("compute_dtype"))
    rounding, columns = (1e-12 if float64 else 2e-6), case.X.shape[1]
    assert (sums.packed.dtype, len(sums.packed)) == (F64, 2 * columns + 6)
    check(sums, case, float64=float64)
    assert torch.equal(sums.scalars[2:], without.scalars[2:])
    X1, h = with_ones(case), compute(case, F64).curvatures
    found, terms = torch.cat([sums.border, sums.corner.reshape(1)]), X1.t().abs() @ h
    assert (found - X1.t() @ h).abs().max() <= rounding * terms.max()


def check_column_sums(passes: ModuleType, case: Case, v: Tensor) -> None:
    """Assert that (X - center)^T v is right up to some roundings of its terms."""
    options = {name: case.options.get(name) for name in ("rows", "center", "compute_dtype")}
    X, rounding = visited_rows(case, F64), 1e-13 if F64 in (case.X.dtype, v.dtype) else 2e-6
    atol = rounding * (X.t().abs() @ v.double().abs()).max().item()
    torch.testing.assert_close(passes.column_sums(case.X, v, **options), X.t() @ v.double(), rtol=rounding, atol=atol)
