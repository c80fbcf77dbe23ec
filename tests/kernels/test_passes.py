"""Every pass against float64 truth under an error budget: shapes, dtypes, layouts and options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from budget import Case, check, check_hessian, check_product, compute, make_case

from flashlogit_kernels.contract import HESSIAN_COLUMNS
from flashlogit_kernels.gpu.launch import LaunchConfig, fits_registers

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
SMALL = LaunchConfig(block_n=8, num_warps=4, programs_per_sm=1)
MEDIUM = LaunchConfig(block_n=16, num_warps=4, programs_per_sm=1)
SPLIT = LaunchConfig(block_n=8, num_warps=4, programs_per_sm=1, split=True)


def launched(passes: ModuleType, launch: LaunchConfig) -> dict[str, Any]:
    """A launch for the kernels, nothing for the reference."""
    return {"launch": launch} if passes.__name__ == "flashlogit_kernels" else {}


def check_all(passes: ModuleType, case: Case, launch: LaunchConfig = SMALL) -> None:
    """Assert that all passes over a case keep to the budget, and that the rows' own values are right."""
    more, truth = launched(passes, launch), compute(case, F64)
    float64 = F64 in (case.X.dtype, case.weight.dtype, case.options.get("compute_dtype"))
    sums = passes.bce_onepass(*case.arguments(), **case.options, **more)
    check(sums, case, float64=float64)
    assert sums.residual is sums.curvature is sums.logits is None
    wanted = passes.bce_onepass(*case.arguments(), **case.options, **more, residual=True, curvature=True, logits=True)
    assert torch.equal(sums.packed, wanted.packed)
    rows = passes.bce_rows(*case.arguments(), **case.options)
    rtol = 1e-12 if float64 else 5e-6
    for ours, exact in (
        (wanted.residual, truth.residuals),
        (wanted.curvature, truth.curvatures),
        (wanted.logits, truth.logits),
        (rows.residual, truth.residuals),
        (rows.loss, truth.losses),
    ):
        assert ours.dtype == (F64 if float64 else F32)
        atol = rtol * max(1.0, truth.logits.abs().max().item()) * max(1.0, exact.abs().max().item())
        torch.testing.assert_close(ours.double(), exact, rtol=rtol, atol=atol)
    check_product(passes, case, truth.curvatures, **more)
    if case.X.shape[1] <= HESSIAN_COLUMNS:
        check_hessian(passes, case, **launched(passes, MEDIUM))


