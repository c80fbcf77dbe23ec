"""Standard errors of a fit without a penalty, and what follows from them.

At the maximum of the likelihood the covariance of the coefficients is about the inverse of the observed information,

    Cov(w, b) = [ sum_i s_i p_i (1 - p_i) (x_i, 1) (x_i, 1)^T ]^-1,

and coefficient / standard error about standard normal under the hypothesis that the coefficient is 0 (Wald's test).
With a penalty neither holds, and at separated classes there is no maximum.

Of collinear columns the information H is singular, and all maxima differ by its null space. The data identify a
coefficient e_j . w if it is the same at all of them, which is to say if e_j is orthogonal to the null space; its
variance is then e_j^T H^+ e_j for any generalised inverse H^+ (estimable functions: Searle, Linear Models, 1971, 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..objectives.logistic import Logistic
from ..objectives.objective import Objective
from ..passes import BackendName, choose_backend
from ..solvers.proximal import try_factor
from ..system.errors import UserError, listing

MAX_COLUMNS = 4096
"""The information is a matrix of so many rows and columns."""
_SINGULAR = 1e-12
"""Share of the largest eigenvalue, and for a pivot of the largest entry of the diagonal, below which one counts as 0;
in coordinates of unit curvature, for which `find_collinear` has the same bound. Exactly collinear columns leave 6e-16.
A column that differs from another by 1e-5 of its deviation leaves 5e-11, and standard errors that are right to 6e-5, by
1e-4 to 4e-7."""
_LEAKED = 1e-2
"""Share of its variance above which a coefficient is not identified: what the directions of such eigenvalues add to it.
For 6 to 256 columns rounding added up to 3e-16 in float64 and 5e-5 to columns that were collinear in float32 but for
their own rounding; to coefficients that are not identified it added at least 1e10."""


@dataclass(frozen=True)
class Inference:
    """Wald's statistics, [D + 1] float64 each, the intercept's last; [D] without an intercept.

    coefficient and standard_error in the units of X; z is their ratio and p_value two-sided; ci_low and ci_high are the
    interval of the confidence `level`. All but the coefficient are NaN where the data do not identify it.
    """

    coefficient: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    z: NDArray[np.float64]
    p_value: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    level: float

    @classmethod
    def of(cls, coefficient: NDArray[np.float64], standard_error: NDArray[np.float64], level: float) -> Inference:
        """Return the statistics of coefficients and their standard errors."""
        z = coefficient / standard_error
        reach = -NormalDist().inv_cdf(0.5 * (1 - level)) * standard_error
        p_value = np.array([math.erfc(size) for size in np.abs(z / math.sqrt(2))])
        return cls(coefficient, standard_error, z, p_value, coefficient - reach, coefficient + reach, level)

    def unidentified(self, names: Sequence[str]) -> list[str]:
        """Return those of the coefficients' names that have no standard error; `names` is in their order."""
        return [name for name, error in zip(names, self.standard_error.tolist(), strict=False) if math.isnan(error)]


def not_identified(names: Sequence[str]) -> str:
    """Return in one line without a full stop why the coefficients of these names have no standard errors."""
    return f"the data do not identify the coefficients of {listing(names)}, which have no standard errors"


def infer(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    sample_weight: Tensor | None = None,
    intercept: bool = True,
    level: float = 0.95,
    mean: Tensor | None = None,
    scale: Tensor | None = None,
    backend: BackendName = "auto",
) -> Inference:
    """Return standard errors, z and p values and confidence intervals at the optimum of an unpenalised fit, for one
    pass over X.

    Args:
        X: [N, D] of any floating dtype, as it was fitted.
        y: [N] labels in [0, 1].
        weight: [D], the optimum.
        bias: [1].
        sample_weight: [N]; a row of weight 2 counts as two rows (statsmodels' `freq_weights`).
        intercept: whether the fit had one.
        level: of the confidence intervals, between 0 and 1.
        mean, scale: [D] float64, if X is (raw - mean) / scale of raw columns whose coefficients are to be described.
        backend: as for `flashlogit.fit`.

    Raises:
        UserError: more than `MAX_COLUMNS` columns, or numbers so large that the information is not finite.
        ValueError: a level that is none.
    """
    D = X.shape[1]
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; must lie between 0 and 1, such as 0.95")
    if D > MAX_COLUMNS:
        problem = f"there are {D:,} columns; standard errors are computed for at most {MAX_COLUMNS:,}"
        raise UserError(problem, setting="X", remedy="leave out columns")
    passes = choose_backend(backend, X.device).passes
    loss = Logistic.of(y, sample_weight, passes, intercept=intercept)
    objective = Objective.of(X, loss, l1=0.0, l2=0.0)
    coordinates = objective.design.coordinates
    weight, bias = weight.to(X.device, torch.float64), bias.to(X.device, torch.float64)
    theta = objective.from_user(weight.reshape(-1, 1), bias.reshape(1))
    information = objective.hessian(theta, dtype=torch.float64)[0] * loss.weight_sum
    # Rows of what turns theta into (w, b).
    factors, center = coordinates.scale, coordinates.center
    coefficient = torch.cat([weight.reshape(-1), bias.reshape(-1)]) if intercept else weight.reshape(-1)
    if scale is not None:
        scale = scale.to(X.device)
        moved = center if mean is None else mean.to(X.device) + scale * center
        if intercept and mean is not None:
            coefficient[D] -= (weight.reshape(-1) / scale) @ mean.to(X.device)
        coefficient[:D] /= scale
        factors = torch.cat([factors[:D] / scale, factors[D:]])
        center = moved
    rows = torch.diag(factors)
    if intercept:
        rows[D, :D] = -center * factors[:D]
    error = _standard_errors(information, rows, torch.finfo(X.dtype).eps)
    return Inference.of(coefficient.cpu().numpy(), error.cpu().numpy(), level)


def _standard_errors(information: Tensor, rows: Tensor, eps: float) -> Tensor:
    """Return the standard errors [m] of the products of rows [m, P] with theta, whose information is [P, P]; NaN where
    it does not identify one.

    eps: the rounding error of X, in which exactly collinear columns are collinear.

    Raises:
        UserError: an information that is not finite.
    """
    if not bool(information.isfinite().all()):
        problem = "sums over the rows are not finite, without which there are no standard errors"
        raise UserError(problem, setting="X", remedy="rescale the columns or the weights")
    L, found = try_factor(information[None])
    # Against the largest size, and not each column's own: a constant column has none. At the null model the sizes are
    # alike in these coordinates; one a million times smaller at the fit is a category whose rows are all but certain.
    size = information.diagonal().amax().sqrt()
    if bool(found.all() & (L[0].diagonal() > _SINGULAR**0.5 * size).all()):
        errors: Tensor = torch.linalg.solve_triangular(L[0], rows.t(), upper=False).norm(dim=0)
        return errors
    # It takes fourteen times as long as the factor (2.4 s for 2,048 columns in one thread), which does not tell of the
    # columns that are fine.
    values, vectors = torch.linalg.eigh(information)
    null = values <= _SINGULAR * values[-1]
    # What rounding may leave of an eigenvalue of 0. Of a smaller one, rounding errors of `vectors` would count.
    least = max(torch.finfo(torch.float64).eps, min(10 * eps**2, _SINGULAR))
    parts = (rows @ vectors).square() / values.clamp(min=least * values[-1])
    variance = parts[:, ~null].sum(dim=1)
    identified = parts[:, null].sum(dim=1) <= _LEAKED * variance
    return torch.where(identified, variance.sqrt(), torch.nan)
