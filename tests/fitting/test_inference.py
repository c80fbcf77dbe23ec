import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy.special import ndtr, ndtri
from sklearn.datasets import load_breast_cancer

from flashlogit import UserError, fit
from flashlogit.fitting.inference import Inference, infer


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return (X / X.std(axis=0))[:, [0, 1, 4, 8, 9]], y


def ours(X, y, *, mean=None, scale=None, **options):
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    result = fit(X, y, tolerance=1e-13, **options)
    assert result.converged
    return infer(X, y, result.weight, result.bias, mean=mean, scale=scale, **options)


@pytest.mark.parametrize("intercept", [True, False])
def test_equal_to_statsmodels_logit(cancer, intercept):
    X, y = cancer
    design = np.column_stack([X, np.ones(len(X))]) if intercept else X
    expected = sm.Logit(y, design).fit(disp=0, method="newton", tol=1e-14)
    found = ours(X, y, intercept=intercept)
    theirs = [expected.params, expected.bse, expected.tvalues, *expected.conf_int(0.05).T]
    names = ("coefficient", "standard_error", "z", "ci_low", "ci_high")
    np.testing.assert_allclose([getattr(found, name) for name in names], theirs, rtol=1e-5)
    np.testing.assert_allclose(found.p_value, expected.pvalues, rtol=1e-5, atol=1e-12)


