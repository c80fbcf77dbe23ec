"""The stage "host": microseconds that a call costs the host, and what it launches, on data so small that nothing else
costs anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import flashlogit
import flashlogit_kernels as passes

from .bench import Bench, Record
from .calls import Call, make_data, packed
from .clock import capture

_N = 569


def host(bench: Bench, record: Record) -> None:
    """Fill in the median host time of each call, enqueued one after the other."""
    N, times = (16, 2) if bench.tiny else (_N, 200)
    bench.clock.warm()
    record["calls"] = []
    for name, call in _calls(bench, N).items():
        bench.check_time(1.0)
        record["calls"].append(
            {"name": name, "us": microseconds(call, times, bench), "launches": launches(call, bench)}
        )
    record["graph of 180 additions"] = _graph(bench)


def _calls(bench: Bench, N: int) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    one = torch.ones(30, device=bench.device)
    found["torch addition"] = lambda: one + one
    found["torch .item()"] = lambda: one[0].item()
    for call in (
        Call("bce_onepass", 30),
        Call("bce_onepass", 30, compute="float64"),
        Call("bce_onepass", 30, labels="int64"),
        Call("hessian_product", 30),
        Call("column_sums", 30),
        Call("bce_hessian", 30),
    ):
        found[call.name] = packed(call, make_data(call, N, bench.device), passes)
    X = torch.randn(N, 30, device=bench.device)
    y = torch.rand(N, device=bench.device) < 0.5
    w = torch.zeros(30, device=bench.device, requires_grad=True)
    found["bce_loss and backward"] = lambda: torch.autograd.grad(flashlogit.bce_loss(X, y, w), w)
    labels = y.float()
    plain: Any = torch.nn.functional.binary_cross_entropy_with_logits
    found["torch's own loss and backward"] = lambda: torch.autograd.grad(plain(X @ w, labels), w)
    return found


def microseconds(call: Callable[[], object], times: int, bench: Bench) -> float:
    """Median over five rounds of the mean host time of a call; the device is waited for between rounds only."""
    call()
    found = []
    for _ in range(5):
        synchronize(bench.device)
        began = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - began) / times * 1e6)
    return sorted(found)[2]


def launches(call: Callable[[], object], bench: Bench) -> int | None:
    """Kernels, copies and fills that a call starts on the device; None where there is no device."""
    if bench.tiny:
        return None
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        call()
        synchronize(bench.device)
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiler.events())


def _graph(bench: Bench) -> Record:
    """Milliseconds to capture and instantiate a graph of 180 small kernels, and microseconds of its replay."""
    x = torch.ones(30, device=bench.device)

    def chain() -> None:
        for _ in range(180):
            x.add_(1.0)

    if bench.tiny:
        chain()
        return {}
    capture(chain, bench.device)
    synchronize(bench.device)
    began = time.perf_counter()
    capture(chain, bench.device)
    captured = time.perf_counter() - began
    return {"capture_ms": captured * 1e3, "replay_us": bench.clock({"chain": chain}, 20)["chain"].ms * 1e3}


def synchronize(device: torch.device) -> None:
    """Wait for the device, if it is one to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
