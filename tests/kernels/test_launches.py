"""What a pass launches and where, what it reads, and that it neither copies nor reads too much."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from budget import BF16, F16, F32, F64, SMALL, check, check_all, make_case
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit_kernels.contract import pad_rows, padded_columns
from flashlogit_kernels.gpu.arguments import readable_columns
from flashlogit_kernels.gpu.launch import Entry, LaunchConfig, is_column_major, pipeline_stages, vector_length

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
terms = pytest.importorskip("flashlogit_kernels.gpu._terms")
run = pytest.importorskip("flashlogit_kernels.gpu.run")
plan = pytest.importorskip("flashlogit_kernels.gpu.plan")


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, kernels: ModuleType) -> list[str]:
    """Names of the kernels that are launched, all of them with the device of X current."""
    if torch.cuda.is_available():
        pytest.skip("the stand-ins take no part in fitting launches to a GPU")
    names, current = [], []

    @contextlib.contextmanager
    def on_device(X: Tensor) -> Iterator[None]:
        current.append(X.device)
        yield
        current.pop()

    def launch(name: str, kernel: Any, grid: tuple[int, ...]) -> Callable[..., Any]:
        assert current, f"{name} is launched on whatever device is current"
        names.append(name.removesuffix("_kernel"))
        return kernel[grid]

    monkeypatch.setattr(plan, "on_device", on_device)
    for module in (run._bce, run._columns, run._hessian):
        for name, kernel in list(vars(module).items()):
            if name.endswith("_kernel"):
                # Looked up with the grid, as the kernel itself is.
                stand_in = mock.MagicMock()
                stand_in.__getitem__.side_effect = functools.partial(launch, name, kernel)
                monkeypatch.setattr(module, name, stand_in)
    return names


def make(D: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.randn(40, D), torch.rand(40) < 0.5, torch.randn(D), torch.rand(40)


NARROW, WIDE = 28, 57


@pytest.mark.parametrize(
    ("D", "call", "launched"),
    [
        (NARROW, lambda k, X, y, w, v: k.bce_onepass(X, y, w), "onepass reduce"),
        (NARROW, lambda k, X, y, w, v: k.hessian_product(X, v, w), "onepass reduce"),
        (NARROW, lambda k, X, y, w, v: k.column_sums(X, v), "onepass reduce"),
        (NARROW, lambda k, X, y, w, v: k.bce_rows(X, y, w), "rows"),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w), "hessian reduce"),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w.double()), "onepass reduce"),
        (WIDE, lambda k, X, y, w, v: k.bce_onepass(X, y, w), "rows column_sums reduce"),
        (WIDE, lambda k, X, y, w, v: k.hessian_product(X, v, w), "rows column_sums reduce"),
        (WIDE, lambda k, X, y, w, v: k.column_sums(X, v), "column_sums reduce"),
    ],
)
def test_a_pass_is_a_launch_and_a_reduction(D, call, launched, launches, kernels, monkeypatch):
    """Two launches where rows fit the registers, here of 28 float64; three where X is read twice."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", 224)
    call(kernels, *make(D))
    assert launches == launched.split()


CLUSTER = LaunchConfig(1, 4, 1, num_ctas=2)


