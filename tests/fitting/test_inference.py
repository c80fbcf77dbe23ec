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
    theirs = [expected.params, expected.bse, expected.tvalues, *expected.conf_int(0.05).T]
    names = ("coefficient", "standard_error", "z", "ci_low", "ci_high")
    np.testing.assert_allclose([getattr(found, name) for name in names], theirs, rtol=1e-5)
    np.testing.assert_allclose(found.p_value, expected.pvalues, rtol=1e-5, atol=1e-12)


def test_weights_are_counts_of_rows(cancer):
    X, y = cancer
    counts = np.random.default_rng(0).integers(1, 4, len(y))
    found = ours(X, y, sample_weight=torch.from_numpy(counts))
    repeated = ours(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(found.standard_error, repeated.standard_error, rtol=1e-7)


def test_float32_and_large_means(cancer):
    X, y = cancer
    narrow = (X + 1000).astype(np.float32)
    one, other = (ours(table, y).standard_error[:-1] for table in (narrow, narrow.astype(float)))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_bad_input_is_named(cancer):
    X, y = cancer
    doubled, labels = torch.from_numpy(np.column_stack([X, X[:, 0]])), torch.from_numpy(y)
    result = fit(doubled, labels)
    for level, message in ((0.95, "collinear"), (95, "level is 95")):
        with pytest.raises((UserError, ValueError), match=message):
            infer(doubled, labels, result.weight, result.bias, level=level)
    wide = torch.zeros(3, 5000)
    with pytest.raises(UserError, match="5,000 columns"):
        infer(wide, torch.tensor([0, 1, 1]), wide[0], wide[0, :1])


def test_standardised_columns_in_their_own_units(cancer):
    X, y = cancer
    mean, scale = torch.from_numpy(X.mean(axis=0)), torch.from_numpy(X.std(axis=0) * 3)
    standardised, y = (torch.from_numpy(X) - mean) / scale, torch.from_numpy(y)
    result = fit(standardised, y, tolerance=1e-13)
    found = infer(standardised, y, result.weight, result.bias, mean=mean, scale=scale)
    raw = ours(X, y.numpy())
    np.testing.assert_allclose(found.coefficient, raw.coefficient, rtol=1e-6)
    np.testing.assert_allclose(found.standard_error, raw.standard_error, rtol=1e-6)
