"""Many columns with an l1 term: the columns that matter, found by passes over all of them, and a fit of these alone.

Most weights of a wide table are 0 at the optimum. P is minimised over the weights that are not, and as many again whose
derivatives come nearest to their penalties; then a pass over all of X says how far that is from the optimum, and which
columns are missing (Massias, Gramfort and Salmon 2018, "Celer"). The chosen columns are an objective of their own, over
a copy of them: Newton's method takes it as far as the gap over all columns asks for. Its optimum is never worse than
the last one, so that a set need not contain the one before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..objectives.objective import Objective, Point
from .lbfgs import LBFGS
from .method import Search, Start, State
from .newton import Newton


@dataclass(frozen=True)
class Tuning:
    """How many columns are chosen, and how far P is minimised over them."""

    least: int = 64
    """Least columns of a set: below, what is done between two passes costs more than they do."""
    growth: float = 1.0
    """Columns whose weights are 0, as a share of the others."""
    share: float = 0.1
    """Share of the gap over all columns that is left over those of the set."""
    steps: int = 100
    """Most steps over one set."""
    newton: int = 2048
    """Most parameters of a set for Newton's method."""


TUNING = Tuning()


class WorkingSet:
    """State of the method at an accepted point; `advance` is one pass over all columns and a fit of a few."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        self._goal = start.tolerance * objective.null_value
        self.search = Search(objective.l1_of, objective.evaluate(start.theta, certified=True))
        self.decrement = self._set_direction()

    def advance(self) -> bool:
        """Try the next point; return whether it was good enough."""
        self.search.judge(self.objective.evaluate(self.search.trial, certified=True))
        if self.search.numbers.refused > 0:
            return False
        self.decrement = self._set_direction()
        return True

    def state(self) -> State:
        """Return nothing: all follows from theta."""
        return {}

    def _set_direction(self) -> float:
        """Choose the direction, to the optimum over some columns; return what P loses along it."""
        at, objective = self.search.at, self.objective
        columns = self._columns(at)
        few, places = objective.of_columns(columns)
        found = self._minimum(few, Point(at.theta[places], at.gradient[places], at.value, at.gap))
        end = torch.zeros_like(at.theta)
        end[places] = found.theta
        self.search.set_direction(objective.canonical(end) - at.theta)
        return max(0.0, float(at.value - found.value))

    def _columns(self, at: Point) -> Tensor:
        """Return the numbers of the columns to choose, ascending: all whose weights are not 0, and more."""
        objective = self.objective
        D, shape = objective.X.shape[1], objective.scale.shape
        theta, l1 = at.theta.reshape(shape)[:D], objective.l1_of.reshape(shape)[:D]
        slope = (at.gradient - objective.l2_of * at.theta).reshape(shape)[:D]
        reason = torch.where((theta != 0).any(dim=1), torch.inf, (slope.abs() / l1).amax(dim=1))
        needed = int(reason.isinf().sum())
        count = max(TUNING.least, int(needed * (1 + TUNING.growth)))
        return reason.topk(min(count, D)).indices.sort().values

    def _minimum(self, few: Objective, at: Point) -> Point:
        """Return about the optimum over a set, from a point that was evaluated over all columns."""
        start = Start(at.theta, self._goal / few.null_value, at=at)
        method = (Newton if few.parameters <= TUNING.newton else LBFGS)(few, start)
        goal = max(TUNING.share * self.search.numbers.gap, 0.5 * self._goal)
        for _ in range(TUNING.steps):
            if method.search.numbers.gap <= goal:
                break
            method.advance()
        return method.search.at
