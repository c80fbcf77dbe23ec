"""The program `fit`: how long flashlogit and others take to the same objective."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

from ..system.errors import UserError
from .fit_contender import Absent, Contender, FitData
from .fit_entrants import PACKAGES, entrants, known_names, matches
from .fit_ladder import Rules, race
from .fit_options import FitOptions
from .fit_problems import FitProblem, make_problem
from .fit_report import FitReport, ProblemRecord, absent_record, contender_record, write_fit_report
from .fit_table import fit_tables
from .fit_truth import REFERENCE_COLUMNS, Truth, reference_optimum
from .kernel import full_float32, heading
from .machine import describe_machine, describe_software
from .table import wrapped

Say = Callable[[str], object]

METHOD = (
    "Time to equal objective: mean logistic loss + l2/2 ||w||^2 with l2 = 1 / (C N), the intercept free and not"
    " penalised. Data are float32. Every contender gets them in its own dtype, memory order and device, which is not"
    " timed; nor are imports and compilation. It is run at a ladder of settings from loose to tight, each solution's"
    " objective is evaluated in float64 by the same code, and its time is that of its quickest setting whose relative"
    " gap, (P - P*) / P(intercept alone), is within what is asked for; P* is the smallest objective known, from a"
    " Newton solve in float64 and from all contenders. flashlogit is held to one setting instead: its defaults, with"
    " that gap as the tolerance that it has to prove itself. Settings that may be a contender's best are timed in turn"
    " with the others', again and again; the table gives the median, and the interquartile range as the spread. A"
    " setting is not repeated beyond the limit of time, and settings tighter than one that exceeds it are left out."
)


def run_fit(options: FitOptions, *, say: Say = print, note: Say | None = None) -> FitReport:
    """Measure, print the tables and write the files; what was measured is kept when the run is cut short.

    Args:
        options: what to measure, and which files to write.
        say: gets the text; note: gets lines of progress (default: printed on stderr).

    Raises:
        UserError: a name that matches no contender.
        KeyboardInterrupt: after Ctrl-C, with a sentence about what was kept.
    """
    note = note or _note
    _check_contenders(options)
    report = FitReport(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        method=METHOD,
        machine=describe_machine(),
        software=describe_software(*PACKAGES),
        settings=options.to_json(),
        complete=False,
        problems=(),
    )
    say(wrapped(METHOD) + "\n")
    say(wrapped(heading(report)) + "\n")
    try:
        with full_float32():
            for name in options.problems:
                problem = measure(make_problem(name, quick=options.quick), options, note)
                report = replace(report, problems=(*report.problems, problem))
        report = replace(report, complete=True)
    except KeyboardInterrupt as interruption:
        kept = _finish(report, options, say)
        raise KeyboardInterrupt(f"interrupted; {kept}") from interruption
    except BaseException:
        _finish(report, options, say)
        raise
    say(_finish(report, options, say))
    return report


def measure(
    problem: FitProblem, options: FitOptions, note: Say, now: Callable[[], float] = time.perf_counter
) -> ProblemRecord:
    """Everything about one problem."""
    started = time.perf_counter()
    data = FitData(problem, options.C)
    truth = Truth(problem.X.numpy(), problem.y.numpy(), data.l2)
    reference = reference_optimum(truth) if problem.d <= REFERENCE_COLUMNS else None
    note(f"{problem.name}: {problem.n:,} x {problem.d}")
    found = entrants(data, options.devices, options.gap, options.contenders)
    result = race(
        [entrant for entrant in found if isinstance(entrant, Contender)],
        truth,
        Rules(options.gap, options.repeats, options.limit, thorough=not options.quick),
        reference.value if reference else math.inf,
        note,
        now,
    )
    note(f"{problem.name}: {time.perf_counter() - started:.0f} s")
    described = None
    if reference is not None:
        described = {key: value for key, value in asdict(reference).items() if key not in ("weight", "bias")}
    return ProblemRecord(
        name=problem.name,
        n=problem.n,
        d=problem.d,
        C=options.C,
        l2=data.l2,
        null=truth.null,
        best=result.best,
        best_from=result.best_from,
        reference=described,
        contenders=(
            *(contender_record(result, climb) for climb in result.climbs),
            *(absent_record(entrant) for entrant in found if isinstance(entrant, Absent)),
        ),
    )


def _check_contenders(options: FitOptions) -> None:
    if options.contenders is None:
        return
    known = known_names(options.devices, options.gap)
    for pattern in options.contenders:
        if not any(matches(entrant, pattern) for entrant in known):
            names = ", ".join(dict.fromkeys(repr(entrant.name) for entrant in known))
            raise UserError(f"--contenders is {pattern!r}, which matches none of {names}")


def _finish(report: FitReport, options: FitOptions, say: Say) -> str:
    """Tables, JSON and picture; says in half a sentence where they are."""
    if not report.problems:
        return "nothing was measured"
    say(fit_tables(report) + "\n")
    if options.out is not None:
        write_fit_report(report, options.out)
    if options.picture is not None:
        from .fit_picture import plot_fit_report

        plot_fit_report(report, options.picture)
    files = [str(path) for path in (options.out, options.picture) if path is not None]
    if not files:
        return "no file was asked for (--out, --picture)"
    return f"what was measured is in {' and '.join(files)}"


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
