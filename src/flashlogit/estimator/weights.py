"""Weights of rows: those that a user gives, times those of the rows' classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from .arrays import as_tensor, float_tensor, is_device_array


def checked_weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """Return the weights [N] of the rows of X as float tensor on its device, None for none.

    Raises:
        ValueError: another shape, or a weight that is negative or not finite.
    """
    if sample_weight is None:
        return None
    if not is_device_array(sample_weight):
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
