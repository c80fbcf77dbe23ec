"""The stage "tuning": a dozen likely launches of each shape, compiled in a pool, checked and timed beside the table's.

Its result is rows for the launch table, of this machine, ready to be taken over. `benchmark.py tune` is this stage of
`benchmark.py device` with what it needs.
"""

import datetime
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from flashlogit_kernels.gpu import launch as table
from flashlogit_kernels.gpu.launch import LaunchConfig, block_width, piece_widths

from .bench import Bench, compile_all, table_launch
from .problems import Call, as_loaded, cluster_calls, cluster_launches, dtype_of
from .report import Record, reason

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
TUNED_COLUMNS = frozenset([20_000, 16_384, 32_768, 65_536, 131_072] + [D for *_, columns in _SHAPES for D in columns])
_GROUP = 5
"""Shapes whose launches are compiled at once, and then timed, with nothing compiling beside them."""


def shapes(bench: Bench) -> list[Call]:
    """Return what is tuned."""
    if bench.tiny:
        return [Call("bce_onepass", 28), Call("bce_hessian", 28)]
    kinds = [(*kind, D) for *kind, columns in _SHAPES for D in columns if D in bench.columns or not bench.columns]
    found = [as_loaded(function, D, storage, compute) for function, storage, compute, D in kinds]
    found = [replace(call, options=(*call.options, *_solvers(call))) for call in found]
    wide = [replace(call, launch=None) for call in cluster_calls(bench.device)]
    return found + [call for call in wide if call.D in bench.columns or not bench.columns]


def _solvers(call: Call) -> tuple[str, ...]:
    """Return what else solvers ask of passes in float64, where a row's registers allow."""
    exact = dtype_of(call.compute)
    return ("border",) * (call.compute == "float64" and table.fits_registers(call.D, exact, border=True))


