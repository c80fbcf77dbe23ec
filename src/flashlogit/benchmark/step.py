"""One step of gradient descent on a table so small that launching it is all that it costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .clock import Call, Failure, Read, Timing, failure_of, in_turn, timing
from .cuda_clock import capture
from .report import Record

ROWS, COLUMNS = 569, 30
_LEARNING_RATE = 0.5
_CHECKED_STEPS = 10
_ALLOWED = 1e-5
"""Of the largest weight, after `_CHECKED_STEPS` steps in float32."""
_STEPS_TIMED_TOGETHER = 200
CAPTURED, LAUNCHED = "flashlogit, CUDA graph", "flashlogit, launched"


@dataclass(frozen=True, eq=False)
class Step:
    """w [D], b [1] and their data, all float32 on one device; calling it takes one step in place."""

    X: Tensor
    y: Tensor
    w: Tensor
    b: Tensor
    passes: Any

    def __call__(self) -> None:
        sums = self.passes.bce_onepass(self.X, self.y, self.w, self.b)
        rate = _LEARNING_RATE / self.X.shape[0]
        self.w.sub_(sums.weight_grad, alpha=rate)
        self.b.sub_(sums.bias_grad, alpha=rate)

    def restart(self) -> None:
        """Back to where descent starts, in place: a captured graph holds these very tensors."""
        self.w.zero_()
        self.b.zero_()


def make_step(passes: Any, device: torch.device) -> Step:
    """A seeded problem of 569 x 30, as large as the breast cancer data."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(ROWS, COLUMNS, generator=generator)
    y = (X @ torch.randn(COLUMNS, generator=generator) + torch.randn(ROWS, generator=generator) > 0).float()
    return Step(
        X.to(device),
        y.to(device),
        torch.zeros(COLUMNS, device=device),
        torch.zeros(1, device=device),
        passes,
    )


def step_error(step: Step, run: Call) -> float:
    """How far w is from float64 after ten steps by `run`, relative to its largest entry."""
    step.restart()
    for _ in range(_CHECKED_STEPS):
        run()
    X, y = step.X.double().cpu(), step.y.double().cpu()
    w, b = torch.zeros(COLUMNS, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for _ in range(_CHECKED_STEPS):
        r = torch.sigmoid(X @ w + b) - y
        w -= _LEARNING_RATE / ROWS * (X.t() @ r)
        b -= _LEARNING_RATE / ROWS * r.sum()
    return float((step.w.double().cpu() - w).abs().max() / w.abs().max())


def measure_step(
    step: Step,
    rounds: int,
    *,
    synchronize: Callable[[], object],
    capture: Callable[[Call], Call] = capture,
    now: Callable[[], float] = time.perf_counter,
) -> list[Record]:
    """The step replayed from a CUDA graph, and launched call by call: wall-clock time, since the host is what counts.

    Args:
        step: on the device; its weights are changed.
        rounds: batches of 200 steps that are timed.
        synchronize: waits for the device.
        capture: see `CudaClock`. now: seconds.
    """
    runs: dict[str, Call] = {LAUNCHED: step}
    found: dict[str, Timing | Failure] = {}
    errors: dict[str, float] = {}
    try:
        step()  # compiles the kernels, which must not happen within a capture
        runs[CAPTURED] = capture(step)
    except Exception as error:
        found[CAPTURED] = failure_of(error)
    for name, run in runs.items():
        try:
            errors[name] = step_error(step, run)
        except Exception as error:
            found[name] = failure_of(error)

    def time_batch(run: Call) -> Read:
        synchronize()
        start = now()
        for _ in range(_STEPS_TIMED_TOGETHER):
            run()
        synchronize()
        ms = (now() - start) * 1e3 / _STEPS_TIMED_TOGETHER
        return lambda: ms

    reads, failures = in_turn({name: runs[name] for name in errors}, rounds, time_batch)
    found |= failures
    method = f"wall clock over {_STEPS_TIMED_TOGETHER} steps"
    found |= {name: timing([read() for read in of], method) for name, of in reads.items()}
    launched = found.get(LAUNCHED)
    baseline = launched.ms if isinstance(launched, Timing) and errors[LAUNCHED] <= _ALLOWED else None
    return [
        _record(name, found[name], errors.get(name), baseline, step.X.device.type)
        for name in (LAUNCHED, CAPTURED)
    ]


def _record(
    name: str, outcome: Timing | Failure, error: float | None, launched_ms: float | None, device: str
) -> Record:
    identity: dict[str, Any] = {
        "device": device,
        "pass_name": "step",
        "contender": name,
        "ours": True,
        "dtype": "float32",
        "arithmetic": "float32",
        "n": ROWS,
        "d": COLUMNS,
    }
    if isinstance(outcome, Failure) or error is None:
        failure = outcome if isinstance(outcome, Failure) else Failure("failed", "it was not checked")
        return Record(**identity, status=failure.status, correct=None, reason=failure.reason)
    correct = error <= _ALLOWED
    return Record(
        **identity,
        status="ok" if correct else "incorrect",
        correct=correct,
        reason="" if correct else f"weights are off by {error:.1e}, {_ALLOWED:.1e} allowed",
        ms=outcome.ms,
        q25_ms=outcome.q25_ms,
        q75_ms=outcome.q75_ms,
        calls=outcome.calls,
        timing=outcome.method,
        speedup=launched_ms / outcome.ms if correct and launched_ms else None,
        speedup_against=LAUNCHED if correct and launched_ms else "",
        error=error if error == error and error != float("inf") else None,
        allowed=_ALLOWED,
    )
