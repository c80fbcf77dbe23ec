"""Thousands of independent fits of two classes in one call: a model for each group of rows.

Most groups are small tables, which `flashlogit.fitting.tiny` has programs for: all of them share one launch on a GPU,
or the threads of a CPU in one compiled loop. What is left is fitted one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from flashlogit_kernels.checks import check_matrix
from flashlogit_kernels.fits import NUMBERS, TOLERANCE

from ..objectives.certificate import provable
from ..passes import BackendName, choose_backend
from .fit import checked, fit
from .task import Fit, FitOptions
from .tiny import LEAST_L2, most_rows, program_of

_PROBLEMS = 8192
"""Fits of one launch: each has 4 KB for its history, and so many keep all multiprocessors of a GPU busy."""


@dataclass(frozen=True)
class GroupFits:
    """The models of G groups. What has no optimum is NaN."""

    groups: NDArray[Any]
    """[G], the distinct values of `group`, ascending."""
    weight: Tensor
    """[G, D] float64 on the device of X, in its units."""
    bias: Tensor
    """[G] float64 on the device of X; 0 without an intercept."""
    objective: NDArray[np.float64]
    """[G], P at the solution, in nats."""
    gap: NDArray[np.float64]
    """[G], proven bound on P - P*, in nats; without a penalty half the squared Newton decrement."""
    relative_gap: NDArray[np.float64]
    """[G], the same as a share of the objective of the group's null model, which is what `tolerance` bounds."""
    ending: NDArray[np.str_]
    """[G], why each fit ended: tolerance, limit or precision as in `Fit.ending`; separated where the classes are, or
    seem to be, so that an unpenalised objective has no optimum, and weights are those where the fit ended; or one class
    where an intercept has no optimum, because rows of positive weight are all of one label, or there are none."""
    rows: NDArray[np.int64]
    """[G], the number of rows."""


def fit_groups(
    X: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    group: Tensor | ArrayLike,
    *,
    sample_weight: Tensor | ArrayLike | None = None,
    l2: float | ArrayLike = 0.0,
    intercept: bool = True,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    backend: BackendName = "auto",
) -> GroupFits:
    """Minimise P, as `flashlogit.fit` does, for the rows of each group by themselves.

    Groups that are as small as `fit` fits at once, see its `backend`, are all fitted together: in one launch on a GPU,
    or on a CPU in as many threads as torch may use. Others are fitted by `fit` one after the other, as are those that
    did not end at the tolerance so, and on a GPU, where some have a penalty, those that have none. What is fitted at
    once does not depend on the number of threads.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, a tensor on any device or an array.
        y: [N] labels in [0, 1].
        group: [N] of any values that can be sorted, such as numbers or text, but not NaN.
        sample_weight: [N], not negative; default ones.
        l2: penalty as in P, one number or [G] in the order of the groups' ascending values. P is a mean over the rows
            of the group: scikit-learn's C is l2 = 1 / (C S), S being the sum of the group's weights.
        intercept: whether each model has one; else it is 0.
        tolerance: on the gap of each, see `GroupFits.relative_gap`.
        max_iterations: evaluations of each objective, at most.
        backend: as for `fit`.

    Raises:
        ValueError: an argument outside of these bounds, or shapes that do not fit.
        TypeError: a dtype that cannot be used.
        UserError: a backend that cannot be had.
    """
    X = check_matrix(as_tensor(X))
    y, s = as_tensor(y, X), None if sample_weight is None else as_tensor(sample_weight, X)
    X, y, s = checked(X, y, s)
    given = group.detach() if isinstance(group, Tensor) else np.asarray(group)
    order, groups, starts = _sorted(given, len(X))
    penalties = _penalties(l2, len(groups))
    FitOptions(0.0, 0.0, "auto", tolerance, max_iterations, None, None, None)  # which checks them
    chosen = choose_backend(backend, X.device).name
    _check_values(X, y, s, given)
    rows, sizes = order.to(X.device), np.diff(starts)
    if s is not None:
        s = s.to(torch.float64)[rows]
        counted = s != 0  # as `fit` leaves them out
        rows, s = rows[counted], s[counted]
        starts = np.r_[0, np.cumsum(counted.cpu().numpy())][starts]

    def alone(rows: Tensor, s: Tensor | None, l2: float) -> Fit:
        limits: Any = {"tolerance": tolerance, "max_iterations": max_iterations, "backend": backend}
        return fit(X[rows], y[rows], sample_weight=s, l2=l2, intercept=intercept, **limits)

    found = solve_problems(
        X,
        y,
        Problems(rows, s, starts, penalties),
        intercept=intercept,
        tolerance=tolerance,
        max_iterations=max_iterations,
        backend=chosen,
        alone=alone,
    )
    objective, gap, null = found.numbers.T
    return GroupFits(groups, found.weight, found.bias, objective, gap, gap / null, found.ending, sizes)


