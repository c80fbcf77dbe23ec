"""Runs a solver until the certificate says that it is done, or something else ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..objectives.certificate import Certificate
from .problem import Problem
from .search import Search

Ending = Literal["tolerance", "limit", "precision", "separated"]

_TRIES = 60
"""Refusals in a row after which no smaller step will do either."""
_IDLE = 8
"""Steps in a row that do not lower the best gap by a tenth, at a gap that rounding explains."""
_UNMOVED = 30
"""Accepted points in a row that do not lower the objective, nor the best gap, after which none will."""
_ROUNDING = 1e-12
"""Relative gaps below it are within reach of rounding errors."""


class Solver(Protocol):
    """What the driver asks of a method."""

    search: Search

    @property
    def decrement(self) -> float:
        """The decrease of P that the method's model expects of its next step."""

    def advance(self) -> bool:
        """One evaluation, and what follows from it; whether its point was accepted."""

    def state(self) -> State:
        """What to go on from, beside theta."""


State = dict[str, Tensor]
"""Tensors by name from which a solver goes on as if it had never stopped. They are never written to once given."""

PROGRESS = ("best", "promised", "goal", "lowest", "idle", "unmoved", "count", "reads", "seconds")
"""What `drive` keeps from point to point: the entry "driver" of a state, float64."""

HistoryRow = dict[str, float | int | None]


def of_shapes(state: State, **shapes: tuple[int, ...]) -> list[Tensor]:
    """The tensors of these names; ValueError where one is missing or of another shape, as in another problem's.

    All but single values must be floating-point numbers.
    """
    for name, shape in shapes.items():
        found = tuple(state[name].shape) if name in state else None
        if found != shape or (shape and not state[name].is_floating_point()):
            of = f" of {state[name].dtype}" if name in state else ""
            raise ValueError(f"the state's {name} is {found}{of}; must be {shape} to go on from, of numbers")
    return [state[name] for name in shapes]


@dataclass
class Outcome:
    """Where a solver ended: theta [P, 1], how, and the gap there; history has a row for each accepted point."""

    theta: Tensor
    ending: Ending
    certificate: Certificate
    iterations: int
    history: list[HistoryRow] = field(default_factory=list)


def drive(
    objective: Problem,
    solver: Solver,
    *,
    tolerance: float,
    iterations: int,
    certify: Callable[[Solver], Certificate],
    on_point: Callable[[HistoryRow, State], object],
    separated: Callable[[], bool],
    began: float,
    resumed: Tensor | None = None,
) -> Outcome:
    """Advance the solver until the gap, relative to the null model, is at most `tolerance`.

    Args:
        objective: what is minimised.
        solver: at its start.
        tolerance: on the certificate's relative gap.
        iterations: evaluations at most.
        certify: the certificate of the solver's point; asked when the estimated gap promises success, and at the end.
        on_point: hears of each accepted point: its row, and the state to go on from there, in which it is "theta".
        began: when the fit did, on the clock of `time.perf_counter`; history counts its seconds from there.
        separated: whether the point just evaluated has every row on its right side, so that there is no optimum.
        resumed: the entry "driver" of a state, where the solver goes on from one.
    """
    null = objective.null_value
    goal = tolerance * null
    history: list[HistoryRow] = []
    best, idle, promised = math.inf, 0, goal
    lowest, unmoved = math.inf, 0
    count = 0
    if resumed is not None:
        best, promised, aimed_at, lowest, *counts, objective.reads, _ = resumed.tolist()
        idle, unmoved, count = map(int, counts)
        if aimed_at != goal:
            promised = goal

    while True:
        at = solver.search.numbers
        gap = at.gap if objective.penalised else solver.decrement
        row: HistoryRow = {
            "iteration": count,
            "objective": at.value,
            "gap": gap,
            "relative_gap": gap / null,
            "gradient_norm": at.gradient_norm,
            "step": at.step,
            "passes": objective.reads,
            "seconds": time.perf_counter() - began,
        }
        history.append(row)
        numbers = [best, promised, goal, lowest, idle, unmoved, count, objective.reads, row["seconds"]]
        driver = torch.tensor(numbers, dtype=torch.float64)
        on_point(row, {"theta": solver.search.theta, "driver": driver, **solver.state()})
        if separated():
            ending: Ending = "separated"
            break
        if gap <= promised:
            certificate = certify(solver)
            row["gap"], row["relative_gap"] = certificate.gap, certificate.relative
            if certificate.gap <= goal:
                return Outcome(solver.search.theta, "tolerance", certificate, count, history)
            promised = 0.3 * gap
        idle = 0 if gap < 0.9 * best else idle + 1
        best = min(best, gap)
        unmoved = 0 if at.value < lowest else unmoved + 1
        lowest = min(lowest, at.value)
        if idle >= _IDLE and (best <= _ROUNDING * null or unmoved >= _UNMOVED):
            ending = "precision"
            break
        accepted = False
        tries = 0
        while not accepted and count < iterations and tries < _TRIES:
            accepted = solver.advance()
            count += 1
            tries += 1
        if not accepted:
            ending = "limit" if tries < _TRIES else "precision"
            break
    certificate = certify(solver)
    row["gap"], row["relative_gap"] = certificate.gap, certificate.relative
    if certificate.gap <= goal and ending != "separated":
        ending = "tolerance"
    return Outcome(solver.search.theta, ending, certificate, count, history)
