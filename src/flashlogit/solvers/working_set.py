"""Many columns with an l1 term: the weights that matter, found by passes over all columns, and a fit of these alone.

Most weights of a wide table are 0 at the optimum. P is minimised over the weights that are not, and as many again whose
derivatives come nearest to their penalties; then a pass over all of X says how far that is from the optimum, and which
weights are missing (Massias, Gramfort and Salmon 2018, "Celer"). The chosen weights have an objective of their own, over
a copy of their columns: Newton's method takes it as far as the gap over all columns asks for. Its optimum is never
worse than the point before, so that a set need not contain the last one. Once it is half of all weights, the method
goes on with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..objectives.objective import Objective, Point
from ..objectives.subset import of_parameters
from .lbfgs import LBFGS
from .method import Reached, Search, Start, State
from .newton import Newton


@dataclass(frozen=True)
class Tuning:
    """How many weights are chosen, and how far P is minimised over them."""

    least: int = 64
    """Weights that are 0 in a set, at least."""
    growth: float = 0.5
    """The same as a share of those that are not."""
    rows: int = 4
    """A set has all weights whose derivatives exceed their penalties, but beyond the other bounds only one for so many
    rows: an optimum has no more weights than rows, and most often far fewer."""
    share: float = 0.1
    """Share of the gap over all columns that is left over those of a set."""
    steps: int = 100
    """Most steps over one set."""
    newton: int = 2048
    """Most parameters for Newton's method; else L-BFGS."""


TUNING = Tuning()


class WorkingSet:
    """State of the method at an accepted point; `advance` is one pass over all columns, and a fit of a few."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        self._start = start
        at = objective.evaluate(start.theta, certified=True)
        self._search = Search(objective.l1_of, at)
        self._expected: float | None = None
        self._whole: Newton | LBFGS | None = None
        if start.state is not None and set(start.state) > {"theta", "driver"}:
            self._whole = _method(objective, replace(start, at=at))

    @property
    def search(self) -> Reached:
        """What it has reached."""
        return self._whole.search if self._whole else self._search

    @property
    def decrement(self) -> float:
        """What P loses up to the next point, which is found when it is first asked for."""
        if self._whole is None and self._expected is None:
            self._set_direction()
        return self._whole.decrement if self._whole else self._expected or 0.0

    def advance(self) -> bool:
        """Try the next point; return whether it was good enough."""
        if self._whole is None and self._expected is None:
            self._set_direction()
        if self._whole:
            return self._whole.advance()
        self._search.judge(self.objective.evaluate(self._search.trial, certified=True))
        accepted = self._search.numbers.refused == 0
        self._expected = None if accepted else self._expected
        return accepted

    def state(self) -> State:
        """Return nothing where all follows from theta, else the state of the method for all weights."""
        return self._whole.state() if self._whole else {}

    def _set_direction(self) -> None:
        """Choose the direction, to the optimum over some weights, or go over to all of them."""
        at, objective = self._search.at, self.objective
        chosen = self._chosen(at)
        if chosen is None:
            self._whole = _method(objective, replace(self._start, theta=at.theta, at=at))
            return
        few = of_parameters(objective, chosen)
        start = Point(at.theta[chosen], at.gradient[chosen], at.value, at.gap)
        method = _method(few, Start(start.theta, self._start.tolerance, at=start))
        numbers = self._search.numbers
        goal = max(TUNING.share * numbers.gap, 0.5 * self._start.tolerance * objective.null_value)
        for _ in range(TUNING.steps):
            if method.search.numbers.gap <= goal:
                break
            method.advance()
        end = torch.zeros_like(at.theta).index_copy_(0, chosen, method.search.theta)
        self._search.set_direction(objective.canonical(end) - at.theta)
        self._expected = max(0.0, numbers.value - method.search.numbers.value)

    def _chosen(self, at: Point) -> Tensor | None:
        """Return the numbers of the parameters of the next set, ascending, or None for all."""
        objective = self.objective
        weights = objective.X.shape[1] * objective.loss.columns
        theta, data = at.theta[:weights, 0], (at.gradient - objective.l2_of * at.theta)[:weights, 0]
        reason = torch.where(theta != 0, torch.inf, data.abs() / objective.l1_of[:weights, 0])
        needed, wanted = torch.stack([reason.isinf().sum(), (reason > 1).sum()]).tolist()
        rows = len(objective.X) // TUNING.rows
        count = max(needed + max(TUNING.least, int(TUNING.growth * needed)), min(wanted, rows))
        if count > weights // 2 or not objective.penalised:
            return None
        intercepts = torch.arange(weights, objective.parameters, device=reason.device)
        return torch.cat([reason.topk(count).indices.sort().values, intercepts])


def _method(objective: Objective, start: Start) -> Newton | LBFGS:
    return (Newton if objective.parameters <= TUNING.newton else LBFGS)(objective, start)
