"""RAPIDS cuML's LogisticRegression, on arrays that are on the GPU already."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch

from .fit_contender import Contender, Entrant, FitData, Solution, ladder, solution, tolerances

FAMILY = "cuML"
_TOLERANCES = tolerances(2, 12)


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    if device != "cuda":
        return []
    estimator = importlib.import_module("cuml.linear_model").LogisticRegression
    ladders = [
        ladder(str(dtype).removeprefix("torch."), _TOLERANCES, partial(_run, data, estimator, dtype))
        for dtype in (torch.float64, torch.float32)
    ]
    return [Contender(f"{FAMILY} qn", FAMILY, "cuda", ladders, compiles=True)]


def _run(data: FitData, estimator: Any, dtype: torch.dtype, tolerance: float, most: int) -> Solution:
    # Labels in the dtype of X, as its solver wants them.
    X, y = data.tensors("cuda", dtype, dtype)
    cupy = importlib.import_module("cupy")
    model = estimator(C=data.C, tol=tolerance, max_iter=most, output_type="numpy").fit(
        cupy.asarray(X), cupy.asarray(y)
    )
    return solution(model.coef_, model.intercept_, getattr(model, "n_iter_", None))
