"""The command `fit`: how long flashlogit and other libraries take to the same objective.

Time to equal objective: mean logistic loss + l2/2 ||w||^2 with l2 = 1 / N, the intercept free. Data are float32;
every contender gets them in its own dtype, memory order and device, which is not timed; nor are imports and a first
call, which may compile. Each is run at settings from loose to tight; the objective of each solution is evaluated in
float64 by the same code, and its time is that of its quickest setting whose relative gap, (P - P*) / P(intercept
alone), is within what is asked for. P* is the smallest objective known, from Newton's method in float64 and from all
contenders. flashlogit has one setting only: its defaults, with that gap as the tolerance that it has to prove itself.
Settings that may be a contender's best are timed in turn with the others'; without such a setting there is no time.

The stage "fits" of `device` fits the same tables on a GPU, and writes down what flashlogit's fits launch and wait for.
"""

import argparse
import math
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from flashlogit_kernels import Plans

from .bench import Bench
from .clock import clock_of, synchronize, timing, wall
from .contenders import LIBRARIES, Contender, Data, contenders
from .problems import GAP, TABLES, Objective, Table
from .report import HEAD, Record, Report, between, parser_of, reason, row, say, times

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_MUCH_FASTER = 0.7
"""Share of the time with all BLAS threads below which a ladder is climbed with one thread. With several, those of
BLAS and of OpenMP wait for each other's cores: on two busy cores scikit-learn's L-BFGS took 5 to 15 times as long."""
_LIKELY = 1.5
"""Settings that reach the gap within this factor of the contender's quickest are timed in turn."""
_SETTLING_MS = 300.0
"""Before calls of less than three times as long, others of the same setting are run for so long: threads of an OpenMP
that has just been used go on looking for work for 200 ms, on cores that somebody else needs."""
_SHORT_MS, _MOST_IN_A_TURN = 50.0, 5
"""Calls that take less are repeated up to so often within a turn."""


@dataclass(eq=False)
class Attempt:
    """A setting that was run, the worst of its objectives, and its times in milliseconds, at first of the climb."""

    contender: Contender
    variant: str
    value: float
    one_thread: bool = False
    objective: float = -math.inf
    ms: list[float] = field(default_factory=list)
    solution: Any = None

    @property
    def setting(self) -> str:
        """The whole setting, such as "float64, one BLAS thread, tol 1e-08"."""
        threads = ", one BLAS thread" * self.one_thread
        return f"{self.variant}{threads}, {self.contender.knob} {self.value:g}"

    @property
    def median(self) -> float:
        """The median of the times."""
        return statistics.median(self.ms)

    def run(self) -> float:
        """Run it once and return the milliseconds; that a solver did not converge is what the gap says."""
        from threadpoolctl import threadpool_limits  # which `device`, that does not race, can do without

        limit = 1 if self.one_thread else None
        with warnings.catch_warnings(action="ignore"), threadpool_limits(limit, "blas"):
            run = partial(self.contender.run, self.variant, self.value)
            ms, self.solution = wall(run, torch.device(self.contender.device))
        return ms


