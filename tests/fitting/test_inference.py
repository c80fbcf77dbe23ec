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


def test_far_p_values_keep_their_digits():
    z = np.array([-37.0, -5.0, 0.0, 1.96, 20.0])
    found = Inference.of(2 * z, np.full(5, 2.0), 0.99)
    np.testing.assert_allclose(found.p_value, 2 * ndtr(-np.abs(z)), rtol=1e-12)
    np.testing.assert_allclose(found.ci_high, 2 * (z + ndtri(0.995)), rtol=1e-14)


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
