"""Timing, with clocks and devices that are made up."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from samples import make_problem, ticking

from flashlogit import reference
from flashlogit.benchmark import step as step_module
from flashlogit.benchmark.clock import CpuClock, Failure, Timing, failure_of, timing
from flashlogit.benchmark.cuda_clock import (
    EVENTS,
    REPLAYS,
    WARM_UP_EVICTIONS,
    CudaClock,
    capture,
    cuda_clock,
)
from flashlogit.benchmark.step import CAPTURED, LAUNCHED, make_step, measure_step, step_error


def test_calls_alternate_after_a_warm_up_each_behind_one_of_its_own():
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = CpuClock(ticking())(calls, 3)
    assert order == list("aabbcc") * 4
    assert {name: t.calls for name, t in found.items() if isinstance(t, Timing)} == {"a": 3, "b": 3, "c": 3}


def test_median_and_quartiles():
    found = timing([5.0, 1.0, 2.0, 4.0, 3.0], "by hand")
    assert (found.ms, found.q25_ms, found.q75_ms, found.calls) == (3.0, 2.0, 4.0, 5)


def test_cpu_times_are_milliseconds():
    found = CpuClock(ticking(0.25))({"a": lambda: None}, 2)["a"]
    assert isinstance(found, Timing)
    assert found.ms == 250.0


def test_one_failure_leaves_the_others():
    def fails() -> None:
        raise ValueError("broken")

    found = CpuClock(ticking())({"bad": fails, "good": lambda: None}, 2)
    assert found["bad"] == Failure("failed", "ValueError: broken")
    assert isinstance(found["good"], Timing)


def test_interruptions_come_through_and_collection_goes_on():
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CpuClock(ticking())({"a": interrupted}, 2)
    assert gc.isenabled()


def test_reasons():
    memory = RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
    assert failure_of(memory).status == "skipped"
    assert failure_of(ValueError()).reason == "ValueError"
    assert failure_of(ValueError("\n\n first \nsecond")).reason == "ValueError: first"
    assert failure_of(OSError("open '/root/.cache/x/y.so': no")).reason == "OSError: open 'y.so': no"
    assert len(failure_of(ValueError("x" * 1000)).reason) < 200


class Gpu:
    """A made-up device: work is a number of milliseconds, done in order; asking too early is an error."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting = False
        self.done: list[str] = []

    def work(self, ms: float) -> Callable[[], None]:
        return self.named("call", ms)

    def named(self, name: str, ms: float) -> Callable[[], None]:
        def call() -> None:
            self.done.append(name)
            self.now += ms
            self.waiting = True

        return call

    def synchronize(self) -> None:
        self.waiting = False

    def event(self) -> Any:
        gpu = self

        class Event:
            at = -1.0

            def record(self) -> None:
                gpu.done.append("event")
                self.at = gpu.now

            def elapsed_time(self, end: Event) -> float:
                assert not gpu.waiting, "read before the device was done"
                return end.at - self.at

        return Event()

    def clock(self, capture: Callable[[Any], Any]) -> CudaClock:
        return CudaClock(
            event=self.event,
            synchronize=self.synchronize,
            evict=self.named("evict", 7.0),
            spin=self.named("spin", 11.0),
            capture=capture,
        )


def test_events_time_the_call_alone():
    gpu = Gpu()
    found = gpu.clock(capture=lambda call: pytest.fail("captured a long call"))({"a": gpu.work(3.0)}, 4)
    assert found["a"] == Timing(3.0, 3.0, 3.0, 4, EVENTS)
    timed = ["evict", "spin", "event", "call", "event"]
    assert gpu.done == timed * (1 + 3) + ["evict"] * WARM_UP_EVICTIONS + timed * 4


