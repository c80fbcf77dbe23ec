"""flashlogit.solvers.unpenalised.collinearity: which columns are named, which are not, and coefficients of least
norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

from flashlogit.solvers.unpenalised.collinearity import Collinear, find_collinear
from flashlogit_kernels.gram import weighted_gram

NAMES = [f"x{j}" for j in range(300)]


def find(X, weight=1.0, *, intercept=True, centred=True) -> Collinear:
    """X [N, D] in float64, whose means are taken off first where there is an intercept, has rows of one weight."""
    X = torch.as_tensor(X).to(torch.float64)
    h = torch.full((len(X),), weight, dtype=torch.float64)
    if intercept and centred:
        X = X - (h @ X) / h.sum()
    gram = weighted_gram(X, h, None, block_rows=256, compute_dtype=torch.float64)
    return find_collinear(gram, intercept=intercept)


def normal(N, D):
    return np.random.default_rng(0).normal(size=(N, D))


def check(found: Collinear, X, *, intercept=True, rounding=1e-9) -> None:
    """The null space and the named combinations hold for X, to `rounding` of the largest of a combination's terms."""
    raw = np.asarray(X, dtype=np.float64)
    X = raw - raw.mean(axis=0) if intercept else raw
    null = found.null_space.numpy()
    np.testing.assert_allclose(null.T @ null, np.eye(null.shape[1]), rtol=0, atol=1e-12)
    assert null.shape[1] == len(found.constant) + len(found.dependent)
    assert set(found.constant).isdisjoint(found.dependent)
    for n in null.T:
        assert np.abs(X @ n).max() <= rounding * np.abs(X * n).max() + 1e-14 * np.abs(raw * n).max()
    for j, others in found.dependent.items():
        rest = X[:, j] - sum((c * X[:, i] for i, c in others.items()), np.zeros(len(X)))
        assert np.abs(rest).max() <= 10 * rounding * np.abs(X[:, j]).max()
        assert not set(others) & (set(found.dependent) | set(found.constant))


@pytest.mark.parametrize(("D", "dtype"), [(50, np.float32), (120, np.float64)])
def test_redundant_columns_are_found(D, dtype) -> None:
    """In units over ten decades and means of 1e4 standard deviations where the numbers have the digits."""
    informative, redundant = D // 3, D // 4
    X, _ = make_classification(1000, D, n_informative=informative, n_redundant=redundant, shuffle=False, random_state=0)
    if dtype == np.float64:
        X = (X + 1e4 * normal(1, D)) * 10.0 ** np.random.default_rng(0).uniform(-4, 6, D)
    found = find(X.astype(dtype))
    assert list(found.dependent) == list(range(informative, informative + redundant))
    assert all(set(others) <= set(range(informative)) for others in found.dependent.values())
    check(found, X.astype(dtype), rounding=1e-9 if dtype == np.float64 else 1e-5)


def test_the_later_columns_are_the_combinations() -> None:
    X = normal(100, 4)
    X = np.column_stack([X, X[:, 1], 3.0 * X[:, 0] - 0.5 * X[:, 2] + 7.0])
    found = find(X)
    assert found.dependent == {4: pytest.approx({1: 1.0}), 5: pytest.approx({0: 3.0, 2: -0.5}, rel=1e-10)}
    assert found.describe(NAMES) == 'column "x4" is determined by "x1"; column "x5" is a combination of "x0" and "x2"'
    check(found, X)


def test_a_dummy_variable_trap_needs_an_intercept() -> None:
    category = np.random.default_rng(0).integers(0, 4, size=200)
    X = np.column_stack([normal(200, 2), np.eye(4)[category]])
    found = find(X)
    assert found.dependent == {5: pytest.approx({2: -1.0, 3: -1.0, 4: -1.0}, rel=1e-10)}
    check(found, X)
    assert not find(X, intercept=False)


def test_constant_columns() -> None:
    """Beside an intercept they say nothing; without one only the column of zeros does not."""
    X = normal(60, 5)
    X[:, 1], X[:, 3] = 0.1, 0.0
    found = find(X)
    assert (found.constant, found.dependent) == ((1, 3), {})
    check(found, X)
    assert find(X, centred=False).constant == (1, 3)
    assert found.describe(NAMES) == 'column "x1" is constant; column "x3" is constant'
    assert found.minimum_norm(torch.arange(1.0, 6.0)).tolist() == [1.0, 0.0, 3.0, 0.0, 5.0]
    found = find(X, intercept=False)
    assert (found.constant, found.dependent) == ((), {3: {}})
    assert found.describe(NAMES) == 'column "x3" is 0 throughout'
    check(found, X, intercept=False)
    X[:, 4] = 2.0
    assert find(X, intercept=False).dependent == {3: {}, 4: pytest.approx({1: 20.0}, rel=1e-10)}


@pytest.mark.parametrize("intercept", [False, True])
def test_nearly_dependent_columns_are_independent(intercept) -> None:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 10)))[0] for n in (400, 10))
    powers = np.linspace(-1, 1, 400)[:, None] ** np.arange(1, 11)
    for X in (left * np.logspace(0, -5, 10) @ right, powers, normal(1000, 2) * [1, 1e-3] @ [[1, 1], [0, 1]]):
        found = find(X, intercept=intercept)
        assert not found
        assert found.describe(NAMES) == ""
        weight = torch.randn(X.shape[1])
        assert torch.equal(found.minimum_norm(weight), weight)


def test_fewer_rows_than_columns() -> None:
    X = normal(6, 9)
    found = find(X)
    assert list(found.dependent) == [5, 6, 7, 8]
    check(found, X)
    assert list(find(X, intercept=False).dependent) == [6, 7, 8]
    assert find(X[:1]).constant == tuple(range(9))
    # Nor is there any row of weight above 0.
    assert find(X, 0.0, centred=False).constant == tuple(range(9))
    assert find(X, 0.0, intercept=False).dependent == {j: {} for j in range(9)}


@pytest.mark.parametrize("intercept", [False, True])
def test_minimum_norm_is_the_pseudoinverse_s(intercept) -> None:
    X = normal(80, 8) * np.logspace(-2, 2, 8)
    X[:, 5] = X[:, 0] + X[:, 3]
    X[:, 6] = X[:, 2] - 4.0 * X[:, 5]
    centred, weight = X - intercept * X.mean(axis=0), torch.randn(8, 2).double()
    least = find(X, intercept=intercept).minimum_norm(weight)
    np.testing.assert_allclose(
        least, np.linalg.pinv(centred, rcond=1e-12) @ centred @ weight.numpy(), rtol=1e-8, atol=1e-10
    )
    for some in (weight[:, 0], weight[:, 0].float()):
        found = find(X, intercept=intercept).minimum_norm(some)
        torch.testing.assert_close(found, least[:, 0].to(some.dtype))


def test_a_long_description_is_cut() -> None:
    X = normal(50, 6)
    X = np.column_stack([X, np.full(50, 3.0), X.sum(axis=1), X @ np.arange(1, 7), X[:, 0], X[:, 1]])
    assert find(X).describe(NAMES) == (
        'column "x6" is constant; column "x7" is a combination of "x0", "x1", "x2" and 3 others;'
        ' column "x8" is a combination of "x0", "x1", "x2" and 3 others; 2 more'
    )
