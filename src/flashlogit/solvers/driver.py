"""Advances a method until the certificate says that it is done, or something else ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..objectives.certificate import Certificate
from ..objectives.objective import Objective, Point
from .method import Method, State

Ending = Literal["tolerance", "limit", "precision", "separated"]
HistoryRow = dict[str, float | int | None]


@dataclass(frozen=True)
class Patience:
    """When the driver gives up."""

    trials: int = 60
    """After so many refusals in a row no smaller step will do either."""
    steps: int = 8
    """Steps in a row that may fail to lower the best gap by a tenth, at a gap that rounding explains."""
    rounding: float = 1e-12
    """Relative gaps below it are within reach of rounding errors."""
    points: int = 30
    """After so many accepted points in a row that lower neither the objective nor the best gap none will."""
    next_certificate: float = 0.3
    """A certificate that was too large is asked for again once the estimated gap has fallen to this share."""


PATIENCE = Patience()


@dataclass(frozen=True)
class Limits:
    """How far a method goes.

    tolerance: on the certificate's relative gap. iterations: most evaluations after the first. certify: gives the
    certificate of a point. on_point: called for each accepted point with its row, and the state to go on from there, in
    which it is "theta"; or None. began: when the fit did, on the clock of `time.perf_counter`; the history counts its
    seconds from there. saved: the entry "driver" of a state, where the method goes on from one.
    """

    tolerance: float
    iterations: int
    certify: Callable[[Point], Certificate]
    on_point: Callable[[HistoryRow, State], object] | None
    began: float
    saved: Tensor | None = None


@dataclass
class Progress:
    """What is known of the points so far."""

    SAVED: ClassVar[int] = 9
    """Numbers that `saved` gives."""
    COUNTS: ClassVar[int] = 5
    """The last of these, which are finite."""

    goal: float
    """The gap, in nats, that is asked for."""
    best_gap: float = math.inf
    expected_gap: float = math.inf
    """A certificate is asked for at an estimated gap of at most this."""
    lowest: float = math.inf
    """The least value of P."""
    gap_stalled: int = 0
    """Points in a row that did not lower the best gap by a tenth."""
    value_stalled: int = 0
    """Points in a row that did not lower P."""
    iterations: int = 0

    @classmethod
    def begun(cls, objective: Objective, limits: Limits) -> Progress:
        """Return the progress before the first point, or that of a state, perhaps with another tolerance."""
        goal = limits.tolerance * objective.null_value
        if limits.saved is None:
            return cls(goal, expected_gap=goal)
        best, expected, before, lowest, gap, value, iterations, passes, _ = limits.saved.tolist()
        objective.counter.passes = passes
        expected = expected if before == goal else goal
        return cls(goal, best, expected, lowest, int(gap), int(value), int(iterations))

    def saved(self, passes: float, seconds: float) -> Tensor:
        """Return all of it, the passes and the seconds so far: the entry "driver" of a state, [9] float64."""
        known = (self.best_gap, self.expected_gap, self.goal, self.lowest, self.gap_stalled)
        return torch.tensor([*known, self.value_stalled, self.iterations, passes, seconds], dtype=torch.float64)

    def reach(self, value: float, gap: float) -> None:
        """Take up a point."""
        self.gap_stalled = 0 if gap < 0.9 * self.best_gap else self.gap_stalled + 1
        self.best_gap = min(self.best_gap, gap)
        self.value_stalled = 0 if value < self.lowest else self.value_stalled + 1
        self.lowest = min(self.lowest, value)

    def stalled(self, null: float) -> bool:
        """Return whether rounding ends all progress; null: P of the null model."""
        tiny = self.best_gap <= PATIENCE.rounding * null
        return self.gap_stalled >= PATIENCE.steps and (tiny or self.value_stalled >= PATIENCE.points)


@dataclass
class Outcome:
    """Where a method ended and how, the gap there, and a row for each accepted point."""

    point: Point
    ending: Ending
    certificate: Certificate
    iterations: int
    history: list[HistoryRow] = field(default_factory=list)


def drive(objective: Objective, method: Method, limits: Limits) -> Outcome:
    """Advance a method from its start until the gap is at most the goal, or until it stalls or meets a limit.

    A point's gap is an estimate of its certificate; where the penalty proves none, the method's decrement is.
    """
    progress = Progress.begun(objective, limits)
    history: list[HistoryRow] = []
    ending: Ending | None = None
    while ending is None:
        at = method.search.numbers
        gap = at.gap if objective.penalised else method.decrement
        row: HistoryRow = {
            "iteration": progress.iterations,
            "objective": at.value,
            "gap": gap,
            "relative_gap": gap / objective.null_value,
            "gradient_norm": at.gradient_norm,
            "step": at.step,
            "passes": objective.counter.passes,
            "seconds": time.perf_counter() - limits.began,
        }
        history.append(row)
        if limits.on_point is not None:
            driver = progress.saved(objective.counter.passes, float(row["seconds"] or 0.0))
            limits.on_point(row, {"theta": method.search.theta, "driver": driver, **method.state()})
        certificate = None
        if not objective.bounded and objective.separated(method.search.at):
            ending = "separated"
        elif at.basis == "proven":
            certificate = Certificate("gap", at.gap, at.value, objective.null_value)
        elif at.basis == "estimated" and gap <= progress.expected_gap:
            certificate = limits.certify(method.search.at)
            row |= {"gap": certificate.gap, "relative_gap": certificate.relative}
            progress.expected_gap = PATIENCE.next_certificate * gap
        if ending is None and certificate is not None and certificate.gap <= progress.goal:
            ending = "tolerance"
        progress.reach(at.value, gap)
        if ending is None and progress.stalled(objective.null_value):
            ending = "precision"
        trials = 0
        while ending is None:
            if trials == PATIENCE.trials:
                ending = "precision"
            elif progress.iterations >= limits.iterations:
                ending = "limit"
            else:
                trials, progress.iterations = trials + 1, progress.iterations + 1
                if method.advance():
                    break
    point = method.search.at
    certificate = certificate or limits.certify(point)
    row |= {"gap": certificate.gap, "relative_gap": certificate.relative}
    if certificate.gap <= progress.goal and ending != "separated":
        ending = "tolerance"
    return Outcome(point, ending, certificate, progress.iterations, history)
