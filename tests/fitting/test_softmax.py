from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from problems import alike, several
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from flashlogit import UserError, fit_softmax

N, D, K = 400, 5, 4
SOLVERS = pytest.mark.parametrize("solver", ["newton", "newton-cg", "lbfgs"])


@pytest.mark.parametrize(("load", "intercept"), [(load_iris, True), (load_wine, False), (load_digits, True)])
def test_optimum_is_scikit_learns(load: Any, intercept: bool) -> None:
    X, y = load(return_X_y=True)
    X = X / X.std(axis=0).clip(0.1)
    # Its lbfgs takes a thousand iterations and a minute where many threads share two cores.
    expected = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cg", fit_intercept=intercept).fit(X, y)
    result = fit_softmax(torch.from_numpy(X), torch.from_numpy(y), l2=2 / len(y), intercept=intercept, tolerance=1e-12)
    assert result.converged
    assert np.allclose(result.weight.numpy(), expected.coef_, atol=1e-5)
    assert np.allclose(result.bias.numpy(), expected.intercept_ - expected.intercept_.mean(), atol=1e-5)


@pytest.mark.parametrize(("load", "C", "l1_ratio"), [(load_iris, 1e4, 1.0), (load_wine, 1e4, 0.5), (load_wine, 1, 1.0)])
def test_weak_l1_penalties_converge(load: Any, C: float, l1_ratio: float) -> None:
    X, y = (torch.from_numpy(array) for array in load(return_X_y=True))
    penalties = {"l1": l1_ratio / (C * len(y)), "l2": (1 - l1_ratio) / (C * len(y))}
    assert fit_softmax(X, y, tolerance=1e-10, max_iterations=60, **penalties).converged


@pytest.mark.parametrize("l2", [1e-2, 1e-15])
def test_weights_add_up_to_zero_however_weak_l2_is(l2: float) -> None:
    X, y, s = several(K)
    start = torch.ones(K, D), torch.zeros(K)
    weight = fit_softmax(X, y, sample_weight=s, l2=l2, start=start, tolerance=1e-10).weight
    assert weight.sum(dim=0).abs().max() <= 1e-14 * weight.abs().max()


@SOLVERS
@pytest.mark.parametrize(
    ("l1", "l2", "intercept"), [(0.0, 0.01, True), (0.01, 0.0, False), (0.004, 0.02, True), (0.0, 0.0, True)]
)
def test_all_solvers_agree(solver: Any, l1: float, l2: float, intercept: bool) -> None:
    X, y, s = several(K)
    options = {"sample_weight": s, "l1": l1, "l2": l2, "intercept": intercept}
    if solver == "newton-cg" and l1:
        with pytest.raises(UserError, match="takes no l1"):
            fit_softmax(X, y, solver=solver, **options)
        return
    result = fit_softmax(X, y, solver=solver, tolerance=1e-9, **options)
    best = fit_softmax(X, y, tolerance=1e-12, **options)
    assert result.converged
    assert result.certificate.kind == ("gap" if l1 + l2 else "decrement")
    assert -1e-11 <= result.objective - best.objective <= result.gap + (1e-14 if l1 + l2 else 1e-9)
    assert (result.weight.shape, result.bias.shape) == ((K, D), (K,))
    loss = torch.nn.functional.cross_entropy(X @ result.weight.t() + result.bias, y, reduction="none")
    value = (s * loss).sum() / s.sum() + l1 * result.weight.abs().sum() + 0.5 * l2 * result.weight.square().sum()
    assert float(value) == pytest.approx(result.objective, rel=1e-12)


@SOLVERS
def test_weight_two_is_the_row_twice(solver: Any) -> None:
    X, y, _ = several(K)
    counts = torch.randint(3, (N,))
    rows = torch.repeat_interleave(torch.arange(N), counts)
    weighted = fit_softmax(X, y, sample_weight=counts, l2=0.01, solver=solver, tolerance=1e-12)
    repeated = fit_softmax(X[rows], y[rows], l2=0.01, solver=solver, tolerance=1e-12)
    assert torch.allclose(weighted.weight, repeated.weight, atol=1e-5)


def test_larger_table_starts_from_a_sample() -> None:
    X = torch.randn(60_000, 6)
    y = (X @ torch.randn(6, 3) + torch.randn(60_000, 3)).argmax(dim=1)
    result = fit_softmax(X, y, l2=1e-4, tolerance=1e-12)
    assert result.converged
    assert result.passes < 15


@pytest.mark.parametrize(("load", "kind"), [(load_wine, "complete"), (load_iris, "suspected")])
def test_separated_classes_are_told(load: Any, kind: str) -> None:
    """Only one class of the irises is."""
    X, y = (torch.from_numpy(array) for array in load(return_X_y=True))
    result = fit_softmax(X, y, tolerance=1e-10)
    assert not result.converged
    assert result.separation.kind == kind
    assert "no finite optimum" in result.notes[0]


@pytest.mark.parametrize("solver", ["newton", "newton-cg"])
def test_collinear_columns_have_the_smallest_coefficients(solver: Any) -> None:
    X, y, _ = several(K, far=False)
    X = torch.cat([X, X[:, :1]], dim=1)
    result = fit_softmax(X, y, solver=solver, names=list("abcdef"), tolerance=1e-10)
    assert result.converged
    assert 'column "f" is determined by "a"' in result.notes[0]
    assert torch.allclose(result.weight[:, 0], result.weight[:, 5], atol=1e-6)
    assert torch.allclose(result.weight.sum(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": torch.full((N,), -1)}, ValueError, "class number -1"),
        ({"y": torch.zeros(N)}, TypeError, "integer dtype"),
        ({"classes": 3}, ValueError, "class number 3"),
        ({"classes": 5}, ValueError, "class 4 of y has no row"),
        ({"classes": 1}, ValueError, "classes is 1"),
        ({"l2": -1.0}, ValueError, "l2 is -1"),
        ({"start": (torch.zeros(2), torch.zeros(4))}, ValueError, "must be 20 and 4"),
        ({"X": torch.full((N, D), torch.nan)}, ValueError, "finite"),
        ({"X": torch.zeros(N, 2000), "solver": "newton"}, UserError, "2,048"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y, _ = several(K)
    with pytest.raises(error, match=message):
        fit_softmax(**({"X": X, "y": y, "l2": 0.1} | change))


@pytest.mark.parametrize("l2", [1e-3, 1e-9])
def test_conjugate_gradients_leave_out_what_all_classes_share(l2: float) -> None:
    assert fit_softmax(*alike(3), l2=l2, solver="newton-cg", tolerance=1e-10, max_iterations=12).converged
