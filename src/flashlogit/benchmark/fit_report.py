"""What is kept of a run of `fit`: every setting that was run, in a JSON file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..system.files import write_atomically
from .fit_contender import Absent
from .fit_ladder import Attempt, Climb, Race
from .report import FIT_FORMAT

VERSION = 1

Status = Literal["ok", "stopped short", "not installed", "skipped", "failed"]


@dataclass(frozen=True)
class RungRecord:
    """A setting that was run. None: not known.

    ms, q25_ms, q75_ms: median and quartiles of `calls` runs; in_turn: whether in turn with the other contenders'.
    objective: float64, the worst of the runs; gap: (objective - best) / null.
    passes: reads of X; iterations: of the solver; solver: the one that the library chose.
    """

    variant: str
    setting: str
    headline: bool
    ms: float
    q25_ms: float
    q75_ms: float
    calls: int
    in_turn: bool
    objective: float | None
    gap: float | None
    passes: float | None
    iterations: int | None
    solver: str

    @property
    def title(self) -> str:
        """The whole setting."""
        return ", ".join(part for part in (self.variant, self.solver, self.setting) if part)

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median."""
        return (self.q75_ms - self.q25_ms) / self.ms if self.ms else 0.0


@dataclass(frozen=True)
class ContenderRecord:
    """A contender on a device.

    compile_time: "excluded" where it compiles at its first call; warm_up_ms: that call's time.
    chosen: which of `rungs` it is judged by. cut: variants whose tighter settings were left out, as one took too long.
    reason: why it is absent or failed, or in which variants.
    """

    name: str
    family: str
    device: str
    ours: bool
    status: Status
    reason: str = ""
    note: str = ""
    compile_time: Literal["excluded", "none"] = "none"
    warm_up_ms: float | None = None
    chosen: int | None = None
    cut: tuple[str, ...] = ()
    rungs: tuple[RungRecord, ...] = ()

    @property
    def best(self) -> RungRecord | None:
        """The setting that it is judged by."""
        return None if self.chosen is None else self.rungs[self.chosen]

    @property
    def label(self) -> str:
        return f"{self.name} ({self.device})"


@dataclass(frozen=True)
class ProblemRecord:
    """A problem, its optimum as far as it is known, and what came of each contender.

    best: the smallest objective known, by `best_from`; null: that of the intercept alone.
    reference: value, half the squared Newton decrement, steps, and whether that is exact; None beyond 2048 columns.
    """

    name: str
    n: int
    d: int
    C: float
    l2: float
    null: float
    best: float
    best_from: str
    reference: dict[str, Any] | None
    contenders: tuple[ContenderRecord, ...]


@dataclass(frozen=True)
class FitReport:
    """A run of `fit`; date: UTC, ISO 8601."""

    date: str
    method: str
    machine: dict[str, Any]
    software: dict[str, Any]
    settings: dict[str, Any]
    complete: bool
    problems: tuple[ProblemRecord, ...]

    def to_json(self) -> dict[str, Any]:
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["problems"] = [asdict(problem) for problem in self.problems]
        return {"format": FIT_FORMAT, "version": VERSION, **content}


def write_fit_report(report: FitReport, path: Path) -> None:
    """Write the JSON file, whole or not at all."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda unfinished: unfinished.write_text(text))


def contender_record(race: Race, climb: Climb) -> ContenderRecord:
    """What is kept of a climb."""
    contender, chosen = climb.contender, race.chosen(climb)
    status: Status = "failed"
    if chosen is not None:
        status = "ok" if race.reaches(chosen) else "stopped short"
    return ContenderRecord(
        name=contender.name,
        family=contender.family,
        device=contender.device,
        ours=contender.ours,
        status=status,
        reason="; ".join(climb.failures) or ("" if chosen else "no setting gave a finite answer"),
        note=contender.note,
        compile_time="excluded" if contender.compiles else "none",
        warm_up_ms=climb.warm_up_ms,
        chosen=None if chosen is None else climb.attempts.index(chosen),
        cut=tuple(climb.cut),
        rungs=tuple(_rung_record(race, attempt) for attempt in climb.attempts),
    )


def absent_record(absent: Absent) -> ContenderRecord:
    """What is kept of who did not take part."""
    return ContenderRecord(absent.name, absent.family, absent.device, False, absent.status, absent.reason)


def _rung_record(race: Race, attempt: Attempt) -> RungRecord:
    q25, median, q75 = (float(q) for q in np.quantile(attempt.ms, [0.25, 0.5, 0.75]))
    finite = math.isfinite(attempt.objective)
    solution = attempt.solution
    return RungRecord(
        variant=attempt.variant,
        setting=attempt.rung.setting,
        headline=attempt.rung.headline,
        ms=median,
        q25_ms=q25,
        q75_ms=q75,
        calls=len(attempt.ms),
        in_turn=bool(attempt.turns_ms),
        objective=attempt.objective if finite else None,
        gap=race.gap(attempt.objective) if finite else None,
        passes=solution.passes,
        iterations=solution.iterations,
        solver=solution.solver,
    )
