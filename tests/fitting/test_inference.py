import numpy as np
import pytest
import statsmodels.api as sm
import torch
from sklearn.datasets import load_breast_cancer

from flashlogit import UserError, fit
from flashlogit.fitting.inference import infer

COLUMNS = [0, 1, 4, 8, 9]


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return (X / X.std(axis=0))[:, COLUMNS], y


def ours(X, y, **options):
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    result = fit(X, y, tolerance=1e-13, **options)
    assert result.converged
    return infer(X, y, result.weight, result.bias, **options)


@pytest.mark.parametrize("intercept", [True, False])
def test_equal_to_statsmodels_logit(cancer, intercept):
    X, y = cancer
    design = np.column_stack([X, np.ones(len(X))]) if intercept else X
    expected = sm.Logit(y, design).fit(disp=0, method="newton", tol=1e-14)
    found = ours(X, y, intercept=intercept)
    low, high = expected.conf_int(0.05).T
    for value, theirs in (
        (found.coefficient, expected.params),
        (found.standard_error, expected.bse),
        (found.z, expected.tvalues),
        (found.ci_low, low),
        (found.ci_high, high),
    ):
        np.testing.assert_allclose(value, theirs, rtol=1e-5)
    np.testing.assert_allclose(found.p_value, expected.pvalues, rtol=1e-5, atol=1e-12)


def test_weights_are_counts_of_rows(cancer):
    X, y = cancer
    counts = np.random.default_rng(0).integers(1, 4, len(y))
    found = ours(X, y, sample_weight=torch.from_numpy(counts))
    repeated = ours(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(found.standard_error, repeated.standard_error, rtol=1e-7)


def test_float32_and_large_means(cancer):
    X, y = cancer
    found = ours((X + 1000).astype(np.float32), y)
    np.testing.assert_allclose(
        found.standard_error[:-1],
        ours((X + 1000).astype(np.float32).astype(float), y).standard_error[:-1],
        rtol=1e-6,
    )


def test_bad_input_is_named(cancer):
    X, y = cancer
    doubled = torch.from_numpy(np.column_stack([X, X[:, 0]]))
    result = fit(doubled, torch.from_numpy(y))
    with pytest.raises(UserError, match="collinear"):
        infer(doubled, torch.from_numpy(y), result.weight, result.bias)
    with pytest.raises(ValueError, match="level is 95"):
        infer(doubled, torch.from_numpy(y), result.weight, result.bias, level=95)
    wide = torch.zeros(3, 5000)
    with pytest.raises(UserError, match="5,000 columns"):
        infer(wide, torch.tensor([0, 1, 1]), wide[0], wide[0, :1])


def test_standardised_columns_in_their_own_units(cancer):
    X, y = cancer
    mean, scale = torch.from_numpy(X.mean(axis=0)), torch.from_numpy(X.std(axis=0) * 3)
    standardised = (torch.from_numpy(X) - mean) / scale
    result = fit(standardised, torch.from_numpy(y), tolerance=1e-13)
    found = infer(standardised, torch.from_numpy(y), result.weight, result.bias, mean=mean, scale=scale)
    raw = ours(X, y)
    np.testing.assert_allclose(found.coefficient, raw.coefficient, rtol=1e-6)
    np.testing.assert_allclose(found.standard_error, raw.standard_error, rtol=1e-6)