def test_the_same_rows_in_another_form(cancer):
    """Weights are counts of rows; float32 and large means; standardised columns, described in their own units."""
    X, y = cancer
    counts, narrow = np.random.default_rng(0).integers(1, 4, len(y)), (X + 1000).astype(np.float32)
    mean, scale = X.mean(axis=0), X.std(axis=0) * 3
    units = {"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)}
    repeated = ours(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    for one, other in (
        (ours(X, y, sample_weight=torch.from_numpy(counts)), repeated),
        (ours(narrow, y), ours(narrow.astype(float), y)),
        (ours((X - mean) / scale, y, **units), ours(X, y)),
    ):
        np.testing.assert_allclose(one.coefficient, other.coefficient, rtol=1e-6)
        np.testing.assert_allclose(one.standard_error, other.standard_error, rtol=1e-6)


N = 400


@pytest.fixture(scope="module")
def levels():
    """Rows with two columns of categories in full, 0 or 1 for each value, and two numbers; labels and counts."""
    rng = np.random.default_rng(3)
    region, plan = np.eye(4)[rng.integers(0, 4, N)], np.eye(3)[rng.integers(0, 3, N)]
    numbers = np.column_stack([rng.normal(45, 12, N), rng.normal(size=N)])
    z = 0.04 * numbers[:, 0] - 2 + 0.7 * region[:, 1]
    return region, plan, numbers, (rng.random(N) < 1 / (1 + np.exp(-z))).astype(int), rng.integers(1, 4, N)


def truth(X, y):
    """statsmodels' standard errors, of columns that are not collinear."""
    return sm.Logit(y, X).fit(disp=0, method="newton", tol=1e-14).bse


def assert_nan_but(found, at, expected, rtol=1e-6):
    """The standard errors are as expected at the places `at`, and NaN at all others, as is what follows from them."""
    np.testing.assert_allclose(found.standard_error[at], expected, rtol=rtol)
    lacking = np.delete(np.arange(len(found.z)), at)
    for name in ("standard_error", "z", "p_value", "ci_low", "ci_high"):
        assert np.isnan(getattr(found, name)).nonzero()[0].tolist() == lacking.tolist()
    assert np.isfinite(found.coefficient).all()
    assert found.unidentified([str(j) for j in range(len(found.z))]) == [str(j) for j in lacking]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_beside_every_category_the_others_keep_the_errors_of_a_reference(levels, dtype):
    region, plan, numbers, y, counts = levels
    X, ones = np.column_stack([region, plan, numbers]), np.ones((N, 1))
    against = np.column_stack([region[:, 1:], plan[:, 1:], numbers, ones])
    mean, scale = X.mean(axis=0), X.std(axis=0)
    units = {"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)}
    expected = truth(against, y)[5:7]
    assert_nan_but(ours(X.astype(dtype), y), [7, 8], expected)
    assert_nan_but(ours(((X - mean) / scale).astype(dtype), y, **units), [7, 8], expected)
    repeated = truth(np.repeat(against, counts, axis=0), np.repeat(y, counts))[5:7]
    assert_nan_but(ours(X.astype(dtype), y, sample_weight=torch.from_numpy(counts)), [7, 8], repeated)
    # Without an intercept one column of categories may have all of its values, but not two.
    alone = ours(np.column_stack([region, numbers]).astype(dtype), y, intercept=False)
    assert_nan_but(alone, range(6), truth(np.column_stack([region, numbers]), y))
    both = truth(np.column_stack([region, plan[:, 1:], numbers]), y)[6:]
    assert_nan_but(ours(X.astype(dtype), y, intercept=False), [7, 8], both)


@pytest.mark.parametrize(("value", "free"), [(0.0, [2]), (7.0, [2, 3])])
def test_a_constant_column_and_a_copy_take_no_errors_but_their_own(levels, value, free):
    _, _, numbers, y, _ = levels
    expected = truth(np.column_stack([numbers, np.ones(N)]), y)
    known = [j for j in range(4) if j not in free]
    assert_nan_but(ours(np.column_stack([numbers, np.full(N, value)]), y), known, expected[[0, 1, 2][: len(known)]])
    copy = np.column_stack([numbers, 2 * numbers[:, 0] + 1])
    # The intercept is free too: it takes the 1.
    assert_nan_but(ours(copy, y), [1], expected[[1]])


def test_the_optimum_that_was_taken_does_not_matter(levels):
    region, plan, numbers, y, _ = levels
    X, y = torch.from_numpy(np.column_stack([region, plan, numbers])), torch.from_numpy(y)
    result = fit(X, y, tolerance=1e-13)
    shift = torch.zeros_like(result.weight)
    shift[:4], shift[4:7] = 3.0, -2.0
    moved = infer(X, y, result.weight + shift, result.bias - 1.0)
    assert_nan_but(moved, [7, 8], infer(X, y, result.weight, result.bias).standard_error[7:9], rtol=1e-9)


@pytest.mark.parametrize(("apart", "rtol"), [(1e-3, 1e-7), (1e-4, 1e-5), (1e-5, 1e-3), (1e-7, None), (1e-8, None)])
def test_nearly_a_copy_has_large_errors_that_are_right_or_none(levels, apart, rtol):
    """A column less its near copy is `apart` deviations of an independent column, whose own error is well known."""
    _, _, numbers, y, _ = levels
    a, b = numbers.T
    fitted = sm.Logit(y, np.column_stack([a, b, np.ones(N)])).fit(disp=0, method="newton", tol=1e-14)
    size, C = 12 * apart, fitted.cov_params()
    errors = [C[0, 0] + C[1, 1] / size**2 - 2 * C[0, 1] / size, C[1, 1] / size**2]
    found = ours(np.column_stack([a, a + size * b]), y)
    if rtol is None:
        assert np.isnan(found.standard_error[:2]).all()
    else:
        np.testing.assert_allclose(found.standard_error, np.sqrt([*errors, C[2, 2]]), rtol=rtol)


def test_rounding_of_a_dependent_column_does_not_reach_the_others():
    """In float32 a sum of columns is one but for 6e-8, in which it depends a little on every other column."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 20)), rng.integers(0, 2, 200)
    dependent = np.column_stack([X, X[:, 0] + X[:, 1]]).astype(np.float32)
    at = [*range(2, 20), 21]
    expected = truth(np.column_stack([X.astype(np.float32).astype(float), np.ones(200)]), y)
    assert_nan_but(ours(dependent, y), at, expected[[*range(2, 20), 20]], rtol=1e-5)


def test_columns_in_very_different_units_are_all_identified(levels):
    region, _, numbers, y, _ = levels
    X, units = np.column_stack([region[:, 1:], numbers]), 10.0 ** np.array([-9, 0, 9, -5, 4])
    assert_nan_but(ours(X * units, y), range(6), truth(np.column_stack([X, np.ones(N)]), y) / np.append(units, 1))
    far = np.column_stack([region, numbers[:, 1] + 1e6])  # the intercept's error is 1e6 times that of the slope
    assert_nan_but(ours(far, y), [4], truth(np.column_stack([region, numbers[:, 1]]), y)[4], rtol=1e-5)


def test_far_p_values_keep_their_digits():
    z = np.array([-37.0, -5.0, 0.0, 1.96, 20.0])
    found = Inference.of(2 * z, np.full(5, 2.0), 0.99)
    np.testing.assert_allclose(found.p_value, 2 * ndtr(-np.abs(z)), rtol=1e-12)
    np.testing.assert_allclose(found.ci_high, 2 * (z + ndtri(0.995)), rtol=1e-14)


def test_bad_input_is_named(cancer):
    X, y = map(torch.from_numpy, cancer)
    with pytest.raises(ValueError, match="level is 95"):
        infer(X, y, X[0], X[0, :1], level=95)
    wide = torch.zeros(3, 5000)
    with pytest.raises(UserError, match="5,000 columns"):
        infer(wide, torch.tensor([0, 1, 1]), wide[0], wide[0, :1])
