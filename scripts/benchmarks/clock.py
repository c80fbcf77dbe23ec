"""How long calls take: one clock for a GPU and for a CPU, which times several calls in turn.

A pass over 2 GB takes a GPU 0.7 ms, and Python 0.1 ms to launch it. Between two events around such a call the device
would wait for Python, and the wait would be counted. So a call is replayed from a CUDA graph, and behind a spin on the
device, outside the events, which lasts until the host has enqueued everything: a first event that is not yet reached
when the last one has been recorded proves that it has. Before each call a buffer larger than the L2 cache is read, so
that nothing of X is left in it.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.benchmark import Timer

Work = Callable[[], object]

_EVICTED_BYTES = 256 << 20
_FIRST_SPIN, _LONGEST_SPIN = 200_000, 20_000_000
"""Cycles: 0.1 to 10 ms. The spin is doubled until the host is ahead."""
_WARM_SECONDS = 0.05
"""Work before the first measurement, in which a GPU raises its clocks."""
_SHORT_SECONDS = 1e-3
"""Calls of a CPU that are shorter are repeated within a measurement until it takes as long."""


@dataclass(frozen=True)
class Timing:
    """Quartiles in milliseconds, the number of measurements, and how they were made.

    late: share of the calls that the device began before the host had enqueued all of them.
    """

    ms: float
    q25_ms: float
    q75_ms: float
    calls: int
    method: str
    late: float = 0.0


def timing(ms: list[float], method: str, late: float = 0.0) -> Timing:
    """Return the quartiles of measured times."""
    low, middle, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
    return Timing(middle, low, high, len(ms), method, late)


def clock_of(device: torch.device) -> "HostClock | DeviceClock":
    """Return the clock for calls on this device."""
    return HostClock() if device.type == "cpu" else DeviceClock(device)


def synchronize(device: torch.device) -> None:
    """Wait for the device, if it is one to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the milliseconds of one call as its user waits for it, with the host's share, and what it returned."""
    synchronize(device)
    began = time.perf_counter()
    found = work()
    synchronize(device)
    return (time.perf_counter() - began) * 1e3, found


def ceilings(X: torch.Tensor) -> tuple[Work, Work]:
    """Return what reads X and what copies it, which no pass over as many bytes is expected to outrun."""
    target, total = torch.empty_like(X), torch.empty((), device=X.device)
    return partial(torch.sum, X, dim=0, out=total), partial(target.copy_, X)


class HostClock:
    """Time of calls that return when their work is done, by torch's own timer.

    Each measurement directly follows a call that is not measured, as calls do in training: threads of another call
    look out for more work for some milliseconds after theirs is done, on cores that this one would wait for.
    """

    def warm(self) -> None:
        """Do nothing: a CPU's clocks rise within the first call of each measurement."""

    def __call__(self, calls: Mapping[Any, Work], rounds: int) -> dict[Any, Timing]:
        """Time A B C, A B C, ..., so that a machine that slows down for a while slows down all of them."""
        found: dict[Any, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
                found[name].append(timer.blocked_autorange(min_run_time=_SHORT_SECONDS).median * 1e3)
        return {name: timing(ms, "torch.utils.benchmark") for name, ms in found.items()}


class DeviceClock:
    """Device time of calls, in turn. `cuda` is torch.cuda, or what stands in for it in a test."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._device = device
        self._spin = _FIRST_SPIN
        self._other = torch.ones(_EVICTED_BYTES // 4, device=device)
        self._total = torch.empty((), device=device)

    def warm(self) -> None:
        """Work until the clocks have risen."""
        began = time.perf_counter()
        while time.perf_counter() - began < _WARM_SECONDS:
            for _ in range(20):
                self._evict()
            self._cuda.synchronize(self._device)

    def __call__(self, calls: Mapping[Any, Work], rounds: int) -> dict[Any, Timing]:
        """Time every call `rounds` times. What a call needs compiled has to be by then."""
        ready: dict[Any, tuple[Work, str]] = {}
        for name, call in calls.items():
            call()
            try:
                ready[name] = capture(call, self._device, self._cuda), "graph"
            except Exception as error:
                ready[name] = call, f"events ({type(error).__name__})"
        self._cuda.synchronize(self._device)
        while self._spin < _LONGEST_SPIN and any(self._time(call)[1] for call, _ in ready.values()):
            self._spin *= 2
        events: dict[Any, list[Any]] = {name: [] for name in calls}
        late = dict.fromkeys(calls, 0)
        for _ in range(rounds):
            for name, (call, _) in ready.items():
                pair, behind = self._time(call)
                events[name].append(pair)
                late[name] += behind
        self._cuda.synchronize(self._device)
        ms = {name: [start.elapsed_time(end) for start, end in pairs] for name, pairs in events.items()}
        return {name: timing(ms[name], how, late[name] / rounds) for name, (_, how) in ready.items()}

    def _time(self, call: Work) -> tuple[tuple[Any, Any], bool]:
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        self._evict()
        self._cuda._sleep(self._spin)
        start.record()
        call()
        end.record()
        return (start, end), bool(start.query())

    def _evict(self) -> None:
        torch.sum(self._other, dim=0, out=self._total)


def capture(call: Work, device: torch.device, cuda: Any = torch.cuda) -> Work:
    """Record one call in a graph and return what replays it; the current stream is what it was, whatever
    happens.

    Where ending the capture raises, torch does not restore the stream, and version 2.11 tells neither its allocator nor
    its random generator that the capture is over: emptying the cache would raise, and so would torch.randn.
    """
    with cuda.device(device):
        before, stream = cuda.current_stream(), cuda.Stream()
        stream.wait_stream(before)
        with cuda.stream(stream):
            call()
        before.wait_stream(stream)
        graph, pool = cuda.CUDAGraph(), cuda.graph_pool_handle()
        raised: list[BaseException] = []
        try:
            with cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                try:
                    kept = call()
                except BaseException as error:
                    raised.append(error)
                    raise
        except BaseException as error:
            cuda.set_stream(before)
            with contextlib.suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(cuda.current_device(), pool)
            # The end of a capture that succeeds puts the generator right.
            with cuda.graph(cuda.CUDAGraph(), stream=stream, capture_error_mode="thread_local"):
                torch.zeros(1, device=device)
            raise (raised.pop() if raised else error) from None

    def replay(_kept: object = kept) -> None:
        # What the graph writes lives as long as the graph is replayed.
        graph.replay()

    return replay
