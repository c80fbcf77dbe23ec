"""The stage "tuning": a dozen likely launches of each shape, compiled in a pool, checked and timed beside the table's.

Its result is rows for the launch table, of this machine, ready to be taken over.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import flashlogit_kernels
from flashlogit_kernels.gpu import table
from flashlogit_kernels.gpu.launch import block_width, machine_name, piece_widths, table_dtypes
from flashlogit_kernels.gpu.table import ANY_MACHINE, REFERENCE_MACHINE, Entry, LaunchConfig

from .bench import Bench, Record, reason
from .calls import Call, Data, as_loaded, make_data, packed
from .clock import Work
from .compiling import compile_all
from .passes import bytes_beside, table_launch

_GAIN = 0.02
"""Share by which a launch has to be faster than the table's to replace it: less is noise."""
_SHAPES: list[tuple[str, str, str, tuple[int, ...]]] = [
    ("bce_onepass", "float32", "float64", (28, 64, 100, 256, 1024)),
    ("bce_onepass", "float32", "float32", (1, 10, 28, 100, 1024)),
    ("bce_hessian", "float32", "float32", (16, 28, 64, 128)),
    ("bce_onepass", "bfloat16", "float32", (28, 100, 300, 784, 1024)),
    ("bce_onepass", "float32", "float64", (1, 4, 10, 37, 50, 128, 200, 300, 450, 513, 784, 2000, 4096, 8192)),
    ("bce_onepass", "bfloat16", "float32", (1, 4, 10, 37, 50, 150, 200, 256, 450, 513, 2000, 2500, 8192)),
    ("bce_onepass", "float32", "float32", (37, 50, 150, 200, 300, 2500)),
    ("bce_hessian", "bfloat16", "float32", (16, 28, 64, 128)),
]
"""Function, storage and arithmetic, and column counts, the most wanted first."""
TUNED_COLUMNS = frozenset(D for _, _, _, columns in _SHAPES for D in columns)
_GROUP = 5
"""Shapes whose launches are compiled at once, and then timed, with nothing compiling beside them."""


def shapes(bench: Bench) -> list[Call]:
    """What is tuned."""
    if bench.tiny:
        return [Call("bce_onepass", 28), Call("bce_hessian", 28)]
    return [
        as_loaded(function, D, storage, compute)
        for function, storage, compute, columns in _SHAPES
        for D in columns
        if D in bench.tuned or not bench.tuned
    ]


