"""Problems small enough for Triton's interpreter, and results made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from flashlogit.benchmark.clock import Call, CpuClock, Failure, Timing
from flashlogit.benchmark.problem import Numbers, Problem
from flashlogit.benchmark.report import Ceiling, Record, Report


def make_problem(
    n: int, d: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Problem:
    return Numbers([(n, d)], dtype, torch.device(device)).problem(n, d)


def ticking(step: float = 0.001) -> Callable[[], float]:
    """A clock that gains `step` seconds whenever it is asked: every call takes as long."""
    ticks = iter(range(1_000_000))
    return lambda: next(ticks) * step


def instant_clock(calls: Mapping[str, Call], rounds: int) -> dict[str, Timing | Failure]:
    """Really makes the calls, and says that each took a millisecond."""
    return CpuClock(ticking())(calls, rounds)


def make_record(**changes: Any) -> Record:
    content: dict[str, Any] = {
        "device": "cpu",
        "pass_name": "onepass",
        "contender": "flashlogit reference",
        "ours": True,
        "dtype": "float32",
        "arithmetic": "float32",
        "n": 1000,
        "d": 28,
        "status": "ok",
        "correct": True,
        "ms": 2.0,
        "q25_ms": 1.99,
        "q75_ms": 2.01,
        "calls": 5,
        "timing": "wall clock",
        "bytes": 116_000,
        "tb_per_s": 0.058,
        "fraction": 0.8,
        "error": 1e-8,
        "allowed": 2e-7,
    }
    return Record(**content | changes)


def make_report(*records: Record, **changes: Any) -> Report:
    content: dict[str, Any] = {
        "date": "2026-01-02T03:04:05+00:00",
        "method": "by hand",
        "machine": {"cpu": "Some CPU", "cores": 2, "threads": 2, "ram_bytes": 1 << 34, "gpu": None},
        "software": {"python": "3.11.0", "flashlogit": "0.1.0", "torch": "2.11.0", "triton": None},
        "settings": {"columns": [28], "quick": True, "devices": {"cpu": {}}},
        "complete": True,
        "ceilings": (Ceiling("cpu", "float32", 1000, 28, 0.07, 0.06),),
        "results": records,
    }
    return Report(**content | changes)