class Race:
    """All contenders for one table, who may lower the least objective that is known.

    gap: that is asked for. repeats: turns. limit: seconds, after which a ladder or the turns of a setting end.
    """

    def __init__(self, objective: Objective, gap: float, repeats: int, limit: float) -> None:
        self._objective, self._asked, self._repeats, self.limit_ms = objective, gap, repeats, limit * 1e3
        self._found: dict[Contender, list[Attempt]] = {}
        self._failed: dict[Contender, str] = {}

    def gap(self, attempt: Attempt) -> float:
        """Return how far the objective is above the least one, as a share of the null model's; infinite for NaN."""
        gap = self._objective.gap(attempt.objective)
        return gap if math.isfinite(gap) else math.inf

    def climb(self, contender: Contender) -> Record:
        """Run the settings of each variant from loose to tight; return the record as far as it is known."""
        found = self._found[contender] = []
        for variant in contender.variants:
            try:
                first = Attempt(contender, variant, contender.ladder[0])
                first.run()  # compiles
                if contender.blas:
                    many, first.one_thread = first.run(), True
                    first.one_thread = first.run() < _MUCH_FASTER * many
                for value in contender.ladder:
                    found.append(Attempt(contender, variant, value, first.one_thread))
                    self._run(found[-1])
                    if found[-1].median > self.limit_ms or self.gap(found[-1]) <= self._asked:
                        break
            except Exception as error:
                self._failed[contender] = f"{variant}: {reason(error)}"
        return self.record(contender)

    def _run(self, attempt: Attempt) -> None:
        """Run it and judge the solution: of several runs the worst counts, and none that is not finite."""
        attempt.ms.append(attempt.run())
        objective = self._objective(attempt.solution.weight, attempt.solution.bias)
        attempt.objective = max(objective, attempt.objective)  # NaN, which is first, where it is NaN
        self._objective.best = min(self._objective.best, objective)

    def _reaching(self, found: Sequence[Attempt]) -> list[Attempt]:
        """Return the settings that reach the gap, those that were timed in turn first, and the quickest first."""
        reaching = [attempt for attempt in found if self.gap(attempt) <= self._asked]
        return sorted(reaching, key=lambda attempt: (len(attempt.ms) == 1, attempt.median))

    def take_turns(self) -> None:
        """Time the settings that may be a contender's best, A B C, A B C, ..., as long as the limit of time allows."""
        timed: dict[Attempt, float] = {}
        for reaching in map(self._reaching, self._found.values()):
            most = min([self.limit_ms, *(_LIKELY * attempt.median for attempt in reaching[:1])])
            timed |= {attempt: attempt.median for attempt in reaching if attempt.median <= most}
        for attempt in timed:
            attempt.ms = []
        for turn, (attempt, expected) in product(range(self._repeats), timed.items()):
            began = time.perf_counter()
            while expected < 3 * _SETTLING_MS and time.perf_counter() - began < _SETTLING_MS / 1e3:
                attempt.run()
            if turn * expected <= self.limit_ms:
                for _ in range(max(1, min(_MOST_IN_A_TURN, int(_SHORT_MS / expected)))):
                    self._run(attempt)

    def record(self, contender: Contender) -> Record:
        """Return the record of the quickest setting that reaches the gap, or of the closest one without a time."""
        found, failure = self._found[contender], self._failed.get(contender, "")
        known: Record = {"name": contender.name, "device": contender.device}
        finite = [each for each in found if self.gap(each) < math.inf]
        known["tried"] = [(each.setting, each.median, self.gap(each)) for each in finite]
        if reaching := self._reaching(found):
            best = reaching[0]
            known |= times(timing(best.ms, "wall")) | {"gap": self.gap(best), "setting": best.setting}
            return known | {"passes": best.solution.passes, "iterations": best.solution.iterations}
        if not finite:
            return known | {"status": "failed", "reason": failure or "no setting gave a finite answer"}
        best = min(finite, key=self.gap)
        why = f"at a gap of {self.gap(best):.1e} after {best.median:.4g} ms, {best.setting} {failure}"
        return known | {"status": "stopped short", "reason": why.strip()}