def candidates(call: Call, incumbent: LaunchConfig) -> list[LaunchConfig]:
    """Return a dozen tiles or two, by how many threads a program has and how many numbers of X each of them holds.

    They ask for all threads of a multiprocessor, and have as many programs as fit. Rows that one multiprocessor's
    registers do not hold are those of clusters.
    """
    if not table.fits_registers(call.D, dtype_of(call.compute)):
        return [config for config in cluster_launches(call) if config != incumbent]
    if call.function == "bce_hessian":
        tiles = list(product((16, 32, 64, 128), (2, 4, 8)))
    else:
        threads = product((8, 16, 32, 64, 128), (1, 2, 4, 8))
        tiles = [(numbers * 32 * warps // block_width(call.D), warps) for numbers, warps in threads]
    found = [LaunchConfig(rows, warps, 32 // warps, 1) for rows, warps in tiles if 1 <= rows <= 4096]
    return [config for config in dict.fromkeys(found) if config != incumbent]


def variations(call: Call, best: LaunchConfig) -> list[LaunchConfig]:
    """Return the same tile pipelined, in two pieces where these are narrower than one, and with fewer programs."""
    depths = (1, 2, 3) if call.function == "bce_hessian" else (1, 3)
    found = [replace(best, num_stages=stages) for stages in depths]
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
            tasks = {search: widen(search)[: 1 if bench.tiny else None] for search in searches}
            compiled = compile_all(bench, [task for some in tasks.values() for task in some])
            working = {(entry["name"], entry["launch"]): entry for entry in compiled if "error" not in entry}
            for search, some in tasks.items():
                bench.check_time(2.0)
                search.time(some, working)
        for search in searches:
            entry = bench.add(record["shapes"], search.call.name, search.result)
            if entry.get("gain", 0.0) > _GAIN:
                record["rows"].append(_table_row(bench, search.call, entry))
        bench.save()


class Search:
    """The search for a shape's launch."""

    def __init__(self, bench: Bench, call: Call) -> None:
        self.call, self._bench, self.incumbent = call, bench, table_launch(call, bench.device) or table.WIDE
        self._ms: dict[LaunchConfig, float] = {}
        self._found: Record = {"table": asdict(self.incumbent), "tried": [], "rejected": []}

    def tiles(self) -> list[Call]:
        """Return what is to be compiled first."""
        return [replace(self.call, launch=config) for config in candidates(self.call, self.incumbent)]

    def variations(self) -> list[Call]:
        """Return what is to be compiled then: around the two fastest."""
        found = dict.fromkeys(new for best in self._fastest(2) for new in variations(self.call, best))
        return [replace(self.call, launch=config) for config in found if config not in self._ms]

    def _fastest(self, count: int) -> list[LaunchConfig]:
        return sorted(self._ms, key=self._ms.__getitem__)[:count] or [self.incumbent]

    def _works(self, configs: list[LaunchConfig | None]) -> dict[LaunchConfig | None, Any]:
        return {config: self._bench.work(replace(self.call, launch=config)) for config in configs}

    def time(self, tasks: list[Call], working: dict[tuple[str, str], Record]) -> None:
        """Time the tasks that are among the compiled, spill nothing and give the table's answer."""
        try:
            works = self._works([None])
            known = works[None]()
            for task in tasks:
                kernels = working.get((task.name, str(task.launch)), {"kernels": None})["kernels"]
                fitting = [kernel["fitting"] for kernel in kernels or ()]
                config = replace(task.launch, programs_per_sm=min([task.launch.programs_per_sm, *fitting]))
                why = "not compiled" if kernels is None else "spills" * any(kernel["spilled"] for kernel in kernels)
                if not why:
                    works |= self._works([config])
                    error = float((works[config]() - known).abs().max() / known.abs().max())
                    why = "" if error < 1e-5 else f"off by {error:.1e}"
                if why:
                    works.pop(config, None)
                    self._found["rejected"].append(asdict(config) | {"why": why})
            found = self._bench.clock(works, max(1, self._bench.rounds // 4))
            self._ms |= {config: timing.ms for config, timing in found.items() if config is not None}
        except Exception as error:
            self._found["error"] = reason(error)

    def result(self) -> Record:
        """Return the fastest against the table's launch, and all that was tried."""
        self._found["tried"] = [asdict(config) | {"ms": ms} for config, ms in self._ms.items()]
        if not self._ms:
            return self._found
        share = partial(self._bench.ceiling, self.call.bytes_read(self.call.rows_of(self._bench.bytes)))
        timed = self._bench.clock(self._works([None, *self._fastest(3)]), self._bench.rounds)
        ms = {config: found.ms for config, found in timed.items()}
        table_ms = ms.pop(None)
        best = min(ms, key=ms.__getitem__)
        self._found |= {"table_ms": table_ms, "table_fraction": share(table_ms), "best": asdict(best), "ms": ms[best]}
        return self._found | {"fraction": share(ms[best]), "gain": 1 - ms[best] / table_ms}


def _table_row(bench: Bench, call: Call, found: Record) -> Record:
    """Return what a row of the launch table holds."""
    storage, compute = table.table_dtypes(dtype_of(call.storage), dtype_of(call.compute))
    machine, hessian = table.machine_name(bench.device), call.function == "bce_hessian"
    # Clusters serve only where they have been shown to be right.
    anywhere = machine == table.REFERENCE_MACHINE and found["best"]["num_ctas"] == 1
    row: Record = {"machine": table.ANY_MACHINE if anywhere else machine}
    row["measured"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    row |= {"kernel": "hessian" if hessian else "onepass", "storage": storage, "compute": compute}
    row["D"] = max(16, block_width(call.D)) if hessian else call.D
    return row | {"launch": found["best"], "fraction": found["fraction"]}


def take_over(record: Record, path: Path) -> None:
    """Put the rows that were found into a launch table, in the place of those for the same machine and shape."""

    def key(entry: table.Entry) -> tuple[str, str, str, str, int]:
        return entry.machine, entry.kernel, entry.storage, entry.compute, entry.D

    found = [table.Entry(**{**row, "launch": LaunchConfig(**row["launch"])}) for row in record.get("rows", ())]
    better = {key(entry): entry for entry in found}
    kept = [better.pop(key(entry), entry) for entry in table.read_table(path)]
    table.write_table([*kept, *better.values()], path)
