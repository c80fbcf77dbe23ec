"""Measure all contenders at one shape: check every answer, then time everything in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .check import Checker, Verdict
from .clock import Call, Clock, Failure, Timing, failure_of
from .contenders import Contender
from .problem import Problem
from .report import Ceiling, Record

READ, COPY = "ceiling: read", "ceiling: copy"


class CeilingCalls:
    """Reading and copying of as many bytes as an X takes, of its own float32 buffers."""

    def __init__(self, bytes_at_most: int, device: torch.device) -> None:
        self._source = torch.ones(max(1, bytes_at_most // 4), device=device)
        self._target: Tensor | None = None

    def calls(self, X_bytes: int) -> dict[str, Call]:
        """`sum`, and a copy within the device."""
        if self._target is None:
            self._target = torch.empty_like(self._source)
        count = max(1, X_bytes // 4)
        source, target = self._source[:count], self._target[:count]
        return {READ: source.sum, COPY: lambda: target.copy_(source)}


def measure(
    problem: Problem, contenders: Sequence[Contender], ceilings: CeilingCalls, clock: Clock, rounds: int
) -> tuple[Ceiling, list[Record]]:
    """The ceiling at this shape, and a record of every contender, whatever became of it."""
    checker = Checker(problem)
    judged = [_judge(contender, checker) for contender in contenders]
    working = [c for c, verdict in zip(contenders, judged, strict=True) if isinstance(verdict, Verdict)]
    X_bytes = problem.X.numel() * problem.X.element_size()
    calls = ceilings.calls(X_bytes) | {contender.key: contender.run for contender in working}
    timings = clock(calls, rounds)
    ceiling = _ceiling(problem, X_bytes, timings)
    records = [
        _record(problem, contender, verdict, timings.get(contender.key), ceiling)
        for contender, verdict in zip(contenders, judged, strict=True)
    ]
    return ceiling, _ranked(records, contenders)


def _judge(contender: Contender, checker: Checker) -> Verdict | Failure:
    try:
        return checker.check(contender, contender.run())
    except Exception as error:
        return failure_of(error)


def _ceiling(problem: Problem, X_bytes: int, timings: Mapping[str, Timing | Failure]) -> Ceiling:
    moved = max(4, X_bytes // 4 * 4)
    return Ceiling(
        device=problem.X.device.type,
        dtype=problem.dtype,
        n=problem.n,
        d=problem.d,
        read_tb_per_s=_rate(moved, timings[READ]),
        copy_tb_per_s=_rate(2 * moved, timings[COPY]),
    )


def _rate(moved: int, timing: Timing | Failure) -> float | None:
    return moved / timing.ms / 1e9 if isinstance(timing, Timing) and timing.ms > 0 else None


def _record(
    problem: Problem,
    contender: Contender,
    verdict: Verdict | Failure,
    timing: Timing | Failure | None,
    ceiling: Ceiling,
) -> Record:
    identity: dict[str, Any] = {
        "device": problem.X.device.type,
        "pass_name": contender.pass_name,
        "contender": contender.name,
        "ours": contender.ours,
        "dtype": problem.dtype,
        "arithmetic": contender.arithmetic,
        "n": problem.n,
        "d": problem.d,
    }
    if isinstance(verdict, Failure):
        return Record(**identity, status=verdict.status, correct=None, reason=verdict.reason)
    checked: dict[str, Any] = {"correct": verdict.correct, "error": verdict.error, "allowed": verdict.allowed}
    if not isinstance(timing, Timing):
        failure = timing or Failure("failed", "it was not timed")
        return Record(**identity, **checked, status=failure.status, reason=failure.reason)
    rate = _rate(problem.bytes, timing)
    read = ceiling.read_tb_per_s
    return Record(
        **identity,
        **checked,
        status="ok" if verdict.correct else "incorrect",
        reason=verdict.reason,
        ms=timing.ms,
        q25_ms=timing.q25_ms,
        q75_ms=timing.q75_ms,
        calls=timing.calls,
        timing=timing.method,
        bytes=problem.bytes,
        tb_per_s=rate,
        fraction=rate / read if rate and read else None,
    )


def _ranked(records: Sequence[Record], contenders: Sequence[Contender]) -> list[Record]:
    """The same with speed-ups; what gives a wrong answer neither has one nor is one measured against."""
    right = {c.key: r for c, r in zip(contenders, records, strict=True) if r.status == "ok"}
    baselines = {c.pass_name: right[c.key] for c in contenders if c.baseline and c.key in right}
    product = next((r.ms for r in right.values() if r.pass_name == "product"), None)
    found = []
    for contender, record in zip(contenders, records, strict=True):
        baseline = baselines.get(contender.pass_name)
        ms = record.ms
        if record.status == "ok" and ms:
            if baseline is not None and baseline.ms:
                speedup = baseline.ms / ms
                record = replace(record, speedup=speedup, speedup_against=baseline.contender)
            if product:
                record = replace(record, product_ratio=ms / product)
        found.append(record)
    return found
