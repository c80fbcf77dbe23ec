"""Every pass against float64 truth under an error budget: shapes, dtypes, layouts and options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from budget import BF16, F16, F32, F64, MEDIUM, SMALL, Case, check, check_all, compute, make_case
from torch.nn.functional import pad

from flashlogit_kernels.checks import bce_pass
from flashlogit_kernels.contract import RowValues
from flashlogit_kernels.gpu.launch import fits_registers
from flashlogit_kernels.gpu.run import pass_plan


def uniform(n: int) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(5))


def in_layout(change: Callable[[torch.Tensor], torch.Tensor], case: Case) -> Case:
    """The case with another layout of the same X."""
    X = change(case.X)
    assert torch.equal(X, case.X)
    assert X.stride() != case.X.stride() or X.storage_offset()
    return replace(case, X=X)


def soft(case: Case, dtype: torch.dtype = F32) -> Case:
    """The case with labels anywhere in [0, 1]."""
    y = torch.rand(len(case.X), dtype=dtype, generator=torch.Generator().manual_seed(1))
    return replace(case, y=y.to(case.X.device))


def typed(case: Case, **dtypes: torch.dtype) -> Case:
    """The case with labels or weights of other dtypes."""
    return replace(case, **{name: getattr(case, name).to(dtype) for name, dtype in dtypes.items()})


def far(case: Case, mean: float = 1e4) -> Case:
    """The case with columns of sd 1 about a mean far off, and the mean of what is stored as the centre."""
    X = (case.X.float() + mean).to(case.X.dtype)
    return replace(case, X=X, options={**case.options, "center": X.double().mean(dim=0).float()})


def column_major(X: torch.Tensor) -> torch.Tensor:
    return X.t().contiguous().t()


EVERYTHING = {"sample_weight": uniform(17), "pos_weight": torch.tensor(0.5), "clamp_gradient": "exact", "eps": 0.05}
EVERYTHING |= {"rows": torch.tensor([3, 3, 0, 16, 7, 11, 12, 12, 1]), "center": torch.linspace(-1, 1, 5)}
ZEROS, SIZES = (torch.tensor(s * 4)[:17] for s in ([0.0, 1.0, 2.0, 0.0, 0.5], [1e6, 1.0, 1e-6, 3.0, 1e3]))
make = functools.partial(make_case, 17, 5)
CASES: dict[str, Callable[[torch.device], Case]] = {
    "weights, some zero": lambda on: make(sample_weight=ZEROS, device=on),
    "weights of many sizes": lambda on: make(sample_weight=SIZES, pos_weight=torch.tensor(3.5), device=on),
    "whole weights, soft labels": lambda on: soft(make(sample_weight=torch.arange(17), device=on)),
    "no weight on the positives": lambda on: make(pos_weight=torch.tensor(0.0), device=on),
    "soft float64 labels": lambda on: soft(make(storage=F64, device=on), F64),
    "positives that weigh more, float64": lambda on: make(pos_weight=torch.tensor(3.0), storage=F64, device=on),
    "repeated int32 rows": lambda on: make(rows=torch.tensor([3, 3, 3, 0, 16, 7, 7], dtype=torch.int32), device=on),
    "more rows than there are": lambda on: make(rows=torch.arange(34).flip(0) % 17, device=on),
    "everything": lambda on: make(**EVERYTHING, device=on),
    "everything, column-major, soft": lambda on: soft(in_layout(column_major, make(**EVERYTHING, device=on))),
    "everything, float64": lambda on: soft(make(**EVERYTHING, storage=F64, device=on)),
    "uint8 labels": lambda on: typed(make(device=on), y=torch.uint8),
    "int64 labels": lambda on: typed(make(device=on), y=torch.int64),
    "bfloat16 labels": lambda on: typed(make(device=on), y=BF16),
    "bfloat16 parameters": lambda on: typed(make(device=on), weight=BF16, bias=BF16),
    "float64 parameters": lambda on: typed(make(storage=BF16, device=on), weight=F64),
    "float64 arithmetic": lambda on: make(storage=BF16, compute_dtype=F64, device=on),
    "surrounded by NaN": lambda on: in_layout(lambda X: pad(X, [2] * 4, value=torch.nan)[2:-2, 2:-2], make(device=on)),
    "every other row": lambda on: in_layout(lambda X: X.repeat_interleave(2, dim=0)[::2], make(device=on)),
    "column-major": lambda on: in_layout(column_major, make(storage=BF16, device=on)),
    "rows of a long table": lambda on: in_layout(lambda X: column_major(torch.cat([X, X]))[:17], make(device=on)),
    "neither layout": lambda on: in_layout(lambda X: X.repeat_interleave(2, dim=1)[:, ::2], make(device=on)),
    "a single column of a table": lambda on: in_layout(lambda X: pad(X, (1, 1))[:, 1:2], make_case(17, 1, device=on)),
    "rows of a single column": lambda on: make_case(70, 1, rows=torch.tensor([5, 3, 60, 3]), device=on),
    "offset in memory": lambda on: in_layout(
        lambda X: pad(X.flatten(), (1, 0))[1:].view(X.shape), make(storage=BF16, device=on)
    ),
    "far columns": lambda on: far(make_case(33, 28, sample_weight=uniform(33), device=on)),
    "far column": lambda on: far(make_case(33, 1, device=on)),
    "far narrow columns": lambda on: far(make_case(33, 28, storage=BF16, device=on), 30.0),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_argument(name, passes, device):
    check_all(passes, CASES[name](device))


@pytest.mark.parametrize(
    ("n", "d", "storage"),
    [(1, 1, F64), (7, 2, F16), (8, 16, BF16), (9, 17, F64), (9, 17, F16), (17, 15, F32), (17, 15, BF16)],
)
def test_sizes_one_off_a_block(n, d, storage, passes, device):
    """Tiles have 8 or 16 rows and 1, 2, 16 or 32 columns."""
    check_all(passes, make_case(n, d, storage=storage, device=device, seed=n * 100 + d))


@pytest.mark.parametrize(
    ("n", "d", "storage"), [(65, 28, F32), (65, 128, F32), (65, 300, F32), (9, 513, F32), (9, 2049, BF16)]
)
def test_the_tables_own_configurations(n, d, storage, kernels, device):
    """A centre takes twice the warps at 513 columns, and half the rows at 2,049."""
    case = make_case(n, d, storage=storage, device=device)
    for each in (case, far(case, 1e4 if storage == F32 else 30.0)):
        check_all(kernels, each, None)


@pytest.mark.parametrize("d", [19, 37])
def test_pipelining_changes_nothing_and_two_pieces_little(d, kernels, device):
    case = make_case(17, d, device=device)
    plain, staged = (kernels.bce_onepass(*case.arguments(), launch=replace(SMALL, num_stages=n)).packed for n in (1, 3))
    assert torch.equal(plain, staged)
    check_all(kernels, case, replace(SMALL, split=True))


@pytest.mark.parametrize("eps", [0, 1e-8, 1e-3])
@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
def test_clamp_on_both_sides(eps, clamp_gradient, passes, device):
    for dtype in (None, F64):
        case = make_case(100, 5, device=device, logit_scale=12.0, eps=eps, clamp_gradient=clamp_gradient)
        case.options["compute_dtype"] = dtype
        beyond = compute(case, F64).logits.abs() > 6.9068
        assert 0 < beyond.sum() < 100
        for each in (case, soft(case)):
            check(passes.bce_onepass(*each.arguments(), **each.options), each, float64=dtype == F64)


@pytest.mark.parametrize(("guarded", "d"), [(0, 5), (1, 5)])
def test_a_guard_that_is_set_keeps_a_pass_from_reading(guarded, d, kernels, device):
    case = make_case(17, d, device=device)
    row_pass, values = bce_pass(*case.arguments()), RowValues(residual=torch.full((17,), -9.0, device=device))
    guard = torch.tensor([guarded], dtype=torch.int32, device=device)
    packed = pass_plan(row_pass, values, SMALL, border=True, guard=guard).run(row_pass.weight, row_pass.bias)
    if guarded:
        assert values.residual.tolist() == [-9.0] * 17
        assert packed[:d].tolist() == packed[-d:].tolist() == [0.0] * d
    else:
        assert torch.equal(packed, kernels.bce_onepass(*case.arguments(), launch=SMALL, border=True).packed)


def test_rows_that_fit_the_registers():
    assert [fits_registers(d, F32) for d in (16384, 16385)] == [True, False]
    assert [fits_registers(d, F64) for d in (8192, 8193)] == [True, False]
    for beside in ({"centred": True}, {"border": True}):
        assert [fits_registers(d, F32, **beside) for d in (8192, 8193)] == [True, False]
    assert [fits_registers(d, F64, centred=True, border=True) for d in (2730, 2731)] == [True, False]


@pytest.mark.parametrize(("d", "dtype", "layout"), [(1100, F32, torch.clone), (520, F64, column_major)])
def test_rows_too_wide_for_the_registers(d, dtype, layout, passes, device, monkeypatch):
    """Registers for rows of 2 KB stand in for an H100's; 1,100 columns are two blocks of them."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", 2048)
    case = make_case(9, d, storage=dtype, device=device, sample_weight=uniform(9))
    case.X, case.options["center"] = layout(case.X), case.X.double().mean(dim=0).to(dtype)
    check_all(passes, case, MEDIUM)


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
    found = passes.bce_onepass(*case.arguments(), **case.options).packed
    case.X = case.X.contiguous()  # of 17 equal rows the rounding errors are equal, too, beyond the budget of others
    torch.testing.assert_close(
        found, passes.bce_onepass(*case.arguments(), **case.options).packed, rtol=1e-6, atol=1e-6
    )


