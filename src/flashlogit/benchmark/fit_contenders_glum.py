"""glum's generalised linear model with a binomial family; alpha is l2 itself, the intercept is free."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any, Literal

from .fit_contender import Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "glum"
_Order = Literal["C", "F"]
_VARIANTS: dict[str, list[tuple[str, _Order]]] = {
    "irls-ls": [("float64", "C"), ("float64", "F"), ("float32", "C"), ("float32", "F")],
    "lbfgs": [("float64", "C"), ("float32", "C")],
}
_TOLERANCES = tolerances(1, 10)


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    if device != "cpu":
        return []
    estimator = importlib.import_module("glum").GeneralizedLinearRegressor
    return [_contender(data, estimator, solver) for solver in _VARIANTS]


def _contender(data: FitData, estimator: Any, solver: str) -> Contender:
    ladders = [
        ladder(
            dtype if order == "C" else f"{dtype}, column-major",
            _TOLERANCES,
            partial(_run, data, estimator, dtype, order, solver),
        )
        for dtype, order in _VARIANTS[solver]
    ]
    return Contender(f"{FAMILY} {solver}", FAMILY, "cpu", ladders, blas=True)


def _run(
    data: FitData, estimator: Any, dtype: str, order: _Order, solver: str, tolerance: float, most: int
) -> Solution:
    model = estimator(
        family="binomial", alpha=data.l2, l1_ratio=0.0, solver=solver, gradient_tol=tolerance, max_iter=most
    ).fit(data.matrix(dtype, order), data.labels(dtype))
    return solution(model.coef_, model.intercept_, model.n_iter_)
