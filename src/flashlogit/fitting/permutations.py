"""A permutation test of a fit: how good, and how large, its coefficients are where labels have nothing to do with X.

The labels are dealt out anew among the rows, and the model is fitted to each such table. With B of these the p-value of
a statistic is

    p = (1 + #{b: T_b >= T}) / (1 + B)

which is valid at any B, and is never 0 (Phipson and Smyth 2010, "Permutation P-values should never be zero").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from flashlogit_kernels.checks import check_matrix

from ..passes import BackendName, choose_backend
from ..system.errors import UserError
from .fit import checked, fit
from .groups import Problems, Solutions, as_tensor, solve_problems
from .task import Fit
from .tiny import most_rows

_LABELS = 1 << 22
"""Labels that are dealt out at a time, of as many permutations as they make: some 100 MB of numbers."""
_TIE = 1e-8
"""Statistics that differ by no more than this share of the observed one are equal but for rounding, and count as >=."""


@dataclass(frozen=True)
class PermutationTest:
    """What B permutations of the labels say of a fit.

    Permutations whose fit did not end at the tolerance, such as separated ones without a penalty, are NaN, and count as
    at least as large as what was observed: that makes p-values larger, never smaller.
    """

    statistic: float
    """The log-likelihood of the fit less that of the model with an intercept only, or without one of all p = 1/2, in
    nats: a sum over rows, without the penalty."""
    p_value: float
    """The p-value of `statistic`: labels have nothing to do with X."""
    coefficient: NDArray[np.float64]
    """[D], those of the fit."""
    coefficient_p_value: NDArray[np.float64]
    """[D], of each |w_j| under the same hypothesis. It is not that w_j = 0 beside other columns that have an effect."""
    null_statistic: NDArray[np.float64]
    """[B], the statistic of each permutation."""
    weight: Tensor
    """[B, D] float64 on the device of X, the coefficients of each permutation."""
    ending: NDArray[np.str_]
    """[B], how each fit ended, as in `GroupFits.ending`."""


def permutation_test(
    X: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    *,
    permutations: int = 1000,
    groups: Tensor | ArrayLike | None = None,
    sample_weight: Tensor | ArrayLike | None = None,
    l2: float = 0.0,
    intercept: bool = True,
    tolerance: float = 1e-6,
    seed: int = 0,
    backend: BackendName = "auto",
) -> PermutationTest:
    """Fit the model to labels in a random order, as often as asked for, and compare it with those in their own order.

    A table as small as `flashlogit.fit` fits at once, see its `backend`, has all its permutations fitted together: in
    one launch on a GPU, or on a CPU in as many threads as torch may use; X is held twice for that, once for each label.
    Those of a larger one are fitted one after the other.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, a tensor on any device or an array.
        y: [N] labels 0 and 1.
        permutations: B, at least 1.
        groups: [N] of any values that can be sorted: labels are exchanged within each group only, as where these differ
            in their share of ones for a reason of their own. Default: among all rows.
        sample_weight: [N], not negative; default ones. Weights stay with the rows of X; labels of rows of weight 0 are
            exchanged with none.
        l2, intercept, tolerance, backend: as for `fit`.
        seed: of NumPy's default generator.

    Raises:
        UserError: the fit of the labels in their own order has no optimum or did not end at the tolerance; or a backend
            that cannot be had.
        ValueError, TypeError: an argument outside of these bounds, or one that `fit` does not take.
    """
    for name, value, least in (("permutations", permutations, 1), ("seed", seed, 0)):
        if isinstance(value, bool | str) or not value >= least or value % 1 != 0:
            raise ValueError(f"{name} is {value!r}; must be a whole number of at least {least}")
    X = check_matrix(as_tensor(X))
    y, s = as_tensor(y, X), None if sample_weight is None else as_tensor(sample_weight, X)
    X, y, s = checked(X, y, s)
    of_rows = np.zeros(len(X)) if groups is None else np.asarray(groups.cpu() if isinstance(groups, Tensor) else groups)
    if (missing := np.array([each is None or each != each for each in of_rows.reshape(-1)])).any():
        raise ValueError(f"groups[{int(missing.argmax())}] is missing; each row must have a value")
    if of_rows.shape != (len(X),):
        raise ValueError(f"groups has the shape {list(of_rows.shape)}; must be [{len(X)}], a value for each row of X")
    counted = torch.ones(len(X), dtype=torch.bool, device=X.device) if s is None else s != 0
    if not bool(((y == 0) | (y == 1) | ~counted).all()):
        raise ValueError("y holds a label that is neither 0 nor 1; must be 0 and 1 to be exchanged")
    labels, of_rows = y[counted].cpu().numpy().astype(np.int64), of_rows[counted.cpu().numpy()]
    _, place = np.unique(of_rows, return_inverse=True)
    members = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    members = [rows for rows in members if len(rows) and labels[rows].min() < labels[rows].max()]
    if not members:
        raise ValueError("y has one label in each of the groups, and none can be exchanged; some must have both labels")
    options: Any = {"l2": l2, "intercept": intercept, "tolerance": tolerance, "backend": backend}
    whole = fit(X, y, sample_weight=s, **options)
    if not whole.converged:
        raise UserError(whole.notes[-1], setting="the fit of the labels in their own order")
    if s is not None:
        X, s = X if bool(counted.all()) else X[counted], s[counted].double()
    N, B = len(X), int(permutations)
    fits = _Fits(X, s, options)
    observed = fits(labels[None])
    generator, step = np.random.default_rng(seed), max(1, _LABELS // N)
    parts = []
    for begin in range(0, B, step):
        dealt = np.tile(labels, (min(step, B - begin), 1))
        for rows in members:
            dealt[:, rows] = generator.permuted(dealt[:, rows], axis=1)
        parts.append(fits(dealt))
    statistics, weight = np.concatenate([part.statistic for part in parts]), torch.cat([part.weight for part in parts])
    coefficient = observed.weight[0].cpu().numpy()
    return PermutationTest(
        statistic=float(observed.statistic[0]),
        p_value=float(_p_value(statistics, observed.statistic[0])),
        coefficient=coefficient,
        coefficient_p_value=_p_value(weight.abs().cpu().numpy(), np.abs(coefficient)),
        null_statistic=statistics,
        weight=weight,
        ending=np.concatenate([part.ending for part in parts]),
    )


def _p_value(null: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the statistics [B, ...] and the observed one [...] that are as large as that; NaN are."""
    smaller = null < observed - _TIE * np.abs(observed)
    return np.asarray((1 + (~smaller).sum(axis=0)) / (1 + len(null)))


