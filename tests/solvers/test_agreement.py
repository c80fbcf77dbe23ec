"""Coefficients against scikit-learn's, tightly converged, and against other units and storage of the same data."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import problems
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from flashlogit.fitting.fit import Fit, fit

Array = NDArray[np.float64]
SOLVERS = pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])


def scikit_learn(X: Array, y: Array, s: Array | None, l2: float, intercept: bool) -> tuple[Array, float]:
    """Its coefficients at the smallest tolerance that ends."""
    total = len(y) if s is None else s.sum()
    model = LogisticRegression(C=1 / (total * l2), fit_intercept=intercept, solver="newton-cholesky", tol=1e-14)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, sample_weight=s)
    return model.coef_[0], float(model.intercept_[0] if intercept else 0.0)


def distance(result: Fit, w: Array, b: float) -> float:
    """Relative in norm."""
    theirs = np.append(w, b)
    ours = torch.cat([result.weight, result.bias]).numpy()
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize(
    ("l1", "l2", "intercept", "weights"),
    [(0.0, 0.01, False, True), (0.0, 1 / 569, True, True), (0.01, 0.0, False, True), (0.005, 0.005, True, False)],
)
def test_breast_cancer(l1: float, l2: float, intercept: bool, weights: bool) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), y.astype(np.float64)
    s = np.random.default_rng(0).uniform(0.2, 3, len(y)) if weights else None
    result = fit(
        torch.from_numpy(X), torch.from_numpy(y), sample_weight=None if s is None else torch.from_numpy(s),
        l1=l1, l2=l2, intercept=intercept, tolerance=1e-13,
    )  # fmt: skip
    assert result.converged
    if not l1:
        assert distance(result, *scikit_learn(X, y, s, l2, intercept)) < 1e-6
        return
    # The conditions of the optimum, which scikit-learn's saga takes a hundred thousand rounds to meet.
    w, b = result.weight.numpy(), float(result.bias)
    slope, of_intercept = problems.Problem(X, y, s).gradient(w, b)
    slope = slope + l2 * w
    assert 0 < (w == 0).sum() < len(w)
    assert np.abs(slope + l1 * np.sign(w))[w != 0].max() < 1e-6
    assert np.abs(slope)[w == 0].max() < l1
    assert abs(of_intercept) < 1e-8 if intercept else b == 0


@SOLVERS
def test_an_ill_conditioned_problem(solver: str) -> None:
    problem = problems.problem("ill-conditioned", "l2", True)
    X, y, _ = problem.tensors()
    result = fit(X, y, l2=problem.l2, solver=solver, tolerance=1e-13, max_iterations=5000)
    assert result.converged
    assert distance(result, *scikit_learn(problem.X, problem.y, None, problem.l2, True)) < 1e-6


@SOLVERS
@pytest.mark.parametrize(("name", "dtype"), [("easy", torch.bfloat16), ("collinear", torch.float32)])
def test_narrow_storage_reaches_a_gap_of_1e_9(name: str, dtype: torch.dtype, solver: str) -> None:
    """Against the optimum for the same values in float64: narrow X is exact data. Where scikit-learn makes redundant
    columns, solvers in float32 stall."""
    X, y, _ = problems.easy(N=3000, D=20).tensors(dtype)
    if name == "collinear":
        table, labels = make_classification(3000, 20, n_informative=6, n_redundant=8, random_state=0)
        X, y = torch.from_numpy(table).to(dtype), torch.from_numpy(labels).double()
    result = fit(X, y, l2=3e-4, solver=solver, tolerance=1e-9)
    exact = problems.Problem(X.double().numpy(), y.numpy(), l2=3e-4)
    best = exact.objective(*scikit_learn(exact.X, exact.y, None, 3e-4, True))
    assert result.relative_gap <= 1e-9
    assert -1e-14 <= result.objective - best <= result.gap + 1e-14


@SOLVERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_columns_in_wild_units(dtype: torch.dtype, solver: str) -> None:
    """Scales from 1e-4 to 1e6 and means of 1e4 standard deviations; coefficients in the table's own units."""
    rng = np.random.default_rng(0)
    D = 9
    scale, mean = np.logspace(-4, 6, D), rng.choice([-1e4, 0, 30, 1e4], D)
    made = (rng.standard_normal((4000, D)) + mean) * scale
    X = torch.from_numpy(made).to(dtype)
    exact = X.double().numpy()
    centre, spread = exact.mean(axis=0), exact.std(axis=0)
    standard = (exact - centre) / spread
    z = standard @ rng.standard_normal(D)
    y = (rng.random(4000) < 1 / (1 + np.exp(-z))).astype(np.float64)
    result = fit(X, torch.from_numpy(y), l2=1e-12, solver=solver, tolerance=1e-7)
    assert result.converged
    # The same objective in standardised columns, with a penalty of its own for each.
    w = result.weight.numpy() * spread
    b = float(result.bias) + centre @ result.weight.numpy()
    p = 1 / (1 + np.exp(-(standard @ w + b)))
    gradient = standard.T @ (p - y) / 4000 + 1e-12 * w / spread**2
    assert np.abs(gradient).max() < 1e-5
    assert abs((p - y).mean()) < 1e-8