def test_sums_over_columns_meet_no_rows_and_values_that_are_not_finite(passes, device):
    """An infinite v makes its row's columns infinite, not NaN, and a NaN in v all columns."""
    X = torch.tensor([[1.0, -2.0], [3.0, 4.0]], device=device)
    for v, sums in (([torch.inf, 1.0], [torch.inf, -torch.inf]), ([torch.nan, 1.0], [torch.nan] * 2), ([], [0.0, 0.0])):
        found = passes.column_sums(X[: len(v)], torch.tensor(v, device=device))
        assert found.tolist() == pytest.approx(sums, nan_ok=True)


FAR = 2**31 + 24
"""Elements between two rows (or columns): past what int32 can count. The memory between is never touched."""


@pytest.mark.parametrize("layout", ["row-major", "column-major", "chosen rows"])
def test_offsets_past_two_to_the_31(layout, passes, device):
    case = make_case(2, 2, storage=F16, device=device)
    strides = (1, FAR) if layout == "column-major" else (FAR, 1)
    spread = torch.empty(FAR + 2, dtype=F16, device=device).as_strided((2, 2), strides).copy_(case.X)
    if layout == "chosen rows":
        case.options["rows"] = torch.tensor([1, 0, 1], device=device)
    check_all(passes, replace(case, X=spread))