@dataclass(frozen=True)
class _Found:
    """What n fits came to: statistic [n], weight [n, D] and ending [n]; NaN where one did not end at the tolerance."""

    statistic: NDArray[np.float64]
    weight: Tensor
    ending: NDArray[np.str_]


class _Fits:
    """Fits of X [N, D] with weights [N] float64, or None, to several vectors of labels at once."""

    def __init__(self, X: Tensor, s: Tensor | None, options: dict[str, Any]) -> None:
        self._X, self._weight, self._options = X, s, options
        self._backend = choose_backend(options["backend"], X.device).name
        # A problem is a choice of rows, and each row is there with either label. A larger table is not looked at.
        self._table = X.repeat(2, 1) if len(X) <= most_rows(X, self._backend) else X
        self._labels = torch.arange(2, device=X.device, dtype=torch.float64).repeat_interleave(len(X))

    def __call__(self, labels: NDArray[np.int64]) -> _Found:
        """Return the fits to labels [n, N]."""
        N, n, s, l2 = len(self._X), len(labels), self._weight, float(self._options["l2"])
        rows = torch.from_numpy((labels * N + np.arange(N)).reshape(-1)).to(self._X.device)
        weights = None if s is None else s.repeat(n)
        found: Solutions = solve_problems(
            self._table,
            self._labels,
            Problems(rows, weights, np.arange(n + 1) * N, np.full(n, l2)),
            intercept=self._options["intercept"],
            tolerance=self._options["tolerance"],
            max_iterations=1000,
            backend=self._backend,
            alone=self._alone,
        )
        value, _, null = found.numbers.T
        penalty = 0.5 * l2 * found.weight.square().sum(dim=1).cpu().numpy()
        statistic = (N if s is None else float(s.sum())) * (null - value + penalty)
        ended = found.ending == "tolerance"
        weight = torch.where(torch.from_numpy(ended).to(self._X.device)[:, None], found.weight, torch.nan)
        return _Found(np.where(ended, statistic, np.nan), weight, found.ending)

    def _alone(self, rows: Tensor, s: Tensor | None, l2: float) -> Fit:
        return fit(self._X, self._labels[rows], sample_weight=s, **self._options)
