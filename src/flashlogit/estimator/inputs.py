"""What an estimator's methods are given, as tensors: validated as scikit-learn does, with its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_consistent_length,
    validate_data,
)
from torch import Tensor

from .arrays import as_tensor, float_tensor, is_bfloat16, is_device_array, numpy_of, tensor_of_numpy
from .labels import in_kind, labels_of, numbered
from .sparse import densify

_FRAME_DTYPES = {
    "float16": np.float16,
    "halffloat[pyarrow]": np.float16,
    "float32": np.float32,
    "float[pyarrow]": np.float32,
}
"""Dtypes of columns, in small letters, of pandas, its nullable and Arrow kinds, and Polars, that need no float64."""


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
        tensor, labels = _device_matrix(estimator, X, reset=reset), labels_of(y)
        check_consistent_length(tensor, labels)
    else:
        matrix = _host_matrix(estimator, X, reset=reset)
        labels = labels_of(numpy_of(y) if is_device_array(y) else y)
        check_consistent_length(matrix, labels)
        tensor = (
            densify(matrix, device) if scipy.sparse.issparse(matrix) else tensor_of_numpy(matrix).to(device)
        )
    found, numbers = numbered(labels, None if classes is None else numpy_of(classes))
    numbers = numbers.to(tensor.device)
    return Rows(tensor, numbers, in_kind(found, reference), _weights(sample_weight, tensor), reference)


def prediction_rows(estimator: BaseEstimator, X: Any) -> tuple[Tensor | Any, Any]:
    """Validated rows to predict: a tensor [n, D], or a sparse matrix as it is; and X as it was given."""
    if is_device_array(X):
        return _device_matrix(estimator, X, reset=False), X
    matrix = _host_matrix(estimator, X, reset=False)
    return matrix if scipy.sparse.issparse(matrix) else tensor_of_numpy(matrix), X


def _host_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """A NumPy array or CSR matrix [N, D] of finite numbers."""
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise ValueError("X is a lazy frame, whose rows are not there yet; give X.collect()")
    if is_bfloat16(X):  # which scikit-learn does not take for a floating dtype
        _device_matrix(estimator, X, reset=reset)
        return X
    try:
        return validate_data(estimator, X, accept_sparse="csr", dtype=_host_dtypes(X), reset=reset)
    except (TypeError, ValueError) as error:
        wrong = _columns_without_numbers(X)
        if not wrong:
            raise
        raise ValueError(
            f"X has columns that hold no numbers: {', '.join(wrong)}; encode categories (scikit-learn's OneHotEncoder),"
            " derive numbers from dates, or leave the columns out"
        ) from error


def _host_dtypes(X: Any) -> Any:
    """What scikit-learn's validation may leave X in: its own floating dtype, in this machine's byte order."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "f" and X.dtype.itemsize <= 8:
        return X.dtype.newbyteorder("=")
    columns = [str(dtype).lower() for dtype in getattr(X, "dtypes", ())] if hasattr(X, "columns") else []
    if columns and all(dtype in _FRAME_DTYPES for dtype in columns):
        return np.result_type(*(_FRAME_DTYPES[dtype] for dtype in columns))
    return [np.float64, np.float32]


def _columns_without_numbers(X: Any) -> list[str]:
    """Columns of a frame that cannot be made floats, with their types; at most five."""
    wrong: list[str] = []
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "shape"):
        return wrong
    for j, name in enumerate(columns):
        column = X.iloc[:, j] if hasattr(X, "iloc") else X[name]
        try:
            # Dates become numbers without complaint.
            dated = np.asarray(column).dtype.kind in "mM"
            np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError):
            dated = True
        if dated:
            wrong.append(f'"{name}" ({column.dtype})')
    return wrong[:5]


def _device_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Tensor:
    """X as a matrix of finite numbers of a floating dtype, in place if it is one."""
    tensor = as_tensor(X)
    if tensor.layout != torch.strided or tensor.is_meta:
        what = "has no values (device meta)" if tensor.is_meta else f"is sparse ({tensor.layout})"
        raise ValueError(f"X is a tensor that {what}; give X.to_dense(), or a scipy.sparse matrix")
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


def _weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """[N] float64 or float32 on the device of X."""
    if sample_weight is None:
        return None
    if is_device_array(sample_weight):
        weight = as_tensor(sample_weight)
    else:
        weight = tensor_of_numpy(np.asarray(sample_weight, dtype=np.float64))
    if weight.ndim == 0:
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
