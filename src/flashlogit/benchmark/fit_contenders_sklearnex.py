"""scikit-learn-intelex: its own LogisticRegression, which leaves scikit-learn's as it is."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from .fit_contender import Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "scikit-learn-intelex"
_TOLERANCES = {"lbfgs": tolerances(2, 10), "newton-cg": tolerances(1, 8)}


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    if device != "cpu":
        return []
    estimator = importlib.import_module("sklearnex.linear_model").LogisticRegression
    return [_contender(data, estimator, solver) for solver in _TOLERANCES]


def _contender(data: FitData, estimator: Any, solver: str) -> Contender:
    ladders = [
        ladder(dtype, _TOLERANCES[solver], partial(_run, data, estimator, dtype, solver))
        for dtype in ("float64", "float32")
    ]
    return Contender(f"{FAMILY} {solver}", FAMILY, "cpu", ladders, blas=True)


def _run(data: FitData, estimator: Any, dtype: str, solver: str, tolerance: float, most: int) -> Solution:
    model = estimator(C=data.C, solver=solver, tol=tolerance, max_iter=most).fit(
        data.matrix(dtype), data.labels()
    )
    return solution(model.coef_, model.intercept_, model.n_iter_)
