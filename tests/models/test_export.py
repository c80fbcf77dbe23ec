"""Fitted models in ONNX and as scikit-learn's estimator give the same predictions."""

import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from estimator_data import CANCER, SCALED, WINE
from sklearn.base import clone

from flashlogit import LogisticRegression, UserError


def run(path, X):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities"], {"X": X})


@pytest.mark.parametrize(
    ("dtype", "data", "named"),
    [(np.float32, CANCER, False), (np.float64, CANCER, True), (np.float32, WINE, True), (np.float64, WINE, False)],
)
def test_onnxruntime_gives_the_same(tmp_path, dtype, data, named):
    X, y = data[0].astype(dtype), np.array(["no", "yes", "perhaps"])[data[1]] if named else data[1]
    model, path = LogisticRegression(C=0.1).fit(X, y), tmp_path / "model.onnx"
    model.to_onnx(path)
    label, probabilities = run(path, X)
    assert probabilities.dtype == dtype
    assert list(label) == list(model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=1e-6)
    label, probabilities = run(path, X[:0])
    assert (label.shape, probabilities.shape) == ((0,), (0, len(set(y))))


def test_small_probabilities_keep_their_digits(tmp_path):
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    model.to_onnx(tmp_path / "model.onnx")
    label, probabilities = run(tmp_path / "model.onnx", np.array([[-40.0], [40.0], [0.0]]))
    np.testing.assert_allclose([probabilities[0, 1], probabilities[1, 0]], np.exp(-40.0), rtol=1e-6)
    assert label.tolist() == model.predict([[-40.0], [40.0], [0.0]]).tolist()


def test_onnx_of_frames_and_tensors(tmp_path):
    frame, path = pd.DataFrame(WINE[0], columns=[f"c{j}" for j in range(13)]), tmp_path / "model.onnx"
    LogisticRegression().fit(frame, WINE[1]).to_onnx(path)
    (properties,) = onnx.load(path).metadata_props
    assert properties.value.split("\n") == list(frame.columns)
    model = LogisticRegression().fit(torch.from_numpy(WINE[0]), torch.from_numpy(WINE[1]))
    model.to_onnx(path)
    assert list(run(path, WINE[0])[0]) == model.predict(torch.from_numpy(WINE[0])).tolist()


def test_labels_that_onnx_does_not_know(tmp_path, monkeypatch):
    model = LogisticRegression().fit(*CANCER)
    for classes in (np.array([0.5, 1.5]), np.array([0, 2**63], dtype=np.uint64), np.array([None, "a"])):
        model.classes_ = classes
        with pytest.raises(UserError, match=r"classes is .*; ONNX knows whole numbers of 64 bits and strings"):
            model.to_onnx(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'flashlogit\[onnx\]'"):
        model.to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("data", [CANCER, WINE], ids=["two", "three"])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_to_scikit_learn(data, make):
    X, y = data
    model = LogisticRegression().fit(make(X), make(y))
    theirs = model.to_sklearn()
    assert type(theirs).__module__.startswith("sklearn")
    np.testing.assert_allclose(theirs.predict_proba(X), np.asarray(model.predict_proba(make(X))), atol=1e-9)
    assert (theirs.predict(X) == np.asarray(model.predict(make(X)))).all()


def test_to_scikit_learn_keeps_what_a_clone_would_be_fitted_with():
    X, y = SCALED
    options = {"l1_ratio": 0.5, "C": 0.1, "class_weight": "balanced", "random_state": 3}
    ours = LogisticRegression(**options).fit(X, y)
    again = clone(ours.to_sklearn()).set_params(tol=1e-8, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(again.coef_, ours.coef_, atol=1e-3)
    np.testing.assert_allclose(again.intercept_, ours.intercept_, atol=1e-3)
    assert np.isinf(LogisticRegression(penalty=None).fit(X[:, :2], y).to_sklearn().C)
