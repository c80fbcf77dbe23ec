"""Column means and standard deviations of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..system.errors import UserError
from ..system.wording import column_word
from .columns.checks import finite_blocks
from .dataset import Standardization
from .files.tables import Table
from .splits import DROPPED, TRAIN


def measure(
    table: Table, names: Sequence[str], splits: NDArray[np.uint8]
) -> tuple[Standardization, tuple[str, ...]]:
    """Mean and standard deviation, in float64, of each column over the TRAIN rows, and the constant columns'
    names.

    `splits` [N] is the split of every row; values are checked in all rows but the DROPPED ones. A constant
    column has scale 1. Raises UserError for values that are not finite or whose square is not.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    first: NDArray[np.float64] | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, block in finite_blocks(table, names, splits != DROPPED):
            training = block[splits[rows] == TRAIN]
            if len(training) == 0:
                continue
            # Taking the first row off keeps all digits of a column such as a time stamp, whose mean is a
            # million times its standard deviation; the scaler by itself would call such a column constant.
            if first is None:
                first = training[0].copy()
            training -= first
            _refuse_infinite(np.abs(training).max(axis=0), names, table.name)
            scaler.partial_fit(training)
    if first is None:
        raise ValueError("no row is in the training split")
    scale: NDArray[np.float64] = scaler.scale_
    _refuse_infinite(scaler.var_, names, table.name)
    # Where the scaler finds no more variance than rounding leaves, it sets the scale to 1.
    constant = tuple(name for name, own in zip(names, scale == np.sqrt(scaler.var_), strict=True) if not own)
    return Standardization(mean=first + scaler.mean_, scale=scale), constant


def _refuse_infinite(spread: NDArray[np.float64], names: Sequence[str], file: str) -> None:
    if not np.isfinite(spread).all():
        wide = [names[int(j)] for j in np.flatnonzero(~np.isfinite(spread))]
        raise UserError(
            f"{file} has values in {column_word(wide)} too far apart to standardise (their squares exceed"
            " 1e308); rescale the column, or leave it out with data.drop"
        )
