import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from flashlogit import UserError, fit_softmax

N, D, K = 400, 5, 4


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(N, D, generator=generator, dtype=torch.float64) * torch.tensor([1, 30, 0.01, 1, 2.0])
    X += torch.tensor([0, 500.0, 1, 0, 0])
    y = torch.randint(K, (N,), generator=generator)
    X[:, 0] += 0.7 * y
    weight = torch.rand(N, generator=generator, dtype=torch.float64)
    weight[::9] = 0
    return X, y, weight


def written_out(problem, weight, bias, *, l1, l2):
    """P from its formula, of W [D, K] and b [K]."""
    X, y, s = problem
    loss = torch.nn.functional.cross_entropy(X @ weight + bias, y, reduction="none")
    return (s * loss).sum() / s.sum() + l1 * weight.abs().sum() + 0.5 * l2 * weight.square().sum()


@pytest.mark.parametrize(("load", "intercept"), [(load_iris, True), (load_wine, False), (load_digits, True)])
def test_optimum_is_scikit_learns(load, intercept):
    X, y = load(return_X_y=True)
    X = X / X.std(axis=0).clip(0.1)
    # Its lbfgs takes a thousand iterations and a minute where many threads share two cores.
    expected = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cg", fit_intercept=intercept).fit(X, y)
    result = fit_softmax(torch.from_numpy(X), torch.from_numpy(y), l2=2 / len(y), intercept=intercept, tolerance=1e-12)
    assert result.converged
    assert np.allclose(result.weight.numpy(), expected.coef_, atol=1e-5)
    assert np.allclose(result.bias.numpy(), expected.intercept_ - expected.intercept_.mean(), atol=1e-5)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("C", [1.0, 1e4])
@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_weak_l1_penalties_converge(load, C, l1_ratio):
    X, y = load(return_X_y=True)
    strength = 1 / (C * len(y))
    result = fit_softmax(
        torch.from_numpy(X), torch.from_numpy(y), l1=l1_ratio * strength, l2=(1 - l1_ratio) * strength,
        tolerance=1e-10, max_iterations=60,
    )  # fmt: skip
    assert result.converged


def test_weights_add_up_to_zero_however_weak_l2_is(problem):
    X, y, s = problem
    start = torch.ones(K, D), torch.zeros(K)
    for l2 in (1e-2, 1e-15):
        weight = fit_softmax(X, y, sample_weight=s, l2=l2, start=start, tolerance=1e-10).weight
        assert weight.sum(dim=0).abs().max() <= 1e-14 * weight.abs().max()


@pytest.mark.parametrize("solver", ["newton", "newton-cg", "lbfgs"])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.01), (0.01, 0.0), (0.004, 0.02), (0.0, 0.0)])
@pytest.mark.parametrize("intercept", [True, False])
def test_all_solvers_agree(problem, solver, l1, l2, intercept):
    X, y, s = problem
    if solver == "newton-cg" and l1:
        with pytest.raises(UserError, match="takes no l1"):
            fit_softmax(X, y, sample_weight=s, l1=l1, solver=solver)
        return
    result = fit_softmax(X, y, sample_weight=s, l1=l1, l2=l2, solver=solver, intercept=intercept, tolerance=1e-9)
    best = fit_softmax(X, y, sample_weight=s, l1=l1, l2=l2, intercept=intercept, tolerance=1e-12)
    assert result.converged
    assert result.certificate.kind == ("gap" if l1 + l2 else "decrement")
    assert result.objective - best.objective + 1e-11 >= 0
    assert result.objective - best.objective <= result.gap + (1e-14 if l1 + l2 else 1e-9)
    assert result.weight.shape == (K, D)
    assert result.bias.shape == (K,)
    value = written_out(problem, result.weight.t(), result.bias, l1=l1, l2=l2)
    assert float(value) == pytest.approx(result.objective, rel=1e-12)


def test_weight_two_is_the_row_twice(problem):
    X, y, _ = problem
    counts = torch.randint(3, (N,), generator=torch.Generator().manual_seed(0))
    rows = torch.repeat_interleave(torch.arange(N), counts)
    for solver in ("newton", "newton-cg", "lbfgs"):
        weighted = fit_softmax(X, y, sample_weight=counts, l2=0.01, solver=solver, tolerance=1e-12)
        repeated = fit_softmax(X[rows], y[rows], l2=0.01, solver=solver, tolerance=1e-12)
        assert torch.allclose(weighted.weight, repeated.weight, atol=1e-5)


def test_larger_table_starts_from_a_sample():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60_000, 6, generator=generator)
    y = (X @ torch.randn(6, 3, generator=generator) + torch.randn(60_000, 3, generator=generator)).argmax(dim=1)
    result = fit_softmax(X, y, l2=1e-4, tolerance=1e-12)
    assert result.converged
    assert result.passes < 15
    slow = fit_softmax(X, y, l2=1e-4, tolerance=1e-12, solver="lbfgs")
    assert torch.allclose(result.weight, slow.weight, atol=1e-4)


def test_separated_classes_are_told():
    X, y = (torch.from_numpy(array) for array in load_wine(return_X_y=True))
    result = fit_softmax(X, y)
    assert not result.converged
    assert result.separation.kind == "complete"
    assert "no finite optimum" in result.notes[0]
    X, y = (torch.from_numpy(array) for array in load_iris(return_X_y=True))  # only one class of it is
    result = fit_softmax(X, y, tolerance=1e-10)
    assert result.separation.kind == "suspected"
    assert not result.converged


@pytest.mark.parametrize("solver", ["newton", "newton-cg"])
def test_collinear_columns_have_the_smallest_coefficients(problem, solver):
    X, y, _ = problem
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
def test_bad_arguments_are_named(problem, change, error, message):
    X, y, _ = problem
    with pytest.raises(error, match=message):
        fit_softmax(**({"X": X, "y": y, "l2": 0.1} | change))


@pytest.mark.parametrize("l2", [1e-3, 1e-6, 1e-9])
def test_conjugate_gradients_leave_out_what_all_classes_share(l2):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(600, 12, generator=generator, dtype=torch.float64)
    X[:, 1:] = X[:, :1] + 0.3 * X[:, 1:]
    z = X @ torch.randn(12, 3, generator=generator, dtype=torch.float64)
    y = (z - 2 * torch.rand(z.shape, generator=generator).log().neg().log()).argmax(dim=1)
    result = fit_softmax(X, y, l2=l2, solver="newton-cg", tolerance=1e-10, max_iterations=12)
    assert result.converged
