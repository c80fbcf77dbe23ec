"""Fits without a penalty: the Newton decrement, separated classes, collinear columns."""

from __future__ import annotations

import numpy as np
import problems
import pytest
import torch
from sklearn.datasets import load_breast_cancer, make_classification

from flashlogit.fitting.fit import fit
from flashlogit.solvers.unpenalised.problem import Unpenalised

SOLVERS = pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])


@SOLVERS
def test_the_decrement_tells_the_distance(solver: str) -> None:
    X, y, _ = problems.easy().tensors()
    best = problems.Problem(X.numpy(), y.numpy()).optimum()
    rough = fit(X, y, solver=solver, tolerance=1e-4)
    exact = fit(X, y, solver=solver, tolerance=1e-13)
    assert rough.converged
    assert exact.converged
    assert exact.certificate.kind == "decrement"
    assert exact.objective == pytest.approx(best, abs=1e-12)
    # Near the optimum the decrement is the gap of the quadratic model.
    assert rough.gap == pytest.approx(rough.history[-1]["objective"] - best, rel=0.2, abs=1e-13)
    # The Newton step that measures it is taken, and brings the distance to about its square.
    assert rough.objective - best < 0.02 * rough.gap


@SOLVERS
@pytest.mark.parametrize(
    ("name", "kind", "most"),
    [("made", "complete", 60), ("breast cancer", "complete", 200), ("dummy", "quasi-complete", 100)],
)
def test_separation_is_proven(name: str, kind: str, most: int, solver: str) -> None:
    """At once where it is complete. A dummy column is 1 for positive rows only: the loss has an infimum."""
    X, y, _ = problems.separable().tensors()
    if name == "breast cancer":
        X, y = (torch.from_numpy(array) for array in load_breast_cancer(return_X_y=True))
    if name == "dummy":
        X, y, _ = problems.easy().tensors()
        X = torch.column_stack([X, (y == 1) & (torch.arange(len(y)) % 7 == 0)])
    result = fit(X, y, solver=solver, tolerance=1e-9)
    assert result.ending == "separated" or name != "made"
    assert not result.converged
    assert result.separation.kind == kind
    margin = (2 * y - 1) * (X @ result.separation.weight + result.separation.bias)
    assert margin.min() > (0 if kind == "complete" else -1e-9)
    assert margin.max() > 1e-3
    assert ("completely separated" if kind == "complete" else '"x6"') in result.notes[-1]
    assert result.iterations < most


@SOLVERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_collinear_columns_are_named_and_get_the_least_norm(dtype: torch.dtype, solver: str) -> None:
    """A constant column gets 0."""
    table, labels = make_classification(2000, 12, n_informative=5, n_redundant=4, random_state=1)
    X, y = torch.from_numpy(np.column_stack([table * np.logspace(-1, 1, 12), [5.0] * 2000])), torch.from_numpy(labels)
    result = fit(X.to(dtype), y, solver=solver, tolerance=1e-12)
    assert result.converged
    assert "is a combination of" in result.notes[0]
    assert 'column "x12" is constant' in result.notes[0]
    assert result.weight[-1] == 0
    # The least norm is what a vanishing penalty leaves.
    limit = fit(X, y, l2=1e-9, tolerance=1e-13).weight
    assert torch.linalg.norm(result.weight - limit) < 1e-4 * torch.linalg.norm(limit)


def test_an_l1_term_that_the_decrement_leaves_out_is_added() -> None:
    X, y, _ = problems.easy().tensors()
    gaps = []
    for l1 in (0.0, 1e-3):
        objective = problems.objective_of(X, y, l1=l1)
        theta = objective.null_theta() + 0.1
        gaps.append(Unpenalised(objective).certify(objective.evaluate(theta, certified=True)).gap)
    penalty = 1e-3 * float(objective.to_user(theta)[0].abs().sum())
    assert gaps[1] - gaps[0] == pytest.approx(penalty, rel=1e-9)
