"""Many columns with an l1 term: the weights that matter, found by passes over all columns, and a fit of these alone.

Most weights of a wide table are 0 at the optimum. P is minimised over the weights that are not, and as many again whose
derivatives come nearest to their penalties; then a pass over all of X says how far that is from the optimum, and which
weights are missing (Massias, Gramfort and Salmon 2018, "Celer"). The chosen weights have an objective of their own,
over a copy of their columns: Newton's method takes it as far as the gap over all columns asks for. Its optimum is never
worse than the point before, so that a set need not contain the last one. Once it is half of all weights, the method
goes on with all of them. A small set of a logistic loss is fitted by one compiled loop, whose steps take no operations
of torch, each of which costs as much as a thousand products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.cpu.descent import newton

from ..objectives.objective import Objective, Point
from ..objectives.subset import Subset, of_parameters
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
    products: int = 8_000_000
    """Most products of a step, N P^2, by the compiled loop: some milliseconds."""
    left: float = 1e-5
    """Share of the first subgradient that it leaves."""
    loop_steps: int = 30
    """Most of its steps."""
    newton: int = 2048
    """Most parameters for Newton's method; else L-BFGS."""


TUNING = Tuning()


class WorkingSet:
    """State of the method at an accepted point; `advance` is one pass over all columns, and a fit of a few."""

    def __init__(self, objective: Objective, start: Start) -> None:
        self.objective = objective
        self._start = start
        at = objective.evaluate(start.theta, certified=True, last=bool((start.state or {}).get("as_last", False)))
        self._search = Search(objective.l1_of, at)
        self._expected: float | None = None
        self._whole: Newton | LBFGS | None = None
        if start.hessian is not None or set(start.state or {}) > {"theta", "driver"}:
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
        products = len(objective.X) * len(chosen) ** 2
        by_loop = objective.penalised and objective.loss.columns == 1 and products <= TUNING.products
        found = _by_loop(of_parameters(objective, chosen), at.theta[chosen]) if by_loop else None
        if found is None and len(chosen) == objective.parameters:
            self._whole = _method(objective, Start(at.theta, self._start.tolerance, at=at))
            return
        theta, value = found or self._by_steps(at, chosen)
        end = torch.zeros_like(at.theta).index_copy_(0, chosen, theta)
        self._search.set_direction(objective.canonical(end) - at.theta)
        self._expected = max(0.0, float(at.value) - value)

    def _by_steps(self, at: Point, chosen: Tensor) -> tuple[Tensor, float]:
        """Return about the optimum of a set, and P there, by a method of torch from a point over all columns."""
        start = Point(at.theta[chosen], at.gradient[chosen], at.value, at.gap)
        few = of_parameters(self.objective, chosen)
        method = _method(few, Start(start.theta, self._start.tolerance, at=start))
        goal = max(TUNING.share * self._search.numbers.gap, 0.5 * self._start.tolerance * self.objective.null_value)
        for _ in range(TUNING.steps):
            if method.search.numbers.gap <= goal:
                break
            method.advance()
        return method.search.theta, method.search.numbers.value

    def _chosen(self, at: Point) -> Tensor:
        """Return the numbers of the parameters of the next set, ascending: of all, where it is half of them or more."""
        objective = self.objective
        weights = objective.X.shape[1] * objective.loss.columns
        theta, data = at.theta[:weights, 0], (at.gradient - objective.l2_of * at.theta)[:weights, 0]
        reason = torch.where(theta != 0, torch.inf, data.abs() / objective.l1_of[:weights, 0])
        needed, wanted = torch.stack([reason.isinf().sum(), (reason > 1).sum()]).tolist()
        rows = len(objective.X) // TUNING.rows
        count = max(needed + max(TUNING.least, int(TUNING.growth * needed)), min(wanted, rows))
        if count > weights // 2 or not objective.penalised:
            return torch.arange(objective.parameters, device=reason.device)
        intercepts = torch.arange(weights, objective.parameters, device=reason.device)
        return torch.cat([reason.topk(count).indices.sort().values, intercepts])


def _method(objective: Any, start: Start) -> Newton | LBFGS:
    """Return a method for an objective, or for a `Subset` of one."""
    return (Newton if objective.parameters <= TUNING.newton else LBFGS)(objective, start)


def _by_loop(few: Objective | Subset, theta: Tensor) -> tuple[Tensor, float] | None:
    """Return about the optimum of a logistic loss over a set, and P there, by the compiled loop; None where there is no
    such loop, or too far a way to go."""
    assert isinstance(few, Objective)
    loss, coordinates = few.loss, few.design.coordinates
    columns = (few.X.double() - coordinates.center) * coordinates.scale[: few.X.shape[1]]
    if few.intercept:
        columns = torch.cat([columns, coordinates.scale[-1].expand(len(columns), 1)], dim=1)
    s = torch.ones_like(columns[:, 0]) if loss.sample_weight is None else loss.sample_weight.double()
    x = theta[:, 0].clone()
    arrays = columns, loss.y.double(), s / loss.weight_sum, x, few.l1_of[:, 0], few.l2_of[:, 0]
    given = (each.contiguous().numpy() for each in arrays)
    found = newton(*given, share=TUNING.left, steps=TUNING.loop_steps)
    return (x[:, None], found[0]) if found and found[1] else None
