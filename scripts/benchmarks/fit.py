"""The command `fit`: how long flashlogit and other libraries take to the same objective.

Time to equal objective: mean logistic loss + l2/2 ||w||^2 with l2 = 1 / (C N), the intercept free. Data are float32;
every contender gets them in its own dtype, memory order and device, which is not timed; nor are imports and a first
call, which may compile. Each is run at settings from loose to tight; the objective of each solution is evaluated in
float64 by the same code, and its time is that of its quickest setting whose relative gap, (P - P*) / P(intercept
alone), is within what is asked for. P* is the smallest objective known, from Newton's method in float64 and from all
contenders. flashlogit has one setting only: its defaults, with that gap as the tolerance that it has to prove itself.
Settings that may be a contender's best are timed in turn with the others'; without such a setting there is no time.
"""

import argparse
import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from threadpoolctl import threadpool_limits

from .clock import clock_of, timing, wall
from .contenders import LIBRARIES, PACKAGES, Contender, Data, Solution, contenders
from .problems import Table
from .report import HEAD, Record, Report, between, parser_of, reason, row, say, times
from .truth import Objective

TABLES: dict[str, tuple[Table, Table]] = {
    "1M x 28": (Table(1_000_000, 28, "correlated"), Table(50_000, 28, "correlated")),
    "20k x 1024": (Table(20_000, 1024, "correlated"), Table(2_000, 256, "correlated")),
    "569 x 30": (Table(569, 30, "breast cancer"), Table(569, 30, "breast cancer")),
    "2M x 64 hard": (Table(2_000_000, 64, decades=3.0), Table(50_000, 64, decades=3.0)),
    "200k x 1024": (Table(200_000, 1024, "correlated"), Table(5_000, 256, "correlated")),
    "11M x 28": (Table(11_000_000, 28, "correlated"), Table(100_000, 28, "correlated")),
}
"""By name: what is fitted, and what is fitted with --quick. The first three are a CPU's default."""
_SAME_IN_A_ROW = 6
"""Settings with the same objective after which the tolerance is taken to have no effect."""
_HOPELESS = 5.0
"""Times the contender's quickest setting that reaches the gap: a ladder that takes longer is left."""
_MUCH_FASTER = 0.7
"""Share of the time with all BLAS threads below which a ladder is climbed with one thread. With several, those of
BLAS and of OpenMP wait for each other's cores: on two busy cores scikit-learn's L-BFGS took 5 to 15 times as long."""
_LIKELY, _MOST_TIMED = 1.5, 3
"""Settings within this factor of the contender's quickest are timed in turn, at most so many."""
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
    solution: Solution = field(default_factory=lambda: Solution(None, None))

    @property
    def setting(self) -> str:
        """The whole setting, such as "float64, one BLAS thread, tol 1e-08"."""
        knob = self.contender.knob
        value = f"tol {self.value:.0e}" if knob == "tol" else f"{self.value:g} {knob}"
        return f"{self.variant}{', one BLAS thread' * self.one_thread}, {value}"

    @property
    def median(self) -> float:
        """The median of the times."""
        return statistics.median(self.ms)

    def run(self) -> float:
        """Run it once and return the milliseconds; that a solver did not converge is what the gap says."""
        one_thread = partial(threadpool_limits, limits=1, user_api="blas")
        threads = one_thread() if self.one_thread else contextlib.nullcontext()
        with warnings.catch_warnings(action="ignore"), threads:
            work = partial(self.contender.run, self.variant, self.value)
            ms, self.solution = wall(work, torch.device(self.contender.device))
        return ms


