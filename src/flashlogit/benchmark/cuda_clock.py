"""The GPU's clock: events around each call, or around the replay of a captured graph where a call is short.

Before each call a buffer larger than the L2 cache is read, so that nothing of X is left in the cache. Then the GPU
spins for about 1 ms, before the first event: meanwhile the host launches the call's kernels, so that the GPU does not
wait for the host between the two events. A short call's kernels would still follow each other with gaps; it is captured
and replayed where that works. A GPU that was idle runs slowly at first: it works for about 50 ms before what counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from .clock import Call, Failure, Read, Timing, failure_of, in_turn, timing

SHORT_MS = 0.2
"""Calls below this are replayed from a graph: launching a dozen kernels takes the host as long."""
_TRIAL_ROUNDS = 3
_EVICTION_BYTES = 256 << 20
"""At least; reading them takes a GPU about 0.1 ms."""
_SPIN_CYCLES = 2_000_000
"""Cycles that the GPU spins before a call: 1 ms at 2 GHz. The host takes 0.08 to 0.15 ms to launch a pass."""
WARM_UP_EVICTIONS = 500
"""Evictions before the rounds that count: about 50 ms of reading, in which the GPU raises its clocks."""

EVENTS, REPLAYS = "events", "graph replays"


class Event(Protocol):
    """The part of torch.cuda.Event that is used; times are in milliseconds."""

    def record(self) -> Any: ...

    def elapsed_time(self, end_event: Any) -> float: ...


class CudaClock:
    """Device time of calls; every device function is a parameter, so that tests need no device."""

    def __init__(
        self,
        *,
        event: Callable[[], Event],
        synchronize: Callable[[], object],
        evict: Call,
        spin: Call,
        capture: Callable[[Call], Call],
    ) -> None:
        """
        Args:
            event: makes an event that records time.
            synchronize: waits for the device.
            evict: fills the cache with other data, without waiting for it.
            spin: keeps the device busy for longer than the host takes to launch a call, without waiting for it.
            capture: records a call once and gives what replays it; may raise.
        """
        self._event = event
        self._synchronize = synchronize
        self._evict = evict
        self._spin = spin
        self._capture = capture

    def __call__(self, calls: Mapping[str, Call], rounds: int) -> dict[str, Timing | Failure]:
        warm, failures = in_turn(calls, 1, self._time)
        trial, failed = in_turn({name: calls[name] for name in warm}, _TRIAL_ROUNDS, self._time)
        failures |= failed
        self._synchronize()
        methods: dict[str, str] = {}
        timed: dict[str, Call] = {}
        fastest = {name: min(read() for read in reads) for name, reads in trial.items()}
        for name, ms in fastest.items():
            timed[name], methods[name] = self._replayable(calls[name], ms)
        for _ in range(WARM_UP_EVICTIONS):
            self._evict()
        final, failed = in_turn(timed, rounds, self._time)
        failures |= failed
        self._synchronize()
        found = {name: timing([read() for read in of], methods[name]) for name, of in final.items()}
        return {**found, **failures}

    def _replayable(self, call: Call, trial_ms: float) -> tuple[Call, str]:
        if trial_ms >= SHORT_MS:
            return call, EVENTS
        try:
            return self._capture(call), REPLAYS
        except Exception as error:
            return call, f"{EVENTS} (no capture: {failure_of(error).reason})"

    def _time(self, call: Call) -> Read:
        start, end = self._event(), self._event()
        self._evict()
        self._spin()
        start.record()
        call()
        end.record()
        return lambda: start.elapsed_time(end)


def cuda_clock(device: torch.device) -> CudaClock:
    """A clock for the current CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    size = max(4 * properties.L2_cache_size, _EVICTION_BYTES)
    other_data = torch.ones(size // 4, device=device)
    total = torch.empty((), device=device)

    def evict() -> None:
        torch.sum(other_data, dim=0, out=total)

    return CudaClock(
        event=lambda: torch.cuda.Event(enable_timing=True),  # type: ignore[no-untyped-call]
        synchronize=lambda: torch.cuda.synchronize(device),
        evict=evict,
        spin=lambda: torch.cuda._sleep(_SPIN_CYCLES),  # type: ignore[no-untyped-call]
        capture=lambda call: capture(call, device),
    )


def capture(call: Call, device: torch.device | None = None) -> Call:
    """Record one call in a CUDA graph of the device, the current one by default; gives the graph's replay.

    Raises:
        Exception: what the call raises while it is recorded. The current stream is then what it was before.
    """
    with torch.cuda.device(device):
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        # Work that happens at a first call only (handles, compilation) must not happen within the capture.
        with torch.cuda.stream(side):
            call()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        of_the_call: list[BaseException] = []
        try:
            with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                try:
                    kept = call()
                except BaseException as error:
                    of_the_call.append(error)
                    raise
        except BaseException as error:
            # Ending a capture that failed raises before it restores the stream, and says less than the call did.
            torch.cuda.set_stream(current)
            _end_allocation(pool)
            # The random generator is told by a capture that ends well; before, it raises.
            fresh = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
            with torch.cuda.graph(*fresh, stream=side, capture_error_mode="thread_local"):
                torch.zeros(1, device=device)
            raise (of_the_call.pop() if of_the_call else error) from None

    def replay(_kept: object = kept) -> None:
        # The results live in the graph's memory; they are kept for as long as it is replayed.
        graph.replay()

    return replay


def _end_allocation(pool: Any) -> None:
    """Tell the allocator that a capture into this pool is over.

    Where ending a capture raises, torch 2.11 does not: emptying the cache, as the next capture does, would then raise.
    Later versions do, and refuse to end it twice.
    """
    with contextlib.suppress(RuntimeError, AttributeError):
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
