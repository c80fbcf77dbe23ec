"""The GPU's clock: events around each call, or around the replay of a captured graph where a call is short.

Before each call a buffer larger than the L2 cache is read: nothing of X is left in the cache, and while the GPU reads,
the host runs ahead, so that the time to launch the call's kernels is not counted. What is counted of a short call
launched kernel by kernel would still be the host's time; it is captured and replayed where that works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from .clock import Call, Failure, Read, Timing, failure_of, in_turn, timing

SHORT_MS = 0.2
"""Calls below this are replayed from a graph: launching a dozen kernels takes the host as long."""
_TRIAL_ROUNDS = 3
_EVICTION_BYTES = 256 << 20
"""At least; reading them takes a GPU about 0.1 ms."""

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
        capture: Callable[[Call], Call],
    ) -> None:
        """
        Args:
            event: makes an event that records time.
            synchronize: waits for the device.
            evict: fills the cache with other data, without waiting for it.
            capture: records a call once and gives what replays it; may raise.
        """
        self._event = event
        self._synchronize = synchronize
        self._evict = evict
        self._capture = capture

    def __call__(self, calls: Mapping[str, Call], rounds: int) -> dict[str, Timing | Failure]:
        warm, failures = in_turn(calls, 1, self._time)
        trial, failed = in_turn({name: calls[name] for name in warm}, _TRIAL_ROUNDS, self._time)
        failures |= failed
        self._synchronize()
        methods: dict[str, str] = {}
        timed: dict[str, Call] = {}
        for name, reads in trial.items():
            timed[name], methods[name] = self._replayable(calls[name], [read() for read in reads])
        final, failed = in_turn(timed, rounds, self._time)
        failures |= failed
        self._synchronize()
        found = {name: timing([read() for read in of], methods[name]) for name, of in final.items()}
        return {**found, **failures}

    def _replayable(self, call: Call, trial_ms: list[float]) -> tuple[Call, str]:
        if min(trial_ms) >= SHORT_MS:
            return call, EVENTS
        try:
            return self._capture(call), REPLAYS
        except Exception as error:
            return call, f"{EVENTS} (no capture: {failure_of(error).reason})"

    def _time(self, call: Call) -> Read:
        start, end = self._event(), self._event()
        self._evict()
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
        capture=capture,
    )


def capture(call: Call) -> Call:
    """Record one call in a CUDA graph; gives the graph's replay."""
    # Work that happens at a first call only (handles, compilation) must not happen within the capture.
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay(_kept: object = kept) -> None:
        # The results live in the graph's memory; they are kept for as long as it is replayed.
        graph.replay()

    return replay