def candidates(call: Call, incumbent: LaunchConfig) -> list[LaunchConfig]:
    """A dozen tiles or two, by how many threads a program has and how many numbers of X each of them holds.

    They ask for all threads of a multiprocessor, and have as many programs as fit.
    """
    found: list[LaunchConfig] = []
    if call.function == "bce_hessian":
        for rows in (16, 32, 64, 128):
            found += [LaunchConfig(rows, warps, 32 // warps, 1) for warps in (2, 4, 8)]
    else:
        for numbers in (8, 16, 32, 64, 128):
            for warps in (1, 2, 4, 8):
                rows = numbers * 32 * warps // block_width(call.D)
                found += [LaunchConfig(rows, warps, 32 // warps, 1)] if 1 <= rows <= 4096 else []
    return [config for config in dict.fromkeys(found) if config != incumbent]


def variations(call: Call, best: LaunchConfig) -> list[LaunchConfig]:
    """The same tile, pipelined, in two pieces where these are narrower than one, and with fewer programs."""
    found = [
        replace(best, num_stages=stages)
        for stages in ((1, 2, 3) if call.function == "bce_hessian" else (1, 3))
    ]
    pieces = piece_widths(call.D, replace(best, split=True))
    if call.function == "bce_onepass" and 0 < sum(pieces) < block_width(call.D):
        found += [replace(config, split=not best.split) for config in found]
    found.append(replace(best, programs_per_sm=max(1, best.programs_per_sm - 1)))
    return [config for config in dict.fromkeys(found) if config != best]


def tuning(bench: Bench, record: Record) -> None:
    """Fill in, for each shape, what was tried, and the rows of the table that are better."""
    record["shapes"], record["rows"] = [], []
    bench.clock.warm()
    asked = shapes(bench)
    for start in range(0, len(asked), _GROUP):
        bench.check_time(15.0)
        searches = [Search(bench, call) for call in asked[start : start + _GROUP]]
        for widen in (Search.tiles, Search.variations):
            compiled = compile_all(bench, [task for search in searches for task in widen(search)])
            working = {(entry["name"], entry["launch"]): entry for entry in compiled if "error" not in entry}
            for search in searches:
                bench.check_time(2.0)
                search.time(working)
        for search in searches:
            entry = search.result()
            record["shapes"].append(entry)
            if entry.get("gain", 0.0) > _GAIN:
                record["rows"].append(_row(bench, search.call, entry))
        bench.save()


class Search:
    """The search for a shape's launch."""

    def __init__(self, bench: Bench, call: Call) -> None:
        self.call = call
        self.incumbent: LaunchConfig = table_launch(call, bench.device)
        self._bench = bench
        self._ms: dict[LaunchConfig, float] = {}
        self._rejected: list[Record] = []
        self._asked: list[Call] = []
        self._error = ""

    def tiles(self) -> list[Call]:
        """What is to be compiled first."""
        return self._ask(candidates(self.call, self.incumbent))

    def variations(self) -> list[Call]:
        """What is to be compiled then: around the two fastest."""
        fastest = sorted(self._ms, key=self._ms.__getitem__)[:2] or [self.incumbent]
        found = [config for best in fastest for config in variations(self.call, best)]
        return self._ask([config for config in dict.fromkeys(found) if config not in self._ms])

    def _ask(self, configs: list[LaunchConfig]) -> list[Call]:
        self._asked = [
            replace(self.call, launch=config) for config in configs[: 2 if self._bench.tiny else None]
        ]
        return self._asked

    def time(self, working: Mapping[tuple[str, str], Record]) -> None:
        """Time what was asked for last and is among the compiled."""
        try:
            self._time(working)
        except Exception as error:
            self._error = reason(error)

    def _time(self, working: Mapping[tuple[str, str], Record]) -> None:
        by_table = self._make(None)
        known = by_table()
        works: dict[Any, Work] = {None: by_table}
        for task in self._asked:
            config = task.launch
            assert config is not None
            why = None
            entry = working.get((task.name, str(config)))
            if entry is None:
                why = "not compiled"
            elif any(kernel["spilled"] for kernel in entry.get("kernels", ())):
                why = "spills"
            else:
                fitting = [kernel["fitting"] for kernel in entry.get("kernels", ())]
                config = replace(config, programs_per_sm=min([config.programs_per_sm, *fitting]))
                make = self._make(config)
                error = float((make() - known).abs().max() / known.abs().max())
                why = None if error < 1e-5 else f"off by {error:.1e}"
            if why is None:
                works[config] = make
            else:
                self._rejected.append(asdict(config) | {"why": why})
        found = self._bench.clock(works, max(2, self._bench.rounds // 4))
        self._ms |= {config: timing.ms for config, timing in found.items() if config is not None}

    def _make(self, config: LaunchConfig | None) -> Work:
        return packed(replace(self.call, launch=config), self._data, flashlogit_kernels)

    @functools.cached_property
    def _data(self) -> Data:
        call, bench = self.call, self._bench
        X = bench.matrix(getattr(torch, call.storage), self._rows, self.call.stride)[:, : call.D]
        return make_data(call, self._rows, bench.device, X=X)

    @property
    def _rows(self) -> int:
        return self._bench.bytes // (self.call.stride * getattr(torch, self.call.storage).itemsize) // 16 * 16

    def result(self) -> Record:
        """The three fastest against the table's launch, and all that was tried."""
        entry: Record = {"name": self.call.name, "table": asdict(self.incumbent)}
        if self._error:
            entry["error"] = self._error
        entry["tried"] = [asdict(config) | {"ms": ms} for config, ms in self._ms.items()]
        entry["rejected"] = self._rejected
        if not self._ms:
            return entry
        item = getattr(torch, self.call.storage).itemsize
        moved = self._rows * self.call.stride * item + bytes_beside(self.call, self._rows)
        fastest = sorted(self._ms, key=self._ms.__getitem__)[:3]
        works = {None: self._make(None), **{config: self._make(config) for config in fastest}}
        final = self._bench.clock(works, self._bench.rounds)
        best = min(fastest, key=lambda config: final[config].ms)
        return entry | {
            "table_ms": final[None].ms,
            "table_fraction": self._bench.ceiling(moved, final[None].ms),
            "best": asdict(best),
            "ms": final[best].ms,
            "fraction": self._bench.ceiling(moved, final[best].ms),
            "gain": 1 - final[best].ms / final[None].ms,
        }


def _row(bench: Bench, call: Call, found: Record) -> Record:
    """What a row of the launch table holds."""
    storage, compute = table_dtypes(getattr(torch, call.storage), getattr(torch, call.compute))
    machine = machine_name(bench.device)
    hessian = call.function == "bce_hessian"
    return {
        "machine": ANY_MACHINE if machine == REFERENCE_MACHINE else machine,
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": "hessian" if hessian else "onepass",
        "storage": storage,
        "compute": compute,
        "D": max(16, block_width(call.D)) if hessian else call.D,
        "launch": found["best"],
        "fraction": found["fraction"],
    }


def take_over(record: Record, path: Path) -> None:
    """Put the rows that were found into a launch table, in the place of those for the same machine and shape."""
    found = [Entry(**{**row, "launch": LaunchConfig(**row["launch"])}) for row in record.get("rows", ())]
    better = {_key(entry): entry for entry in found}
    kept = [better.pop(_key(entry), entry) for entry in table.read(path)]
    table.write([*kept, *better.values()], path)


def _key(entry: Entry) -> tuple[str, str, str, str, int]:
    return entry.machine, entry.kernel, entry.storage, entry.compute, entry.D