@dataclass(frozen=True)
class Problems:
    """M problems over one X.

    rows: [places] int64 row numbers on its device. sample_weight: [places] float64, above 0, or None for ones. starts:
    [M + 1], problem m has the places from starts[m] to starts[m + 1]. l2: [M] float64.
    """

    rows: Tensor
    sample_weight: Tensor | None
    starts: NDArray[np.int64]
    l2: NDArray[np.float64]

    def of(self, places: slice) -> tuple[Tensor, Tensor | None]:
        """Return the row numbers at these places, and their weights."""
        return self.rows[places], None if self.sample_weight is None else self.sample_weight[places]


@dataclass(frozen=True)
class Solutions:
    """weight [M, D] and bias [M] float64 on the device of X; numbers [M, 3] float64, P, the gap and the null model's P;
    ending [M], of `GroupFits`; iterations [M], evaluations after the first."""

    weight: Tensor
    bias: Tensor
    numbers: NDArray[np.float64]
    ending: NDArray[np.str_]
    iterations: NDArray[np.int64]


def solve_problems(
    X: Tensor,
    y: Tensor,
    problems: Problems,
    *,
    intercept: bool,
    tolerance: float,
    max_iterations: int,
    backend: str,
    alone: Callable[[Tensor, Tensor | None, float], Fit],
) -> Solutions:
    """Solve problems at once as far as they can be, and the others one by one.

    Args:
        X, y: as `checked` returns them; their values, and those of the problems, must have been looked at.
        problems: to be solved.
        intercept, tolerance, max_iterations: as for `fit`.
        backend: triton, numba or torch.
        alone: gives the fit of these rows, weights and l2 by itself.
    """
    device, l2 = X.device, problems.l2
    penalised = bool(l2.any())
    possible = (l2 >= LEAST_L2) | ((l2 == 0) & (not penalised or backend != "triton"))
    sizes = np.diff(problems.starts)
    small = possible & (sizes <= most_rows(X, backend))
    M = len(small)
    weight, bias = X.new_full((M, X.shape[1]), torch.nan, dtype=torch.float64), X.new_full((M,), torch.nan).double()
    record, ending = np.full((M, NUMBERS), np.nan), np.full(M, "one class")
    if small.any():
        rows, s = problems.of(slice(None))
        if not small.all():  # the others become problems without rows
            kept = torch.from_numpy(np.repeat(small, sizes)).to(device)
            rows, s = rows[kept], None if s is None else s[kept]
        starts = np.r_[0, np.cumsum(np.where(small, sizes, 0))]
        table, labels = X, y
        if M > _PROBLEMS and device.type == "cpu":  # as each call would make them
            table, labels = X.double(), y.double()
        for begin in range(0, M, _PROBLEMS):
            part = slice(begin, min(begin + _PROBLEMS, M))
            first, last = starts[part.start], starts[part.stop]
            found = program_of(backend)(
                table,
                labels,
                l2=torch.from_numpy(l2[part]).to(device) if penalised else 0.0,
                tolerance=tolerance,
                intercept=intercept,
                sample_weight=None if s is None else s[first:last],
                rows=rows[first:last],
                starts=torch.from_numpy(starts[part.start : part.stop + 1] - first).to(device),
                iterations=max_iterations,
            )
            weight[part], bias[part], record[part] = found.weight, found.bias, found.record[:, :NUMBERS].cpu().numpy()
    ended = record[:, 0] == TOLERANCE
    rounding, scales, null = record[:, 6], record[:, 7], record[:, 3]
    for m in np.flatnonzero(ended & (l2 > 0)):
        ended[m] = provable(0.0, l2[m], rounding[m], (0.0, scales[m]), tolerance=tolerance, null=null[m])[1]
    ending[ended] = "tolerance"
    numbers, iterations = record[:, 1:4].copy(), np.nan_to_num(record[:, 4]).astype(np.int64)
    for m in np.flatnonzero(~ended):
        rows, s = problems.of(slice(problems.starts[m], problems.starts[m + 1]))
        weight[m], bias[m], numbers[m] = torch.nan, torch.nan, np.nan
        if len(rows) == 0 or (intercept and _one_class(y[rows], s)):
            continue
        single = alone(rows, s, float(l2[m]))
        weight[m], bias[m] = single.weight, single.bias[0]
        numbers[m] = single.objective, single.gap, single.certificate.null_objective
        iterations[m] = single.iterations
        ending[m] = single.ending if single.separation is None else "separated"
    return Solutions(weight, bias, numbers, ending, iterations)


