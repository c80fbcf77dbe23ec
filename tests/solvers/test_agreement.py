"""Where solvers end: at scikit-learn's coefficients, tightly converged, in other units and storage of the same data;
and without a penalty, where classes are separated and columns collinear."""

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

from flashlogit.fitting.fit import fit
from flashlogit.solvers.unpenalised.problem import Unpenalised

Array = NDArray[np.float64]
SOLVERS = pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])


def scikit_learn(problem: problems.Problem) -> tuple[Array, float]:
    """Its coefficients at the smallest tolerance that ends."""
    C = 1 / (problem.weights.sum() * problem.l2)
    model = LogisticRegression(C=C, fit_intercept=problem.intercept, solver="newton-cholesky", tol=1e-14)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(problem.X, problem.y, sample_weight=problem.s)
    return model.coef_[0], float(model.intercept_[0] if problem.intercept else 0.0)


def breast_cancer(l2: float, intercept: bool, weights: bool) -> problems.Problem:
    X, y = load_breast_cancer(return_X_y=True)
    s = np.random.default_rng(0).uniform(0.2, 3, len(y)) if weights else None
    return problems.Problem((X - X.mean(axis=0)) / X.std(axis=0), y.astype(np.float64), s, l2=l2, intercept=intercept)


def nearly_collinear() -> problems.Problem:
    """At C = 1e4: a cast to float32 moves the coefficients by percents."""
    made = problems.easy(N=2000, D=3)
    made.X[:, 2] = made.X[:, 1] + 1e-6 * made.X[:, 2]
    return replace(made, l2=1 / (1e4 * 2000))


PENALISED = {
    "cancer": breast_cancer(1 / 569, True, False),
    "weights": breast_cancer(0.01, False, True),
    "ill-conditioned": problems.problem("ill-conditioned", "l2", True),
    "nearly collinear": nearly_collinear(),
}


@SOLVERS
@pytest.mark.parametrize("name", PENALISED)
def test_the_coefficients_are_scikit_learns(name: str, solver: str) -> None:
    problem = PENALISED[name]
    X, y, s = problem.tensors()
    options = {"l2": problem.l2, "intercept": problem.intercept, "tolerance": 1e-13, "max_iterations": 5000}
    result = fit(X, y, sample_weight=s, solver=solver, **options)
    assert result.converged
    theirs = np.append(*scikit_learn(problem))
    ours = torch.cat([result.weight, result.bias]).numpy()
    assert np.linalg.norm(ours - theirs) < 1e-6 * np.linalg.norm(theirs)


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
    best = exact.objective(*scikit_learn(exact))
    assert result.relative_gap <= 1e-9
    assert -1e-14 <= result.objective - best <= result.gap + 1e-14


@SOLVERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_columns_in_wild_units(dtype: torch.dtype, solver: str) -> None:
    """Scales from 1e-4 to 1e6 and means of 1e4 standard deviations; coefficients in the table's own units."""
    rng = np.random.default_rng(0)
    scale, mean = np.logspace(-4, 6, 9), rng.choice([-1e4, 0, 30, 1e4], 9)
    X = torch.from_numpy((rng.standard_normal((4000, 9)) + mean) * scale).to(dtype)
    exact = X.double().numpy()
    centre, spread = exact.mean(axis=0), exact.std(axis=0)
    standard = (exact - centre) / spread
    y = (standard @ rng.standard_normal(9) + rng.logistic(size=4000) > 0).astype(np.float64)
    result = fit(X, torch.from_numpy(y), l2=1e-12, solver=solver, tolerance=1e-7)
    assert result.converged
    # The same objective in standardised columns, with a penalty of its own for each.
    w, b = result.weight.numpy(), float(result.bias)
    slope, of_intercept = problems.Problem(standard, y).gradient(w * spread, b + centre @ w)
    assert np.abs(slope + 1e-12 * w / spread).max() < 1e-5
    assert abs(of_intercept) < 1e-8


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
    options = {"l1": problem.l1, "l2": problem.l2, "intercept": problem.intercept, "max_iterations": 40}
    result = fit(X, y, sample_weight=s, tolerance=1e-10, **options)
    assert result.converged
    exact = replace(problem, X=X.double().numpy())
    w, b = result.weight.numpy(), float(result.bias)
    assert result.objective == pytest.approx(exact.objective(w, b), rel=1e-12)
    # The bound is another one than the certificate's where the intercept is not yet the best.
    assert -1e-14 < result.objective - exact.dual(w, b) < 2e-10 * problem.null_objective
    assert (w == 0).any()


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
    X, y, wide = torch.from_numpy(table * np.logspace(-1, 1, 12)), torch.from_numpy(labels), dtype == torch.float64
    X = torch.column_stack([X, torch.full_like(X[:, 0], 5.0)]) if wide else X
    result = fit(X.to(dtype), y, solver=solver, tolerance=1e-12)
    assert result.converged
    assert "is a combination of" in result.notes[0]
    assert ('column "x12" is constant' in result.notes[0], bool(result.weight[-1] == 0)) == (wide, wide)
    # The least norm is what a vanishing penalty leaves.
    limit = fit(X, y, l2=1e-9, tolerance=1e-13).weight
    assert torch.linalg.norm(result.weight - limit) < 1e-4 * torch.linalg.norm(limit)


def test_an_l1_term_that_the_decrement_leaves_out_is_added() -> None:
    X, y, _ = problems.easy().tensors()
    gaps = []
    for l1 in (0.0, 1e-3):
        objective = problems.objective_of(X, y, l1=l1)
        theta = objective.null + 0.1
        gaps.append(Unpenalised(objective).certify(objective.evaluate(theta, certified=True)).gap)
    penalty = 1e-3 * float(objective.to_user(theta)[0].abs().sum())
    assert gaps[1] - gaps[0] == pytest.approx(penalty, rel=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize(("solver", "l1"), [("newton", 0.0), ("lbfgs", 0.0), ("newton-cg", 0.0), ("lbfgs", 1e-3)])
@pytest.mark.parametrize(("N", "D"), [(569, 30), (50_000, 100)])
def test_a_fit_on_a_gpu_is_that_on_the_cpu(N: int, D: int, solver: str, l1: float) -> None:
    """Also on one that is not the current one."""
    index = torch.cuda.device_count() - 1
    X, y, _ = problems.easy(N=N, D=D).tensors(torch.float32)
    with torch.cuda.device(0):
        there = fit(X.cuda(index), y.cuda(index), l1=l1, l2=1e-3, solver=solver, tolerance=1e-10)
    here = fit(X, y, l1=l1, l2=1e-3, tolerance=1e-12)
    assert there.converged, there.notes
    assert there.weight.device.index == index
    assert torch.linalg.norm(there.weight.cpu() - here.weight) < 1e-4 * torch.linalg.norm(here.weight)
