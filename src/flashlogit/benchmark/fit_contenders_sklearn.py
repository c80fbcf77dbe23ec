"""scikit-learn's LogisticRegression: every solver on the CPU, and L-BFGS on arrays of a GPU."""

from __future__ import annotations

import importlib
import os
from functools import partial
from typing import Any

import torch

from .fit_contender import (
    Absent,
    Contender,
    Entrant,
    FitData,
    Ladder,
    Rung,
    Solution,
    growing,
    ladder,
    solution,
    tolerances,
)

FAMILY = "scikit-learn"
INTERCEPT_SCALING = 100.0
"""Of liblinear: the intercept's penalty is divided by the square of this."""
SCIPY_SWITCH = "SCIPY_ARRAY_API"
"""The environment's variable without which SciPy, once imported, takes no arrays but NumPy's."""

_DTYPES = ("float64", "float32")
_TOLERANCES = {
    "lbfgs": tolerances(2, 10),
    "newton-cg": tolerances(1, 8),
    "newton-cholesky": tolerances(1, 8),
    "liblinear": tolerances(1, 10),
}
_EPOCHS = growing(1, 5000)
_NO_TOLERANCE = 1e-14


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    if device == "cuda":
        return [_on_gpu(data)]
    return [
        *(_newtonlike(data, solver) for solver in _TOLERANCES),
        *(_stochastic(data, s) for s in ("sag", "saga")),
    ]


def _newtonlike(data: FitData, solver: str) -> Contender:
    options: dict[str, Any] = {}
    dtypes: tuple[str, ...] = _DTYPES
    note = ""
    if solver == "liblinear":
        options["intercept_scaling"] = INTERCEPT_SCALING
        dtypes = ("float64",)
        note = f"penalises the intercept: intercept_scaling={INTERCEPT_SCALING:g} makes that negligible"
    ladders = [
        ladder(dtype, _TOLERANCES[solver], partial(_run, data, dtype, solver=solver, **options))
        for dtype in dtypes
    ]
    return Contender(f"{FAMILY} {solver}", FAMILY, "cpu", ladders, blas=True, note=note)


def _stochastic(data: FitData, solver: str) -> Contender:
    """Their epochs are the ladder: no tolerance bounds how long one setting takes."""
    ladders = [
        Ladder(
            dtype,
            [
                Rung(
                    f"{epochs} epochs",
                    partial(_run, data, dtype, _NO_TOLERANCE, epochs, solver=solver, random_state=0),
                )
                for epochs in _EPOCHS
            ],
        )
        for dtype in _DTYPES
    ]
    return Contender(f"{FAMILY} {solver}", FAMILY, "cpu", ladders, blas=True)


def _run(data: FitData, dtype: str, tolerance: float, most: int, **options: Any) -> Solution:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=data.C, tol=tolerance, max_iter=most, **options).fit(
        data.matrix(dtype), data.labels()
    )
    return solution(model.coef_, model.intercept_, model.n_iter_)


def _on_gpu(data: FitData) -> Entrant:
    name = f"{FAMILY} lbfgs, array API"
    model = importlib.import_module("sklearn.linear_model").LogisticRegression()
    if not getattr(model.__sklearn_tags__(), "array_api_support", False):
        return Absent(
            name, FAMILY, "cuda", "skipped", "this version's LogisticRegression takes no arrays of a GPU"
        )
    if os.environ.get(SCIPY_SWITCH) != "1":
        return Absent(name, FAMILY, "cuda", "skipped", f"needs {SCIPY_SWITCH}=1 in the environment")
    ladders = [
        ladder(
            str(dtype).removeprefix("torch."),
            _TOLERANCES["lbfgs"],
            partial(_run_array_api, data, "cuda", dtype),
        )
        for dtype in (torch.float64, torch.float32)
    ]
    return Contender(name, FAMILY, "cuda", ladders)


def _run_array_api(data: FitData, device: str, dtype: torch.dtype, tolerance: float, most: int) -> Solution:
    import sklearn
    from sklearn.linear_model import LogisticRegression

    X, y = data.tensors(device, dtype, torch.int64)
    with sklearn.config_context(array_api_dispatch=True):
        model = LogisticRegression(C=data.C, solver="lbfgs", tol=tolerance, max_iter=most).fit(X, y)
    return solution(_host(model.coef_), _host(model.intercept_), _host(model.n_iter_))


def _host(array: Any) -> Any:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array
