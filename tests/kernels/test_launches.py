"""What a pass launches and where, what it reads, and that it neither copies nor reads too much."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from budget import check, make_case
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit_kernels.contract import pad_rows, padded_columns
from flashlogit_kernels.gpu.arguments import readable_columns
from flashlogit_kernels.gpu.launch import LaunchConfig, is_column_major, pipeline_stages, vector_length

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
terms = pytest.importorskip("flashlogit_kernels.gpu._terms")
run = pytest.importorskip("flashlogit_kernels.gpu.run")

KERNELS = {
    "_bce": ("onepass_kernel", "rows_kernel"),
    "_columns": ("column_sums_kernel", "reduce_kernel"),
    "_hessian": ("hessian_kernel",),
}


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, kernels: ModuleType) -> list[str]:
    """Names of the kernels that are launched, all of them with the device of X current."""
    if torch.cuda.is_available():
        pytest.skip("the stand-ins take no part in fitting launches to a GPU")
    names: list[str] = []
    current: list[torch.device] = []

    @contextlib.contextmanager
    def on_device(X: Tensor) -> Iterator[None]:
        current.append(X.device)
        yield
        current.pop()

    class Kernel:
        def __init__(self, name: str, kernel: Any) -> None:
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
            assert current, f"{self.name} is launched on whatever device is current"
            names.append(self.name)
            launch: Callable[..., Any] = self.kernel[grid]
            return launch

    monkeypatch.setattr(run, "on_device", on_device)
    for home, jitted in KERNELS.items():
        for name in jitted:
            module = getattr(run, home)
            monkeypatch.setattr(module, name, Kernel(name, getattr(module, name)))
    return names


def make(D: int, compute: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    X = torch.randn(40, D)
    return X, torch.rand(40) < 0.5, torch.randn(D, dtype=compute), torch.rand(40, dtype=compute)


NARROW, WIDE = 28, 57


@pytest.mark.parametrize(
    ("D", "call", "launched"),
    [
        (NARROW, lambda k, X, y, w, v: k.bce_onepass(X, y, w), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.hessian_product(X, v, w), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.column_sums(X, v), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w), ["hessian_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w.double()), ["onepass_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.bce_onepass(X, y, w), ["rows_kernel", "column_sums_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.hessian_product(X, v, w), ["rows_kernel", "column_sums_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.column_sums(X, v), ["column_sums_kernel"]),
    ],
)
def test_a_pass_is_a_launch_and_a_reduction(D, call, launched, launches, kernels, monkeypatch):
    """Two launches where rows fit the registers, here of 28 float64; three where X is read twice."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", 224)
    call(kernels, *make(D))
    assert launches == [*launched, "reduce_kernel"]


def test_rows_are_one_launch(launches, kernels):
    X, y, w, _ = make(NARROW)
    kernels.bce_rows(X, y, w)
    assert launches == ["rows_kernel"]


def test_the_kernels_errors_are_not_swallowed(kernels, monkeypatch):
    monkeypatch.setattr(run._bce, "onepass_kernel", {})
    with pytest.raises(KeyError):
        kernels.bce_onepass(*make_case(3, 2).arguments())


