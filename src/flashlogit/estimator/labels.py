"""Labels and weights of rows as an estimator is given them: validated with scikit-learn's words, labels numbered by
their classes, weights multiplied by those of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from .arrays import as_tensor, float_tensor, is_device_array, kind_of, like, numpy_of

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


def label_count(y: Any) -> int:
    """Return T of a table of labels y [N, T], and 1 of what has no second axis."""
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # lists of different lengths, which `labels_of` refuses
        return 1
    return int(shape[1]) if len(shape) == 2 else 1


def label_table(y: Any, sample_weight: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a table of labels [N, T] as bytes 0 and 1 on `device`, and the sum of all weights, [1] float64.

    Raises:
        ValueError: other values, or a label that is the same in all rows that have weight.
    """
    try:
        table = as_tensor(y).to(device, torch.float64)
    except TypeError as error:
        raise ValueError(f"y is [N, T] of {kind_of(y)}; must hold numbers, 0 and 1, a column for each label") from error
    if bool(table.isnan().any()):
        raise ValueError("Input y contains NaN; flashlogit.fit_many takes a table in which labels are missing")
    strange = table[(table != 0) & (table != 1)]
    if len(strange):
        raise ValueError(
            f"y is {list(table.shape)} and holds {strange[0]:g}; must be 0 or 1 everywhere, a column for each label, or"
            " else [N] for classes of one kind"
        )
    s = torch.ones_like(table[:, 0]) if sample_weight is None else sample_weight.double()
    mass, total = s @ table, s.sum()
    same = torch.nonzero((mass <= 0) | (s @ (1 - table) <= 0)).flatten().tolist()
    if same:
        value = int(bool(mass[same[0]] > 0))
        raise ValueError(
            f"label {same[0]} of y is {value} in every row that has weight; leave this column out, or give it rows of"
            " both values"
        )
    return table.to(torch.uint8), total[None]


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


def checked_weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """Return the weights [N] of the rows of X as float tensor on its device, None for none.

    Raises:
        ValueError: another shape, or a weight that is negative or not finite.
    """
    if sample_weight is None:
        return None
    if not is_device_array(sample_weight):
        if kind_of(sample_weight).startswith(("datetime", "timedelta")):
            raise ValueError("sample_weight holds dates or durations; weights must be numbers")
        sample_weight = np.asarray(sample_weight, dtype=np.float64)
    weight = as_tensor(sample_weight)
    if weight.ndim == 0:
        weight = weight.expand(len(X)).clone()
    if weight.shape != (len(X),):
        raise ValueError(f"sample_weight.shape == {tuple(weight.shape)}, expected ({len(X)},)!")
    weight = float_tensor(weight).to(X.device)
    if not bool(weight.isfinite().all()):
        raise ValueError("Input sample_weight contains NaN or infinity: weights must be finite.")
    if bool((weight < 0).any()):
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return weight


def weighted(
    y: Tensor,
    classes: NDArray[Any],
    sample_weight: Tensor | None,
    class_weight: dict[Any, float] | str | None,
    *,
    fewest: int,
) -> tuple[Tensor | None, Tensor]:
    """Return sample times class weights, [N] or None for ones, and their sums by class, [K] float64.

    Args:
        y: [N] numbers of the classes.
        classes: [K] labels.
        sample_weight: [N], or None for ones.
        class_weight: as the estimator's parameter.
        fewest: how many classes have to have a sum above 0.

    Raises:
        ValueError: too few classes, or weights under which too few of them are left.
    """
    if len(classes) < 2:
        raise ValueError(
            f"This solver needs samples of at least 2 classes in the data, but the data contains only one class:"
            f" {classes.tolist()[0]!r}"
        )
    double = None if sample_weight is None else sample_weight.double()
    mass = torch.bincount(y, weights=double, minlength=len(classes)).double()
    _check_mass(mass, classes, "sample_weight", fewest)
    if class_weight is None:
        return sample_weight, mass
    if class_weight == "balanced":
        # The definition of scikit-learn with sample weights counted, so that a weight of 2 is the row twice.
        factor = torch.where(mass > 0, mass.sum() / (int((mass > 0).sum()) * mass), 0.0)
    else:
        by_class = compute_class_weight(class_weight, classes=classes, y=classes)
        factor = torch.from_numpy(by_class.astype(np.float64)).to(mass.device)
        _check_mass(factor * mass, classes, "class_weight", fewest)
    return factor[y] if double is None else factor[y] * double, factor * mass


def _check_mass(mass: Tensor, classes: NDArray[Any], by: str, fewest: int) -> None:
    """Raise ValueError where classes of weights `mass` [K], which the parameter `by` made so, cannot be trained on."""
    if not bool(mass.sum().isfinite()):
        raise ValueError(f"the weights add up to more than a float64 holds; make the values of {by} smaller")
    lacking = [classes.tolist()[k] for k in torch.nonzero(mass <= 0).flatten().tolist()]
    if len(lacking) == len(mass):
        raise ValueError(f"{by} is zero for every row; give rows of at least two classes a weight")
    if len(mass) - len(lacking) < fewest:
        raise ValueError(
            f"class {lacking[0]!r} has no row with a weight above 0, by {by}; leave its rows out, or give it one"
        )