def uniform(n: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def in_layout(change: Callable[[torch.Tensor], torch.Tensor], case: Case) -> Case:
    """The case with another layout of the same X."""
    strides = case.X.stride()
    X = change(case.X)
    assert torch.equal(X, case.X)
    assert X.stride() != strides or X.storage_offset()
    case.X = X
    return case


def soft(case: Case, dtype: torch.dtype = F32) -> Case:
    """The case with labels anywhere in [0, 1]."""
    case.y = torch.rand(len(case.X), dtype=dtype, generator=torch.Generator().manual_seed(1)).to(case.X.device)
    return case


def typed(case: Case, **dtypes: torch.dtype) -> Case:
    """The case with labels or weights of other dtypes."""
    for name, dtype in dtypes.items():
        setattr(case, name, getattr(case, name).to(dtype))
    return case


def far(case: Case, mean: float = 1e4) -> Case:
    """The case with columns of sd 1 about a mean far off, and the mean of what is stored as the centre."""
    X = (case.X.float() + mean).to(case.X.dtype)
    options = {**case.options, "center": X.double().mean(dim=0).float()}
    return Case(X, case.y, case.weight, case.bias, options)


def column_major(X: torch.Tensor) -> torch.Tensor:
    return X.t().contiguous().t()


EVERYTHING = {
    "sample_weight": uniform(17),
    "pos_weight": torch.tensor(0.5),
    "rows": torch.tensor([3, 3, 0, 16, 7, 11, 12, 12, 1]),
    "center": torch.linspace(-1, 1, 5),
    "clamp_gradient": "exact",
    "eps": 0.05,
}
ZEROS = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.5] * 4)[:17]
make = functools.partial(make_case, 17, 5)
CASES: dict[str, Callable[[torch.device], Case]] = {
    "weights, some zero": lambda on: make(sample_weight=ZEROS, device=on),
    "weights of many sizes": lambda on: make(
        sample_weight=torch.tensor([1e6, 1.0, 1e-6, 3.0, 1e3] * 4)[:17], pos_weight=torch.tensor(3.5), device=on
    ),
    "whole weights, soft labels": lambda on: soft(make(sample_weight=torch.arange(17), device=on)),
    "no weight on the positives": lambda on: make(pos_weight=torch.tensor(0.0), device=on),
    "soft float64 labels": lambda on: soft(make(storage=F64, device=on), F64),
    "repeated rows": lambda on: make(rows=torch.tensor([3, 3, 3, 0, 16, 7, 7]), device=on),
    "int32 rows": lambda on: make(rows=torch.tensor([4, 2, 9], dtype=torch.int32), device=on),
    "more rows than there are": lambda on: make(rows=torch.arange(51).flip(0) % 17, device=on),
    "everything": lambda on: make(**EVERYTHING, device=on),
    "everything, column-major, soft": lambda on: soft(in_layout(column_major, make(**EVERYTHING, device=on))),
    "everything, float64": lambda on: soft(make(**EVERYTHING, storage=F64, device=on)),
    "uint8 labels": lambda on: typed(make(device=on), y=torch.uint8),
    "int64 labels": lambda on: typed(make(device=on), y=torch.int64),
    "bfloat16 labels": lambda on: typed(make(device=on), y=BF16),
    "bfloat16 parameters": lambda on: typed(make(device=on), weight=BF16, bias=BF16),
    "float64 parameters": lambda on: typed(make(storage=BF16, device=on), weight=F64),
    "float64 arithmetic": lambda on: make(storage=BF16, compute_dtype=F64, device=on),
    "part of a table": lambda on: in_layout(lambda X: torch.cat([X, X], dim=1)[:, :5], make(device=on)),
    "every other row": lambda on: in_layout(lambda X: X.repeat_interleave(2, dim=0)[::2], make(device=on)),
    "column-major": lambda on: in_layout(column_major, make(storage=BF16, device=on)),
    "rows of a long table": lambda on: in_layout(lambda X: column_major(torch.cat([X, X]))[:17], make(device=on)),
    "neither layout": lambda on: in_layout(lambda X: X.repeat_interleave(2, dim=1)[:, ::2], make(device=on)),
    "a single column of a table": lambda on: in_layout(
        lambda X: torch.cat([X, X, X], dim=1)[:, 1:2], make_case(17, 1, device=on)
    ),
    "rows of a single column": lambda on: make_case(70, 1, rows=torch.tensor([5, 3, 60, 3]), device=on),
    "offset in memory": lambda on: in_layout(
        lambda X: torch.cat([X.flatten()[:1], X.flatten()])[1:].view(X.shape), make(storage=BF16, device=on)
    ),
    "far columns": lambda on: far(make_case(33, 28, sample_weight=uniform(33), device=on)),
    "far column": lambda on: far(make_case(60, 1, device=on)),
    "far narrow columns": lambda on: far(make_case(33, 28, storage=BF16, device=on), 30.0),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_argument(name, passes, device):
    check_all(passes, CASES[name](device))


SIZES = [(1, 1, F64), (7, 2, F16), (8, 16, BF16), (9, 17, F64), (9, 17, F16), (17, 15, F32), (17, 15, BF16)]


@pytest.mark.parametrize(("n", "d", "storage"), SIZES)
def test_sizes_one_off_a_block(n, d, storage, passes, device):
    """Tiles have 8 or 16 rows and 1, 2, 16 or 32 columns."""
    check_all(passes, make_case(n, d, storage=storage, device=device, seed=n * 100 + d))


@pytest.mark.parametrize("d", [28, HESSIAN_COLUMNS, 300])
def test_the_tables_own_configurations(d, kernels, device):
    case = make_case(65, d, device=device)
    check(kernels.bce_onepass(*case.arguments()), case)
    check_product(kernels, case, uniform(65).to(device))
    if d <= HESSIAN_COLUMNS:
        check_hessian(kernels, case)
    far_off = far(case)
    check(kernels.bce_onepass(*far_off.arguments(), **far_off.options), far_off)


@pytest.mark.parametrize("d", [19, 37])
def test_pipelining_changes_nothing_and_two_pieces_little(d, kernels, device):
    case = make_case(17, d, device=device)
    plain = kernels.bce_onepass(*case.arguments(), launch=SMALL).packed
    staged = LaunchConfig(8, 4, 1, num_stages=3)
    assert torch.equal(plain, kernels.bce_onepass(*case.arguments(), launch=staged).packed)
    check_all(kernels, case, SPLIT)


@pytest.mark.parametrize("eps", [0, 1e-8, 1e-3])
@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
def test_clamp_on_both_sides(eps, clamp_gradient, passes, device):
    for dtype in (None, F64):
        case = make_case(100, 5, device=device, logit_scale=12.0, eps=eps, clamp_gradient=clamp_gradient)
        case.options["compute_dtype"] = dtype
        beyond = compute(case, F64).logits.abs() > 6.9068
        assert 0 < beyond.sum() < 100
        check(passes.bce_onepass(*case.arguments(), **case.options), case, float64=dtype == F64)
        soft(case)
        check(passes.bce_onepass(*case.arguments(), **case.options), case, float64=dtype == F64)


def test_rows_that_fit_the_registers():
    assert [fits_registers(d, F32) for d in (16384, 16385)] == [True, False]
    assert [fits_registers(d, F64) for d in (8192, 8193)] == [True, False]
    assert [fits_registers(d, F32, centred=True) for d in (8192, 8193)] == [True, False]


@pytest.mark.parametrize(("d", "dtype", "layout"), [(1100, F32, torch.clone), (520, F64, column_major)])
def test_rows_too_wide_for_the_registers(d, dtype, layout, passes, device, monkeypatch):
    """Registers for rows of 2 KB stand in for an H100's; 1,100 columns are two blocks of them."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", 2048)
    case = make_case(9, d, storage=dtype, device=device, sample_weight=uniform(9))
    case.X, case.options["center"] = layout(case.X), case.X.double().mean(dim=0).to(dtype)
    check_all(passes, case, MEDIUM)
    v = uniform(9).to(device)
    exact = (case.X.double() - case.options["center"].double()).t() @ v.double()
    found = passes.column_sums(case.X, v, center=case.options["center"])
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_other_shapes_of_vectors_are_the_same_numbers(passes, device):
    case = make(sample_weight=uniform(17), device=device)
    expected = passes.bce_onepass(*case.arguments(), **case.options).packed
    case.y, case.weight = case.y.repeat_interleave(2)[::2], case.weight.repeat_interleave(3)[::3]
    case.options["sample_weight"] = case.options["sample_weight"].repeat_interleave(2)[::2]
    for shape in ((), (1, 1)):
        case.bias = case.bias.reshape(shape)
        assert torch.equal(passes.bce_onepass(*case.arguments(), **case.options).packed, expected)
    case.X, case.bias = case.X[:1].expand(17, 5), None
    assert case.X.stride(0) == 0
    check(passes.bce_onepass(*case.arguments(), **case.options), case)


@pytest.mark.parametrize(("d", "storage"), [(1, F32), (5, F64), (2100, BF16)])
def test_column_sums(d, storage, passes, device):
    case = far(make_case(17, d, storage=storage, device=device), 30.0)
    v, center = torch.randn(17, generator=torch.Generator().manual_seed(2)).to(device), case.options["center"]
    for rows in (None, torch.tensor([3, 3, 10], device=device)):
        X, u = (case.X, v) if rows is None else (case.X[rows], v[:3])
        for c, compute_dtype in ((center, None), (None, F64), (center, F64)):
            exact = (X.double() - (0 if c is None else c.double())).t() @ u.double()
            found = passes.column_sums(case.X, u, rows=rows, center=c, compute_dtype=compute_dtype)
            rounding = 1e-13 if F64 in (storage, compute_dtype) else 1e-5
            torch.testing.assert_close(found, exact, rtol=rounding, atol=30 * rounding)
    assert passes.column_sums(case.X[:0], v[:0]).tolist() == [0.0] * d


def test_sums_over_columns_meet_values_that_are_not_finite(passes, device):
    """An infinite v makes its row's columns infinite, not NaN, and a NaN in v all columns."""
    X = torch.tensor([[1.0, -2.0], [3.0, 4.0]], device=device)
    inf = float("inf")
    assert passes.column_sums(X, torch.tensor([inf, 1.0], device=device)).tolist() == [inf, -inf]
    assert passes.column_sums(X, torch.tensor([float("nan"), 1.0], device=device)).isnan().all()


def test_nothing_outside_the_matrix_is_read(passes, device):
    case = make(device=device)
    surrounded = torch.full((21, 9), torch.nan, device=device)
    surrounded[2:19, 2:7] = case.X
    expected = passes.bce_onepass(*case.arguments()).packed
    case.X = surrounded[2:19, 2:7]
    assert torch.equal(passes.bce_onepass(*case.arguments()).packed, expected)


FAR = 2**31 + 24
"""Elements between two rows (or columns): past what int32 can count. The memory between is never touched."""


@pytest.mark.parametrize("layout", ["row-major", "column-major", "chosen rows"])
def test_offsets_past_two_to_the_31(layout, passes, device):
    case = make_case(2, 2, storage=F16, device=device)
    strides = (1, FAR) if layout == "column-major" else (FAR, 1)
    spread = torch.empty(FAR + 2, dtype=F16, device=device).as_strided((2, 2), strides).copy_(case.X)
    if layout == "chosen rows":
        case.options["rows"] = torch.tensor([1, 0, 1], device=device)
    v, rows = compute(case, F32).residuals, case.options.get("rows")

    def answers(X: torch.Tensor) -> torch.Tensor:
        arguments = (X, *case.arguments()[1:])
        packed = passes.bce_onepass(*arguments, **case.options).packed
        losses = passes.bce_rows(*arguments, **case.options).loss.double()
        return torch.cat([packed, losses, passes.column_sums(X, v, rows=rows)])

    torch.testing.assert_close(answers(spread), answers(case.X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [1, 28])
def test_a_centre_of_zeros_changes_no_bit(d, passes, device):
    case = make_case(200, d, device=device)
    plain, again = (passes.bce_onepass(*case.arguments()).packed for _ in range(2))
    zeros = passes.bce_onepass(*case.arguments(), center=torch.zeros(d, device=device)).packed
    assert torch.equal(plain, again)
    assert torch.equal(plain, zeros)


@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_curvature_keeps_its_digits_where_it_is_tiny(y, passes, device):
    z = torch.tensor([-1e3, -60.0, -37.0, -20.0, 0.0, 20.0, 37.0, 60.0, 1e3], device=device)
    one = torch.ones(1, device=device)
    h = passes.bce_onepass(z[:, None], torch.full_like(z, y), one, curvature=True, eps=0).curvature
    e = torch.exp(-z.double().abs())
    torch.testing.assert_close(h.double(), e / (1 + e) ** 2, rtol=5e-7, atol=0)


def test_second_derivatives_agree(passes, device):
    """The Hessian, the product with it, and differences of the gradient."""
    case = make_case(60, 7, storage=F64, device=device, sample_weight=uniform(60))
    h = passes.bce_onepass(*case.arguments(), **case.options, curvature=True).curvature
    first, second = (passes.bce_hessian(*case.arguments(), **case.options) for _ in range(2))
    assert torch.equal(first.matrix, second.matrix)
    torch.testing.assert_close(first.matrix, first.matrix.t(), rtol=1e-13, atol=1e-13)
    v = torch.randn(8, dtype=F64, device=device)
    product = passes.hessian_product(case.X, h, v[:-1], v[-1:])
    torch.testing.assert_close(product, first.matrix @ v, rtol=1e-12, atol=1e-12)
    without = passes.hessian_product(case.X, h, v[:-1])
    assert torch.equal(without, passes.hessian_product(case.X, h, v[:-1], v.new_zeros(1)))
    step = 1e-5
    after, before = (
        passes.bce_onepass(
            case.X, case.y, case.weight + size * v[:-1], case.bias.double() + size * v[-1], **case.options
        ).gradient
        for size in (step, -step)
    )
    torch.testing.assert_close(product, (after - before) / (2 * step), rtol=1e-7, atol=1e-7)