class NoCopies(TorchDispatchMode):
    """Fails on a copy of as many numbers as there are rows."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        assert not (name in ("_to_copy", "clone") and result.numel() == 40), name
        return result


@pytest.mark.parametrize(
    ("labels", "weights", "compute"),
    [
        (torch.bool, torch.float64, torch.float32),
        (torch.uint8, None, torch.float64),
        (torch.float32, torch.float32, torch.float64),
        (torch.float64, torch.float32, torch.float32),
    ],
)
def test_labels_and_weights_are_read_as_they_are(labels, weights, compute, kernels):
    X, y, w, v = make(NARROW)
    s, y = None if weights is None else v.to(weights), y.to(labels)
    with NoCopies():
        found = kernels.bce_onepass(X, y, w, sample_weight=s, compute_dtype=compute).packed
        kernels.bce_hessian(X, y, w, sample_weight=s)
    s = None if s is None else s.double()
    exact = kernels.bce_onepass(X.double(), y.double(), w.double(), sample_weight=s).packed
    tolerance = 1e-5 if compute == torch.float32 else 1e-12
    torch.testing.assert_close(found, exact, rtol=tolerance, atol=tolerance)


def test_a_single_column_is_loaded_in_wide_pieces():
    """It has both strides 1; taken for rows of one number it would be loaded number by number."""
    column = torch.zeros(64, 1)
    assert is_column_major(column)
    assert vector_length(column) == 4
    assert vector_length(column.bfloat16()) == 8
    assert not is_column_major(torch.zeros(64, 3)[:, :1])
    assert not is_column_major(torch.zeros(64, 3))
    assert is_column_major(torch.zeros(3, 64).t())


@pytest.mark.parametrize(
    ("columns", "dtype", "vector", "stages"),
    [
        (56, torch.bfloat16, 8, 3),
        (50, torch.bfloat16, 2, 3),
        (37, torch.bfloat16, 1, 1),
        (37, torch.float32, 1, 3),
        (28, torch.float32, 4, 3),
    ],
)
def test_loads_are_as_wide_as_rows_are_aligned(columns, dtype, vector, stages):
    X = torch.zeros(2, columns, dtype=dtype)
    assert vector_length(X) == vector
    assert pipeline_stages(LaunchConfig(8, 4, 1, num_stages=3), X) == stages


@pytest.mark.parametrize(
    ("columns", "dtype", "padded"),
    [
        (50, torch.bfloat16, 56),
        (100, torch.float16, 104),
        (56, torch.bfloat16, 56),
        (15, torch.bfloat16, 15),
        (17, torch.bfloat16, 24),
        (37, torch.float32, 37),
    ],
)
def test_which_rows_are_padded(columns, dtype, padded):
    assert padded_columns(columns, dtype) == padded
    X = torch.randn(4, columns).to(dtype)
    found = pad_rows(X)
    assert torch.equal(found, X)
    assert found.stride() == (padded, 1)
    assert (found is X) == (padded == columns)
    assert pad_rows(found) is found
    column_major = X.t().contiguous().t()
    assert pad_rows(column_major).stride() == ((padded, 1) if padded > columns else (1, 4))


@pytest.mark.parametrize(("columns", "split"), [(17, False), (37, True)])
def test_what_lies_in_the_padding_is_not_seen(columns, split, kernels, device):
    case = make_case(25, columns, storage=torch.bfloat16, device=device)
    case.options["center"] = case.X.double().mean(dim=0).float()
    launch = LaunchConfig(8, 4, 1, split=split)
    expected = kernels.bce_onepass(*case.arguments(), launch=launch, **case.options).packed
    X = pad_rows(case.X)
    X.as_strided((25, X.stride(0) - columns), X.stride(), columns).fill_(torch.nan)
    assert readable_columns(X) == X.stride(0) > columns
    case.X = X
    sums = kernels.bce_onepass(*case.arguments(), launch=launch, **case.options)
    check(sums, case)
    torch.testing.assert_close(sums.packed, expected, rtol=1e-6, atol=1e-6)
    v = torch.randn(25, device=device)
    exact = X.double().t() @ v.double()
    torch.testing.assert_close(kernels.column_sums(X, v), exact, rtol=1e-5, atol=1e-5)
    hessian = kernels.bce_hessian(*case.arguments(), launch=LaunchConfig(16, 4, 1), **case.options)
    torch.testing.assert_close(hessian.sums.packed, expected, rtol=1e-5, atol=1e-5)
    assert kernels.bce_rows(*case.arguments()).loss.isfinite().all()


def test_memory_after_the_last_row_is_not_read():
    full = torch.zeros(4, 56, dtype=torch.bfloat16)
    assert readable_columns(full[:, :50]) == 56
    assert readable_columns(full.flatten()[:-1].as_strided((4, 50), (56, 1))) == 56
    cut = torch.zeros(3 * 56 + 50, dtype=torch.bfloat16).as_strided((4, 50), (56, 1))
    assert readable_columns(cut) == 50
    assert readable_columns(full[:, 6:]) == 50
    assert readable_columns(torch.zeros(4, 50, dtype=torch.bfloat16)) == 50
    assert readable_columns(full[:1, :50].expand(4, 50)) == 50


@triton.jit
def count_kernel(TOTALS, N, tiles, programs, BLOCK_N: tl.constexpr):
    """Totals of programs that have seen no row, but for their number of rows."""
    program = tl.program_id(0).to(tl.int64)
    terms.store_totals(TOTALS, program, terms.no_totals(tl.float32, 8), N, tiles, programs, BLOCK_N, True)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24, 25, 2**31 - 1, 2**34 + 1])
@pytest.mark.parametrize(("most_programs", "block_n"), [(1, 8), (3, 8), (8, 2048)])
def test_every_row_is_counted_once(n, most_programs, block_n, kernels, device):
    """Rows past what int32 can hold too, which no test machine has the memory to pass over."""
    tiles = -(-n // block_n)
    programs = min(tiles, most_programs)
    totals = torch.full((programs, 5), torch.nan, dtype=torch.float64, device=device)
    count_kernel[(programs,)](totals, n, tiles, programs, BLOCK_N=block_n)
    assert totals[:, 2].sum().item() == n
    # Full tiles everywhere but in the last one's program.
    assert (totals[:, 2] % block_n != 0).sum().item() == (n % block_n != 0)
    assert totals[:, [0, 1, 3, 4]].abs().max().item() == 0
