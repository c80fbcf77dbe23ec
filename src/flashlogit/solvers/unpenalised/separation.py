"""Whether a plane separates the classes, in which case an unpenalised fit has no finite optimum.

With t_i = 2 y_i - 1, a direction (w, b) along which no row's loss rises and some row's falls for ever has

    t_i (x_i . w + b) >= 0 for all rows,     > 0 for some row         (quasi-complete separation),
                                             > 0 for all rows         (complete separation),

and the maximum likelihood estimate exists and is finite if and only if there is none (Albert & Anderson 1984, "On the
existence of maximum likelihood estimates in logistic regression models", Biometrika 71). The linear programme that
looks for one is Konis's (2007, "Linear programming algorithms for detecting separated data in binary logistic
regression models", D.Phil. thesis, Oxford):

    maximise sum_i t_i (x_i . w + b)  subject to  t_i (x_i . w + b) >= 0,  -1 <= w, b <= 1.

A label strictly between 0 and 1 makes its row's loss rise on both sides, so that row has to stay on the plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...reference import row_blocks
from .finding import PRECISE, Separation, fewest_columns


@dataclass(frozen=True)
class Tuning:
    """What is searched, and what is taken for rounding."""

    max_values: int = 200_000_000
    """Most values of X, rows times columns, that are searched: a pass over them takes two cores most of a second, and
    the search some ten passes. The programmes take 0.3 s for 50 columns and 10 s for 200, whatever the rows."""
    max_columns: int = 1000
    """Most columns that are searched: the first programme alone takes 20 s for so many, and 5 s for 500."""
    seconds: float = 10.0
    """Time after which the search ends undecided, or by one pass over X later."""
    positive: float = 1e-7
    """A direction whose best margin is no larger separates nothing. Columns are standardised, coefficients at most
    1."""
    rounding: float = 1e-9
    """Largest error of a margin in the same units: the sum of D products of float64, and what the programme's solver
    leaves."""
    first_rows: int = 100
    """Rows of each class that the first programme has on top of 2 (D + 1), beyond which random labels cannot be
    separated."""


TUNING = Tuning()


@dataclass(frozen=True)
class Undecided:
    """No answer within the limits; `reason` is a part of a sentence."""

    reason: str


def find_separation(
    X: Tensor, y: Tensor, sample_weight: Tensor | None, *, intercept: bool, null_space: Tensor | None = None
) -> Separation | Undecided | None:
    """Return a separating direction, or None where the classes overlap and the optimum is finite but for collinear
    columns.

    The programme is solved for few rows at first; rows that its solution puts on the wrong side are added until there
    are none. Fewer constraints only raise the maximum, so that a maximum of 0 settles the matter at any time.

    Args:
        X: [N, D] of any floating dtype, on any device; read block by block in float64.
        y: [N] labels in [0, 1] of any real dtype.
        sample_weight: [N], not negative, or None; rows of weight 0 are left out.
        intercept: whether b is free; else it is 0.
        null_space: [D, r] float64, `Collinear.null_space` of these rows without constant columns, for
            `Separation.standardized`.

    Returns:
        Also None where no row has a positive weight. `Undecided` beyond the limits, see `TUNING`, and where
        a value is not finite.
    """
    deadline = time.monotonic() + TUNING.seconds
    if X.shape[1] > TUNING.max_columns:
        return Undecided(
            f"X has {X.shape[1]:,} columns, and at most {TUNING.max_columns:,} are searched for separation"
        )
    if X.numel() > TUNING.max_values:
        return Undecided(f"X has {X.numel():,} values, and at most {TUNING.max_values:,} are searched for separation")
    rows = None if sample_weight is None else torch.nonzero(sample_weight > 0)[:, 0]
    if (X.shape[0] if rows is None else rows.shape[0]) == 0:
        return None
    with torch.no_grad():
        table = _Table(X.detach(), y.detach(), rows, null_space, intercept=intercept)
        if not table.finite:
            return Undecided("X holds values that are not finite, or whose squares are not")
        try:
            return _search(table, deadline)
        except _GaveUpError as problem:
            return Undecided(str(problem))


class _GaveUpError(Exception):
    """Its message is the reason."""


class _Table:
    """The visited rows of X in standardised columns: centred only where an intercept takes up the means.

    Without an intercept a column is divided by its root mean square. A column without any spread is left out (times 0).
    """

    def __init__(
        self, X: Tensor, y: Tensor, rows: Tensor | None, null_space: Tensor | None, *, intercept: bool
    ) -> None:
        self.X, self.rows, self.null_space, self.intercept = X, rows, null_space, intercept
        y = (y if rows is None else y[rows]).to(X.device, torch.float64)
        self.soft = (y != 0) & (y != 1)
        self.sign = torch.where(self.soft, 1.0, 2 * y - 1)
        self.n = y.shape[0]
        self.D = X.shape[1]
        self.mean = X.new_zeros(self.D, dtype=torch.float64)
        if intercept:
            self.mean = self._column_sum(lambda block, _: block.sum(dim=0)) / self.n
        squares = self._column_sum(lambda block, _: (block - self.mean).square().sum(dim=0))
        self.spread = (squares / self.n).sqrt()
        self.finite = bool((self.spread.isfinite() & self.mean.isfinite()).all())
        # 1e-13: a thousand roundings of the mean.
        self.factor = torch.where(self.spread > 1e-13 * self.mean.abs(), 1 / self.spread, 0.0)
        t = torch.where(self.soft, 0.0, self.sign)
        total = self._column_sum(lambda block, place: (block - self.mean).t() @ t[place]) * self.factor
        self.total = self._with_intercept(total, t.sum()).cpu().numpy()

    def margins(self, direction: NDArray[np.float64]) -> Tensor:
        """Return t_i (x_i . w + b) of every row, [n]; of soft labels -|x_i . w + b|."""
        v = torch.from_numpy(direction).to(self.X.device)
        w, b = v[: self.D] * self.factor, v[self.D] if self.intercept else 0.0
        margin = self.X.new_empty(self.n, dtype=torch.float64)
        for place, block in self._blocks():
            margin[place] = (block - self.mean) @ w + b
        return torch.where(self.soft, -margin.abs(), margin * self.sign)

    def constraints(self, places: Tensor) -> NDArray[np.float64]:
        """Return t_i (x_i, 1) of the rows at `places` [m], [m, D] or [m, D + 1]."""
        X = self.X[places if self.rows is None else self.rows[places]].to(torch.float64)
        X = self._with_intercept((X - self.mean) * self.factor, X.new_ones(X.shape[0]))
        result: NDArray[np.float64] = (X * self.sign[places, None]).cpu().numpy()
        return result

    def separation(
        self, kind: Literal["complete", "quasi-complete"], evidence: str, direction: NDArray[np.float64]
    ) -> Separation:
        """Return a direction [D] or [D + 1] of the standardised columns in the units of X."""
        v = torch.from_numpy(direction)
        factor, mean = self.factor.cpu(), self.mean.cpu()
        weight = v[: self.D] * factor
        bias = float(v[self.D] - mean @ weight) if self.intercept else 0.0
        standardized = v[: self.D] * (factor > 0)
        if self.null_space is not None:
            units = torch.where(factor > 0, 1 / factor, 0.0)
            standardized = fewest_columns(standardized, bias, self.null_space.cpu(), units, mean)
        return Separation(kind, evidence, weight, bias, standardized)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        return row_blocks(self.X, torch.float64, rows=self.rows)

    def _column_sum(self, term: Callable[[Tensor, slice], Tensor]) -> Tensor:
        total = self.X.new_zeros(self.D, dtype=torch.float64)
        for place, block in self._blocks():
            total += term(block, place)
        return total

    def _with_intercept(self, values: Tensor, of_intercept: Tensor) -> Tensor:
        return torch.cat([values, of_intercept[..., None]], dim=-1) if self.intercept else values


def _search(table: _Table, deadline: float) -> Separation | None:
    if table.intercept and not table.soft.any() and bool((table.sign == table.sign[0]).all()):
        bias_only = np.append(np.zeros(table.D), float(table.sign[0]))
        return table.separation("complete", f"every label is {int(table.sign[0] > 0)}", bias_only)
    more = table.D + 1 + TUNING.first_rows // 2
    chosen = _first_rows(table, 2 * more)
    direction = _solve(table, chosen, deadline, widest=False)
    margin = table.margins(direction)
    if margin.max() <= TUNING.positive:
        return None
    if not table.soft.any():
        before = chosen.clone()
        if (complete := _widest(table, chosen, more, deadline)) is not None:
            return complete
        if not torch.equal(before, chosen):
            direction = _solve(table, chosen, deadline, widest=False)
            margin = table.margins(direction)
    while margin.max() > TUNING.positive:
        if margin.min() >= -TUNING.rounding:
            on_plane = int((margin <= TUNING.positive).sum())
            evidence = f"a plane through {on_plane:,} of {table.n:,} rows has the others on their labels' sides"
            return table.separation("quasi-complete", evidence, direction)
        _add_worst(chosen, margin, margin < -TUNING.rounding, more)
        direction = _solve(table, chosen, deadline, widest=False)
        margin = table.margins(direction)
    return None


def _widest(table: _Table, chosen: Tensor, more: int, deadline: float) -> Separation | None:
    """Return complete separation, or None where not even the chosen rows are separated; add to these.

    The plane of the widest margin is right about most of the other rows too, and so takes the fewest rounds.
    """
    while True:
        direction = _solve(table, chosen, deadline, widest=True)
        margin = table.margins(direction)
        if margin.min() > TUNING.positive:
            return table.separation("complete", f"a plane has all {table.n:,} rows on their labels' sides", direction)
        if margin[chosen].min() <= TUNING.positive:
            return None
        _add_worst(chosen, margin, margin <= TUNING.positive, more)


def _first_rows(table: _Table, count: int) -> Tensor:
    """Return which rows come first, [n] bool: up to `count` rows of label 0, of label 1 and of other labels, drawn the
    same way every time."""
    order = torch.randperm(table.n, generator=torch.Generator().manual_seed(0)).to(table.sign.device)
    chosen = torch.zeros(table.n, dtype=torch.bool, device=order.device)
    for group in (table.soft, ~table.soft & (table.sign > 0), ~table.soft & (table.sign < 0)):
        chosen[order[group[order]][:count]] = True
    return chosen


def _add_worst(chosen: Tensor, margin: Tensor, wrong: Tensor, count: int) -> None:
    """Mark up to `count` of the `wrong` rows that are not yet chosen, those of the smallest margin."""
    candidates = torch.nonzero(wrong & ~chosen)[:, 0]
    if len(candidates) == 0:
        raise _GaveUpError("the linear programme for separation was not solved precisely enough")
    worst = margin[candidates].topk(min(count, len(candidates)), largest=False).indices
    chosen[candidates[worst]] = True


def _solve(table: _Table, chosen: Tensor, deadline: float, *, widest: bool) -> NDArray[np.float64]:
    """Return the direction [D] or [D + 1] that maximises the sum of all margins, or with `widest` the smallest of the
    chosen.

    Only the chosen rows are constraints.
    """
    from scipy.optimize import linprog  # a fifth of a second, for the few fits that need it

    hard, soft = (torch.nonzero(chosen & kind)[:, 0] for kind in (~table.soft, table.soft))
    below, on_plane = -table.constraints(hard), table.constraints(soft)
    objective, bounds = -table.total / max(1.0, abs(table.total).max()), [(-1.0, 1.0)] * len(table.total)
    if widest:
        below = np.column_stack([below, np.ones(len(below))])
        objective, bounds = np.append(np.zeros(len(bounds)), -1.0), [*bounds, (0.0, 1.0)]
    left = deadline - time.monotonic()
    if left <= 0:
        raise _GaveUpError("the search for separation ran out of time")
    result = linprog(
        objective,
        A_ub=below,
        b_ub=np.zeros(len(below)),
        A_eq=on_plane if len(on_plane) else None,
        b_eq=np.zeros(len(on_plane)) if len(on_plane) else None,
        bounds=bounds,
        method="highs",
        options={**PRECISE, "time_limit": left},
    )
    if result.status == 1:
        raise _GaveUpError("the search for separation ran out of time")
    if result.x is None:
        raise _GaveUpError(f"the linear programme for separation was not solved: {result.message}")
    direction: NDArray[np.float64] = result.x[: len(table.total)]
    return direction
