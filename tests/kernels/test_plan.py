"""Plans of passes: what is settled once, and what a run hands to a compiled kernel.

A stand-in for compiled kernels takes what the launcher of a compiled kernel takes, and interprets the kernel on the
memory at the addresses that it was given.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit_kernels import checks
from flashlogit_kernels.gpu.resources import DeviceLimits, Resources

pytest.importorskip("triton")
plan = pytest.importorskip("flashlogit_kernels.gpu.plan")
run = pytest.importorskip("flashlogit_kernels.gpu.run")

F32, F64 = torch.float32, torch.float64
LIMITS = DeviceLimits(registers=65_536, warps=64, shared=233_472, shared_by_program=232_448)


def memory_at(address: int, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer((ctypes.c_char * dtype.itemsize).from_address(address), dtype=dtype)


class Compiled:
    """A kernel that counts as compiled; `streams` says on which stream each of its launches went."""

    function, packed_metadata = 7, (4, 1, 0)

    def __init__(self, kernel: Any, arguments: dict[str, Any], streams: list[int]) -> None:
        self.kernel, self.streams = kernel, streams
        self.dtypes = {name: value.dtype for name, value in arguments.items() if isinstance(value, Tensor)}

    def run(self, *given: Any) -> None:
        g0, g1, g2, stream, function, packed, metadata, enter, leave, *values = given
        assert (function, packed, metadata, enter, leave) == (7, (4, 1, 0), None, None, None)
        named = dict(zip(self.kernel.arg_names, values, strict=True))
        assert not any(isinstance(value, Tensor) for value in values)
        tensors = {name: memory_at(named[name], dtype) for name, dtype in self.dtypes.items()}
        self.streams.append(stream)
        self.kernel[(g0, g1, g2)](**{**named, **tensors})


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, kernels: ModuleType) -> SimpleNamespace:
    """Kernels count as compiled while `on`; the current stream is `stream`."""
    if torch.cuda.is_available():
        pytest.skip("the stand-ins are for the interpreter")
    state = SimpleNamespace(on=True, stream=1, streams=[], loads=0)

    def load(kernel: Any, device: torch.device, arguments: Any) -> Resources:
        state.loads += 1
        return Resources(64, 0, 0, Compiled(kernel, arguments, state.streams))

    for module in (plan, run):
        monkeypatch.setattr(module, "are_fitted", lambda device: state.on)
        monkeypatch.setattr(module, "loaded", load)
    monkeypatch.setattr(run, "device_limits", lambda device: LIMITS)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: state.stream, raising=False)
    return state


def problem(compute: torch.dtype = F32, D: int = 5) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """X, y and two sets of weights."""
    points = [(torch.randn(D, dtype=compute), torch.randn(1, dtype=compute)) for _ in range(2)]
    return torch.randn(24, D), torch.rand(24) < 0.5, points


@pytest.mark.parametrize("register_bytes", [64 << 10, 8])
@pytest.mark.parametrize("compute", [F32, F64])
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_runs_give_the_bits_of_passes(register_bytes, compute, border, fast, compiled, kernels, monkeypatch):
    """Whether Triton launches or the plan, and for rows that do not fit the registers too."""
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.REGISTER_ROW_BYTES", register_bytes)
    X, y, points = problem(compute)
    options = {"border": border, "curvature": True}
    compiled.on = fast
    of_rows = {"sample_weight": torch.rand(24), "center": torch.rand(5), "pos_weight": torch.tensor(2.0)}
    made = kernels.Plans(X, y, **of_rows).onepass(compute, **options)
    options |= {**of_rows, "compute_dtype": compute}
    compiled.on = False
    for weight, bias in points:
        expected = kernels.bce_onepass(X, y, weight, bias, **options)
        assert torch.equal(made.run(weight, bias), expected.packed)
        assert torch.equal(made.values.curvature, expected.curvature)
    assert len(compiled.streams) == (0 if not fast else 4 if register_bytes > 8 else 2 * (5 if border else 3))
    no_bias = kernels.bce_onepass(X, y, points[0][0], None, **options)
    assert torch.equal(made.run(points[0][0]), no_bias.packed)


def test_runs_of_a_plan_of_hessians(compiled, kernels):
    X, y, points = problem()
    made = kernels.Plans(X, y).hessian()
    compiled.on = False
    for weight, bias in points:
        expected = kernels.bce_hessian(X, y, weight, bias)
        bordered = kernels.bce_onepass(X, y, weight, bias, border=True).packed
        found = made.run(weight, bias)
        assert torch.equal(found[:10], expected.sums.packed)
        torch.testing.assert_close(found[10:16], bordered[10:], rtol=1e-5, atol=1e-6)
        assert torch.equal(found[16:].view(5, 5), expected.matrix[:5, :5])
    assert len(compiled.streams) == 4


def test_public_passes_are_launched_cheaply_too(compiled, kernels):
    X, y, [(weight, bias), _] = problem()
    v = torch.rand(24)
    calls: list[Callable[[], Tensor]] = [
        lambda: kernels.bce_onepass(X, y, weight, bias).packed,
        lambda: kernels.hessian_product(X, v, weight),
        lambda: kernels.column_sums(X, v),
        lambda: kernels.bce_rows(X, y, weight, bias).loss,
        lambda: kernels.bce_hessian(X, y, weight).matrix,
    ]
    fast = [call() for call in calls]
    assert len(compiled.streams) == 2 + 2 + 2 + 1 + 2
    compiled.on = False
    for call, found in zip(calls, fast, strict=True):
        assert torch.equal(call(), found)


class Operations(TorchDispatchMode):
    """Names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def python_calls(call: Callable[[], object]) -> int:
    """Return how many functions of Python the call calls."""
    count = 0

    def notice(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(notice)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


def test_a_run_checks_its_tensors_and_launches_and_does_nothing_else(compiled, kernels, monkeypatch):
    X, y, [(weight, bias), _] = problem()
    guard = torch.zeros(1, dtype=torch.int32)
    monkeypatch.setattr(Compiled, "run", lambda *arguments: None)
    made = kernels.Plans(X, y).onepass(border=True)
    out = made.run(weight, bias)
    loads = compiled.loads
    for module, name in [(run, "grid_size"), (run, "launch_config"), (run, "settle"), (checks, "bce_pass")]:
        monkeypatch.setattr(module, name, None)
    with Operations() as found:
        made.run(weight, bias)
        assert found.names == ["new_empty"]
        assert made.run(weight, bias, guard=guard, out=out) is out
        assert found.names == ["new_empty"]
    assert compiled.loads == loads
    assert python_calls(lambda: made.run(weight, bias, guard=guard, out=out)) <= 25


def test_a_run_goes_to_the_stream_that_is_current(compiled, kernels):
    X, y, [(weight, bias), _] = problem()
    made = kernels.Plans(X, y).onepass()
    for stream in (11, 12, 11):
        compiled.stream = stream
        made.run(weight, bias)
    assert compiled.streams == [11, 11, 12, 12, 11, 11]


def test_a_run_reads_the_memory_again_as_a_replay_of_a_graph_does(compiled, kernels):
    """Nothing of the tensors' values is kept in the plan."""
    X, y, [(weight, bias), (other, other_bias)] = problem()
    made, out = kernels.Plans(X, y).onepass(), torch.empty(10, dtype=F64)
    made.run(weight, bias, out=out)
    weight.copy_(other)
    bias.copy_(other_bias)
    X.mul_(0.5)
    assert torch.equal(made.run(weight, bias, out=out), kernels.bce_onepass(X, y, other, other_bias).packed)


def test_a_guard_keeps_rows_from_being_read(compiled, kernels):
    X, y, [(weight, bias), _] = problem()
    made = kernels.Plans(X, y).onepass(residual=True)
    guards = torch.tensor([0, 3, 0], dtype=torch.int32)
    made.values.residual.fill_(7.0)
    made.run(weight, bias, guard=guards[1:2])
    assert (made.values.residual == 7.0).all()
    for guard in (guards[2:], None):
        made.values.residual.fill_(7.0)
        expected = kernels.bce_onepass(X, y, weight, bias, residual=True)
        assert torch.equal(made.run(weight, bias, guard=guard), expected.packed)
        assert torch.equal(made.values.residual, expected.residual)


def test_what_a_plan_was_not_made_for_is_refused(compiled, kernels):
    X, y, [(weight, bias), _] = problem()
    made, guard = kernels.Plans(X, y).onepass(), torch.zeros(1, dtype=torch.int32)
    refused: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((weight.double(), bias), {}, "weight"),
        ((weight[:4], bias), {}, "weight"),
        ((torch.randn(10)[::2], bias), {}, "weight"),
        ((weight.to("meta"), bias), {}, "weight"),
        ((None, bias), {}, "weight"),
        ((weight, bias.double()), {}, "bias"),
        ((weight, bias), {"guard": guard.long()}, "guard"),
        ((weight, bias), {"out": torch.empty(9, dtype=F64)}, "out"),
        ((weight, bias), {"out": torch.empty(10)}, "out"),
    ]
    for arguments, named, name in refused:
        with pytest.raises(ValueError, match=f"^{name} is "):
            made.run(*arguments, **named)
    with pytest.raises(ValueError, match=r"^guard is "):
        kernels.Plans(X, y).hessian().run(weight, bias, guard=guard)
    assert compiled.streams == []


