"""How long calls take: many rounds of every call in turn, and the median of each.

In turn, so that a machine that slows down for a while slows down all of them.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

Call = Callable[[], object]
Read = Callable[[], float]
"""Gives a measured time in milliseconds, once the device is done."""

_REASON_CHARACTERS = 160


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of `calls` calls in milliseconds, and how they were timed."""

    ms: float
    q25_ms: float
    q75_ms: float
    calls: int
    method: str


@dataclass(frozen=True)
class Failure:
    """Why a call could not be timed: no memory (skipped), or anything else (failed)."""

    status: Literal["skipped", "failed"]
    reason: str


class Clock(Protocol):
    """Times every call `rounds` times, in turn, after a warm-up."""

    def __call__(self, calls: Mapping[str, Call], rounds: int) -> dict[str, Timing | Failure]: ...


class CpuClock:
    """Wall-clock time of calls that return when their work is done.

    Each timed call directly follows one that is not timed, as calls do in training. Threads of another contender look
    out for more work for some milliseconds after theirs is done, on cores that this one's would wait for; after a
    pause instead, a virtual machine's cores are asleep.
    """

    method = "wall clock"

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """`now` gives seconds."""
        self._now = now

    def __call__(self, calls: Mapping[str, Call], rounds: int) -> dict[str, Timing | Failure]:
        failures = in_turn(calls, 1, self._time)[1]
        working = {name: call for name, call in calls.items() if name not in failures}
        reads, late = in_turn(working, rounds, self._time)
        timed = {name: timing([read() for read in found], self.method) for name, found in reads.items()}
        return {**timed, **failures, **late}

    def _time(self, call: Call) -> Read:
        call()
        start = self._now()
        call()
        ms = (self._now() - start) * 1e3
        return lambda: ms


def in_turn(
    calls: Mapping[str, Call], rounds: int, time_call: Callable[[Call], Read]
) -> tuple[dict[str, list[Read]], dict[str, Failure]]:
    """Time A B C, A B C, ...: the times by name of those that never raised, and the failures of the others."""
    reads: dict[str, list[Read]] = {name: [] for name in calls}
    failures: dict[str, Failure] = {}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                if name in failures:
                    continue
                try:
                    reads[name].append(time_call(call))
                except Exception as error:
                    failures[name] = failure_of(error)
    finally:
        if collecting:
            gc.enable()
    return {name: found for name, found in reads.items() if name not in failures}, failures


def timing(ms: list[float], method: str) -> Timing:
    """Median and quartiles."""
    q25, median, q75 = np.quantile(ms, [0.25, 0.5, 0.75])
    return Timing(float(median), float(q25), float(q75), len(ms), method)


def failure_of(error: Exception) -> Failure:
    """The error in a line; memory that was held for the call is given back."""
    if is_out_of_memory(error):
        # Does nothing where CUDA was never used.
        torch.cuda.empty_cache()
        return Failure("skipped", "out of memory")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return Failure("failed", _without_paths(text)[:_REASON_CHARACTERS])


def is_out_of_memory(error: Exception) -> bool:
    """On any device; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _without_paths(text: str) -> str:
    """Paths shortened to the file's name: reports are passed on, and folders are nobody's business."""
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":]+/)+", "", text)
