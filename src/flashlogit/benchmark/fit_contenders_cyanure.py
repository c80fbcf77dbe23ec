"""cyanure's classifier; lambda_1 is l2 itself, the intercept is free, and its tolerance is on a duality gap.

Its limit counts passes over the data. float32 is left out: there it stops at gaps of 1e-8 to 1e-6.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .fit_contender import Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "cyanure"
_SOLVERS = ("acc-svrg", "qning-svrg", "catalyst-svrg", "qning-ista", "auto")
_TOLERANCES = tolerances(2, 12)


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    if device != "cpu":
        return []
    estimator = importlib.import_module("cyanure.estimators").Classifier
    return [_contender(data, estimator, solver) for solver in _SOLVERS]


def _contender(data: FitData, estimator: Any, solver: str) -> Contender:
    only = ladder("float64", _TOLERANCES, partial(_run, data, estimator, solver))
    return Contender(f"{FAMILY} {solver}", FAMILY, "cpu", [only], blas=True)


def _run(data: FitData, estimator: Any, solver: str, tolerance: float, most: int) -> Solution:
    model = estimator(
        loss="logistic",
        penalty="l2",
        lambda_1=data.l2,
        fit_intercept=True,
        solver=solver,
        tol=tolerance,
        max_iter=most,
        verbose=False,
    )
    with _silent():
        model.fit(data.matrix("float64"), data.labels())
    return solution(model.coef_, model.intercept_, model.n_iter_)


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing is printed: its C++ warns of numerical instability, about which the gap says more."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        try:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