def test_memory_at_odd_addresses_is_left_to_triton(compiled, kernels):
    """For the weights and the sums; a bias and a guard may lie anywhere, as parts of larger tensors do."""
    X, y, [(weight, bias), _] = problem()
    made, expected = kernels.Plans(X, y).onepass(), kernels.bce_onepass(X, y, weight, bias).packed
    compiled.streams.clear()
    odd_weight, odd_out = torch.empty(6)[1:].copy_(weight), torch.empty(11, dtype=F64)[1:]
    assert torch.equal(made.run(odd_weight, bias), expected)
    assert len(compiled.streams) == 1  # the second stage
    assert torch.equal(made.run(weight, bias, out=odd_out), expected)
    assert len(compiled.streams) == 2  # the pass
    for offset in (0, 1, 2, 3):
        odd_bias = torch.cat([torch.zeros(offset), bias])[offset:]
        assert torch.equal(made.run(weight, odd_bias, guard=torch.zeros(4, dtype=torch.int32)[offset:][:1]), expected)
    assert len(compiled.streams) == 2 + 8


def test_hooks_of_a_profiler_are_called(compiled, kernels, monkeypatch):
    """Triton calls them, which therefore launches what they hang on."""
    X, y, [(weight, bias), _] = problem()
    made = kernels.Plans(X, y).onepass()
    runtime, chain = plan.knobs.runtime, SimpleNamespace(calls=[])
    for hook, launches in [(chain, 2), (SimpleNamespace(calls=[print]), 0), (print, 0), (None, 2)]:
        compiled.streams.clear()
        monkeypatch.setattr(runtime, "launch_exit_hook", hook)
        made.run(weight, bias)
        assert len(compiled.streams) == launches


