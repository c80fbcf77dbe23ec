"""Device time of calls: of graph replays, or of plain calls where one cannot be captured.

A pass over 2 GB takes 0.7 ms and Python 0.1 ms to launch it. Between two events around such a call the device would
wait for Python, and the wait would be counted. So the device spins, outside the events, until the host has enqueued
everything: a first event that is not yet reached when the last one has been recorded proves that it has. Before each
call a buffer larger than the L2 cache is read, so that nothing of X is left in it.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Work = Callable[[], object]

_EVICTED_BYTES = 256 << 20
_FIRST_SPIN, _LONGEST_SPIN = 200_000, 20_000_000
"""Cycles: 0.1 to 10 ms. The spin is doubled until the host is ahead."""
_WARM_SECONDS = 0.05
"""Work before the first measurement, in which a GPU raises its clocks."""


@dataclass(frozen=True)
class Timing:
    """Quartiles in milliseconds, the number of calls, and how they were timed.

    late: share of the calls that the device began before the host had enqueued all of them.
    """

    ms: float
    q25_ms: float
    q75_ms: float
    calls: int
    method: str
    late: float = 0.0


def timing(ms: list[float], method: str, late: float = 0.0) -> Timing:
    """The quartiles of measured times."""
    low, middle, high = statistics.quantiles(ms, n=4) if len(ms) > 1 else ms * 3
    return Timing(middle, low, high, len(ms), method, late)


class WallClock:
    """Wall-clock time of calls that return when their work is done, for Triton's interpreter."""

    def warm(self) -> None:
        """Nothing to do."""

    def __call__(self, calls: Mapping[Any, Work], rounds: int) -> dict[Any, Timing]:
        found: dict[Any, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                found[name].append((time.perf_counter() - began) * 1e3)
        return {name: timing(ms, "wall") for name, ms in found.items()}


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
        return {
            name: timing(
                [start.elapsed_time(end) for start, end in events[name]], method, late[name] / rounds
            )
            for name, (_, method) in ready.items()
        }

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
    """Record one call in a graph and give what replays it; the current stream is what it was, whatever happens.

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
