import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import NotFittedError

from flashlogit import LogisticRegression, UserError
from flashlogit.estimator.export import write_onnx

CANCER, WINE = load_breast_cancer(return_X_y=True), load_wine(return_X_y=True)


def run(path, X):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities"], {"X": X})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("data", [CANCER, WINE], ids=["two", "three"])
@pytest.mark.parametrize("names", [None, ["no", "yes", "perhaps"]])
def test_onnxruntime_gives_the_same(tmp_path, dtype, data, names):
    X, y = data[0].astype(dtype), data[1]
    y = y if names is None else np.array(names)[y]
    model = LogisticRegression(C=0.1).fit(X, y)
    path = tmp_path / "model.onnx"
    write_onnx(model, path)
    for rows in (X, X[:1], X[:0]):
        label, probabilities = run(path, rows)
        assert probabilities.dtype == dtype
        assert label.shape == (len(rows),)
        if len(rows):
            assert list(label) == list(model.predict(rows))
            np.testing.assert_allclose(probabilities, model.predict_proba(rows), rtol=0, atol=1e-6)


def test_small_probabilities_keep_their_digits(tmp_path):
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    write_onnx(model, tmp_path / "model.onnx")
    _, probabilities = run(tmp_path / "model.onnx", np.array([[-40.0], [40.0]]))
    np.testing.assert_allclose([probabilities[0, 1], probabilities[1, 0]], np.exp(-40.0), rtol=1e-6)


def test_onnx_of_tensors_keeps_names(tmp_path):
    import onnx
    import pandas as pd

    frame = pd.DataFrame(WINE[0], columns=[f"c{j}" for j in range(13)])
    write_onnx(LogisticRegression().fit(frame, WINE[1]), tmp_path / "model.onnx")
    (properties,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert properties.value.split("\n") == list(frame.columns)
    model = LogisticRegression().fit(torch.from_numpy(WINE[0]), torch.from_numpy(WINE[1]))
    write_onnx(model, tmp_path / "model.onnx")
    assert list(run(tmp_path / "model.onnx", WINE[0])[0]) == model.predict(torch.from_numpy(WINE[0])).tolist()


def test_labels_that_onnx_does_not_know(tmp_path):
    model = LogisticRegression().fit(*CANCER)
    model.classes_ = np.array([0.5, 1.5])
    with pytest.raises(UserError, match="neither whole numbers of 64 bits nor strings"):
        write_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_onnx_is_an_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'flashlogit\[onnx\]'"):
        write_onnx(LogisticRegression().fit(*CANCER), tmp_path / "model.onnx")


@pytest.mark.parametrize("data", [CANCER, WINE], ids=["two", "three"])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_to_scikit_learn(data, make):
    X, y = data
    model = LogisticRegression().fit(make(X), make(y))
    theirs = model.to_sklearn()
    assert type(theirs).__module__.startswith("sklearn")
    np.testing.assert_allclose(theirs.predict_proba(X), np.asarray(model.predict_proba(make(X))), atol=1e-9)
    assert (theirs.predict(X) == np.asarray(model.predict(make(X)))).all()
    with pytest.raises(NotFittedError):
        LogisticRegression().to_sklearn()
