"""A table of labels: a model for each, fitted side by side."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import get_tags

from flashlogit import LogisticRegression
from flashlogit.system.errors import UserError

X, Y = make_multilabel_classification(150, 5, n_classes=3, random_state=0)
WEIGHT = (np.arange(150) % 4).astype(float)


@pytest.mark.parametrize(
    "parameters", [{}, {"C": 0.01, "l1_ratio": 1.0}, {"fit_intercept": False, "C": np.inf}], ids=["l2", "l1", "none"]
)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_each_label_has_the_model_that_it_would_have_alone(parameters, weight):
    model = LogisticRegression(tol=1e-14, **parameters).fit(X, Y, weight)
    alone = [LogisticRegression(tol=1e-14, **parameters).fit(X, Y[:, t], weight) for t in range(3)]
    np.testing.assert_allclose(model.coef_, np.vstack([each.coef_ for each in alone]), atol=1e-6)
    np.testing.assert_allclose(model.intercept_, np.hstack([each.intercept_ for each in alone]), atol=1e-5)
    assert model.gap_ <= 1e-14
    assert model.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(model.predict(X), np.stack([each.predict(X) for each in alone], axis=1))
    np.testing.assert_allclose(model.decision_function(X), X @ model.coef_.T + model.intercept_, atol=1e-12)
    expected = np.stack([each.predict_proba(X)[:, 1] for each in alone], axis=1)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)), atol=1e-12)
    assert model.score(X, Y, weight) == accuracy_score(Y, model.predict(X), sample_weight=weight)
    first = model.n_iter_[0]
    again = model.set_params(warm_start=True).fit(X, Y, weight)
    assert again.n_iter_[0] == 1 <= first
    np.testing.assert_allclose(again.coef_, np.vstack([each.coef_ for each in alone]), atol=1e-6)


def test_kinds_of_tables():
    expected = LogisticRegression().fit(X, Y)
    for y in (Y.tolist(), pd.DataFrame(Y), Y.astype(bool), scipy.sparse.csr_matrix(Y), torch.from_numpy(Y)):
        np.testing.assert_array_equal(LogisticRegression().fit(X, y).coef_, expected.coef_)
    rows, table = torch.from_numpy(X).float(), torch.from_numpy(Y)
    model = LogisticRegression().fit(rows, table)
    for value in (model.coef_, model.classes_, model.predict(rows), model.predict_proba(rows)):
        assert isinstance(value, torch.Tensor)
    assert model.predict_proba(rows).dtype == torch.float32
    assert model.score(rows, table) == expected.score(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    assert get_tags(model).classifier_tags.multi_label


def test_from_one_label_to_many_and_back():
    model = LogisticRegression(warm_start=True).fit(X, Y)
    three = Y.sum(axis=1).clip(max=2)
    np.testing.assert_array_equal(model.fit(X, three).coef_, LogisticRegression().fit(X, three).coef_)
    assert model.predict(X).ndim == 1
    np.testing.assert_array_equal(model.fit(X, Y).coef_, LogisticRegression().fit(X, Y).coef_)
    with pytest.warns(ConvergenceWarning):
        model.set_params(max_iter=0, warm_start=False).fit(X, Y)
    assert (model.n_iter_[0], model.gap_, np.abs(model.coef_).max()) == (0, np.inf, 0)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y + 1, "holds 2"),
        (np.where(Y == 1, np.nan, 0), "fit_many"),
        (np.where([True, False, True], Y, 1), "label 1 of y is 1"),
        (Y.astype(str), "numbers"),
        (Y[1:], "inconsistent"),
    ],
)
def test_tables_that_are_refused(y, words):
    with pytest.raises(ValueError, match=words):
        LogisticRegression().fit(X, y)


def test_what_takes_one_label_only(tmp_path):
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match="class_weight"):
        LogisticRegression(class_weight="balanced").fit(X, Y)
    for trained, y in ((LogisticRegression(), Y), (model, Y[:, 0])):
        with pytest.raises(ValueError, match="partial_fit"):
            trained.partial_fit(X, y)
    with pytest.raises(UserError, match="to_onnx"):
        model.to_onnx(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="to_sklearn"):
        model.to_sklearn()