def _one_class(y: Tensor, s: Tensor | None) -> bool:
    """Return whether the mean label is 0 or 1, as it is to `fit`."""
    labels = y.to(torch.float64)
    mean = labels.mean() if s is None else (s * labels).sum() / s.sum()
    return not 0 < float(mean) < 1


def as_tensor(value: Tensor | ArrayLike, like: Tensor | None = None) -> Tensor:
    """Return a tensor as it is, and an array, copied only where torch cannot share it, on the device of `like`."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "USOMm":
        raise TypeError(f"an array of {array.dtype} was given; must hold numbers")
    shared = array.flags.writeable and min(array.strides, default=0) >= 0
    tensor = torch.from_numpy(array if shared else array.copy())
    return tensor if like is None else tensor.to(like.device)


def _sorted(group: Tensor | NDArray[Any], rows: int) -> tuple[Tensor, NDArray[Any], NDArray[np.int64]]:
    """Return the row numbers [N] by ascending group, the distinct values [G], and where each begins, [G + 1]."""
    if group.shape != (rows,):
        raise ValueError(f"group has the shape {list(group.shape)}; must be [{rows}], a value for each row of X")
    values: Any
    if isinstance(group, Tensor):
        values, order = torch.sort(group, stable=True)
        new = (values[1:] != values[:-1]).cpu().numpy()
    else:
        order = torch.from_numpy(np.argsort(group, kind="stable"))
        values = group[order.numpy()]
        new = values[1:] != values[:-1]
    if bool(values[-1] != values[-1]):
        raise ValueError("group holds NaN, which is no group; leave its rows out, or give them a value of their own")
    starts = np.r_[0, np.flatnonzero(new) + 1]
    distinct = values[starts].cpu().numpy() if isinstance(values, Tensor) else values[starts]
    return order, distinct, np.r_[starts, rows]


def _penalties(l2: float | ArrayLike, groups: int) -> NDArray[np.float64]:
    """Return l2 as [G] float64."""
    given = np.asarray(l2.cpu() if isinstance(l2, Tensor) else l2, dtype=np.float64)
    if given.ndim > 0 and given.shape != (groups,):
        raise ValueError(f"l2 has the shape {list(given.shape)}; must be one number, or [{groups}], one for each group")
    wrong = given[~((given >= 0) & (given < np.inf))]
    if wrong.size:
        raise ValueError(f"l2 is {wrong.flat[0]}; must be at least 0 and finite")
    return np.array(np.broadcast_to(given, (groups,)))


def _check_values(X: Tensor, y: Tensor, s: Tensor | None, group: Tensor | NDArray[Any]) -> None:
    """Raise ValueError for values that no fit can take, naming the first row and its group."""

    def check(name: str, fine: Tensor, problem: str) -> None:
        if not bool(fine.all()):
            row = int(torch.nonzero(~fine)[0, 0])
            raise ValueError(f"{name}[{row}], which is in group {group[row].tolist()}, {problem}")

    unused = torch.zeros_like(y, dtype=torch.bool) if s is None else s == 0
    if s is not None:
        check("sample_weight", (s >= 0) & (s < torch.inf), "is negative, infinite or NaN; weights must be at least 0")
    remedy = "correct it, leave the row out, or give it the weight 0"
    check("y", ((y >= 0) & (y <= 1)) | unused, f"is no label in [0, 1]; {remedy}")
    if X.device.type == "cpu" and X.dtype != torch.bfloat16:  # by NumPy: torch's threads, once woken, would keep a core
        finite = torch.from_numpy(np.isfinite(X.numpy()).all(axis=1))
    else:
        finite = X.isfinite().all(dim=1)
    check("X", finite | unused, f"holds a value that is not finite; {remedy}")
