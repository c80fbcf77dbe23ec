"""The results of `fit` as text."""

from __future__ import annotations

from .fit_report import ContenderRecord, FitReport, ProblemRecord
from .table import aligned, number, percent, times, wrapped

OURS = "flashlogit"
SCIKIT_LEARN = "scikit-learn"


def fit_tables(report: FitReport) -> str:
    """A table and a few sentences for every problem."""
    limit = report.settings["limit"]
    found = [_problem(problem, limit) for problem in report.problems]
    if not report.complete:
        found.append("The run was interrupted: problems that were not finished are missing.")
    return "\n\n".join(found)


def headline(problem: ProblemRecord) -> ContenderRecord | None:
    """flashlogit's `auto` on the first device that it ran on; None if it did not reach the gap."""
    ours = [c for c in problem.contenders if c.name == OURS]
    return ours[0] if ours and ours[0].status == "ok" else None


def fastest(contenders: list[ContenderRecord]) -> ContenderRecord | None:
    """Of those that reached the gap."""
    reached = [c for c in contenders if c.status == "ok"]
    return min(reached, key=_milliseconds) if reached else None


def verdicts(problem: ProblemRecord) -> list[str]:
    """flashlogit against the fastest of scikit-learn's solvers, and against the fastest of all others."""
    ours = headline(problem)
    if ours is None:
        there = any(c.name == OURS and c.status == "stopped short" for c in problem.contenders)
        return [
            f"{OURS} {'stopped short of the gap' if there else 'did not run'}: nothing is compared with it."
        ]
    theirs = [c for c in problem.contenders if c.family == SCIKIT_LEARN]
    found = []
    if any(c.rungs for c in theirs):
        found.append(_verdict(ours, fastest(theirs), "scikit-learn solver"))
    others = [c for c in problem.contenders if not c.ours]
    best = fastest(others)
    if best is not None and best.family != SCIKIT_LEARN:
        found.append(_verdict(ours, best, "other contender"))
    return found


def _problem(problem: ProblemRecord, limit: float) -> str:
    title = f"{problem.name}: {problem.n:,} rows, {problem.d} columns, C = {problem.C:g}"
    ours = headline(problem)
    heading = [
        "contender",
        "device",
        "best setting",
        "median ms",
        "spread",
        f"x {OURS}'s time",
        "relative gap",
        "passes",
    ]
    ordered = sorted(problem.contenders, key=_rank)
    lines = [heading, *(_line(c, ours) for c in ordered)]
    source = "the float64 reference" if problem.best_from == "reference" else problem.best_from
    optimum = (
        f"Smallest objective known: {problem.best:.15g}, by {source}; intercept alone: {problem.null:.6g}."
    )
    return "\n".join(
        [
            title,
            "-" * len(title),
            *aligned(lines, flush_left=(0, 1, 2)),
            "",
            optimum,
            *_notes(ordered, limit),
            *verdicts(problem),
        ]
    )


def _line(contender: ContenderRecord, ours: ContenderRecord | None) -> list[str]:
    best = contender.best
    cells = [contender.name, contender.device]
    if best is None:
        return [*cells, f"{contender.status}: {contender.reason}"]
    if contender.status == "stopped short":
        against = "stopped short"
    else:
        against = times(best.ms / _milliseconds(ours)) if ours else "-"
    gap = "-" if best.gap is None else f"{best.gap:.1e}"
    spread = percent(best.spread) if best.calls > 1 else "one run"
    passes = "-" if best.passes is None else f"{best.passes:.1f}"
    return [*cells, best.title, number(best.ms), spread, against, gap, passes]


def _notes(contenders: list[ContenderRecord], limit: float) -> list[str]:
    """What no column says."""
    found = [wrapped(f"{c.label} {c.note}.") for c in contenders if c.note and c.best is not None]
    compiled = ", ".join(c.label for c in contenders if c.compile_time == "excluded" and c.best is not None)
    if compiled:
        found.append(wrapped(f"Compile time is excluded: {compiled}."))
    cut = ", ".join(c.label for c in contenders if c.cut)
    if cut:
        found.append(wrapped(f"Tighter settings left out, as one took more than {limit:g} s: {cut}."))
    found += [wrapped(f"{c.label} failed in part: {c.reason}.") for c in contenders if c.best and c.reason]
    return found


def _verdict(ours: ContenderRecord, theirs: ContenderRecord | None, what: str) -> str:
    if theirs is None:
        return f"No {what} reached the gap; {OURS} ({ours.device}) took {number(_milliseconds(ours))} ms."
    ratio = _milliseconds(theirs) / _milliseconds(ours)
    said = f"{number(ratio, 3)} x faster" if ratio >= 1 else f"{number(1 / ratio, 3)} x slower"
    name = theirs.name.removeprefix(f"{SCIKIT_LEARN} ")
    return (
        f"{OURS} is {said} than the fastest {what} ({name}, {theirs.device}, {number(_milliseconds(theirs))} ms"
        f" against {number(_milliseconds(ours))} ms)."
    )


def _milliseconds(contender: ContenderRecord) -> float:
    assert contender.best is not None
    return contender.best.ms


def _rank(contender: ContenderRecord) -> tuple[int, float]:
    """Those that reached the gap by their times, then those that stopped short by their gaps, then the absent."""
    best = contender.best
    if best is None:
        return 2, 0.0
    return (0, best.ms) if contender.status == "ok" else (1, best.gap or 0.0)
