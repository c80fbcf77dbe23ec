"""The program `compare`: two reports held against each other, result by result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..system.console import Output
from ..system.errors import UserError
from .machine import name_of
from .report import Record, Report, read_report
from .table import aligned, number, percent, title_of, wrapped

EXIT_REGRESSION = 1

_Key = tuple[str, str, str, str, str, int, int]


@dataclass(frozen=True)
class Change:
    """One result before and after; None where a report does not have it.

    ratio: speed after over speed before, as a share of each run's own ceiling, or by time where a ceiling is missing.
    spread: of both runs together, relative; slower: below 1 by more than the threshold and the spread.
    """

    before: Record | None
    after: Record | None
    ratio: float | None
    spread: float | None
    mark: str
    regression: bool


def run_compare(before: Path, after: Path, threshold: float, output: Output) -> int:
    """Print the comparison; 1 where something became slower or wrong, else 0.

    Raises:
        UserError: a file that is not a report of this version, or a threshold that is not in [0, 1).
    """
    if not (math.isfinite(threshold) and 0 <= threshold < 1):
        raise UserError(f"--threshold is {threshold:g}; must be at least 0 and below 1: 0.05 is 5 percent")
    a, b = read_report(before), read_report(after)
    changes = compare(a, b, threshold)
    result = {"threshold": threshold, "changes": [asdict(change) for change in changes]}
    output.answer(comparison(a, b, changes, threshold), result)
    return EXIT_REGRESSION if any(change.regression for change in changes) else 0


def compare(before: Report, after: Report, threshold: float) -> list[Change]:
    """All results of either report, those of the first one first."""
    a, b = _by_key(before), _by_key(after)
    return [_change(a.get(key), b.get(key), threshold) for key in {**a, **b}]


def comparison(before: Report, after: Report, changes: list[Change], threshold: float) -> str:
    """The changes as a table, with what to know about the two runs around it."""
    paragraphs = [
        wrapped(
            f"A: {before.date}, B: {after.date}. Ratios are B's speed over A's, each as a share of the read ceiling"
            " that its own run measured (by time where there is none)."
        ),
        *_warnings(before, after),
    ]
    heading = ["device", "dtype", "D", "N", "contender", "A", "B", "ratio", "spread", ""]
    lines = [heading, *(_line(change) for change in changes)]
    paragraphs.append("\n".join(aligned(lines, flush_left=(0, 1, 4, 9))))
    regressions = sum(change.regression for change in changes)
    found = "No result became" if not regressions else f"{regressions} of {len(changes)} results became"
    paragraphs.append(f"{found} slower by more than {percent(threshold)} and the spread, or wrong.")
    return "\n\n".join(paragraphs)


def _warnings(before: Report, after: Report) -> list[str]:
    found = []
    for device in dict.fromkeys(r.device for r in (*before.results, *after.results)):
        a, b = name_of(before.machine, device), name_of(after.machine, device)
        if a != b:
            found.append(f"WARNING: the machines differ ({device}): A is {a}, B is {b}.")
    for name in ("torch", "triton", "python"):
        a, b = before.software.get(name) or "absent", after.software.get(name) or "absent"
        if a != b:
            found.append(f"Note: A has {name} {a}, B {b}.")
    for name, report in (("A", before), ("B", after)):
        if not report.complete:
            found.append(f"Note: {name} was interrupted.")
    return ["\n".join(found)] if found else []


def _by_key(report: Report) -> Mapping[_Key, Record]:
    return {(r.device, r.pass_name, r.contender, r.dtype, r.arithmetic, r.n, r.d): r for r in report.results}


def _change(before: Record | None, after: Record | None, threshold: float) -> Change:
    if before is None or after is None:
        return Change(before, after, None, None, "only in B" if before is None else "only in A", False)
    ratio = _ratio(before, after)
    spread = (before.spread or 0.0) / 2 + (after.spread or 0.0) / 2
    if before.correct and after.correct is False:
        return Change(before, after, ratio, spread, "NOW INCORRECT", True)
    if before.ms is not None and after.ms is None:
        return Change(before, after, ratio, spread, f"now {after.status}: {after.reason}", True)
    marks = []
    if before.correct is False and after.correct:
        marks.append("now correct")
    slack = max(threshold, spread)
    slower = ratio is not None and ratio < 1 - slack
    if slower:
        marks.append("SLOWER")
    elif ratio is not None and ratio > 1 + slack:
        marks.append("faster")
    return Change(before, after, ratio, spread, ", ".join(marks), slower)


def _ratio(before: Record, after: Record) -> float | None:
    if before.fraction and after.fraction:
        return after.fraction / before.fraction
    if before.ms and after.ms:
        return before.ms / after.ms
    return None


def _line(change: Change) -> list[Any]:
    record = change.after or change.before
    assert record is not None
    by_time = not all(r is not None and r.fraction for r in (change.before, change.after))
    return [
        record.device,
        record.dtype,
        str(record.d),
        f"{record.n:,}",
        title_of(record),
        _cell(change.before, by_time),
        _cell(change.after, by_time),
        number(change.ratio, 3),
        percent(change.spread),
        change.mark,
    ]


def _cell(record: Record | None, by_time: bool) -> str:
    if record is None or record.ms is None:
        return "-"
    return f"{number(record.ms)} ms" if by_time or not record.fraction else number(record.fraction, 3)
