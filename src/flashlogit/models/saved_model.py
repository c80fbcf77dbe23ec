"""A saved model as scikit-learn has one: coefficients on the user's own columns, and classes that are sorted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .model import Model


@dataclass(frozen=True)
class RawCoefficients:
    """What an estimator takes of a saved model."""

    coef: NDArray[np.float64]
    """[1, D], or [K, D], on columns in the user's units."""
    intercept: NDArray[np.float64]
    """[1], or [K]."""
    classes: NDArray[Any]
    """[K], sorted."""
    feature_names: tuple[str, ...]
    iterations: int
    gap: float | None
    """As a share of the null model's objective; None where the run had no solver."""


def raw_coefficients(path: Path) -> RawCoefficients:
    """Read a run directory or its model.safetensors.

    Label names that are whole numbers become numbers; classes are sorted, and the coefficients with them.

    Raises:
        UserError: no such model.
    """
    model = Model.load(path)
    weight, intercept = model.raw()
    run = _run_of(path if path.is_dir() else path.parent)
    classes = _labels(model.label_names)
    # scikit-learn takes classes_ for sorted; a run has the positive class last, whatever it is called.
    order = np.argsort(classes)
    if len(weight) > 1:
        weight, intercept = weight[order], intercept[order]
    elif order[0] == 1:
        weight, intercept = -weight, -intercept
    return RawCoefficients(weight, intercept, classes[order], model.feature_names, run.iterations, run.relative_gap)


def _labels(names: tuple[str, ...]) -> NDArray[Any]:
    """Return them as integers where they are written as these are: "01" is a name."""
    try:
        numbers = np.array([int(name) for name in names], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(names)
    return numbers if [str(number) for number in numbers.tolist()] == list(names) else np.array(names)


class _Run(BaseModel):
    """What metrics.json says about the fit of a solver."""

    model_config = ConfigDict(strict=True)

    iterations: int = Field(default=0, ge=0, lt=2**31)
    relative_gap: float | None = None


class _Metrics(BaseModel):
    run: _Run = _Run()


def _run_of(directory: Path) -> _Run:
    """Return what a run says of itself, or as a run without a solver where it says nothing that can be used."""
    try:
        return _Metrics.model_validate_json((directory / "metrics.json").read_bytes()).run
    except (OSError, ValueError):
        return _Run()
