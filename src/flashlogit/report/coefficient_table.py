"""A model's coefficients on the user's own columns as a table, with what statisticians ask of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ..data.files.csv_cells import safe_cells
from ..fitting.inference import Inference
from ..models.model import Model
from ..system.files import write_atomically

INTERCEPT = "(intercept)"


def coefficient_table(model: Model, inference: Inference | None) -> pa.Table:
    """A row for each column and, last, the intercept; for K > 2 classes one for each of them and each class.

    `odds_ratio` is exp(coefficient): the factor on the odds of the positive class for one unit more of the column. For
    K > 2 classes it is that on the odds of the class against the geometric mean of all, exp of `centred` coefficients.
    The other columns are null without `inference`, which is of the same raw columns.
    """
    raw = np.atleast_2d(model.weight.astype(np.float64)) / model.standardization.scale
    intercept = model.bias.astype(np.float64) - raw @ model.standardization.mean
    coefficients = np.column_stack([raw, intercept])
    names = [*model.feature_names, INTERCEPT]
    K = len(coefficients)
    if inference is not None:
        coefficients = coefficients.copy()
        coefficients[0, : len(inference.coefficient)] = inference.coefficient
    columns: dict[str, pa.Array] = {}
    if K > 1:
        columns["class"] = pa.array([label for label in model.label_names for _ in names])
    columns["column"] = pa.array(names * K)
    columns["coefficient"] = pa.array(coefficients.reshape(-1))
    with np.errstate(over="ignore"):
        columns["odds_ratio"] = pa.array(np.exp(centred(coefficients).reshape(-1)))
    rows = len(names) * K
    for name in ("standard_error", "z", "p_value", "ci_low", "ci_high"):
        values = None if inference is None else getattr(inference, name)
        if values is None:
            columns[name] = pa.nulls(rows, pa.float64())
        else:  # without an intercept there is nothing to say of it
            columns[name] = pa.array([*values.tolist(), *[None] * (rows - len(values))], pa.float64())
    return pa.table(columns)


def centred(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """w_k - mean_j w_j for the coefficients [K, D] of K > 2 classes; the one row [1, D] of two classes as it is.

    Adding a number to a column's coefficient of every class changes no probability, so that single ones mean something
    against the mean only. l2 leaves it at 0; l1 does not.
    """
    return coefficients - coefficients.mean(axis=0) if len(coefficients) > 1 else coefficients


def write_coefficients(table: pa.Table, path: Path) -> None:
    """As CSV, names as `safe_cells` has them; what is unknown is empty."""
    table = safe_cells(table)
    write_atomically(path, lambda temporary: pyarrow.csv.write_csv(table, temporary))
