"""What an estimator's methods are given, as tensors: validated as scikit-learn does, with its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import Tensor

from ..system.memory import resolve_device
from .arrays import as_tensor, densify, float_tensor, is_bfloat16, is_device_array, kind_of, numpy_of
from .labels import checked_weights, in_kind, label_count, label_table, labels_of, numbered, weighted

_FRAME_DTYPES = {
    "float16": np.float16,
    "halffloat[pyarrow]": np.float16,
    "float32": np.float32,
    "float[pyarrow]": np.float32,
}
"""Dtypes of columns, in small letters, of pandas, its nullable and Arrow kinds, and Polars, that need no float64."""


@dataclass(frozen=True)
class TrainingRows:
    """Rows to train on; all tensors are on the device of the arithmetic.

    Attributes:
        X: [N, D] of a floating dtype.
        y: [N] int64 numbers of the classes, or [N, T] uint8, T labels of 0 and 1.
        weight: [N] sample times class weights, None for ones.
        mass: [K] float64, the sums of the weights by class; for T labels [1], that of all.
        classes: [K] sorted labels, or the numbers of T labels; in the namespace of `reference` if they are numbers,
            else NumPy's.
        reference: X as it was given, whose kind results are of.
    """

    X: Tensor
    y: Tensor
    weight: Tensor | None
    mass: Tensor
    classes: Any
    reference: Any


def training_rows(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    fewest: int = 2,
    reset: bool = True,
    classes: Any = None,
    many_labels: bool = False,
) -> TrainingRows:
    """Validate rows to train on, and remember or check the number and names of the features.

    Host data go to the estimator's `device`, and device arrays stay where they are.

    Args:
        fewest: how many classes have to have rows of a weight above 0.
        reset: whether these are the first rows, which decide on the features.
        classes: all labels that may occur; default those of y.
        many_labels: whether y may be [N, T].

    Raises:
        ValueError: what scikit-learn would refuse.
        UserError: a device that cannot be had.
        MemoryError: a sparse X too large for a dense copy.
    """
    device = resolve_device(estimator.device)
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    matrix = feature_matrix(estimator, X, reset=reset)
    T = label_count(y) if many_labels else 1
    labels = y if T > 1 else labels_of(y if is_device_array(X) or not is_device_array(y) else numpy_of(y))
    check_consistent_length(matrix, as_tensor(y) if is_device_array(labels) else labels)
    if scipy.sparse.issparse(matrix):
        matrix = densify(matrix, device)
    elif not is_device_array(X):
        matrix = matrix.to(device)
    if T > 1:
        if estimator.class_weight is not None:
            raise ValueError("class_weight is given and y is [N, T]; must be None: T labels have no common classes")
        weight = checked_weights(sample_weight, matrix)
        table, mass = label_table(y, weight, matrix.device)
        return TrainingRows(matrix, table, weight, mass, in_kind(np.arange(T), X), X)
    found, numbers = numbered(labels, None if classes is None else numpy_of(classes))
    numbers = numbers.to(matrix.device)
    weight, mass = weighted(
        numbers, numpy_of(found), checked_weights(sample_weight, matrix), estimator.class_weight, fewest=fewest
    )
    return TrainingRows(matrix, numbers, weight, mass, in_kind(found, X), X)


def feature_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Return X [N, D], validated, as a tensor of a floating dtype, in place if it is of one, or as a CSR matrix."""
    # scikit-learn does not take bfloat16 for a floating dtype.
    if is_device_array(X) or is_bfloat16(X):
        return _device_matrix(estimator, X, reset=reset)
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise ValueError("X is a lazy frame, whose rows are not there yet; give X.collect()")
    try:
        if _holds_dates(X):  # which would become numbers without complaint
            raise ValueError("X holds dates or times; it must hold numbers: derive them from the dates")
        matrix = validate_data(estimator, X, accept_sparse="csr", dtype=_host_dtypes(X), reset=reset)
    except (TypeError, ValueError) as error:
        wrong = _columns_without_numbers(X)
        if not wrong:
            raise
        remedy = "encode categories (scikit-learn's OneHotEncoder), derive numbers from dates, or leave the columns out"
        if getattr(estimator, "_encoded", False) and not reset:
            remedy = (
                "give the run that the model was loaded from to flashlogit.Predictor, which takes the file's columns"
            )
        raise ValueError(f"X has columns that hold no numbers: {', '.join(wrong)}; {remedy}") from error
    return matrix if scipy.sparse.issparse(matrix) else as_tensor(matrix)


def _holds_dates(X: Any) -> bool:
    """Return whether a frame, Arrow table, array or nested list holds dates, times or durations."""
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        kinds = list(X.dtypes)
    elif hasattr(X, "schema"):
        kinds = list(X.schema.types)
    else:
        numbers = scipy.sparse.issparse(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "biufc")
        kinds = [] if numbers else [kind_of(X)]
    return any(str(kind).lower().startswith(("date", "time", "duration")) for kind in kinds)


def _host_dtypes(X: Any) -> Any:
    """Return what scikit-learn's validation may leave X in: its own floating dtype, in this machine's byte order."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "f" and X.dtype.itemsize <= 8:
        return X.dtype.newbyteorder("=")
    columns = [str(dtype).lower() for dtype in getattr(X, "dtypes", ())] if hasattr(X, "columns") else []
    if columns and all(dtype in _FRAME_DTYPES for dtype in columns):
        return np.result_type(*(_FRAME_DTYPES[dtype] for dtype in columns))
    return [np.float64, np.float32]


def _columns_without_numbers(X: Any) -> list[str]:
    """Return the columns of a frame that cannot be made floats, with their types; at most five."""
    wrong: list[str] = []
    names = X.columns if hasattr(X, "columns") and hasattr(X, "shape") else ()
    for j, name in enumerate(getattr(X, "column_names", names)):  # Arrow's, whose columns are the values
        column = X.iloc[:, j] if hasattr(X, "iloc") else X[name]
        try:
            if np.asarray(column).dtype.kind in "mM":
                raise TypeError  # dates would become numbers without complaint
            np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError):
            wrong.append(f'"{name}" ({column.type if hasattr(column, "type") else column.dtype})')
    return wrong[:5]


def _device_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Tensor:
    """Check a device array as scikit-learn checks NumPy's, without a copy."""
    tensor = as_tensor(X)
    if tensor.layout != torch.strided or tensor.is_meta:
        what = "has no values (device meta)" if tensor.is_meta else f"is sparse ({tensor.layout})"
        raise ValueError(f"X is a tensor that {what}; give X.to_dense(), or a scipy.sparse matrix")
    # scikit-learn checks the shape on a stand-in that takes no memory.
    kind = np.complex64 if tensor.is_complex() else np.float32
    validate_data(estimator, np.broadcast_to(kind(0), tuple(tensor.shape)), reset=reset, ensure_all_finite=False)
    tensor = float_tensor(tensor)
    # The sum of finite numbers may overflow, but that of others cannot be finite.
    if not bool(tensor.sum(dtype=torch.float64).isfinite()) and not bool(tensor.isfinite().all()):
        name = "NaN" if bool(tensor.isnan().any()) else "infinity"
        raise ValueError(f"Input X contains {name}: {type(estimator).__name__} takes finite numbers only.")
    return tensor
