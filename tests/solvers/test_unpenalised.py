"""Fits without a penalty: the Newton decrement, separated classes, collinear columns."""

from __future__ import annotations

import numpy as np
import problems
import pytest
import torch
from sklearn.datasets import make_classification

from flashlogit.fitting.fit import fit

SOLVERS = ("newton", "lbfgs", "newton-cg")


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_decrement_tells_the_distance(solver: str) -> None:
    problem = problems.problem("easy", "l2", True)
    X, y, _ = problem.tensors()
    free = problems.Problem(problem.X, problem.y)
    rough = fit(X, y, solver=solver, tolerance=1e-4)
    exact = fit(X, y, solver=solver, tolerance=1e-13)
    assert rough.converged
    assert exact.converged
    assert exact.certificate.kind == "decrement"
    assert "no finite certificate" in exact.certificate.sentence()
    best = free.optimum()
    assert exact.objective == pytest.approx(best, abs=1e-12)
    # Near the optimum the decrement is the gap of the quadratic model.
    assert rough.gap == pytest.approx(rough.history[-1]["objective"] - best, rel=0.2, abs=1e-13)
    # The Newton step that measures it is taken, and brings the distance to about its square.
    assert rough.objective - best < 0.02 * rough.gap


@pytest.mark.parametrize("solver", SOLVERS)
def test_complete_separation_is_proven_at_once(solver: str) -> None:
    problem = problems.separable()
    X, y, _ = problem.tensors()
    result = fit(X, y, solver=solver, tolerance=1e-9)
    assert result.ending == "separated"
    assert not result.converged
    assert result.separation is not None
    assert result.separation.kind == "complete"
    margins = (2 * y - 1) * (X @ result.weight + result.bias)
    assert margins.min() > 0
    assert "completely separated" in result.notes[-1]
    assert result.iterations < 60


def test_the_breast_cancer_set_is_separable() -> None:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    result = fit(torch.from_numpy(data.data), torch.from_numpy(data.target), names=list(data.feature_names))
    assert result.separation is not None
    assert result.separation.kind == "complete"
    margins = (2 * data.target - 1) * (data.data @ result.weight.numpy() + float(result.bias))
    assert margins.min() > 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_quasi_complete_separation_is_proven_by_a_programme(solver: str) -> None:
    """A dummy column that is 1 for positive rows only: the loss has an infimum and no optimum."""
    problem = problems.easy()
    dummy = ((problem.y == 1) & (np.arange(len(problem.y)) % 7 == 0)).astype(np.float64)
    X = torch.from_numpy(np.column_stack([problem.X, dummy]))
    result = fit(X, torch.from_numpy(problem.y), solver=solver, tolerance=1e-6)
    assert result.separation is not None
    assert result.separation.kind == "quasi-complete"
    assert not result.converged
    assert '"x6"' in result.notes[-1]


def test_overlapping_classes_are_not_called_separated() -> None:
    for seed in range(3):
        problem = problems.easy(seed)
        X, y, _ = problem.tensors()
        result = fit(4 * X, y, tolerance=1e-10)
        assert result.separation is None
        assert result.converged


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("solver", SOLVERS)
def test_collinear_columns_are_named_and_get_the_least_norm(solver: str, dtype: torch.dtype) -> None:
    table, y = make_classification(2000, 12, n_informative=5, n_redundant=4, random_state=1)
    table = table * np.logspace(-1, 1, 12)
    X = torch.from_numpy(table).to(dtype)
    result = fit(X, torch.from_numpy(y), solver=solver, tolerance=1e-12)
    assert result.converged
    assert "is a combination of" in result.notes[0]
    # The least norm is what a vanishing penalty leaves.
    limit = fit(torch.from_numpy(table), torch.from_numpy(y), l2=1e-9, tolerance=1e-13).weight
    assert torch.linalg.norm(result.weight - limit) < 1e-4 * torch.linalg.norm(limit)
    # Without its redundant columns the data have the same optimum.
    rank = np.linalg.matrix_rank(table - table.mean(axis=0))
    assert rank < 12


def test_a_constant_column_changes_nothing() -> None:
    problem = problems.easy()
    X, y, _ = problem.tensors()
    plain = fit(X, y, tolerance=1e-12)
    wider = torch.cat([X, torch.full((len(y), 1), 5.0).double()], dim=1)
    for solver in SOLVERS:
        result = fit(wider, y, tolerance=1e-12, solver=solver)
        assert result.converged
        assert result.weight[-1] == 0
        assert torch.allclose(result.weight[:-1], plain.weight, atol=1e-6)
        assert any("x6" in note for note in result.notes)
    penalised = fit(wider, y, l2=0.01, tolerance=1e-12)
    assert penalised.weight[-1] == 0
