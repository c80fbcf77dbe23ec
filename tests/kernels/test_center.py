"""A column centre that is subtracted within the pass: every pass, every path, and the digits that it saves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from budget import Case, check, compute, make_case, plain_error
from torch import Tensor

from flashlogit import reference

FAR = 1e4
"""Means of the columns, in standard deviations."""


def far_case(
    n: int, d: int, storage: torch.dtype, device: torch.device, mean: float = FAR, **options: Any
) -> Case:
    """Columns of sd 1 about a mean far off, rounded to their storage, and the mean of what is stored as the centre."""
    case = make_case(n, d, device=device, **options)
    X = (case.X + mean).to(storage)
    center = X.double().mean(dim=0).float()
    return Case(X, case.y, case.weight, case.bias, {**case.options, "center": center})


@pytest.mark.parametrize("storage", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (300, 1), (500, 5), (333, 28), (90, 136), (70, 200), (65, 300)])
def test_sums_of_columns_far_from_zero(
    n: int, d: int, storage: torch.dtype, passes: ModuleType, device: torch.device
) -> None:
    case = far_case(n, d, storage, device)
    sums = passes.bce_onepass(*case.arguments(), **case.options)
    check(sums, case, float64=storage == torch.float64)


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16])
def test_narrow_storage(storage: torch.dtype, passes: ModuleType, device: torch.device) -> None:
    """At 30 standard deviations bfloat16 still tells values apart."""
    case = far_case(200, 28, storage, device, mean=30.0)
    check(passes.bce_onepass(*case.arguments(), **case.options), case)
    wide = passes.bce_onepass(*case.arguments(), compute_dtype=torch.float64, **case.options)
    check(wide, case, float64=True)


def test_the_same_centre_folded_into_the_bias_fails_the_budget(device: torch.device) -> None:
    """What the subtraction is for."""
    case = far_case(2000, 28, torch.float32, device)
    center = case.options.pop("center")
    bias = (case.bias.double() - center.double() @ case.weight.double()).float()
    folded = reference.bce_onepass(case.X, case.y, case.weight, bias)
    gradient = folded.weight_grad - center.double() * folded.bias_grad
    case.options["center"] = center
    truth = compute(case, torch.float64)
    budget = 1e-7 * truth.absolute_weight_grad.max() + plain_error(case, "weight_grad", truth.weight_grad)
    centred = reference.bce_onepass(*case.arguments(), **case.options).weight_grad
    assert (centred - truth.weight_grad).abs().max() <= budget
    assert (gradient - truth.weight_grad).abs().max() > 20 * budget


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_layouts_and_chosen_rows(
    chosen: bool, column_major: bool, passes: ModuleType, device: torch.device
) -> None:
    case = far_case(
        260, 28, torch.float32, device, sample_weight=torch.rand(260), pos_weight=torch.tensor(2.0)
    )
    if column_major:
        case.X = case.X.t().contiguous().t()
    if chosen:
        case.options["rows"] = torch.randperm(260, device=device)[:101]
    check(passes.bce_onepass(*case.arguments(), **case.options), case)


def test_padded_rows_and_part_of_a_wider_table(kernels: ModuleType, device: torch.device) -> None:
    """Lanes beyond the last column hold minus no centre."""
    case = far_case(130, 50, torch.bfloat16, device, mean=30.0)
    case.X = kernels.pad_rows(case.X)
    check(kernels.bce_onepass(*case.arguments(), **case.options), case)
    wider = torch.full((130, 64), torch.nan, dtype=torch.bfloat16, device=device)
    wider[:, :50] = case.X
    case.X = wider[:, :50]
    check(kernels.bce_onepass(*case.arguments(), **case.options), case)


def test_rows_of_their_own(passes: ModuleType, device: torch.device) -> None:
    case = far_case(150, 28, torch.float32, device)
    truth = compute(case, torch.float64)
    rows = passes.bce_rows(*case.arguments(), **case.options)
    torch.testing.assert_close(rows.residual.double(), truth.residuals, rtol=0, atol=2e-5)
    torch.testing.assert_close(rows.loss.double(), truth.losses, rtol=1e-4, atol=2e-5)
    sums = passes.bce_onepass(*case.arguments(), logits=True, curvature=True, **case.options)
    torch.testing.assert_close(sums.logits.double(), truth.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("d", [1, 28, 128])
@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.float64])
def test_hessian_and_product(
    compute_dtype: torch.dtype, d: int, passes: ModuleType, device: torch.device
) -> None:
    case = far_case(200, d, torch.float32, device, sample_weight=torch.rand(200))
    X = case.X.double() - case.options["center"].double()
    z = X @ case.weight.double() + case.bias.double()
    p = torch.sigmoid(z)
    h = case.options["sample_weight"].double() * p * (1 - p)
    bordered = torch.cat([X, torch.ones_like(X[:, :1])], dim=1)
    exact = bordered.t() @ (h[:, None] * bordered)
    allowed = (1e-12 if compute_dtype == torch.float64 else 2e-6) * exact.abs().max()
    given = passes.bce_hessian(*case.arguments(), compute_dtype=compute_dtype, **case.options)
    assert (given.matrix - exact).abs().max() <= allowed
    v = torch.randn(d + 1, device=device, dtype=torch.float64)
    product = passes.hessian_product(
        case.X, h, v[:-1], v[-1:], center=case.options["center"], compute_dtype=compute_dtype
    )
    assert (product - exact @ v).abs().max() <= 10 * allowed * v.abs().max()


@pytest.mark.parametrize("d", [1, 28, 700])
def test_column_sums(d: int, passes: ModuleType, device: torch.device) -> None:
    case = far_case(170, d, torch.float32, device)
    center = case.options["center"]
    v = torch.randn(170, device=device)
    exact = (case.X.double() - center.double()).t() @ v.double()
    given = passes.column_sums(case.X, v, center=center)
    assert (given - exact).abs().max() <= 1e-5 * v.abs().sum()
    rows = torch.arange(0, 170, 3, device=device)
    some = passes.column_sums(case.X, v[rows], rows=rows, center=center)
    exact = (case.X[rows].double() - center.double()).t() @ v[rows].double()
    assert (some - exact).abs().max() <= 1e-5 * v.abs().sum()


def test_rows_too_wide_for_the_registers(kernels: ModuleType, device: torch.device) -> None:
    case = far_case(9, 16_390, torch.float32, device)
    check(kernels.bce_onepass(*case.arguments(), **case.options), case)


@pytest.mark.parametrize("d", [1, 28, 300])
def test_a_centre_of_zeros_changes_no_bit(d: int, passes: ModuleType, device: torch.device) -> None:
    case = make_case(200, d, device=device)
    plain = passes.bce_onepass(*case.arguments())
    zeros = passes.bce_onepass(*case.arguments(), center=torch.zeros(d, device=device))
    assert torch.equal(plain.packed, zeros.packed)


@pytest.mark.parametrize(
    ("center", "error", "message"),
    [
        (torch.zeros(3), ValueError, r"center is \[3\]; must be \[4\]"),
        (torch.zeros(4, 1), ValueError, r"center is \[4, 1\]; must be \[4\]"),
        (torch.zeros(4, dtype=torch.complex64), TypeError, "center is torch.complex64"),
        (torch.zeros(4, device="meta"), ValueError, "center is on meta"),
    ],
)
def test_what_is_no_centre(center: Tensor, error: type[Exception], message: str, passes: ModuleType) -> None:
    X, v = torch.zeros(6, 4), torch.zeros(6)
    calls: list[Any] = [
        lambda: passes.bce_onepass(X, v, torch.zeros(4), center=center),
        lambda: passes.hessian_product(X, v, torch.zeros(4), center=center),
        lambda: passes.column_sums(X, v, center=center),
    ]
    for call in calls:
        with pytest.raises(error, match=message):
            call()
