"""The estimator on arrays of a GPU, apart from the other tests of it, which need polars and array_api_strict too."""

import pickle

import numpy as np
import pytest
import torch
from estimator_data import CANCER, SMALL

from flashlogit import LogisticRegression, LogisticRegressionCV


@pytest.mark.gpu
def test_on_cuda_in_place_and_pickled_for_the_cpu():
    X, y = (torch.from_numpy(array).cuda() for array in CANCER)
    model = LogisticRegression().fit(X, y)
    for value in (model.coef_, model.intercept_, model.classes_, model.predict(X), model.predict_proba(X)):
        assert value.is_cuda
    assert model.score(X, y) > 0.9
    np.testing.assert_allclose(model.coef_.cpu(), LogisticRegression(device="cpu").fit(*CANCER).coef_, atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert not again.coef_.is_cuda
    np.testing.assert_array_equal(again.predict(CANCER[0]), model.predict(X).cpu())


@pytest.mark.gpu
@pytest.mark.parametrize("scoring", [None, "neg_log_loss", lambda model, X, y: (model.predict(X) == y).mean()])
def test_cross_validated_on_cuda(scoring):
    X, y = (torch.from_numpy(array).cuda() for array in SMALL)
    options = {"Cs": [0.1, 1.0], "scoring": scoring, "use_legacy_attributes": False}
    model, host = LogisticRegressionCV(**options).fit(X, y), LogisticRegressionCV(device="cpu", **options).fit(*SMALL)
    for value in (model.coef_, model.coefs_paths_, model.scores_):
        assert value.is_cuda
    np.testing.assert_allclose(model.scores_.cpu(), host.scores_, atol=1e-5)
    np.testing.assert_allclose(model.coefs_paths_.cpu(), host.coefs_paths_, atol=1e-4)
    assert model.score(X, y) == pytest.approx(host.score(*SMALL), abs=1e-5)
    assert not pickle.loads(pickle.dumps(model)).coefs_paths_.is_cuda


@pytest.mark.gpu
def test_a_table_of_labels_on_cuda():
    X, y = SMALL
    Y = np.c_[y, X[:, 0] + X[:, 1] > 0]
    model = LogisticRegression().fit(torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda())
    assert model.predict(torch.from_numpy(X).cuda()).is_cuda
    np.testing.assert_allclose(model.coef_.cpu(), LogisticRegression(device="cpu").fit(X, Y).coef_, atol=1e-4)
