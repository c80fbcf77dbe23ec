"""Many models over one X: targets x penalties x folds, solved side by side for a few reads of X.

Every model minimises the objective of `flashlogit.fit`, or `flashlogit.fit_softmax`, over the rows that train it. Those
with a penalty are stepped together (`flashlogit.solvers.many`), or, of small tables and without an l1 term, fitted at
once (`flashlogit.fitting.tiny`); softmaxes with an l1 term, models without a penalty, and whatever does not reach its
tolerance there are fitted one after the other, each from its neighbour on the path of penalties.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.checks import check_matrix
from flashlogit_kernels.compiling import compile_seconds
from flashlogit_kernels.models import MISSING, MOST_CLASSES, NO_FOLD, missing_code

from ..objectives.design import what_is_not_finite
from ..objectives.row_loss import check_weights
from ..passes import BackendName, choose_backend
from ..reference import row_blocks
from .folds import Folds, make_folds
from .grid import Floats, ManyFits, Selection, TargetFits, choose
from .groups import as_tensor
from .many_task import ManyTask
from .task import FitOptions

__all__ = ["ManyFits", "TargetFits", "fit_many"]

_MEASURED_ROWS = 1024
"""Rows that count by which the sizes of columns are judged."""
_FAR = 1e3
"""A value of a row that counts for no model is far off where it is so many times as large as theirs: columns are
measured by a sample of all rows with a weight, and of 1,024 rows one such value makes a deviation 30 times as large."""
Told = Callable[[int, int], object]
"""Called with the numbers of models that are done, and of all."""


def fit_many(
    X: Any,
    Y: Any,
    *,
    l2: float | Sequence[float] | None = None,
    C: float | Sequence[float] | None = None,
    l1_ratio: float = 0.0,
    folds: int | Sequence[Any] | NDArray[Any] | Iterable[tuple[Any, Any]] | None = None,
    groups: Any = None,
    time: Any = None,
    sample_weight: Any = None,
    intercept: bool = True,
    standardize: bool = False,
    classes: int | None = None,
    targets: Sequence[str] | None = None,
    scores: Literal["all", "loss"] = "all",
    select: Selection = "best",
    refit: bool = True,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    seed: int = 0,
    backend: BackendName = "auto",
    on_done: Told | None = None,
) -> ManyFits:
    """Fit a model for each target, penalty and fold, and choose a penalty for each target.

        P(W, b) = 1/S sum_i s_i loss_i + l1 ||W||_1 + l2/2 ||W||_F^2,      S = sum_i s_i

    over the rows that train the model. X is read once for all models that are being stepped, and not copied, but where
    a row of weight 0, or without any label, holds a value that is not finite or is far larger than those of other rows:
    such rows do not count, and the others are copied.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, a tensor on any device or a NumPy array.
        Y: [N] or [N, T]: labels 0 and 1, or class numbers from 0 on for a softmax. NaN is a label that is missing: the
            row then counts for the other targets.
        l2: one or more penalties; with l1_ratio > 0 the sums l1 + l2, of which l1 is the share l1_ratio.
        C: scikit-learn's in their place: 1 / (C S), with S of each model's own rows; infinity is no penalty. Default:
            l2 of 20 numbers from 1e-6 to 100, evenly spread by their logarithms.
        l1_ratio: from 0 to 1.
        folds, groups, time: see `flashlogit.fitting.folds.make_folds`. With folds a model of each penalty is fitted for
            each of them.
        sample_weight: [N], at least 0.
        intercept: whether b is free, else it is 0. It is not penalised.
        standardize: whether the penalty is on weights of columns scaled to a standard deviation of 1 over the model's
            own training rows. Coefficients are those of the columns as they are, all the same.
        classes: C of all targets; default: for each target 2, or what its largest label asks for.
        targets: [T] names; default y, or y0, y1, ...
        scores: whether held-out rows give accuracies and areas too, which takes another read of X and, with millions of
            rows, as long as the fits; "loss" leaves these NaN.
        select: by the least mean held-out loss, or the strongest penalty within one standard error of it.
        refit: whether to fit the chosen penalty on all rows.
        tolerance: on each duality gap relative to the intercept-only model's objective.
        max_iterations: evaluations of each model, at most.
        seed: of random folds.
        backend: as for `flashlogit.fit`.
        on_done: called with the number of models that are done, and of all.

    Raises:
        UserError: a backend that cannot be had.
        ValueError: an argument outside of these bounds, naming it, or values that are not finite in rows that count.
        TypeError: a dtype that cannot be used.
    """
    began, compiled = clock.perf_counter(), compile_seconds()
    if hasattr(X, "toarray"):
        raise TypeError("X is a sparse matrix; must be dense, as X.toarray() is")
    X = as_tensor(X)
    X = check_matrix(X if X.is_floating_point() or X.is_complex() else X.double())
    FitOptions(0.0, 0.0, "auto", tolerance, max_iterations, None, None, None)  # which checks them
    codes, names, largest = _codes(Y, X, targets, classes or 2)
    penalties, penalty = _penalties(l2, C, l1_ratio)
    host = [None if each is None else np.asarray(each) for each in (groups, time)]
    of_folds = make_folds(folds, codes, groups=host[0], time=host[1], seed=seed)
    s = _weights(sample_weight, X)
    X, codes, s, rows_of_folds = _counting(X, codes, s, of_folds)
    if scores not in ("all", "loss"):
        raise ValueError(f"scores is {scores!r}; must be 'all' or 'loss'")
    if select not in ("best", "one_standard_error"):
        raise ValueError(f"select is {select!r}; must be 'best' or 'one_standard_error'")
    task = ManyTask(
        X,
        codes,
        s,
        choose_backend(backend, X.device),
        l1_ratio=float(l1_ratio),
        by_C=penalty == "C",
        intercept=intercept,
        standardize=standardize,
        tolerance=tolerance,
        iterations=max_iterations,
        areas=scores == "all",
    )
    counts = [_class_count(most, name, classes) for most, name in zip(largest, names, strict=True)]
    total = len(names) * len(penalties) * of_folds.count
    scored = bool((of_folds.held != NO_FOLD).all())
    total += len(names) if scored and refit else 0
    task.told = None if on_done is None else lambda done: on_done(done, total)
    found: dict[str, TargetFits] = {}
    for size in sorted(set(counts)):
        these = [t for t, count in enumerate(counts) if count == size]
        fits = task.solve(these, [names[t] for t in these], size, penalties[None].repeat(len(these), 0), rows_of_folds)
        if scored:
            chosen = [choose(of, select) for of in fits]
            fits = [replace(of, best=best) for of, best in zip(fits, chosen, strict=True)]
            if refit:
                fits = task.refit(these, fits, size, penalties)
        found |= {of.name: of for of in fits}
    compiling = compile_seconds() - compiled
    return ManyFits(
        targets={name: found[name] for name in names},
        penalties=penalties,
        penalty=penalty,
        l1_ratio=float(l1_ratio),
        folds=of_folds if scored else None,
        passes=task.passes,
        seconds=clock.perf_counter() - began - compiling,
        compile_seconds=compiling,
        bytes_read=task.passes * X.numel() * X.element_size(),
        tolerance=tolerance,
    )


def _codes(Y: Any, X: Tensor, names: Sequence[str] | None, classes: int) -> tuple[Tensor, list[str], list[int]]:
    """Return labels as bytes, or two each, on the device of X, [T, N], the targets' names, and each one's largest
    label."""
    if not isinstance(Y, Tensor):
        Y = np.asarray(Y)
        Y = Y.astype(np.float64) if Y.dtype == object else Y
        if Y.dtype.kind not in "buif":
            raise TypeError(f"Y is {Y.dtype}; must be numbers: 0 and 1, or class numbers; NaN for a missing label")
    Y, N = as_tensor(Y).detach().to(X.device), len(X)
    Y = Y if Y.is_floating_point() or Y.is_complex() or Y.dtype in (torch.bool, torch.uint8) else Y.long()
    if Y.ndim not in (1, 2) or len(Y) != N or Y.numel() == 0 or Y.is_complex():
        raise ValueError(f"Y is {list(Y.shape)} of {Y.dtype}; must be [{N}] or [{N}, T] numbers, a row for each of X's")
    Y = Y.reshape(N, -1).t()
    T = len(Y)
    found = ["y"] if T == 1 and names is None else [f"y{t}" for t in range(T)] if names is None else list(names)
    if len(found) != T or len(set(found)) != T:
        raise ValueError(f"targets is {found}; must be {T} different names, one for each column of Y")
    known = ~Y.isnan()
    counted = torch.where(known, Y, 0)
    wrong = (counted < 0) | (counted >= MOST_CLASSES) | (counted != counted.floor()) if Y.is_floating_point() else None
    if wrong is None:
        wrong = (counted < 0) | (counted >= MOST_CLASSES) if Y.dtype != torch.bool else torch.zeros_like(Y)
    if bool(wrong.any()):
        t, row = wrong.nonzero()[0].tolist()
        value = float(Y[t, row])
        raise ValueError(
            f"target {found[t]} has the label {value:g}; must be whole numbers from 0 to {MOST_CLASSES - 1}"
        )
    some, largest = known.any(dim=1).tolist(), [int(each) for each in counted.amax(dim=1).tolist()]
    codes = counted.to(torch.uint8 if max(*largest, classes - 1) < MISSING else torch.int16)
    if not all(some):
        raise ValueError(f"target {found[some.index(False)]} has no label; must have some")
    return torch.where(known, codes, missing_code(codes)).contiguous(), found, largest


def _counting(X: Tensor, codes: Tensor, s: Tensor | None, folds: Folds) -> tuple[Tensor, Tensor, Tensor | None, Folds]:
    """Return the rows that count for some model, where one that counts for none holds what may not be summed up with
    theirs or measured beside it; else all rows as they are.

    Raises:
        ValueError: values that are not finite in rows that count.
    """
    idle = (codes == missing_code(codes)).all(dim=0)
    idle = idle if s is None else idle | (s == 0)
    others = idle.nonzero()[:, 0]
    if len(others) in (0, len(idle)):
        return X, codes, s, folds
    rows = (~idle).nonzero()[:, 0]
    sizes = X[rows[:: max(1, len(rows) // _MEASURED_ROWS)]].double().abs().amax(dim=0)
    bound = _FAR * torch.where(sizes > 0, sizes, sizes.max())
    if all(bool((block.abs() <= bound).all()) for _, block in row_blocks(X, torch.float64, rows=others)):
        return X, codes, s, folds
    counting = X.index_select(0, rows)
    if not bool(counting.isfinite().all()):
        raise ValueError(what_is_not_finite(X, rows=rows))
    host = rows.cpu().numpy()
    folds = replace(folds, codes=np.ascontiguousarray(folds.codes[:, host]))
    return counting, codes[:, rows], None if s is None else s[rows], folds


def _class_count(largest: int, name: str, classes: int | None) -> int:
    """Return C of a target with this largest label."""
    most = max(2, largest + 1)
    if classes is not None and not most <= classes <= MOST_CLASSES:
        raise ValueError(f"classes is {classes}; must be {most} to {MOST_CLASSES} for target {name}")
    return most if classes is None else classes


def _penalties(l2: Any, C: Any, l1_ratio: float) -> tuple[Floats, Literal["l2", "C"]]:
    """Return the penalties, ascending, and what they are."""
    if l2 is not None and C is not None:
        raise ValueError("l2 and C are both given; each sets the penalties: give one")
    if not 0 <= float(l1_ratio) <= 1:
        raise ValueError(f"l1_ratio is {l1_ratio!r}; must be from 0 to 1")
    name: Literal["l2", "C"] = "l2" if C is None else "C"
    given = np.logspace(-6, 2, 20) if l2 is None and C is None else np.atleast_1d(np.asarray(l2 if C is None else C))
    values = np.unique(given.astype(np.float64))
    # An infinite C is no penalty.
    finite = np.isfinite(values) | ((name == "C") & (values == math.inf))
    if given.ndim != 1 or not len(values) or not (finite.all() and values[0] >= 0):
        raise ValueError(f"{name} is {given.tolist()}; must be numbers of at least 0, and finite")
    if name == "C" and values[0] == 0:
        raise ValueError("C is 0 for some models; must be above 0")
    return values, name


def _weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """Return the weights on the device of X, float32 or float64."""
    if sample_weight is None:
        return None
    s = as_tensor(sample_weight).detach().to(X.device)
    s = s if s.dtype in (torch.float32, torch.float64) else s.double()
    if s.shape != (len(X),):
        raise ValueError(f"sample_weight is {list(s.shape)}; must be [{len(X)}]")
    check_weights(negative=not bool((s >= 0).all()), total=float(s.sum()))
    return s.contiguous()
