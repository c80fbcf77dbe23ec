"""What an estimator's methods are given, as tensors: validated as scikit-learn does, with its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_consistent_length,
    column_or_1d,
    validate_data,
)
from torch import Tensor

from .arrays import as_tensor, float_tensor, is_device_array, like, numpy_of, tensor_of_numpy
from .sparse import densify

_HOST_DTYPES = [np.float64, np.float32]


@dataclass(frozen=True)
class Rows:
    """Rows of a user: X [N, D] of a floating dtype on the device of the arithmetic, y [N] int64 numbers of `classes`
    and sample_weight [N] or None there too. `reference` is X as it was given, whose kind results are of; `classes` [K]
    is in its namespace if they are numbers, else NumPy's.
    """

    X: Tensor
    y: Tensor
    classes: Any
    sample_weight: Tensor | None
    reference: Any


def training_rows(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    device: torch.device,
    reset: bool = True,
    classes: Any = None,
) -> Rows:
    """Validated rows to train on; remembers or checks the number and names of the features.

    Args:
        device: where host data go; device arrays stay where they are.
        reset: whether these are the first rows, which decide on the features.
        classes: all labels that may occur; default those of y.

    Raises:
        ValueError: what scikit-learn would refuse.
        MemoryError: a sparse X too large for a dense copy.
    """
    reference = X
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    if is_device_array(X):
        tensor = _device_matrix(estimator, X, reset=reset)
        labels = as_tensor(y) if is_device_array(y) else column_or_1d(y, warn=True)
        if isinstance(labels, Tensor):
            labels = _one_dimensional(labels)
        check_consistent_length(tensor, labels)
    else:
        y = numpy_of(y) if is_device_array(y) else y
        X, labels = validate_data(
            estimator, X, y, accept_sparse="csr", accept_large_sparse=False, dtype=_HOST_DTYPES, reset=reset
        )
        tensor = densify(X, device) if scipy.sparse.issparse(X) else tensor_of_numpy(X).to(device)
    found, numbers = _encoded(labels, None if classes is None else numpy_of(classes))
    numbers = numbers.to(tensor.device)
    return Rows(tensor, numbers, _in_kind(found, reference), _weights(sample_weight, tensor), reference)


def prediction_rows(estimator: BaseEstimator, X: Any) -> tuple[Tensor | Any, Any]:
    """Validated rows to predict: a tensor [n, D], or a sparse matrix as it is; and X as it was given."""
    if is_device_array(X):
        return _device_matrix(estimator, X, reset=False), X
    matrix = validate_data(estimator, X, accept_sparse="csr", dtype=_HOST_DTYPES, reset=False)
    return matrix if scipy.sparse.issparse(matrix) else tensor_of_numpy(matrix), X


def _device_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Tensor:
    """X as a matrix of finite numbers of a floating dtype, in place if it is one."""
    tensor = as_tensor(X)
    if tensor.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {tensor.ndim}D array instead. Reshape your data either using X.reshape(-1, 1) if"
            " your data has a single feature or X.reshape(1, -1) if it contains a single sample."
        )
    if tensor.is_complex():
        raise ValueError("Complex data not supported: X holds complex numbers")
    for size, noun in zip(tensor.shape, ("sample(s)", "feature(s)"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {noun} (shape={tuple(tensor.shape)}) while a minimum of 1 is required by"
                f" {type(estimator).__name__}."
            )
    _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, tensor, reset=reset)
    tensor = float_tensor(tensor)
    # The sum of finite numbers may overflow, but that of others cannot be finite.
    if not bool(tensor.sum(dtype=torch.float64).isfinite()) and not bool(tensor.isfinite().all()):
        name = "NaN" if bool(tensor.isnan().any()) else "infinity"
        raise ValueError(f"Input X contains {name}: {type(estimator).__name__} takes finite numbers only.")
    return tensor


def _one_dimensional(y: Tensor) -> Tensor:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {tuple(y.shape)} instead.")
    return y


def _encoded(y: Tensor | NDArray[Any], classes: NDArray[Any] | None) -> tuple[Tensor | NDArray[Any], Tensor]:
    """The classes in order, and each row's number among them."""
    numbers: Tensor
    if isinstance(y, Tensor):
        found, numbers = torch.unique(y, return_inverse=True)
        check_classification_targets(numpy_of(found))
    else:
        check_classification_targets(y)
        found, inverse = np.unique(y, return_inverse=True)
        numbers = torch.from_numpy(inverse.astype(np.int64, copy=False))
    if classes is None:
        return found, numbers
    here = numpy_of(found)
    known = np.unique(classes)
    strange = np.setdiff1d(here, known)
    if len(strange):
        raise ValueError(
            f"y holds the label {strange[:1].tolist()[0]!r}, which is not among the classes {known.tolist()}; name all"
            " of them in the first call of partial_fit"
        )
    places = torch.from_numpy(np.searchsorted(known, here)).to(numbers.device)
    return known, places[numbers]


def _in_kind(classes: Tensor | NDArray[Any], reference: Any) -> Any:
    """The classes in the namespace of X where it has numbers like them."""
    if not is_device_array(reference):
        return numpy_of(classes)
    if not isinstance(classes, Tensor):
        if classes.dtype.kind not in "biuf":
            return classes
        classes = tensor_of_numpy(classes)
    return like(reference, classes)


def _weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """[N] float64 or float32 on the device of X."""
    if sample_weight is None:
        return None
    if is_device_array(sample_weight):
        weight = as_tensor(sample_weight)
    else:
        weight = tensor_of_numpy(np.atleast_1d(np.asarray(sample_weight, dtype=np.float64)))
        if weight.numel() == 1 and np.ndim(sample_weight) == 0:
            weight = weight.expand(len(X)).clone()
    if weight.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weight.ndim}D array.")
    if len(weight) != len(X):
        raise ValueError(f"sample_weight.shape == {tuple(weight.shape)}, expected ({len(X)},)!")
    weight = float_tensor(weight).to(X.device)
    if not bool(weight.isfinite().all()):
        raise ValueError("Input sample_weight contains NaN or infinity: weights must be finite.")
    if bool((weight < 0).any()):
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return weight
