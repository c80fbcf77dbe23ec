"""The estimator on arrays of a GPU, apart from the other tests of it, which need polars and array_api_strict too."""

import pickle

import numpy as np
import pytest
import torch
from estimator_data import CANCER

from flashlogit import LogisticRegression


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
