"""Many columns with an l1 term: the weights that matter, found by passes over all columns, and a fit of these alone.

Most weights of a wide table are 0 at the optimum. P is minimised over the weights that are not, and as many again whose
derivatives come nearest to their penalties; then a pass over all of X says how far that is from the optimum, and which
weights are missing (Massias, Gramfort and Salmon 2018, "Celer"). The chosen weights have an objective of their own,
over a copy of their columns: Newton's method takes it as far as the gap over all columns asks for. Its optimum is never
worse than the point before, so that a set need not contain the last one. Once it is half of all weights, the method
goes on with all of them. A small set of a logistic loss is fitted by one compiled loop, whose steps take no operations
of torch, each of which costs as much as a thousand products.

No column is left out for good by a bound on its derivative at the optimum (Ndiaye, Fercoq, Gramfort and Salmon 2017,
"Gap Safe screening rules"). On eight tables of 60 to 1,000 rows and 1,500 to 20,000 columns the gap let none be left
out before the last point or the two last ones, of 3 to 9: there it was 1e-5 of P or less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.cpu.descent import newton

from ..objectives.objective import Objective, Point
from ..objectives.subset import of_parameters
from .lbfgs import LBFGS
from .method import Reached, Search, Start, State
from .newton import Newton


@dataclass(frozen=True)
class Tuning:
    """How many weights are chosen, and how far P is minimised over them."""

    least: int = 96
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
    values: int = 4_000_000
    """Most numbers of a set's columns that the compiled loop copies, 32 MB."""
    products: int = 200_000_000
    """Most products of its steps, N P^2. Of 20,000 x 300 it computed more Hessians than Newton's method by torch, and
    took 1.4 times as long; of 30,000 x 100 1.2 times; of 2,000 x 200 a third less."""
    loop_least: int = 512
    loop_share: int = 3
    """It takes up to so many parameters, or so many for each row. An elastic net of 20 x 10,000 has sets of 2,000,
    which took it 3 s and other steps 0.4; one of 4 x 14,000 took it 24 s and 2 GB."""
    wide_products: int = 1_200_000_000
    """The same where there are more columns than rows. 1,000 x 2,000 with heavy tails took 2.2 s with it, and 8.4 with
    `products`; 300 x 3,000 such 0.7 s, and 5.8 with 8 million."""
    all_products: int = 10_000_000_000
    """Most products of all its steps, but for the first: a second or so, after which a point is told of."""
    left: float = 1e-5
    """Share of the first subgradient that it leaves."""
    gain: float = 0.1
    """Where it leaves more, P must have come down by this share of the gap over all columns, or its point is not
    taken."""
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
        N, D = objective.X.shape
        products, values = N * len(chosen) ** 2, N * len(chosen)
        few = products <= (TUNING.products if N >= D else TUNING.wide_products) and values <= TUNING.values
        few &= len(chosen) <= max(TUNING.loop_least, TUNING.loop_share * N)
        by_loop = few and objective.compiled and objective.penalised and objective.loss.columns == 1
        before, gap = float(at.value), self._search.numbers.gap
        found = _by_loop(objective, chosen, at.theta[chosen]) if by_loop else None
        if found is not None and not (found[2] or before - found[1] >= TUNING.gain * gap):
            found = None
        if found is None and len(chosen) == objective.parameters:
            self._whole = _method(objective, Start(at.theta, self._start.tolerance, at=at))
            return
        theta, value = found[:2] if found else self._by_steps(at, chosen)
        end = torch.zeros_like(at.theta).index_copy_(0, chosen, theta)
        self._search.set_direction(objective.canonical(end) - at.theta)
        self._expected = max(0.0, before - value)

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


def _by_loop(objective: Objective, chosen: Tensor, theta: Tensor) -> tuple[Tensor, float, bool] | None:
    """Return about the optimum of a logistic loss over the parameters numbered `chosen` [n], P there and whether it is
    near, by the compiled loop; None where there is no such loop. theta [n, 1]: where it begins."""
    loss, design = objective.loss, objective.design
    columns = chosen[: len(chosen) - 1] if objective.intercept else chosen
    n, scale, center = len(columns), design.coordinates.scale[chosen, None], design.coordinates.center[columns, None]
    whole = n == design.X.shape[1]
    Z = theta.new_empty((len(chosen), len(design.X)))
    Z[:n] = (design.X if whole else design.X.index_select(1, columns)).t()
    Z[:n].sub_(center).mul_(scale[:n])
    Z[n:] = scale[n:]
    design.count(n / design.X.shape[1])
    s = torch.ones_like(Z[0]) if loss.sample_weight is None else loss.sample_weight.double()
    x = theta[:, 0].clone()
    arrays = Z, loss.y.double(), s / loss.weight_sum, x, objective.l1_of[chosen, 0], objective.l2_of[chosen, 0]
    given = (each.contiguous().numpy() for each in arrays)
    steps = min(TUNING.steps, max(1, TUNING.all_products // (len(design.X) * len(chosen) ** 2)))
    found = newton(*given, share=TUNING.left, steps=steps)
    return (x[:, None], *found) if found else None
