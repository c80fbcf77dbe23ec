"""The passes against float64 truth under an error budget, at every shape, dtype, layout and option."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from budget import Case, check, compute, make_case

from flashlogit_kernels.contract import BCESums
from flashlogit_kernels.gpu.launch import LaunchConfig, fits_registers

STORAGE = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SMALL = LaunchConfig(block_n=8, num_warps=4, programs_per_sm=1)
EDGES = [1, 7, 8, 9, 25]
"""One row, and one off a tile and off several tiles of 8 rows."""


def onepass(passes: ModuleType, case: Case, **more: Any) -> BCESums:
    """One pass over a case, the kernel with small tiles."""
    if passes.__name__ == "flashlogit_kernels":
        more.setdefault("launch", SMALL)
    sums: BCESums = passes.bce_onepass(*case.arguments(), **case.options, **more)
    return sums


@pytest.mark.parametrize("storage", STORAGE, ids=str)
@pytest.mark.parametrize("d", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("n", EDGES)
def test_every_size_and_storage(
    n: int, d: int, storage: torch.dtype, passes: ModuleType, device: torch.device
) -> None:
    case = make_case(n, d, storage=storage, device=device, seed=n * 100 + d)
    check(onepass(passes, case), case, float64=storage == torch.float64)


@pytest.mark.parametrize("storage", STORAGE, ids=str)
@pytest.mark.parametrize("d", [1, 17])
def test_float64_arithmetic_over_every_storage(
    d: int, storage: torch.dtype, passes: ModuleType, device: torch.device
) -> None:
    case = make_case(25, d, storage=storage, device=device, compute_dtype=torch.float64)
    check(onepass(passes, case), case, float64=True)


@pytest.mark.parametrize("d", [1, 28, 300])
def test_the_tables_own_configurations(d: int, kernels: ModuleType, device: torch.device) -> None:
    case = make_case(300, d, device=device)
    check(kernels.bce_onepass(*case.arguments()), case)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_pipelining_changes_nothing(stages: int, kernels: ModuleType, device: torch.device) -> None:
    case = make_case(40, 5, device=device)
    plain = onepass(kernels, case).packed
    assert torch.equal(plain, onepass(kernels, case, launch=LaunchConfig(8, 4, 1, stages)).packed)


WEIGHTS = {
    "ones": torch.ones(25),
    "uniform": torch.rand(25, generator=torch.Generator().manual_seed(5)),
    "some zero": torch.tensor([0.0, 1.0, 2.0, 0.0, 0.5] * 5),
    "large": torch.tensor([1e6, 1.0, 1e-6, 3.0, 1e3] * 5),
    "integers": torch.arange(25),
    "float64": torch.linspace(0.1, 3, 25, dtype=torch.float64),
}
ROWS = {
    "all": torch.arange(25),
    "reversed": torch.arange(25).flip(0),
    "repeated": torch.tensor([3, 3, 3, 0, 24, 7, 7]),
    "one": torch.tensor([11]),
    "int32": torch.tensor([4, 2, 9], dtype=torch.int32),
    "more than there are": torch.arange(75) % 25,
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("pos_weight", [None, 0.0, 3.5])
def test_weights(weights: str, pos_weight: float | None, passes: ModuleType, device: torch.device) -> None:
    q = None if pos_weight is None else torch.tensor(pos_weight)
    case = make_case(25, 5, device=device, sample_weight=WEIGHTS[weights], pos_weight=q)
    check(onepass(passes, case), case)


def test_a_zero_weight_is_a_missing_row(passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, device=device, sample_weight=WEIGHTS["some zero"])
    kept = torch.nonzero(WEIGHTS["some zero"])[:, 0].to(device)
    fewer = Case(*case.arguments(), {**case.options, "rows": kept})
    torch.testing.assert_close(
        onepass(passes, case).packed[:-1], onepass(passes, fewer).packed[:-1], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("column_major", [False, True])
def test_chosen_rows(
    rows: str, weighted: bool, column_major: bool, passes: ModuleType, device: torch.device
) -> None:
    weights = {"sample_weight": WEIGHTS["uniform"]} if weighted else {}
    case = make_case(25, 5, device=device, rows=ROWS[rows], **weights)
    if column_major:
        case.X = case.X.t().contiguous().t()
    check(onepass(passes, case), case)
    residuals = onepass(passes, case, residual=True).residual
    torch.testing.assert_close(
        residuals.double(), compute(case, torch.float64).residuals, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
@pytest.mark.parametrize("eps", [0, 1e-8, 1e-3])
@pytest.mark.parametrize("soft", [False, True])
def test_clamp_on_both_sides(
    eps: float, clamp_gradient: str, soft: bool, passes: ModuleType, device: torch.device
) -> None:
    case = make_case(200, 5, device=device, logit_scale=12.0, eps=eps, clamp_gradient=clamp_gradient)
    if soft:
        case.y = torch.rand(200, generator=torch.Generator().manual_seed(1)).to(device)
    if eps == 1e-3:
        beyond = compute(case, torch.float64).logits.abs() > 6.9068
        assert 0 < beyond.sum() < 200
    check(onepass(passes, case), case)
    case.options["compute_dtype"] = torch.float64
    check(onepass(passes, case), case, float64=True)


LABELS = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_label_dtypes_agree(dtype: torch.dtype, passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, device=device)
    expected = onepass(passes, case).packed
    case.y = case.y.to(dtype)
    torch.testing.assert_close(onepass(passes, case).packed, expected, rtol=1e-6, atol=1e-6)
    check(onepass(passes, case), case)


def test_soft_float64_labels_keep_their_digits(passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, storage=torch.float64, device=device)
    case.y = torch.rand(25, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)
    check(onepass(passes, case), case, float64=True)


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_parameters_of_any_dtype_and_no_bias(
    dtype: torch.dtype, passes: ModuleType, device: torch.device
) -> None:
    case = make_case(25, 5, device=device)
    case.weight, case.bias = case.weight.to(dtype), None
    check(onepass(passes, case), case, float64=dtype == torch.float64)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_bias_of_any_shape(shape: tuple[int, ...], passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, device=device)
    expected = onepass(passes, case).packed
    assert case.bias is not None
    case.bias = case.bias.reshape(shape)
    assert torch.equal(onepass(passes, case).packed, expected)


LAYOUTS = {
    "columns of a wider table": lambda X: torch.cat([X, X], dim=1)[:, : X.shape[1]],
    "every other row": lambda X: X.repeat_interleave(2, dim=0)[::2],
    "column-major": lambda X: X.t().contiguous().t(),
    "columns of a longer table": lambda X: torch.cat([X, X]).t().contiguous().t()[: X.shape[0]],
    "neither": lambda X: X.repeat_interleave(2, dim=1)[:, ::2],
    "offset in memory": lambda X: torch.cat([X.flatten()[:1], X.flatten()])[1:].view(X.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=str)
def test_layouts(layout: str, storage: torch.dtype, passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 6, storage=storage, device=device)
    expected = onepass(passes, case).packed
    rows_expected = passes.bce_rows(*case.arguments())
    case.X = LAYOUTS[layout](case.X)
    assert case.X.stride() != (6, 1) or layout == "offset in memory"
    torch.testing.assert_close(onepass(passes, case).packed, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(passes.bce_rows(*case.arguments()).loss, rows_expected.loss)
    check(onepass(passes, case), case)


def test_one_row_seen_many_times(passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 6, device=device)
    case.X = case.X[:1].expand(25, 6)
    assert case.X.stride(0) == 0
    check(onepass(passes, case), case)


def test_strided_vectors(passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, device=device, sample_weight=WEIGHTS["uniform"])
    expected = onepass(passes, case).packed
    case.y = case.y.repeat_interleave(2)[::2]
    case.weight = case.weight.repeat_interleave(3)[::3]
    case.options["sample_weight"] = case.options["sample_weight"].repeat_interleave(2)[::2]
    assert torch.equal(onepass(passes, case).packed, expected)


@pytest.mark.parametrize(("d", "dtype"), [(16385, torch.float32), (8193, torch.float64)])
@pytest.mark.parametrize("column_major", [False, True])
def test_rows_too_wide_for_the_registers(
    d: int, dtype: torch.dtype, column_major: bool, passes: ModuleType, device: torch.device
) -> None:
    assert not fits_registers(d, dtype)
    assert fits_registers(d - 1, dtype)
    case = make_case(9, d, storage=dtype, device=device, sample_weight=torch.rand(9))
    if column_major:
        case.X = case.X.t().contiguous().t()
    sums = passes.bce_onepass(*case.arguments(), **case.options, residual=True)
    check(sums, case, float64=dtype == torch.float64)
    truth = compute(case, torch.float64)
    torch.testing.assert_close(sums.residual.double(), truth.residuals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("d", [1, 5, 2100])
@pytest.mark.parametrize("storage", STORAGE, ids=str)
def test_rows_and_column_sums(d: int, storage: torch.dtype, passes: ModuleType, device: torch.device) -> None:
    case = make_case(11, d, storage=storage, device=device, sample_weight=torch.rand(11))
    truth = compute(case, torch.float64)
    rows = passes.bce_rows(*case.arguments(), **case.options)
    tolerance = 1e-13 if storage == torch.float64 else 1e-5
    torch.testing.assert_close(rows.loss.double(), truth.losses, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(rows.residual.double(), truth.residuals, rtol=tolerance, atol=tolerance)
    v = torch.randn(11, generator=torch.Generator().manual_seed(2)).to(device)
    sums = passes.column_sums(case.X, v)
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums, case.X.double().t() @ v.double(), rtol=1e-5, atol=1e-5)
    chosen = torch.tensor([3, 3, 10], device=device)
    sums = passes.column_sums(case.X, v[:3], rows=chosen, compute_dtype=torch.float64)
    torch.testing.assert_close(sums, case.X[chosen].double().t() @ v[:3].double(), rtol=1e-13, atol=1e-13)


def test_two_runs_are_bitwise_equal(passes: ModuleType, device: torch.device) -> None:
    case = make_case(100, 9, device=device, sample_weight=torch.rand(100))
    assert torch.equal(onepass(passes, case).packed, onepass(passes, case).packed)


def test_nothing_outside_the_matrix_is_read(passes: ModuleType, device: torch.device) -> None:
    case = make_case(25, 5, device=device)
    surrounded = torch.full((29, 9), torch.nan, device=device)
    surrounded[2:27, 2:7] = case.X
    expected = onepass(passes, case).packed
    case.X = surrounded[2:27, 2:7]
    assert torch.equal(onepass(passes, case).packed, expected)


FAR = 2**31 + 24
"""Elements between two rows (or columns): past what int32 can count. The memory between is never touched."""


@pytest.mark.parametrize("layout", ["row-major", "column-major", "chosen rows"])
def test_offsets_past_two_to_the_31(layout: str, passes: ModuleType, device: torch.device) -> None:
    case = make_case(2, 2, storage=torch.float16, device=device)
    strides = (1, FAR) if layout == "column-major" else (FAR, 1)
    spread = torch.empty(FAR + 2, dtype=torch.float16, device=device).as_strided((2, 2), strides)
    spread.copy_(case.X)
    if layout == "chosen rows":
        case.options["rows"] = torch.tensor([1, 0, 1], device=device)
    expected = onepass(passes, case).packed
    wide_expected = passes.bce_rows(*case.arguments(), **case.options).loss
    case.X = spread
    torch.testing.assert_close(onepass(passes, case).packed, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(passes.bce_rows(*case.arguments(), **case.options).loss, wide_expected)
    v = torch.ones(len(wide_expected), device=device)
    rows = case.options.get("rows")
    torch.testing.assert_close(
        passes.column_sums(spread, v, rows=rows),
        (spread if rows is None else spread[rows]).double().sum(dim=0),
        rtol=1e-6,
        atol=1e-6,
    )


def test_the_kernels_errors_are_not_swallowed(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from flashlogit_kernels.gpu import _bce

    class Broken:
        def __getitem__(self, grid: object) -> object:
            raise RuntimeError("the launch failed")

    monkeypatch.setattr(_bce, "onepass_kernel", Broken())
    case = make_case(3, 2)
    with pytest.raises(RuntimeError, match="the launch failed"):
        kernels.bce_onepass(*case.arguments())


@pytest.mark.gpu
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=str)
def test_gradient_near_the_optimum_at_11_million_rows(storage: torch.dtype, kernels: ModuleType) -> None:
    case = make_case(11_000_000, 28, storage=storage, device="cuda", drawn_on="cuda", logit_scale=1.0)
    # Labels drawn from the model itself: the gradient is a small difference of large sums.
    probability = torch.sigmoid(compute(case, torch.float64).logits)
    generator = torch.Generator("cuda").manual_seed(0)
    case.y = torch.bernoulli(probability, generator=generator).to(torch.uint8)
    check(kernels.bce_onepass(*case.arguments()), case)


@pytest.mark.gpu
def test_more_than_two_to_the_31_elements(kernels: ModuleType) -> None:
    n = 2**31 + 12345
    torch.cuda.empty_cache()  # what earlier tests have used counts as taken
    if torch.cuda.mem_get_info()[0] < 4 * n:
        pytest.skip("needs 8 GB of free GPU memory")
    X = torch.zeros(n, 1, dtype=torch.bfloat16, device="cuda")
    X[-7:] = 1.0
    y = torch.zeros(n, dtype=torch.uint8, device="cuda")
    weight = torch.tensor([2.0], device="cuda")
    sums = kernels.bce_onepass(X, y, weight)
    sigmoid = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64)).item()
    assert sums.weight_sum.item() == n
    assert sums.weight_grad.item() == pytest.approx(7 * sigmoid, rel=1e-6)
    assert sums.bias_grad.item() == pytest.approx((n - 7) / 2 + 7 * sigmoid, rel=1e-7)