@pytest.mark.parametrize("d", [1, 28])
def test_a_second_call_a_centre_of_zeros_and_a_bias_of_zero_change_no_bit(d, passes, device):
    case, zeros = make_case(200, d, device=device), torch.zeros(d, device=device)
    plain, again, centred = (
        passes.bce_onepass(*case.arguments(), **more).packed for more in ({}, {}, {"center": zeros})
    )
    assert torch.equal(plain, again)
    assert torch.equal(plain, centred)
    first, second = (passes.bce_hessian(*case.arguments()).matrix for _ in range(2))
    assert torch.equal(first, second)
    h = uniform(200).to(device)
    without, zero = (passes.hessian_product(case.X, h, case.weight, bias) for bias in (None, zeros[:1]))
    assert torch.equal(without, zero)


@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_curvature_keeps_its_digits_where_it_is_tiny(y, passes, device):
    z = torch.tensor([-1e3, -60.0, -37.0, -20.0, 0.0, 20.0, 37.0, 60.0, 1e3], device=device)
    one = torch.ones(1, device=device)
    h = passes.bce_onepass(z[:, None], torch.full_like(z, y), one, curvature=True, eps=0).curvature
    e = torch.exp(-z.double().abs())
    torch.testing.assert_close(h.double(), e / (1 + e) ** 2, rtol=5e-7, atol=0)