COPIES = {
    "mostly l1": replace(problems.copies(), l1=5e-4, l2=5e-6),
    "mostly l2": replace(problems.copies(decades=4), l1=1e-7, l2=1e-4),
    "l1": replace(problems.copies(decades=3), l1=1e-3, l2=0.0),
    "negated": replace(problems.copies(decades=3, signs=(1, -1)), l1=1e-4, l2=1e-4),
    "weighted": replace(problems.copies(), intercept=False, s=np.random.default_rng(0).uniform(0, 3, 400)),
    "wide": replace(problems.copies(N=40, D=200, decades=2), l1=1e-3, l2=1e-4),
}


@pytest.mark.parametrize("name", COPIES)
def test_l1_on_copies_in_other_units(name: str) -> None:
    """By a lower bound of its own, as no other method comes near; float32 makes the copies differ by rounding."""
    problem = COPIES[name]
    X, y, s = problem.tensors(torch.float64 if name in ("l1", "negated") else torch.float32)
    result = fit(
        X, y, sample_weight=s, l1=problem.l1, l2=problem.l2, intercept=problem.intercept, tolerance=1e-10,
        max_iterations=40,
    )  # fmt: skip
    assert result.converged
    exact = replace(problem, X=X.double().numpy())
    w, b = result.weight.numpy(), float(result.bias)
    assert result.objective == pytest.approx(exact.objective(w, b), rel=1e-12)
    # The bound is another one than the certificate's where the intercept is not yet the best.
    assert -1e-14 < result.objective - exact.dual(w, b) < 2e-10 * problem.null_objective
    assert (w == 0).any()


def test_float64_data_are_not_cast() -> None:
    """Nearly collinear columns at C = 1e4: a cast to float32 moves their coefficients by percents."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    X[:, 2] = X[:, 1] + 1e-6 * rng.standard_normal(2000)
    y = (rng.random(2000) < 1 / (1 + np.exp(-X[:, 0]))).astype(np.float64)
    l2 = 1 / (1e4 * 2000)
    exact = fit(torch.from_numpy(X), torch.from_numpy(y), l2=l2, tolerance=1e-13)
    assert distance(exact, *scikit_learn(X, y, None, l2, True)) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize(
    "index", [0, pytest.param(1, marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second GPU"))]
)
@pytest.mark.parametrize(("solver", "l1"), [("newton", 0.0), ("lbfgs", 0.0), ("newton-cg", 0.0), ("lbfgs", 1e-3)])
@pytest.mark.parametrize(("N", "D"), [(569, 30), (50_000, 100)])
def test_a_fit_on_a_gpu_is_that_on_the_cpu(N: int, D: int, solver: str, l1: float, index: int) -> None:
    """Also on one that is not the current one."""
    X, y, _ = problems.easy(N=N, D=D).tensors(torch.float32)
    with torch.cuda.device(0):
        there = fit(X.cuda(index), y.cuda(index), l1=l1, l2=1e-3, solver=solver, tolerance=1e-10)
    here = fit(X, y, l1=l1, l2=1e-3, tolerance=1e-12)
    assert there.converged, there.notes
    assert there.weight.device.index == index
    assert torch.linalg.norm(there.weight.cpu() - here.weight) < 1e-4 * torch.linalg.norm(here.weight)
