"""The stage "tuning": a dozen likely launches of each shape, compiled in a pool, checked and timed beside the table's.

Its result is rows for the launch table, of this machine, ready to be taken over.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

import flashlogit_kernels
from flashlogit_kernels.launch import block_width, machine_name, table_dtypes
from flashlogit_kernels.table import Entry, LaunchConfig

from .bench import Bench, Record, reason
from .calls import Call, make_data, packed
from .clock import Work
from .compiling import compile_all
from .passes import bytes_beside, table_launch

_GAIN = 0.02
"""Share by which a launch has to be faster than the table's to replace it: less is noise."""
_SHAPES: list[tuple[str, str, str, tuple[int, ...]]] = [
    ("bce_onepass", "float32", "float64", (28, 64, 100, 128, 256, 784, 1024)),
    ("bce_hessian", "float32", "float32", (28, 64, 128)),
    ("bce_onepass", "float32", "float32", (1, 10, 100, 128, 256, 300, 1024)),
    ("bce_onepass", "bfloat16", "float32", (28, 50, 100, 300, 784, 1024)),
]
"""Function, storage and arithmetic, and column counts, the most wanted first."""


def shapes(tiny: bool) -> list[Call]:
    """What is tuned."""
    if tiny:
        return [Call("bce_onepass", 28), Call("bce_hessian", 28)]
    return [
        Call(function, D, storage, compute, options=("padded",) if storage == "bfloat16" and D % 8 else ())
        for function, storage, compute, columns in _SHAPES
        for D in columns
    ]