def test_short_calls_are_replayed():
    gpu = Gpu()
    found = gpu.clock(lambda call: gpu.work(0.01))({"short": gpu.work(0.1), "long": gpu.work(1.0)}, 5)
    short, long = found["short"], found["long"]
    assert isinstance(short, Timing)
    assert isinstance(long, Timing)
    assert (short.method, long.method) == (REPLAYS, EVENTS)
    assert short.ms == pytest.approx(0.01)
    assert long.ms == pytest.approx(1.0)


def test_what_cannot_be_captured_is_timed_by_events():
    gpu = Gpu()

    def capture(call: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    found = gpu.clock(capture)({"short": gpu.work(0.125)}, 5)["short"]
    assert isinstance(found, Timing)
    assert found.ms == pytest.approx(0.125)
    assert found.method.startswith(f"{EVENTS} (no capture: RuntimeError: operation not permitted")


def test_a_failing_call_on_the_gpu():
    gpu = Gpu()

    def fails() -> None:
        raise torch.OutOfMemoryError("no")

    found = gpu.clock(lambda call: call)({"bad": fails, "good": gpu.work(1.0)}, 2)
    assert found["bad"] == Failure("skipped", "out of memory")
    assert isinstance(found["good"], Timing)


class Streams:
    """The parts of torch.cuda that a capture uses; as in torch, a capture that fails leaves its stream current."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: Any = self.Stream("old")
        self.device: torch.device | None = None
        self.capturing = False
        self.replays = 0
        self.ended: list[tuple[int, Any]] = []
        for name in ("stream", "device", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, f"_{name}"))
        for name, stand_in in {
            "Stream": lambda: self.Stream("side"),
            "current_stream": lambda: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "current_device": lambda: 0,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: self,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(
            torch._C, "_cuda_endAllocateToPool", lambda *pool: self.ended.append(pool), raising=False
        )

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: object) -> None: ...

    def replay(self) -> None:
        self.replays += 1

    @contextlib.contextmanager
    def _device(self, device: torch.device | None) -> Iterator[None]:
        self.device = device
        yield

    @contextlib.contextmanager
    def _stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextlib.contextmanager
    def _graph(self, graph: Any, pool: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        before, self.current = self.current, stream
        self.capturing = True
        failed = False
        try:
            yield
        except BaseException:
            failed = True
        self.capturing = False
        if failed:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.current = before


def test_a_capture_runs_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch):
    cuda = Streams(monkeypatch)
    seen: list[tuple[str, bool]] = []
    replay = capture(lambda: seen.append((cuda.current.name, cuda.capturing)), torch.device("cuda:1"))
    assert seen == [("side", False), ("side", True)]
    assert cuda.device == torch.device("cuda:1")
    assert (cuda.current.name, cuda.ended) == ("old", [])
    replay()
    assert (len(seen), cuda.replays) == (2, 1)


@pytest.mark.parametrize(
    "error", [RuntimeError("not permitted when stream is capturing"), KeyboardInterrupt()]
)
def test_a_capture_that_fails_leaves_the_stream_as_it_was(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
):
    cuda = Streams(monkeypatch)

    def call() -> None:
        if cuda.capturing:
            raise error

    with pytest.raises(type(error)) as raised:
        capture(call)
    assert raised.value is error
    assert cuda.current.name == "old"
    assert cuda.ended == [(0, (0, 1))]


def test_the_clock_goes_on_after_a_capture_that_failed(monkeypatch: pytest.MonkeyPatch):
    cuda, gpu = Streams(monkeypatch), Gpu()
    streams: list[str] = []

    def short() -> None:
        if cuda.capturing:
            raise RuntimeError("not permitted when stream is capturing")
        gpu.work(0.125)()
        streams.append(cuda.current.name)

    found = gpu.clock(capture)({"short": short, "other": gpu.work(0.0625)}, 5)
    timed, other = found["short"], found["other"]
    assert isinstance(timed, Timing)
    assert isinstance(other, Timing)
    assert timed.ms == pytest.approx(0.125)
    assert timed.method == f"{EVENTS} (no capture: RuntimeError: not permitted when stream is capturing)"
    assert other.method == REPLAYS
    # One warm-up on the side stream, within `capture`.
    assert streams == ["old"] * 4 + ["side"] + ["old"] * 5


FAILING_CAPTURE = """
import torch
from flashlogit.benchmark.cuda_clock import capture

x = torch.ones(1000, device="cuda")
before = torch.cuda.current_stream()
try:
    capture(lambda: x.sum().item())
except RuntimeError as error:
    print(error)
else:
    raise SystemExit("the capture did not fail")
assert torch.cuda.current_stream() == before
torch.cuda.empty_cache()
total = torch.zeros((), device="cuda")
replay = capture(lambda: total.add_(x.sum()))
total.zero_()
replay()
replay()
assert total.item() == 2000
"""


@pytest.mark.gpu
def test_captures_work_after_one_that_failed():
    # In a process of its own: were the allocator left in a capture, every later test would fail as well.
    done = subprocess.run(
        [sys.executable, "-c", FAILING_CAPTURE], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.gpu
def test_a_real_gpu():
    clock = cuda_clock(torch.device("cuda"))
    big, small = (torch.ones(size, device="cuda") for size in (1 << 28, 1 << 10))
    found = clock({"big": big.sum, "small": small.sum}, 10)
    assert isinstance(found["big"], Timing)
    assert isinstance(found["small"], Timing)
    assert found["small"].method == REPLAYS
    assert 0 < found["small"].ms < found["big"].ms
    # 1 GiB at 10 TB/s takes 0.1 ms: no GPU reads faster, so that the L2 cache held nothing of it.
    assert found["big"].ms > 0.1


def test_the_step_descends_as_float64_does(
    kernels: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(step_module, "_CHECKED_STEPS", 2)
    for passes in (reference, kernels):
        step = make_step(passes, device)
        assert step_error(step, step) < 1e-6
        assert step.w.abs().max() > 0
        assert step_error(step, lambda: None) == 1.0


def test_both_ways_to_step(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_module, "_STEPS_TIMED_TOGETHER", 3)
    step = make_step(reference, torch.device("cpu"))
    launched, captured = measure_step(
        step, 2, synchronize=lambda: None, capture=lambda call: call, now=ticking(0.006)
    )
    assert (launched.contender, captured.contender) == (LAUNCHED, CAPTURED)
    assert (launched.ms, captured.ms) == pytest.approx((2.0, 2.0))
    assert captured.speedup == pytest.approx(1.0)
    assert (captured.correct, captured.n, captured.d) == (True, 569, 30)


def test_a_step_that_cannot_be_captured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_module, "_STEPS_TIMED_TOGETHER", 1)

    def capture(call: object) -> Any:
        raise RuntimeError("cannot")

    step = make_step(reference, torch.device("cpu"))
    launched, captured = measure_step(step, 1, synchronize=lambda: None, capture=capture)
    assert (launched.status, captured.status, captured.reason) == ("ok", "failed", "RuntimeError: cannot")


def test_a_replay_that_does_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_module, "_STEPS_TIMED_TOGETHER", 1)
    step = make_step(reference, torch.device("cpu"))
    _, captured = measure_step(step, 1, synchronize=lambda: None, capture=lambda call: lambda: None)
    assert (captured.status, captured.speedup) == ("incorrect", None)


@pytest.mark.gpu
def test_a_real_step(kernels: Any):
    step = make_step(kernels, torch.device("cuda"))
    launched, captured = measure_step(step, 3, synchronize=torch.cuda.synchronize)
    assert launched.correct
    assert captured.correct
    assert captured.ms is not None
    assert launched.ms is not None
    assert captured.ms > 0


def test_problems_are_reproducible():
    a, b = make_problem(20, 3), make_problem(20, 3)
    torch.testing.assert_close(a.X, b.X, rtol=0, atol=0)
    torch.testing.assert_close(a.y, b.y, rtol=0, atol=0)
    assert a.bytes == 20 * 3 * 4 + 20 * 4
