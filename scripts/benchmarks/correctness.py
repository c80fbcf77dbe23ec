"""The stage "correctness": every pass on this device against float64 torch on it, and twice, bit for bit."""

from __future__ import annotations

import torch

import flashlogit_kernels as passes

from .bench import Bench, Record, reason
from .calls import Call, make_data, packed, truth

_BOUND = {"float32": 1e-6, "float64": 1e-13}
"""Error of a number as a share of the absolute terms that it is the sum of: a few roundings of the arithmetic."""
_VALUES = 1 << 24


def calls(tiny: bool) -> list[Call]:
    """What is checked: every launch of the table by one column count, every layout, option and kind of label."""
    if tiny:
        return [
            Call("bce_onepass", 3),
            Call("bce_onepass", 28, "bfloat16", "float64", odd=True),
            Call("bce_onepass", 5, options=("weights", "pos_weight", "rows", "center", "outputs", "exact")),
            Call("bce_hessian", 5),
            Call("hessian_product", 5),
            Call("column_sums", 5, options=("column_major",)),
            Call("bce_rows", 5),
        ]
    columns = (1, 4, 10, 28, 37, 50, 100, 256, 300, 784, 1024, 4096, 16384, 20000)
    found = [
        Call("bce_onepass", D, storage, compute)
        for storage in ("float32", "bfloat16")
        for compute in ("float32", "float64")
        for D in columns
    ]
    found += [Call("bce_onepass", D, "float64", "float64") for D in (10, 256, 2000)]
    found += [Call("bce_onepass", 100, "float16"), Call("bce_onepass", 2_000, odd=True)]
    found += [
        Call("bce_onepass", D, labels=labels) for D in (1, 28) for labels in ("float32", "float64", "int64")
    ]
    found += [
        Call("bce_onepass", D, storage, odd=True) for D in (1, 10, 28) for storage in ("float32", "bfloat16")
    ]
    for options in (
        ("weights",),
        ("rows",),
        ("center",),
        ("column_major",),
        ("column_major", "rows"),
        ("outputs",),
        ("exact",),
        ("weights", "pos_weight", "rows", "center", "outputs", "exact"),
    ):
        found += [Call("bce_onepass", D, options=options) for D in (28, 300)]
        found += [Call("bce_onepass", 28, "bfloat16", "float64", options=options)]
    found += [Call("bce_onepass", D, "bfloat16", options=("padded",)) for D in (37, 50, 100)]
    found += [Call("bce_onepass", D, options=("center",)) for D in (2000, 8192, 16384)]
    found += [
        Call("bce_hessian", D, storage, options=options)
        for D in (1, 10, 28, 64, 100, 128)
        for storage, options in (
            ("float32", ()),
            ("bfloat16", ()),
            ("float32", ("weights", "center", "rows")),
        )
    ]
    found += [Call("bce_hessian", D, compute="float64") for D in (28, 128)]
    for function in ("hessian_product", "column_sums"):
        found += [
            Call(function, D, "float32", compute, options=options)
            for D in (1, 28, 300, 1024, 20000)
            for compute in ("float32", "float64")
            for options in ((), ("center",))
        ]
        found += [
            Call(function, 28, "bfloat16", options=("rows",)),
            Call(function, 28, options=("column_major",)),
        ]
    found += [Call("bce_rows", D, storage) for D in (28, 1024) for storage in ("float32", "bfloat16")]
    return found


def correctness(bench: Bench, record: Record) -> None:
    """Fill in each call's largest error, as a share of its terms, and whether two calls gave the same bits."""
    asked = calls(bench.tiny)
    record |= {"asked": len(asked), "calls": [], "failed": []}
    for call in asked:
        bench.check_time(1.0)
        entry: Record = {"name": call.name}
        try:
            entry |= check(call, bench)
        except Exception as error:
            entry["error"] = reason(error)
        record["calls"].append(entry)
        if "error" in entry or not entry["right"] or not entry["repeatable"]:
            record["failed"].append(call.name)


def check(call: Call, bench: Bench) -> Record:
    """One call's error and repeatability."""
    N = 40 + call.odd if bench.tiny else call.rows(_VALUES)
    data = make_data(call, N, bench.device)
    make = packed(call, data, passes)
    first, second = make().double(), make().double()
    known = truth(call, data)
    error = float(((first - known.value).abs() / known.size).max())
    compute = "float64" if "float64" in (call.storage, call.compute) else "float32"
    return {
        "relative_error": error,
        "right": bool(torch.isfinite(first).all()) and error <= _BOUND[compute],
        "repeatable": torch.equal(first, second),
    }
