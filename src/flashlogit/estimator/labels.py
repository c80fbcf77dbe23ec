"""Labels as an estimator is given them: validated as scikit-learn does, and numbered by their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from .arrays import as_tensor, is_device_array, like, numpy_of

Labels = Tensor | NDArray[Any]


def labels_of(y: Any) -> Labels:
    """Return y as a tensor [N], if it is a device array, or else as a NumPy array [N].

    Raises:
        ValueError: another shape, complex numbers, or rows without a label.
    """
    if is_device_array(y):
        tensor = as_tensor(y)
        if tensor.is_complex():
            raise ValueError("Complex data not supported: y holds complex numbers")
        if tensor.ndim == 2 and tensor.shape[1] == 1:
            tensor = tensor[:, 0]
        if tensor.ndim != 1:
            raise ValueError(f"y should be a 1d array, got an array of shape {tuple(tensor.shape)} instead.")
        if tensor.is_floating_point():
            _refuse_missing(int(tensor.isnan().sum()))
        return tensor
    # pandas' nullable kinds would come back from NumPy as objects or floats.
    plain = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if plain is not None and plain.kind in "biuf" and hasattr(y, "isna"):
        _refuse_missing(int(y.isna().sum()))
        y = y.to_numpy(dtype=plain)
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f":
        _refuse_missing(int(np.isnan(labels).sum()))
    elif labels.dtype.kind == "O":
        # pandas' NA is not unequal to itself.
        _refuse_missing(sum(label is None or type(label).__name__ == "NAType" or label != label for label in labels))
    return labels


def numbered(labels: Labels, classes: NDArray[Any] | None) -> tuple[Labels, Tensor]:
    """Return the sorted classes [K], and each row's number among them, [N] int64.

    Args:
        labels: as `labels_of` gives them.
        classes: all that may occur; default those that do.

    Raises:
        ValueError: numbers that are no classes, kinds of labels that have no order, or a label not among the classes.
    """
    numbers: Tensor
    found: Labels
    if isinstance(labels, Tensor):
        found, numbers = torch.unique(labels, return_inverse=True)
        check_classification_targets(numpy_of(found))
    else:
        try:
            check_classification_targets(labels)
            found, inverse = np.unique(labels, return_inverse=True)
        except TypeError as error:
            kinds = sorted({type(label).__name__ for label in labels.tolist()})
            raise ValueError(
                f"y mixes labels of the kinds {' and '.join(kinds)}, which have no order; make all of them one kind"
            ) from error
        numbers = torch.from_numpy(inverse.astype(np.int64, copy=False))
    if classes is None:
        return found, numbers
    here = numpy_of(found)
    strange = np.setdiff1d(here, classes)
    if len(strange):
        raise ValueError(
            f"y holds the label {strange[:1].tolist()[0]!r}, which is not among the classes {classes.tolist()}; name"
            " all of them in the first call of partial_fit"
        )
    places = torch.from_numpy(np.searchsorted(classes, here)).to(numbers.device)
    return classes, places[numbers]


def class_labels(classes: Any) -> NDArray[Any]:
    """Return the classes that a user names, sorted [K]; raise ValueError where they are no list of labels."""
    array = numpy_of(classes)
    if array.ndim != 1:
        raise ValueError(f"classes has the shape {array.shape}; must be a list of labels")
    return np.unique(numpy_of(labels_of(array)))


def in_kind(classes: Labels, reference: Any) -> Any:
    """Return the classes in the namespace of X if that is a device array and they are numbers, else as NumPy array."""
    if not is_device_array(reference):
        return numpy_of(classes)
    try:
        return like(reference, as_tensor(classes))
    except TypeError:  # text, or numbers that torch does not know
        return classes


def _refuse_missing(count: int) -> None:
    if count:
        raise ValueError(f"Input y contains NaN: {count} rows have no label (NaN, None or null); leave these rows out")