@pytest.mark.parametrize(
    ("center", "listed", "possible", "given", "launched"),
    [
        (False, True, True, None, "onepass reduce"),
        (False, True, False, None, "rows column_sums reduce"),
        (False, False, True, None, "rows column_sums reduce"),
        (True, True, True, None, "rows column_sums reduce"),
        (False, False, False, CLUSTER, "onepass reduce"),
        (False, False, False, replace(CLUSTER, num_ctas=1), "rows column_sums reduce"),
    ],
)
def test_when_wide_rows_are_read_once(center, listed, possible, given, launched, launches, kernels, monkeypatch):
    """Where this machine has measured a cluster whose registers hold them, or the caller asks for one."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", 224)
    entry = Entry("interpreter", "2026-01-02", "onepass", "float32", "float32", 60, CLUSTER)
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.packaged", lambda: (entry,) if listed else ())
    monkeypatch.setattr(run, "has_clusters", lambda device: possible)
    X, y, w, v = make(WIDE)
    options = {"center": w} if center else {}
    kernels.bce_onepass(X, y, w, launch=given, **options)
    assert launches == launched.split()
    launches.clear()
    kernels.bce_onepass(X, y, w, launch=given, border=True, **options)
    assert launches == ["rows", "column_sums", "reduce", "column_sums", "reduce"]
    if given is None:
        launches.clear()
        kernels.column_sums(X, v, **options)
        assert launches == launched.removeprefix("rows ").split()


def test_a_cluster_has_the_same_answer(kernels, device, monkeypatch):
    """Wider rows than one multiprocessor holds; Triton's interpreter takes no notice of clusters."""
    monkeypatch.setattr(run, "REDUCE_BLOCK_D", 1024)  # the interpreter takes 20 ms a program
    if device.type == "cuda" and not run.has_clusters(device):
        pytest.skip("needs a GPU with clusters, and Triton 3.9")
    case = make_case(5, 20_000, device=device)
    check(kernels.bce_onepass(*case.arguments(), launch=LaunchConfig(1, 16, 1, num_ctas=2)), case)


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
    [(torch.bool, F64, F32), (torch.uint8, None, F64), (F32, F32, F64), (F64, F32, F32)],
)
def test_labels_and_weights_are_read_as_they_are(labels, weights, compute, kernels):
    X, y, w, v = make(NARROW)
    s, y = None if weights is None else v.to(weights), y.to(labels)
    with NoCopies():
        found = kernels.bce_onepass(X, y, w, sample_weight=s, compute_dtype=compute).packed
        kernels.bce_hessian(X, y, w, sample_weight=s)
    exact = kernels.bce_onepass(X.double(), y.double(), w.double(), sample_weight=None if s is None else s.double())
    tolerance = 1e-5 if compute == F32 else 1e-12
    torch.testing.assert_close(found, exact.packed, rtol=tolerance, atol=tolerance)


def test_a_single_column_is_loaded_in_wide_pieces():
    """It has both strides 1; taken for rows of one number it would be loaded number by number."""
    column, rows = torch.zeros(64, 1), torch.zeros(64, 3)
    assert [vector_length(X) for X in (column, column.bfloat16())] == [4, 8]
    assert [is_column_major(X) for X in (column, rows[:, :1], rows, rows.t())] == [True, False, False, True]


@pytest.mark.parametrize(
    ("columns", "dtype", "vector", "stages"),
    [(56, BF16, 8, 3), (50, BF16, 2, 3), (37, BF16, 1, 1), (37, F32, 1, 3), (28, F32, 4, 3)],
)
def test_loads_are_as_wide_as_rows_are_aligned(columns, dtype, vector, stages):
    X = torch.zeros(2, columns, dtype=dtype)
    assert vector_length(X) == vector
    assert pipeline_stages(replace(SMALL, num_stages=3), X) == stages


@pytest.mark.parametrize(
    ("columns", "dtype", "padded"),
    [(50, BF16, 56), (100, F16, 104), (56, BF16, 56), (15, BF16, 15), (17, BF16, 24), (37, F32, 37)],
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
    case = make_case(25, columns, storage=BF16, device=device)
    case.options["center"] = case.X.double().mean(dim=0).float()
    X = case.X = pad_rows(case.X)
    X.as_strided((25, X.stride(0) - columns), X.stride(), columns).fill_(torch.nan)
    assert readable_columns(X) == X.stride(0) > columns
    check_all(kernels, case, replace(SMALL, split=split))


def test_memory_after_the_last_row_is_not_read():
    full = torch.zeros(4, 56, dtype=BF16)
    not_whole = torch.zeros(3 * 56 + 50, dtype=BF16).as_strided((4, 50), (56, 1))
    cut_at_the_end = full.flatten()[:-1].as_strided((4, 50), (56, 1))
    assert [readable_columns(X) for X in (full[:, :50], cut_at_the_end)] == [56, 56]
    for X in (not_whole, full[:, 6:], torch.zeros(4, 50, dtype=BF16), full[:1, :50].expand(4, 50)):
        assert readable_columns(X) == 50


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
