"""Fits on a GPU reach what fits on the CPU do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flashlogit.fitting.fit import fit

SOLVERS = [("newton", 0.0), ("lbfgs", 0.0), ("newton-cg", 0.0), ("lbfgs", 1e-3)]


def data(n: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn((n, d), generator=generator)
    truth = torch.randn(d, generator=generator) / d**0.5
    return X, (torch.rand(n, generator=generator) < torch.sigmoid(X @ truth)).double()


def check(n: int, d: int, solver: Any, l1: float, device: torch.device) -> None:
    """The fit on `device` against one on the CPU."""
    X, y = data(n, d)
    there = fit(X.to(device), y.to(device), l1=l1, l2=1e-3, solver=solver, tolerance=1e-10)
    here = fit(X, y, l1=l1, l2=1e-3, tolerance=1e-12)
    assert there.converged, there.notes
    assert there.weight.device == X.to(device).device
    assert torch.linalg.norm(there.weight.cpu() - here.weight) < 1e-4 * torch.linalg.norm(here.weight)


@pytest.mark.gpu
@pytest.mark.parametrize(("solver", "l1"), SOLVERS)
@pytest.mark.parametrize(("n", "d"), [(569, 30), (50_000, 100)])
def test_on_a_gpu(n: int, d: int, solver: str, l1: float, device: torch.device) -> None:
    check(n, d, solver, l1, device)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device")
@pytest.mark.parametrize(("solver", "l1"), SOLVERS)
def test_on_a_gpu_that_is_not_the_current_one(solver: str, l1: float) -> None:
    with torch.cuda.device(0):
        check(569, 30, solver, l1, torch.device("cuda", 1))
