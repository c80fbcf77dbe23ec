"""The stage "fits": whole fits to a relative gap of 1e-8 on data made on the device, and what they do there.

The optimum is found here once more, in float64 by Newton's method on plain torch, so that the gap that is written down
is the true one and not the fit's own bound.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import flashlogit
from flashlogit.solvers import start

from .bench import Bench
from .clock import synchronize, wall
from .contenders import Contender, Data, contenders
from .problems import Table
from .report import Record, reason, say
from .truth import Objective

GAP = 1e-8
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def tables(tiny: bool) -> list[Table]:
    """Return what is fitted."""
    if tiny:
        few = Table(400, 6, decades=1.0, solvers=("auto", "lbfgs"))
        return [few, Table(300, 4, l1=1e-2, solvers=("auto",))]
    return [
        Table(569, 30, "breast cancer"),
        Table(11_000_000, 28),
        Table(200_000, 1024, solvers=("auto", "lbfgs")),
        Table(2_000_000, 64, decades=3.0, solvers=("auto", "newton", "newton-cg")),
        Table(1_000_000, 28, l1=1e-3, solvers=("auto", "lbfgs")),
    ]


def fit(table: Table, solver: Any, X: Tensor, y: Tensor, gap: float = GAP) -> Any:
    """Fit with C = 1, or with l1 alone."""
    l2 = 0.0 if table.l1 else 1 / len(X)
    return flashlogit.fit(X, y, l1=table.l1, l2=l2, tolerance=gap, solver=solver, max_iterations=400)


@dataclass(frozen=True)
class WarmFit:
    """A fit on few rows, which compiles what one on many needs."""

    table: Table
    solver: str

    @property
    def name(self) -> str:
        """The fit in tables and files."""
        return f"fit {self.table.name} {self.solver}"

    def run(self, device: torch.device) -> None:
        """Fit a table of as many columns."""
        fit(self.table, self.solver, *replace(self.table, N=min(self.table.N, 40_000)).make(device))


def warm_fits(tiny: bool) -> list[WarmFit]:
    """Return a fit for every table and solver."""
    return [WarmFit(table, solver) for table in tables(tiny) for solver in table.solvers if not tiny]


def fits(bench: Bench, record: Record) -> None:
    """Fill in time, work and true gap of every table and solver, and of other libraries' fits."""
    bench.clock.warm()
    record["problems"] = []
    for table in tables(bench.tiny):
        bench.check_time(5.0)
        entry: Record = {"name": table.name, "fits": []}
        record["problems"].append(entry)
        say(f"  {table.name}")
        try:
            X, y = table.make(bench.device)
            objective = Objective(X, y, 0.0 if table.l1 else 1 / len(X), table.l1)
            # Newton's method does not apply to l1: the project's own solver, at its tightest tolerance.
            if table.l1:
                found = fit(table, "auto", X, y, 1e-12)
                best = objective(found.weight, found.bias)
            else:
                best = objective.least()
        except Exception as error:
            entry["error"] = reason(error)
            continue
        entry |= {"optimum": best, "null": objective.null}
        gap = partial(relative_gap, objective, best)
        add = partial(bench.add, entry["fits"], needed=3)
        for solver in table.solvers:
            add(f"flashlogit {solver}", partial(ours, bench, partial(fit, table, solver, X, y), gap))
        if not bench.tiny:  # a GPU starts from the optimum of a sample of the rows for larger X only
            with mock.patch.object(start, "LEAST_CUDA_BYTES", 0):
                run = partial(fit, table, "auto", X, y)
                add("flashlogit auto, from a sample", partial(ours, bench, run, gap))
        asked = ["torch.optim.LBFGS", "scikit-learn lbfgs*"] if table.l1 == 0 else []
        for other in contenders(Data(X, y, 1.0), bench.device.type, GAP, asked):
            if isinstance(other, Contender):
                add(other.name, partial(theirs, bench, other, gap))
        bench.save()


def relative_gap(objective: Objective, best: float, weight: object, bias: object) -> float:
    """Return how far the objective is above the least one, as a share of the null model's."""
    return (objective(weight, bias) - best) / objective.null


def ours(bench: Bench, run: Callable[[], Any], gap: Callable[..., float]) -> Record:
    """Time a first call and repeated ones, and look at one under the profiler."""
    first_ms, first = wall(run, bench.device)
    found = [wall(run, bench.device)[0] for _ in range(2 if bench.tiny or first_ms > 3e3 else 7)]
    result = run()
    known: Record = {"solver": result.solver, "wall_ms": statistics.median(found), "fastest_ms": min(found)}
    known |= {"seconds": result.seconds, "first_seconds": first_ms / 1e3}
    known["compile_seconds"] = first.compile_seconds
    known |= {"iterations": result.iterations, "passes": result.passes, "ending": result.ending}
    known |= {"bound": result.relative_gap, "true_gap": gap(result.weight, result.bias)}
    return known | {"notes": list(result.notes)} | profiled(run, bench)


def theirs(bench: Bench, contender: Contender, gap: Callable[..., float]) -> Record:
    """Time another library's fit in float32, at the first of its settings that reaches the gap."""
    for setting in contender.ladder:
        bench.check_time(2.0)
        run = partial(contender.run, "float32", setting)
        solution = run()
        error = gap(solution.weight, solution.bias)
        if error <= GAP:
            break
    ms = statistics.median(wall(run, bench.device)[0] for _ in range(3))
    count = {"iterations": int(torch.as_tensor(solution.iterations).max())}
    if contender.knob == "iterations":
        return {"wall_ms": ms, **count, "true_gap": error}
    return {"wall_ms": ms, "tol": setting, "true_gap": error, **count}


def profiled(run: Callable[[], object], bench: Bench) -> Record:
    """Return launches, milliseconds of device work and waits for it, of one run; nothing where there is no device."""
    if bench.tiny:
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiler:
        run()
        synchronize(bench.device)
    kernels: dict[str, float] = defaultdict(float)
    launched, waits = 0, 0
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            launched += 1
            kernels[event.name[:48]] += event.time_range.elapsed_us() / 1e3
        waits += event.name in _WAITS
    longest = {name: kernels[name] for name in sorted(kernels, key=kernels.__getitem__)[:-7:-1]}
    return {"launches": launched, "device_ms": sum(kernels.values()), "waits": waits, "longest_ms": longest}
