"""What a pass launches, where, and that it reads labels and weights as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit_kernels.gpu.launch import is_column_major, vector_length

MODULES = ("onepass", "rows", "hessian", "product")
KERNELS: dict[str, tuple[str, ...]] = {
    "_bce": ("onepass_kernel", "rows_kernel"),
    "_columns": ("column_sums_kernel",),
    "_hessian": ("hessian_kernel",),
    "_reduce": ("reduce_kernel",),
}


class Launches:
    """Names of the kernels that are launched, all of them with the device of X current."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self._devices: list[torch.device] = []
        for home, names in KERNELS.items():
            module = __import__(f"flashlogit_kernels.gpu.{home}", fromlist=names)
            for name in names:
                monkeypatch.setattr(module, name, self._Kernel(self, name, getattr(module, name)))
        for name in MODULES:
            monkeypatch.setattr(f"flashlogit_kernels.gpu.{name}.on_device", self._on_device)

    @contextlib.contextmanager
    def _on_device(self, X: Tensor) -> Iterator[None]:
        self._devices.append(X.device)
        yield
        self._devices.pop()

    class _Kernel:
        def __init__(self, launches: Launches, name: str, kernel: Any) -> None:
            self._launches, self._name, self._kernel = launches, name, kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
            def launch(*arguments: Any, **named: Any) -> Any:
                assert self._launches._devices, f"{self._name} is launched on whatever device is current"
                self._launches.names.append(self._name)
                return self._kernel[grid](*arguments, **named)

            return launch


@pytest.fixture
def launches(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Launches:
    if torch.cuda.is_available():
        pytest.skip("the stand-ins take no part in fitting launches to a GPU")
    return Launches(monkeypatch)


def make(D: int, compute: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    X = torch.randn(40, D)
    return X, torch.rand(40) < 0.5, torch.randn(D, dtype=compute), torch.rand(40, dtype=compute)


NARROW, WIDE = 28, 16_400


@pytest.mark.parametrize(
    ("D", "call", "launched"),
    [
        (NARROW, lambda k, X, y, w, v: k.bce_onepass(X, y, w), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.hessian_product(X, v, w), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.column_sums(X, v), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.column_sums(X.t().contiguous().t(), v), ["onepass_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w), ["hessian_kernel"]),
        (NARROW, lambda k, X, y, w, v: k.bce_hessian(X, y, w.double()), ["onepass_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.bce_onepass(X, y, w), ["rows_kernel", "column_sums_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.hessian_product(X, v, w), ["rows_kernel", "column_sums_kernel"]),
        (WIDE, lambda k, X, y, w, v: k.column_sums(X, v), ["column_sums_kernel"]),
    ],
)
def test_a_pass_is_a_launch_and_a_reduction(
    D: int, call: Callable[..., Any], launched: list[str], launches: Launches, kernels: ModuleType
) -> None:
    """Two launches where rows fit the registers; three where X is read twice."""
    call(kernels, *make(D))
    assert launches.names == [*launched, "reduce_kernel"]


def test_rows_are_one_launch(launches: Launches, kernels: ModuleType) -> None:
    X, y, w, _ = make(NARROW)
    kernels.bce_rows(X, y, w)
    assert launches.names == ["rows_kernel"]


class NoCopies(TorchDispatchMode):
    """Fails on a copy of as many numbers as there are rows."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        assert not (name in ("_to_copy", "clone") and result.numel() == 40), name
        return result


@pytest.mark.parametrize("compute", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [torch.bool, torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [None, torch.float32, torch.float64])
def test_labels_and_weights_are_read_as_they_are(
    labels: torch.dtype, weights: torch.dtype | None, compute: torch.dtype, kernels: ModuleType
) -> None:
    X, y, w, v = make(NARROW)
    s = None if weights is None else v.to(weights)
    y = y.to(labels)
    with NoCopies():
        found = kernels.bce_onepass(X, y, w, sample_weight=s, compute_dtype=compute).packed
        kernels.bce_hessian(X, y, w, sample_weight=s)
    exact = kernels.bce_onepass(
        X.double(), y.double(), w.double(), sample_weight=None if s is None else s.double()
    ).packed
    tolerance = 1e-5 if compute == torch.float32 else 1e-12
    torch.testing.assert_close(found, exact, rtol=tolerance, atol=tolerance)


def test_sums_over_columns_meet_values_that_are_not_finite(passes: ModuleType, device: torch.device) -> None:
    """An infinite v makes its row's columns infinite, not NaN, and a NaN in v all columns."""
    X = torch.tensor([[1.0, -2.0], [3.0, 4.0]], device=device)
    inf = float("inf")
    assert passes.column_sums(X, torch.tensor([inf, 1.0], device=device)).tolist() == [inf, -inf]
    assert passes.column_sums(X, torch.tensor([float("nan"), 1.0], device=device)).isnan().all()


def test_a_single_column_is_loaded_in_wide_pieces() -> None:
    """It has both strides 1; taken for rows of one number it would be loaded number by number."""
    column = torch.zeros(64, 1)
    assert is_column_major(column)
    assert vector_length(column) == 4
    assert vector_length(column.bfloat16()) == 8
    of_a_table = torch.zeros(64, 3)[:, :1]
    assert not is_column_major(of_a_table)
    assert not is_column_major(torch.zeros(64, 3))
    assert is_column_major(torch.zeros(3, 64).t())


def test_a_single_column_has_one_layout(passes: ModuleType, device: torch.device) -> None:
    """X [N, 1] is as well column-major as row-major; as a part of a wider table it is neither."""
    table = torch.randn(70, 3, device=device)
    y, w = torch.rand(70, device=device) < 0.5, torch.tensor([0.7], device=device)
    whole = passes.bce_onepass(table[:, 1:2].contiguous(), y, w).packed
    torch.testing.assert_close(passes.bce_onepass(table[:, 1:2], y, w).packed, whole, rtol=1e-6, atol=1e-6)
    rows = torch.tensor([5, 3, 60, 3], device=device)
    some = passes.bce_onepass(table[:, 1:2].contiguous(), y, w, rows=rows).packed
    torch.testing.assert_close(
        some, passes.bce_onepass(table[rows, 1:2].contiguous(), y[rows], w).packed, rtol=1e-6, atol=1e-6
    )
