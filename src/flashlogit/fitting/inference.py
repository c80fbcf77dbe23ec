"""Standard errors of a fit without a penalty, and what follows from them.

At the maximum of the likelihood the covariance of the coefficients is about the inverse of the observed information,

    Cov(w, b) = [ sum_i s_i p_i (1 - p_i) (x_i, 1) (x_i, 1)^T ]^-1,

and coefficient / standard error about standard normal under the hypothesis that the coefficient is 0 (Wald's test).
With a penalty neither holds, and at separated classes there is no maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..objectives.logistic import Logistic
from ..objectives.objective import Objective
from ..passes import BackendName, choose_backend
from ..solvers.proximal import factor
from ..system.errors import UserError

MAX_COLUMNS = 4096
"""The information is a matrix of so many rows and columns."""
_SINGULAR = 1e-12
"""Largest share of the largest curvature that collinear columns leave of a pivot, in coordinates of unit curvature."""


@dataclass(frozen=True)
class Inference:
    """Wald's statistics, [D + 1] float64 each, the intercept's last; [D] without an intercept.

    coefficient and standard_error in the units of X; z is their ratio and p_value two-sided; ci_low and ci_high are the
    interval of the confidence `level`.
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
        UserError: more than `MAX_COLUMNS` columns, or collinear ones, whose coefficients the data leave free.
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
    information = objective.hessian(theta, dtype=torch.float64) * loss.weight_sum
    L = factor(information)[0]
    # Against the largest size, and not each column's own: a constant column has none. At the null model the sizes are
    # alike in these coordinates; one a million times smaller at the fit is a category whose rows are all but certain.
    size = information[0].diagonal().amax().sqrt()
    if not bool((L.diagonal() > _SINGULAR**0.5 * size).all()):
        problem = "columns are collinear, or all but: the data leave their coefficients free, without standard errors"
        raise UserError(problem, setting="X", remedy="leave out dependent columns")
    # Rows of what turns theta into (w, b): the variance of a row's product is |L^-1 row|^2.
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
    error = torch.linalg.solve_triangular(L, rows.t(), upper=False).norm(dim=0)
    return Inference.of(coefficient.cpu().numpy(), error.cpu().numpy(), level)