def race(name: str, table: Table, options: argparse.Namespace, report: Report) -> None:
    """Run all contenders for a table, printing each as soon as it is known, then time them in turn."""
    X, y = table.make(torch.device("cpu"))
    data, where = Data(X, y), options.devices[0]
    objective = Objective(X.to(where), y.to(where), data.l2)
    objective.minimize()
    say(f"\n{name}: {table.name}\n{HEAD}")
    run = Race(objective, options.gap, *((3, 1.0) if options.quick else (5, 60.0)))
    found: list[Contender | Record] = []
    read_ms = {}
    for device in options.devices:
        there = X.to(device)
        read_ms[device] = clock_of(there.device)({"read": there.sum}, 5)["read"].ms
        for entrant in contenders(data, device, options.gap, options.contenders):
            say(row(run.climb(entrant) if isinstance(entrant, Contender) else entrant))
            found.append(entrant)
    run.take_turns()
    records = [run.record(each) if isinstance(each, Contender) else each for each in found]
    ours = next((record.get("ms") for record in records if record["name"] == "flashlogit"), None)
    for record in records:
        device, line = record["device"], record["name"]
        record |= {"name": f"{name}: {line} ({device})", "line": line, "panel": f"fits, {device}", "x": name, "y": "ms"}
        if "ms" in record:
            record["speedup"] = ours / record["ms"] if ours else None
            record["fraction"] = record["passes"] and record["passes"] * read_ms[device] / record["ms"]
    records.sort(key=lambda record: record.get("ms", math.inf))
    report.add(f"{name}: timed in turn, the speed-up over flashlogit", records)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = parser_of("fit", __doc__)
    names = [name for name, table in TABLES.items() if not table.l1]
    parser.add_argument("--problems", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--contenders", nargs="+", default=["*"], help="names such as 'scikit-learn*'")
    parser.add_argument("--gap", type=between(1e-13, 0.5), default=GAP, help="relative gap; default: 1e-8")
    options = parser.parse_args(arguments)
    tiny = Data(torch.zeros(2, 1), torch.tensor([0, 1], dtype=torch.uint8))
    for pattern in options.contenders:
        if not any(contenders(tiny, device, options.gap, [pattern]) for device in options.devices):
            parser.error(f"--contenders is {pattern}, which matches no solver of {', '.join(LIBRARIES)}")
    report = Report("fit", __doc__, options)
    torch.set_float32_matmul_precision("highest")
    for name in options.problems or names[: 3 if options.devices[0] == "cpu" else None]:
        table = TABLES[name]
        if options.quick and table.quick:
            table = replace(table, N=table.quick[0], D=table.quick[1])
        race(name, table, options, report)
    report.finish()
    return 0


def tables(tiny: bool) -> list[Table]:
    """Return what `device` fits."""
    if tiny:
        return [Table(400, 6, decades=1.0, solvers=("auto", "lbfgs")), Table(300, 4, l1=1e-2, solvers=("auto",))]
    return [table for table in TABLES.values() if table.solvers]


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
            if table.l1:  # Newton's method does not apply: the project's own solver, at its tightest tolerance
                found = table.fit("auto", X, y, 1e-12)
                objective.best = objective(found.weight, found.bias)
            else:
                objective.minimize()
        except Exception as error:
            entry["error"] = reason(error)
            continue
        one = Plans(X, y).onepass(torch.float32)
        pass_ms = bench.clock({"pass": partial(one.run, X.new_zeros(X.shape[1]))}, bench.rounds)["pass"].ms
        entry |= {"optimum": objective.best, "null": objective.null, "pass_ms": pass_ms}
        add = partial(bench.add, entry["fits"], needed=3)
        for solver in table.solvers:
            add(f"flashlogit {solver}", partial(_ours, bench, partial(table.fit, solver, X, y), objective))
        asked = [] if table.l1 else ["torch.optim.LBFGS", "scikit-learn lbfgs*"]
        for other in contenders(Data(X, y), bench.device.type, GAP, asked):
            if isinstance(other, Contender):
                add(other.name, partial(_theirs, bench, other, objective))
        bench.save()


def _ours(bench: Bench, run: Callable[[], Any], objective: Objective) -> Record:
    """Time a first call and repeated ones, and look at one under the profiler."""
    first_ms, first = wall(run, bench.device)
    found = [wall(run, bench.device)[0] for _ in range(2 if bench.tiny or first_ms > 3e3 else 7)]
    result = run()
    known: Record = {"solver": result.solver, "wall_ms": statistics.median(found), "fastest_ms": min(found)}
    known |= {"seconds": result.seconds, "first_seconds": first_ms / 1e3, "compile_seconds": first.compile_seconds}
    known |= {"iterations": result.iterations, "passes": result.passes, "ending": result.ending}
    known |= {"bound": result.relative_gap, "true_gap": objective.gap(objective(result.weight, result.bias))}
    return known | {"notes": list(result.notes)} | profiled(run, bench)


def _theirs(bench: Bench, contender: Contender, objective: Objective) -> Record:
    """Time another library's fit in float32, at the first of its settings that reaches the gap."""
    for setting in contender.ladder:
        bench.check_time(2.0)
        run = partial(contender.run, "float32", setting)
        solution = run()
        gap = objective.gap(objective(solution.weight, solution.bias))
        if gap <= GAP:
            break
    ms = statistics.median(wall(run, bench.device)[0] for _ in range(3))
    return {"wall_ms": ms, contender.knob: setting, "true_gap": gap} | {"iterations": solution.iterations}


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
