"""What every source of data becomes: rows on the device, and what it takes to read another file alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .columns.encoding import Encoding
from .columns.labels import Rule


@dataclass(frozen=True)
class Rows:
    """Rows of one split on the device.

    X is [N, D] in the storage dtype, y [N] uint8 (0 or 1; the class numbers of more classes in int64), sample_weight
    [N] float32 or float64, or None for ones.
    """

    X: Tensor
    y: Tensor
    sample_weight: Tensor | None = None

    def __len__(self) -> int:
        return self.X.shape[0]


@dataclass(frozen=True)
class Standardization:
    """Column means and standard deviations [D] float64 of the training rows (scale 1 if constant)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def identity(cls, columns: int) -> Standardization:
        """Return the one that leaves `columns` columns as they are."""
        return cls(mean=np.zeros(columns), scale=np.ones(columns))

    def apply(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (block - mean) / scale in float64, for a row block [n, D]."""
        return (block - self.mean) / self.scale


@dataclass(frozen=True)
class Dataset:
    """The splits of one data set. Validation and test are None where the settings ask for none."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """Names of the negative and the positive class, or of K > 2 classes in the order of their numbers."""
    standardization: Standardization
    array_widths: tuple[int, ...] = ()
    """Columns that an array without column names must have to be read the same way; () if there are names."""
    encoding: Encoding | None = None
    """How the features were made of the file's columns; None where they are those."""
    rule: Rule | None = None
    """What a label column means; None where the labels are no file's."""
    notes: tuple[str, ...] = ()
    """Sentences worth showing to the user, such as constant columns or dropped rows."""

    @property
    def splits(self) -> dict[str, Rows]:
        """The splits that exist, by name, training first."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in named.items() if rows is not None}