def test_a_kernel_that_does_not_fit_is_left_to_triton(kernels):
    """Which says so, better than we could."""
    launched: list[dict[str, Any]] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            assert grid == (3,)
            return lambda **arguments: launched.append(arguments)

    X, out = torch.zeros(2), torch.zeros(3)
    launch = plan.Launch(Kernel(), (3,), {"X": X, "OUT": X}, changing=("OUT",), found=Resources(None, 300_000))
    launch({"OUT": out, "BIAS": X})
    assert launched == [{"X": X, "OUT": out}]


@pytest.mark.gpu
@pytest.mark.parametrize("compute", [F32, F64])
def test_runs_on_a_gpu(compute, kernels, device):
    """On another stream, in a graph, and with memory at odd addresses, where Triton launches."""
    X, y, [(weight, bias), (other, other_bias)] = problem(compute, 30)
    X, y, weight, bias, other, other_bias = (t.to(device) for t in (X, y, weight, bias, other, other_bias))
    made = kernels.Plans(X, y).onepass(compute, border=True)

    def expected() -> Tensor:
        packed: Tensor = kernels.bce_onepass(X, y, weight, bias, compute_dtype=compute, border=True).packed
        return packed

    assert torch.equal(made.run(weight, bias), expected())
    odd = torch.empty(31, dtype=compute, device=device)[1:].copy_(weight)
    assert torch.equal(made.run(odd, bias), expected())
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        found = made.run(weight, bias)
    torch.cuda.current_stream(device).wait_stream(stream)
    assert torch.equal(found, expected())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = made.run(weight, bias)
    weight.copy_(other)
    bias.copy_(other_bias)
    graph.replay()
    assert torch.equal(captured, expected())
