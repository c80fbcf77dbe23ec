"""The problems of `fit`, and what their solutions are judged by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fit_samples import small_problem, truth_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from flashlogit.benchmark.fit_problems import RECIPES, correlated, hard, make_problem
from flashlogit.benchmark.fit_truth import EXACT, Truth, reference_optimum


@pytest.mark.parametrize("make", [correlated, hard])
def test_problems_are_the_same_every_time(make):
    a = make("a", 3000, 12)
    torch.rand(7)
    b = make("b", 3000, 12)
    assert torch.equal(a.X, b.X)
    assert torch.equal(a.y, b.y)


def test_correlated_problem():
    problem = correlated("", 40_000, 12)
    X, y = problem.X.double().numpy(), problem.y.numpy()
    assert problem.X.dtype == torch.float32
    assert problem.y.dtype == torch.uint8
    assert np.abs(X.std(axis=0) - 1).max() < 0.02
    correlation = np.corrcoef(X.T)
    # 0.7 times an AR(1) of 0.5, and 0.3 in common.
    assert abs(correlation[3, 4] - 0.65) < 0.02
    assert abs(correlation[0, 11] - 0.3) < 0.02
    model = LogisticRegression().fit(X, y)
    assert 0.65 < roc_auc_score(y, model.decision_function(X)) < 0.75
    assert 0.35 < y.mean() < 0.45


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch):
    from flashlogit.benchmark import fit_problems

    monkeypatch.setattr(fit_problems, "_BLOCK_NUMBERS", 1200)
    X = correlated("", 1000, 12).X.double().numpy()
    assert np.isfinite(X).all()
    assert abs(X.std() - 1) < 0.05


def test_hard_problem():
    problem = hard("", 20_000, 16)
    sizes = torch.linalg.svdvals(problem.X.double()) / problem.n**0.5
    assert sizes[0] == pytest.approx(1, rel=0.05)
    assert sizes[-1] == pytest.approx(1e-3, rel=0.05)


def test_breast_cancer_is_standardised():
    problem = make_problem("569 x 30", quick=True)
    assert (problem.n, problem.d) == (569, 30)
    assert float(problem.X.mean(dim=0).abs().max()) < 1e-6
    assert float((problem.X.std(dim=0, correction=0) - 1).abs().max()) < 1e-6
    assert int(problem.y.sum()) == 212


@pytest.mark.parametrize("name", RECIPES)
def test_quick_problems_are_smaller(name: str):
    recipe = RECIPES[name]
    assert recipe.quick[0] * recipe.quick[1] <= min(recipe.full[0] * recipe.full[1], 3_200_000)


@pytest.mark.parametrize("C", [1e-2, 1.0, 1e3])
def test_reference_optimum_is_that_of_scikit_learn(C: float):
    problem = small_problem()
    truth = truth_of(problem, C)
    found = reference_optimum(truth)
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12)
    model.fit(problem.X.double().numpy(), problem.y.numpy())
    theirs = truth.objective(model.coef_[0], float(model.intercept_[0]))
    assert found.exact
    assert found.decrement <= EXACT * truth.null
    assert found.value <= theirs + 1e-15
    assert theirs - found.value < 1e-12
    assert np.abs(found.weight - model.coef_[0]).max() < 1e-6
    assert found.bias == pytest.approx(float(model.intercept_[0]), abs=1e-6)


def test_reference_optimum_of_a_hard_problem():
    problem = hard("", 5000, 16)
    truth = truth_of(problem)
    found = reference_optimum(truth)
    assert found.exact
    gradient = truth.derivatives(np.append(found.weight, found.bias))[0]
    assert np.abs(gradient).max() < 1e-9


def test_objective_in_blocks(monkeypatch: pytest.MonkeyPatch):
    from flashlogit.benchmark import fit_truth

    problem = small_problem()
    weight = np.linspace(-2, 2, problem.d)
    truth = truth_of(problem)
    whole = truth.objective(weight, 0.5)
    derivatives = truth.derivatives(np.append(weight, 0.5))
    monkeypatch.setattr(fit_truth, "_BLOCK_NUMBERS", 7 * problem.d)
    assert truth.objective(weight, 0.5) == pytest.approx(whole, rel=1e-15)
    for a, b in zip(truth.derivatives(np.append(weight, 0.5)), derivatives, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-16)


def test_objective_by_hand():
    X, y = np.array([[1.0], [-2.0]], dtype=np.float32), np.array([1, 0], dtype=np.uint8)
    found = Truth(X, y, 0.5).objective(np.array([3.0]), 1.0)
    expected = (np.log1p(np.exp(-4.0)) + np.log1p(np.exp(-5.0))) / 2 + 0.25 * 9
    assert found == pytest.approx(expected, rel=1e-15)


def test_large_logits_do_not_overflow():
    X, y = np.array([[1000.0], [-1000.0]], dtype=np.float32), np.array([0, 0], dtype=np.uint8)
    assert Truth(X, y, 0.0).objective(np.array([5.0]), 0.0) == 2500.0


def test_null_model():
    problem = small_problem()
    truth = truth_of(problem)
    assert truth.objective(np.zeros(problem.d), truth.null_bias) == pytest.approx(truth.null, rel=1e-14)


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_parameters_that_are_not_finite(weight: float):
    assert np.isnan(truth_of(small_problem()).objective(np.full(5, weight), 0.0))
