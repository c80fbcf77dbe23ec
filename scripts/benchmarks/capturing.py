"""The stage "capture": what can be recorded in a CUDA graph by a caller, each by itself, and a capture that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import flashlogit
import flashlogit_kernels as passes

from .bench import Bench, Record, reason
from .calls import Call, make_data, packed
from .clock import capture

Body = Callable[[], torch.Tensor]
_solve: Any = torch.linalg.solve_triangular


def bodies(bench: Bench) -> dict[str, tuple[Body, torch.Tensor]]:
    """What is captured, and a tensor that its result depends on."""
    small = bench.tiny
    found: dict[str, tuple[Body, torch.Tensor]] = {}
    for call in (
        Call("bce_onepass", 28),
        Call("bce_onepass", 28, compute="float64"),
        Call("bce_onepass", 40 if small else 20_000),
        Call("hessian_product", 28),
        Call("column_sums", 28),
        Call("bce_hessian", 28),
        Call("bce_hessian", 28, compute="float64"),
        Call("bce_rows", 28),
    ):
        data = make_data(call, 32 if small else call.few_rows(), bench.device)
        # Sums over the columns depend on the values of the rows alone.
        changed = data.v if call.function == "column_sums" else data.w
        found[call.name] = packed(call, data, passes), changed
    X = torch.randn(64, 28, device=bench.device)
    y = torch.rand(64, device=bench.device) < 0.5
    w = torch.randn(28, device=bench.device, requires_grad=True)

    def loss_and_gradient() -> torch.Tensor:
        loss = flashlogit.bce_loss(X, y, w)
        (gradient,) = torch.autograd.grad(loss, w)
        return torch.cat([loss.detach().reshape(1), gradient])

    found["bce_loss and its gradient"] = loss_and_gradient, w.detach()
    for P in (20, 31, 1025):
        A = torch.randn(P, P, device=bench.device, dtype=torch.float64)
        A, b = A @ A.t() + P * torch.eye(P, device=bench.device, dtype=torch.float64), A[:, :1].contiguous()
        found[f"solve_triangular {P}"] = lambda A=A, b=b: _solve(A, b, upper=False), b
        found[f"cholesky_ex {P}"] = lambda A=A: torch.linalg.cholesky_ex(A)[0].tril(), A
    found["solve_ex 40"] = lambda A=A[:40, :40], b=b[:40]: torch.linalg.solve_ex(A, b)[0], b
    return found


def capturing(bench: Bench, record: Record) -> None:
    """Fill in, for each body, whether a replay on other values gives what the body itself then gives."""
    record["bodies"] = []
    for name, (body, changed) in bodies(bench).items():
        bench.check_time(1.0)
        record["bodies"].append({"name": name} | _try(bench, body, changed))
    record["failing capture"] = _failing(bench)


def _try(bench: Bench, body: Body, changed: torch.Tensor) -> Record:
    results: list[torch.Tensor] = []

    def recorded() -> None:
        results.append(body())

    try:
        body()
        replay = _recorded(bench, recorded)
        with torch.no_grad():
            changed.mul_(0.5)
        replay()
        known = body()
        error = float((results[-1] - known).abs().max() / known.abs().max())
    except Exception as failure:
        return {"captured": False, "reason": reason(failure)}
    return {"captured": True, "same": error <= 1e-12, "relative_difference": error}


def _recorded(bench: Bench, recorded: Callable[[], object]) -> Callable[[], object]:
    """In the interpreter the call itself stands for the replay."""
    return recorded if bench.tiny else capture(recorded, bench.device)


def _failing(bench: Bench) -> Record:
    """A body that reads a value, which a capture forbids: the stream afterwards is the one before, and passes go on."""
    call = Call("bce_onepass", 28)
    make = packed(call, make_data(call, 32 if bench.tiny else 4096, bench.device), passes)
    before = make()

    def reads() -> None:
        make().sum().item()

    if bench.tiny:
        return {"raised": None, "stream_restored": True, "passes_go_on": torch.equal(make(), before)}
    stream = torch.cuda.current_stream(bench.device)
    try:
        capture(reads, bench.device)
        raised = ""
    except Exception as error:
        raised = reason(error)
    restored = torch.cuda.current_stream(bench.device) == stream
    return {
        "raised": raised,
        "stream_restored": restored,
        "random_numbers_go_on": bool(torch.randn(8, device=bench.device).isfinite().all()),
        "passes_go_on": torch.equal(make(), before),
    }
