"""Results are of the kind that X is."""

import array_api_strict
import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from estimator_data import CANCER, IRIS

from flashlogit import LogisticRegression
from flashlogit.estimator.arrays import as_tensor, is_device_array, like, numpy_of
from flashlogit.estimator.inputs import feature_matrix, training_rows

METHODS = ("decision_function", "predict_proba", "predict_log_proba", "predict")

KINDS = {
    "numpy": (np.asarray, np.ndarray),
    "torch": (torch.tensor, torch.Tensor),
    "strict": (array_api_strict.asarray, type(array_api_strict.asarray([1.0]))),
    "pandas": (lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a), np.ndarray),
    "polars": (lambda a: pl.DataFrame(a) if a.ndim == 2 else pl.Series(a), np.ndarray),
    "list": (lambda a: a.tolist(), np.ndarray),
}


@pytest.mark.parametrize("kind", KINDS)
def test_in_and_out_in_the_same_kind(kind):
    make, result = KINDS[kind]
    for X, y in ((CANCER[0][::3], CANCER[1][::3]), IRIS):
        expected = LogisticRegression(C=0.1).fit(X, y)
        model = LogisticRegression(C=0.1).fit(make(X), make(y), sample_weight=make(np.ones(len(y))))
        for name in ("coef_", "intercept_", "classes_", "n_iter_"):
            assert isinstance(getattr(model, name), result), name
        np.testing.assert_allclose(numpy_of(model.coef_), expected.coef_, atol=1e-8)
        for method in METHODS:
            found = getattr(model, method)(make(X))
            assert isinstance(found, result)
            np.testing.assert_allclose(numpy_of(found), getattr(expected, method)(X), atol=1e-7)
        assert model.score(make(X), make(y), make(y + 1.0)) == expected.score(X, y, y + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_dtypes_of_tensors(dtype):
    X, y = torch.from_numpy(IRIS[0]).to(dtype), torch.from_numpy(IRIS[1])
    kept = X.clone()
    model = LogisticRegression().fit(X, y)
    assert torch.equal(X, kept)
    expected = torch.float64 if dtype == torch.int64 else torch.float32
    assert model.coef_.dtype == model.predict_proba(X).dtype == expected
    reference = LogisticRegression().fit(X.double().numpy(), y.numpy())
    np.testing.assert_allclose(model.coef_.numpy(), reference.coef_, atol=1e-4)
    assert (model.predict(X).numpy() == reference.predict(X.double().numpy())).all()


def _read_only(X):
    return np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (np.float64, np.asfortranarray),
        (np.float64, _read_only),
        (np.float32, lambda X: np.repeat(X, 2, axis=1)[:, ::2]),
        (np.float16, np.ascontiguousarray),
        (ml_dtypes.bfloat16, np.asfortranarray),
        (ml_dtypes.bfloat16, _read_only),
    ],
)
def test_numpys_floats_are_used_in_place(dtype, layout):
    X = layout(IRIS[0].astype(dtype))
    model = LogisticRegression().fit(X, IRIS[1])
    for read in (training_rows(model, X, IRIS[1], None).X, feature_matrix(model, X, reset=False)):
        assert read.data_ptr() == X.__array_interface__["data"][0]
        assert read.dtype == getattr(torch, np.dtype(dtype).name)
    same = torch.from_numpy(X.astype(np.float64)).to(read.dtype)
    reference = LogisticRegression().fit(same, IRIS[1])
    assert all(isinstance(found, np.ndarray) for found in (model.coef_, model.predict_proba(X), model.predict(X)))
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(same), atol=1e-6)
    np.testing.assert_array_equal(model.predict(X), reference.predict(same))
    with pytest.raises(ValueError, match="4 features"):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(layout(np.where(np.eye(150, 4) == 1, np.nan, IRIS[0]).astype(dtype)), IRIS[1])


@pytest.mark.parametrize("width", [2, 4, 8])
def test_other_floats_become_no_wider(width):
    """A foreign byte order and negative strides have to be copied, and a frame too, but not to float64."""
    X, y = IRIS[0].astype(f"f{width}"), IRIS[1]
    frame, dtype = pd.DataFrame(X, columns=list("abcd")), getattr(torch, f"float{8 * width}")
    arrow = {2: "halffloat", 4: "float", 8: "double"}[width]
    same = [X.astype(f">f{width}"), X[::-1][::-1], frame, frame.astype(f"{arrow}[pyarrow]")]
    if width > 2:
        same += [frame.astype(f"Float{8 * width}"), pl.DataFrame(X, schema=list("abcd"))]
    for other in same:
        model = LogisticRegression()
        read = training_rows(model, other, y, None).X
        assert read.dtype == feature_matrix(model, other, reset=False).dtype == dtype
        np.testing.assert_array_equal(read.numpy(), X)
    mixed = pd.DataFrame({"a": X[:, 0].astype("f2"), "b": X[:, 1], "c": X[:, 2].astype("f4")})
    wide = training_rows(LogisticRegression(), mixed, y, None).X
    assert wide.dtype == (torch.float64 if width == 8 else torch.float32)
    np.testing.assert_array_equal(as_tensor(X[::-1, ::-1]).numpy(), X[::-1, ::-1])


def test_mixtures_follow_the_features():
    X, y = CANCER[0][:, :5], CANCER[1]
    tensor, names = torch.from_numpy(X), np.array(["bad", "good"])[y]
    model = LogisticRegression().fit(tensor, names)
    assert isinstance(model.coef_, torch.Tensor)
    assert list(model.classes_) == ["bad", "good"]
    assert model.score(tensor, names) > 0.9
    assert isinstance(LogisticRegression().fit(X, torch.from_numpy(y)).classes_, np.ndarray)
    model = LogisticRegression().fit(tensor.requires_grad_(), list(y))
    assert isinstance(model.predict(X), np.ndarray)  # fitted on tensors, asked with NumPy
    assert not model.predict_proba(tensor).requires_grad


class Exported:
    """An array of which only DLPack is known."""

    def __init__(self, tensor):
        self._tensor, self.shape, self.dtype = tensor, tensor.shape, tensor.dtype

    def __dlpack__(self, **options):
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()


class Unexportable(Exported):
    """An array that refuses DLPack and cannot be converted."""

    def __dlpack__(self, **options):
        raise BufferError("on a device of its own")


def test_anything_with_dlpack_is_fitted_in_place_and_comes_back_as_tensors():
    X, y = (torch.from_numpy(array) for array in IRIS)
    assert is_device_array(Exported(X))
    assert as_tensor(Exported(X)).data_ptr() == X.data_ptr()
    model = LogisticRegression().fit(Exported(X), Exported(y))
    assert torch.equal(model.coef_, LogisticRegression().fit(X, y).coef_)
    assert torch.equal(model.predict(Exported(X)), model.predict(X))
    with pytest.raises(ValueError, match=r"Unexportable cannot be read through DLPack .* convert it"):
        as_tensor(Unexportable(X))


def test_an_array_on_a_device_that_torch_does_not_know_is_converted():
    other = array_api_strict.asarray(IRIS[0], device=array_api_strict.Device("device1"))
    np.testing.assert_array_equal(numpy_of(other), IRIS[0])
    assert like(other, torch.ones(2)).device == other.device