def candidates(call: Call, incumbent: LaunchConfig) -> list[LaunchConfig]:
    """Launches around those that were fast in earlier measurements.

    They differ in the numbers of X that a thread holds, 16 to 64 in float32, and in how many threads a program has. As
    many programs share a multiprocessor as fit: what is asked for is clamped.
    """
    width, item = block_width(call.D), getattr(torch, call.compute).itemsize
    found: list[LaunchConfig] = []
    if call.function == "bce_hessian":
        for rows, warps in ((32, 2), (32, 4), (64, 4), (64, 8), (128, 4), (128, 8), (16, 4)):
            found += [
                replace(incumbent, block_n=rows, num_warps=warps, programs_per_sm=4, num_stages=s)
                for s in (1, 2)
            ]
        return _distinct(found, incumbent)
    for warps in (1, 2, 4, 8):
        for numbers in (16, 32, 64):
            rows = numbers * 4 // item * 32 * warps // width
            if rows >= 1:
                found += [
                    LaunchConfig(rows, warps, 32 // warps, stages, split)
                    for stages in (1, 3)
                    for split in {incumbent.split, call.D in (10, 37, 100, 300)}
                ]
    return _distinct(found, incumbent)


def _distinct(found: list[LaunchConfig], incumbent: LaunchConfig) -> list[LaunchConfig]:
    """Each once; the likeliest first: as many numbers a thread as the incumbent, then its neighbours."""
    rest = [config for config in dict.fromkeys(found) if config != incumbent]
    held = incumbent.block_n / incumbent.num_warps

    def distance(config: LaunchConfig) -> float:
        ratio = config.block_n / config.num_warps / held
        return max(ratio, 1 / ratio) + (config.num_warps != incumbent.num_warps)

    return sorted(rest, key=distance)[:13]


def tuning(bench: Bench, record: Record) -> None:
    """Fill in, for each shape, what was tried, and the rows of the table that are better."""
    record["shapes"], record["rows"] = [], []
    bench.clock.warm()
    plans = [(call, table_launch(call, bench.device)) for call in shapes(bench.tiny)]
    for group in _groups(plans, 1 if bench.tiny else 6):
        bench.check_time(20.0)
        tasks = [
            replace(call, launch=config)
            for call, incumbent in group
            for config in candidates(call, incumbent)[: 2 if bench.tiny else None]
        ]
        compiled = compile_all(bench, tasks)
        working = {entry["launch"]: entry for entry in compiled if "error" not in entry}
        for call, incumbent in group:
            bench.check_time(2.0)
            entry: Record = {"name": call.name}
            try:
                entry |= _search(bench, call, incumbent, working)
            except Exception as error:
                entry["error"] = reason(error)
            record["shapes"].append(entry)
            if entry.get("gain", 0.0) > _GAIN:
                record["rows"].append(_row(bench, call, entry))
        bench.save()


def _groups(plans: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(plans), size):
        yield plans[start : start + size]


def _search(bench: Bench, call: Call, incumbent: LaunchConfig, working: dict[Any, Record]) -> Record:
    """The fastest of a shape's candidates, checked against what the table's launch gives."""
    dtype = getattr(torch, call.storage)
    stride = call.D + (-call.D % 8 if "padded" in call.options else 0)
    N = bench.bytes // (stride * dtype.itemsize) // 16 * 16
    data = make_data(call, N, bench.device, X=bench.matrix(dtype, N, stride)[:, : call.D])
    by_table = packed(call, data, flashlogit_kernels)
    known = by_table()
    works: dict[str, Work] = {"table": by_table}
    configs: dict[str, LaunchConfig] = {}
    rejected: list[Record] = []
    for config in candidates(call, incumbent)[: 2 if bench.tiny else None]:
        entry = working.get(launch_name(replace(call, launch=config)), {} if bench.tiny else None)
        kernels = [kernel for kernel in (entry or {}).get("kernels", ()) if kernel["asked"] is not None]
        if entry is None or any(kernel["spilled"] for kernel in kernels):
            rejected.append(asdict(config) | {"why": "not compiled" if entry is None else "spills"})
            continue
        fitting = min([config.programs_per_sm, *(kernel["fitting"] for kernel in kernels)])
        config = replace(config, programs_per_sm=fitting)
        make = packed(replace(call, launch=config), data, flashlogit_kernels)
        try:
            error = float((make() - known).abs().max() / known.abs().max())
        except Exception as failure:
            rejected.append(asdict(config) | {"why": reason(failure)})
            continue
        if not error < 1e-5:
            rejected.append(asdict(config) | {"why": f"off by {error:.1e}"})
            continue
        works[str(len(configs))] = make
        configs[str(len(configs))] = config
    coarse = bench.clock(works, max(2, bench.rounds // 3))
    fastest = sorted(configs, key=lambda name: coarse[name].ms)[:3]
    final = bench.clock({name: works[name] for name in ("table", *fastest)}, bench.rounds)
    moved = N * stride * dtype.itemsize + bytes_beside(call, N)
    found: Record = {
        "table": asdict(incumbent),
        "table_ms": final["table"].ms,
        "table_fraction": bench.ceiling(moved, final["table"].ms),
        "tried": [asdict(config) | {"ms": coarse[name].ms} for name, config in configs.items()],
        "rejected": rejected,
    }
    if fastest:
        best = min(fastest, key=lambda name: final[name].ms)
        found |= {
            "best": asdict(configs[best]),
            "ms": final[best].ms,
            "fraction": bench.ceiling(moved, final[best].ms),
            "gain": 1 - final[best].ms / final["table"].ms,
        }
    return found


def launch_name(task: Call) -> str:
    """A call and its launch, as the key under which a worker's report is found."""
    return f"{task.name} {task.launch}"


def _row(bench: Bench, call: Call, found: Record) -> Record:
    """What a row of the launch table holds."""
    storage, compute = table_dtypes(getattr(torch, call.storage), getattr(torch, call.compute))
    return {
        "machine": machine_name(bench.device),
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": "hessian" if call.function == "bce_hessian" else "onepass",
        "storage": storage,
        "compute": compute,
        "D": call.D,
        "launch": found["best"],
        "fraction": found["fraction"],
    }


def entries(record: Record) -> list[Entry]:
    """The stage's rows, for `flashlogit_kernels.table.write`."""
    return [Entry(**{**row, "launch": LaunchConfig(**row["launch"])}) for row in record.get("rows", ())]
