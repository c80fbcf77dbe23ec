"""flashlogit's own solvers. `auto` at the tolerance that is asked for is what the project is judged by."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .fit_contender import Contender, Entrant, FitData, Ladder, Rung, Solution, said, tolerances
from .fit_truth import REFERENCE_COLUMNS

FAMILY = "flashlogit"
_LOOSEST, _TIGHTEST = 3, 12


def contenders(data: FitData, device: str, gap: float) -> list[Entrant]:
    """`auto`, and each solver by name; `gap` is the relative gap that is asked for."""
    solvers = ["auto", "lbfgs", "newton-cg"]
    if data.problem.d <= REFERENCE_COLUMNS:
        solvers.insert(2, "newton")
    found: list[Entrant] = []
    for solver in solvers:
        ladder = Ladder("", _rungs(data, device, solver, gap))
        name = FAMILY if solver == "auto" else f"{FAMILY} {solver}"
        found.append(Contender(name, FAMILY, device, [ladder], ours=True, compiles=device == "cuda"))
    return found


def _rungs(data: FitData, device: str, solver: str, gap: float) -> list[Rung]:
    values = sorted({*tolerances(_LOOSEST, _TIGHTEST), gap}, reverse=True)
    # 10.0 ** -8 is not always 1e-8: of two that are the same but for rounding, the one asked for stays.
    values = [value for value in values if value == gap or abs(value / gap - 1) > 1e-9]
    return [
        Rung(
            said(value),
            partial(_run, data, device, solver, value),
            headline=solver == "auto" and value == gap,
        )
        for value in values
    ]


def _run(data: FitData, device: str, solver: Any, tolerance: float) -> Solution:
    from ..fitting.fit import fit

    X, y = data.tensors(device, torch.float32, torch.uint8)
    result = fit(X, y, l1=0.0, l2=data.l2, tolerance=tolerance, solver=solver)
    weight, bias = result.weight.cpu().numpy(), float(result.bias)
    return Solution(weight, bias, result.passes, result.iterations, result.solver)
