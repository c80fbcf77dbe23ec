"""The stage "passes": device time of each row of the launch table, as it is and fitted to what was compiled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

import flashlogit_kernels
from flashlogit_kernels.gpu.launch import launch_config
from flashlogit_kernels.gpu.table import packaged

from .bench import Bench, Record, reason
from .calls import Call, as_loaded, make_data, packed
from .clock import Work

_FAMILIES = {
    ("float32", "float32"): [("float32", "float32")],
    ("bfloat16", "float32"): [("bfloat16", "float32")],
    ("float64", "float64"): [("float32", "float64"), ("bfloat16", "float64")],
}
"""X and arithmetic that are timed for (storage, compute) of the table: float64 arithmetic is the solvers' own."""
_SLACK = 1.0


def calls(tiny: bool) -> list[Call]:
    """One for each row of the table, and a few more."""
    if tiny:
        return [Call("bce_onepass", 28), Call("bce_hessian", 28), Call("column_sums", 28)]
    found = []
    for entry in packaged():
        if entry.machine != "any":
            continue
        function = "bce_onepass" if entry.kernel == "onepass" else "bce_hessian"
        for storage, compute in _FAMILIES[entry.storage, entry.compute]:
            found.append(as_loaded(function, entry.D, storage, compute))
    found += [Call("bce_onepass", D, labels="float32") for D in (1, 4, 28)]
    found += [Call("bce_onepass", D, options=("column_major",)) for D in (10, 28)]
    found += [Call("hessian_product", D) for D in (28, 300, 1024)]
    found += [Call("column_sums", D, compute=c) for D in (28, 1024) for c in ("float32", "float64")]
    found += [Call("bce_onepass", 28, compute="float64", options=("center",))]
    found += [Call("bce_onepass", D) for D in (20_000, 32_768)]
    return found


def passes(bench: Bench, record: Record) -> None:
    """Fill in milliseconds, TB/s and share of the read bandwidth of every call, and of torch's two products."""
    bench.clock.warm()
    record["calls"] = []
    for call in calls(bench.tiny):
        bench.check_time(_SLACK)
        try:
            record["calls"].append(timed(bench, call))
        except Exception as error:
            record["calls"].append({"name": call.name, "error": reason(error)})
    record["torch"] = [_torch(bench, D) for D in ((28,) if bench.tiny else (28, 300, 1024))]
    record["reduction"] = _reductions(bench)
    bench.save()


def timed(bench: Bench, call: Call) -> Record:
    """One call: by the table as it is, where that can be asked for, and fitted, in turn."""
    dtype = getattr(torch, call.storage)
    N = bench.bytes // (call.stride * dtype.itemsize) // 16 * 16
    X = bench.matrix(dtype, N, call.stride)[:, : call.D]
    if "column_major" in call.options:
        X = bench.matrix(dtype, call.D, N).t()
    data = make_data(call, N, bench.device, X=X)
    works: dict[str, Work] = {"fitted": packed(call, data, flashlogit_kernels)}
    config = table_launch(call, bench.device)
    if config is not None:
        works["as it is"] = packed(Call(**{**vars(call), "launch": config}), data, flashlogit_kernels)
    found = bench.clock(works, bench.rounds)
    moved = N * call.stride * dtype.itemsize + bytes_beside(call, N)
    best = found["fitted"]
    return {
        "name": call.name,
        "N": N,
        "launch": None if config is None else asdict(config),
        "ms": best.ms,
        "q25_ms": best.q25_ms,
        "q75_ms": best.q75_ms,
        "as_it_is_ms": found["as it is"].ms if config is not None else None,
        "tb_s": moved / best.ms / 1e9,
        "fraction": bench.ceiling(moved, best.ms),
        "method": best.method,
        "late": best.late,
    }


def bytes_beside(call: Call, N: int) -> int:
    """Bytes of labels or of the rows' values, which are read once as well."""
    if call.function in ("hessian_product", "column_sums"):
        return N * getattr(torch, call.compute).itemsize
    return N * int(getattr(torch, call.labels).itemsize)


def table_launch(call: Call, device: torch.device) -> Any:
    """The table's configuration that the call takes, if it takes one."""
    from flashlogit_kernels.gpu.launch import fits_registers

    compute = getattr(torch, call.compute)
    if call.function == "column_sums" or not fits_registers(
        call.D, compute, centred="center" in call.options
    ):
        return None
    if call.function == "bce_hessian" and call.compute == "float64":
        return None
    kernel: Any = "hessian" if call.function == "bce_hessian" else "onepass"
    return launch_config(kernel, call.D, getattr(torch, call.storage), compute, device)


def _torch(bench: Bench, D: int) -> Record:
    """X w, sigmoid, X^T r in float32 torch, each product a read of X."""
    N = bench.bytes // (4 * D) // 16 * 16
    data = make_data(Call("bce_onepass", D), N, bench.device, X=bench.matrix(torch.float32, N, D))
    y = data.y.float()

    def eager() -> torch.Tensor:
        return data.X.t() @ (torch.sigmoid(data.X @ data.w + data.b) - y)

    found = bench.clock({"torch": eager}, bench.rounds)["torch"]
    nbytes = N * D * 4
    return {"name": f"torch D={D} float32", "ms": found.ms, "fraction": bench.ceiling(nbytes, found.ms)}


def _reductions(bench: Bench) -> list[Record]:
    """The second stage alone, over as many partial sums as the first leaves."""
    from flashlogit_kernels.gpu.reduce import reduce_partials

    found = []
    for programs, D in (
        ((4, 5),) if bench.tiny else ((264, 28), (1848, 28), (1056, 300), (396, 1024), (132, 16384))
    ):
        partials = torch.randn(programs, D, device=bench.device)
        totals = torch.rand(programs, 5, device=bench.device, dtype=torch.float64)
        time = bench.clock(
            {"reduce": lambda partials=partials, totals=totals: reduce_partials(partials, totals)},
            bench.rounds,
        )["reduce"]
        found.append({"name": f"reduce {programs} x {D}", "us": time.ms * 1e3})
    return found