class Race:
    """All contenders for one table. `best` is the least objective known, which contenders may lower."""

    def __init__(self, objective: Objective, gap: float, repeats: int, limit: float, best: float) -> None:
        self._objective, self._asked, self._repeats, self._limit = objective, gap, repeats, limit * 1e3
        self.best = best
        self._found: dict[Contender, list[Attempt]] = {}
        self._failed: dict[Contender, str] = {}

    def gap(self, attempt: Attempt) -> float:
        """Return how far the objective is above the least one, as a share of the null model's; infinite for NaN."""
        gap = (attempt.objective - self.best) / self._objective.null
        return gap if math.isfinite(gap) else math.inf

    def climb(self, contender: Contender) -> Record:
        """Run the settings of each variant from loose to tight; return the record as far as it is known."""
        found = self._found[contender] = []
        for variant in contender.variants:
            try:
                self._climb_variant(contender, variant, found)
            except Exception as error:
                self._failed[contender] = f"{variant}: {reason(error)}"
        return self.record(contender)

    def _climb_variant(self, contender: Contender, variant: str, found: list[Attempt]) -> None:
        first = Attempt(contender, variant, contender.ladder[0])
        first.run()  # compiles
        one_thread = False
        if contender.blas:
            many, first.one_thread = first.run(), True
            one_thread = first.run() < _MUCH_FASTER * many
        quickest = min((attempt.median for attempt in self._likely(found)), default=math.inf)
        objectives: list[float] = []
        for value in contender.ladder:
            attempt = Attempt(contender, variant, value, one_thread)
            self._run(attempt)
            found.append(attempt)
            objectives = [*objectives[1 - _SAME_IN_A_ROW :], attempt.objective]
            stalled = len(objectives) == _SAME_IN_A_ROW and len(set(objectives)) == 1
            hopeless = attempt.median > min(self._limit, _HOPELESS * quickest)
            if stalled or hopeless or self.gap(attempt) <= self._asked:
                break

    def _run(self, attempt: Attempt) -> None:
        """Run it and judge the solution: of several runs the worst counts, and none that is not finite."""
        attempt.ms.append(attempt.run())
        objective = self._objective(attempt.solution.weight, attempt.solution.bias)
        attempt.objective = max(objective, attempt.objective)  # NaN, which is first, where it is NaN
        self.best = min(self.best, objective)

    def _likely(self, found: Sequence[Attempt]) -> list[Attempt]:
        """Return the quickest settings that reach the gap."""
        reaching = [attempt for attempt in found if self.gap(attempt) <= self._asked]
        reaching.sort(key=lambda attempt: attempt.median)
        return [each for each in reaching if each.median <= _LIKELY * reaching[0].median][:_MOST_TIMED]

    def take_turns(self) -> None:
        """Time the settings that may be a contender's best, A B C, A B C, ..., as long as the limit of time allows."""
        likely = [attempt for found in self._found.values() for attempt in self._likely(found)]
        timed = [(attempt, attempt.median) for attempt in likely if attempt.median <= self._limit]
        for attempt, _ in timed:
            attempt.ms = []
        for turn in range(self._repeats):
            for attempt, expected in timed:
                if turn * expected <= self._limit:
                    try:
                        self._turn(attempt, expected)
                    except Exception as error:
                        self._failed[attempt.contender] = f"{attempt.setting}: {reason(error)}"
                        attempt.objective = math.nan

    def _turn(self, attempt: Attempt, expected: float) -> None:
        began = time.perf_counter()
        while expected < 3 * _SETTLING_MS and time.perf_counter() - began < _SETTLING_MS / 1e3:
            attempt.run()
        for _ in range(max(1, min(_MOST_IN_A_TURN, int(_SHORT_MS / expected)))):
            self._run(attempt)

    def record(self, contender: Contender) -> Record:
        """Return the record of the quickest setting that reaches the gap, or of the closest one without a time."""
        found = self._found[contender]
        known: Record = {"name": contender.name, "device": contender.device}
        finite = [each for each in found if self.gap(each) < math.inf]
        known["tried"] = [(each.setting, each.median, self.gap(each)) for each in finite]
        likely, failure = self._likely(found), self._failed.get(contender, "")
        if likely:
            best = min(likely, key=lambda attempt: attempt.median)
            known |= times(timing(best.ms, "wall")) | {"gap": self.gap(best), "setting": best.setting}
            iterations, known["passes"] = best.solution.iterations, best.solution.passes
            known["iterations"] = None if iterations is None else int(torch.as_tensor(iterations).max())
        elif finite:
            best = min(finite, key=self.gap)
            why = f"at a gap of {self.gap(best):.1e} after {best.median:.4g} ms, {best.setting} {failure}"
            known |= {"status": "stopped short", "reason": why.strip()}
        else:
            known |= {"status": "failed", "reason": failure or "no setting gave a finite answer"}
        return known


def race(name: str, table: Table, options: argparse.Namespace, report: Report) -> None:
    """Run all contenders for a table, printing each as soon as it is known, then time them in turn."""
    X, y = table.make(torch.device("cpu"))
    data, where = Data(X, y, options.C), options.devices[0]
    objective = Objective(X.to(where), y.to(where), data.l2)
    say(f"\n{name}: {table.name}, C = {options.C:g}\n{HEAD}")
    run = Race(objective, options.gap, options.repeats, options.limit, objective.least())
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
        device = record.get("device", "")
        record |= {"line": record["name"], "panel": f"fits, {device}", "x": name, "y": "ms"}
        record["name"] = f"{name}: {record['name']}{f' ({device})' * (len(options.devices) > 1)}"
        if "ms" in record:
            record["speedup"] = ours / record["ms"] if ours else None
            record["fraction"] = record["passes"] and record["passes"] * read_ms[device] / record["ms"]
    records.sort(key=lambda record: record.get("ms", math.inf))
    report.add(f"{name}: timed in turn, the speed-up over flashlogit", records)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = parser_of("fit", __doc__)
    parser.add_argument("--problems", nargs="+", choices=TABLES, metavar="NAME", help=", ".join(TABLES))
    parser.add_argument("--contenders", nargs="+", default=["*"], help="names such as 'scikit-learn*'")
    parser.add_argument("--gap", type=between(1e-13, 0.5), default=1e-8, help="relative gap; default: 1e-8")
    parser.add_argument("--C", type=between(1e-30, 1e30), default=1.0, help="inverse penalty; default: 1")
    parser.add_argument("--repeats", type=between(1, 1000, int), help="turns; default: 5, with --quick 3")
    parser.add_argument("--limit", type=between(1e-3, 1e5), help="seconds; default: 60, with --quick 1")
    options = parser.parse_args(arguments)
    repeats, limit = (3, 1.0) if options.quick else (5, 60.0)
    options.repeats, options.limit = options.repeats or repeats, options.limit or limit
    tiny = Data(torch.zeros(2, 1), torch.tensor([0, 1], dtype=torch.uint8), 1.0)
    for pattern in options.contenders:
        if not any(contenders(tiny, device, options.gap, [pattern]) for device in options.devices):
            parser.error(f"--contenders is {pattern}, which matches no solver of {', '.join(LIBRARIES)}")
    report = Report("fit", __doc__, options, *PACKAGES)
    torch.set_float32_matmul_precision("highest")
    for name in options.problems or list(TABLES)[: 3 if options.devices[0] == "cpu" else None]:
        race(name, TABLES[name][options.quick], options, report)
    report.finish()
    return 0
