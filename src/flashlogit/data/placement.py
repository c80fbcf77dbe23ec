"""The two walks over a table's rows: one measures the columns, one stores the splits' rows on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.contract import empty_padded, padded_columns

from ..system.errors import UserError, column_word, row_text
from ..system.machine import require_free
from ..system.memory import device_free_bytes
from .columns.encoding import Standardization
from .dataset import DROPPED, TRAIN
from .files.tables import Table


def require_room(rows: int, columns: int, dtype: torch.dtype, device: torch.device, file: str) -> None:
    """Raise UserError where X [rows, columns] would not fit into the device's free memory."""
    require_free(
        rows * padded_columns(columns, dtype) * dtype.itemsize,
        f"X of {rows:,} rows and {columns:,} columns of {file} in data.dtype {_name(dtype)}",
        "give fewer rows, leave out columns with data.drop, lower data.categories.max, or choose a narrower data.dtype",
        device_free_bytes(device),
    )


def allocate(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised X [rows, columns], whose rows are padded where kernels gain by it (see
    `padded_columns`).

    Raises:
        UserError: the device has no memory for it.
    """
    try:
        return empty_padded(rows, columns, dtype, device)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate" not in str(error):
            raise
        gigabytes = rows * padded_columns(columns, dtype) * dtype.itemsize / 1e9
        problem = f"X of {rows} rows and {columns} columns takes {gigabytes:.1f} GB, more than {device} has free"
        remedy = "choose a narrower one, fewer columns or fewer rows"
        raise UserError(problem, setting="data.dtype", value=_name(dtype), remedy=remedy) from error


def measure(table: Table, names: Sequence[str], splits: NDArray[np.uint8]) -> tuple[Standardization, tuple[str, ...]]:
    """Return mean and standard deviation, in float64, of each column over the TRAIN rows, and the constant columns'
    names.

    `splits` [N] is the split of every row; values are checked in all rows but the DROPPED ones. A constant column has
    scale 1. These are the numbers of scikit-learn's StandardScaler over rows less the first, to the last bit, and its
    test of a constant column: a variance that rounding alone can leave. Blocks are joined as Chan, Golub and LeVeque
    1983, "Algorithms for computing the sample variance", do it. Raises UserError for values that are not finite or
    whose square is not.
    """
    first: NDArray[np.float64] | None = None
    N = 0
    mean = variance = np.zeros(len(names))
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, block in table.finite_blocks(names, splits != DROPPED):
            here = splits[rows] == TRAIN
            training = block if here.all() else block[here]
            n = len(training)
            if n == 0:
                continue
            # Taking the first row off keeps all digits of a column such as a time stamp, whose mean is a million times
            # its standard deviation; it would be called constant.
            if first is None:
                first = training[0].copy()
            training -= first
            _refuse_infinite(np.maximum(training.max(axis=0), -training.min(axis=0)), names, table.name)
            total = training.sum(axis=0)
            training -= total / n
            rest = training.sum(axis=0)
            training *= training
            squares = training.sum(axis=0) - rest**2 / n
            if N:
                squares += variance * N + N / n / (N + n) * (mean * N / (N / n) - total) ** 2
            mean, N = (mean * N + total) / (N + n), N + n
            variance = squares / N
    if first is None:
        raise ValueError("no row is in the training split")
    _refuse_infinite(variance, names, table.name)
    rounding = np.finfo(np.float64).eps * N
    varies = variance > rounding * variance + (rounding * mean) ** 2
    constant = tuple(name for name, does in zip(names, varies, strict=True) if not does)
    return Standardization(mean=first + mean, scale=np.where(varies, np.sqrt(variance), 1.0)), constant


def _refuse_infinite(spread: NDArray[np.float64], names: Sequence[str], file: str) -> None:
    if not np.isfinite(spread).all():
        wide = [names[int(j)] for j in np.flatnonzero(~np.isfinite(spread))]
        problem = f"the values in {column_word(wide)} are too far apart to standardise (their squares exceed 1e308)"
        raise UserError(problem, setting=file, remedy="rescale the column, or leave it out with data.drop")


def place(
    table: Table,
    names: Sequence[str],
    splits: NDArray[np.uint8],
    standardization: Standardization,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[int, Tensor]:
    """Return X [n, D] of each split that occurs in `splits` [N], standardised in float64 and then cast.

    Rows keep the file's order. Raises UserError, naming row and column, for a value that is not finite, and
    for one beyond the range of `dtype`.
    """
    sizes = {split: int(n) for split, n in enumerate(np.bincount(splits)[:DROPPED]) if n}
    tensors = {split: allocate(n, len(names), dtype, device) for split, n in sizes.items()}
    filled = dict.fromkeys(sizes, 0)
    limit = torch.finfo(dtype).max
    chosen = np.empty((0, len(names)))
    for rows, block in table.finite_blocks(names, splits != DROPPED):
        if not len(block):
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            block -= standardization.mean
            block /= standardization.scale
        # Two reductions of the block instead of a look at every value of its cast.
        if not (-limit <= block.min() and block.max() <= limit):
            _refuse_overflow(torch.from_numpy(block).to(dtype), rows, table.name, names)
        for split, X in tensors.items():
            here = np.flatnonzero(splits[rows] == split)
            start, stop = filled[split], filled[split] + len(here)
            filled[split] = stop
            if len(here) == len(block):
                _fill(X[start:stop], block)
            else:
                if len(chosen) < len(here):
                    chosen = np.empty_like(block)
                _fill(X[start:stop], block.take(here, axis=0, out=chosen[: len(here)], mode="clip"))
    return tensors


def _fill(X: Tensor, rows: NDArray[np.float64]) -> None:
    """Cast rows [n, D] into X [n, D].

    On the CPU by NumPy, in one thread: a block is too small for torch's threads, which wait for each other, many times
    longer than the work takes where the machine has other work. Half precision is torch's, as on the GPU: NumPy rounds
    to it once, torch by way of float32.
    """
    if X.device.type == "cpu" and X.dtype in (torch.float32, torch.float64):
        with np.errstate(over="ignore"):  # what is beyond the greatest number may still be rounded to it
            np.copyto(X.numpy(), rows, casting="same_kind")
    else:
        X.copy_(torch.from_numpy(rows).to(X.dtype))


def _refuse_overflow(cast: Tensor, rows: NDArray[np.intp], file: str, names: Sequence[str]) -> None:
    infinite = torch.nonzero(~torch.isfinite(cast))
    if len(infinite):
        i, j = infinite[0].tolist()
        wider = {torch.float64: "", torch.float16: ", or set data.dtype to bfloat16 or float32"}
        bound = f"{torch.finfo(cast.dtype).max:.4g}, which data.dtype {_name(cast.dtype)} holds"
        problem = f'the value in {row_text(int(rows[i]))} of column "{names[j]}" is more than {bound}'
        remedy = "rescale the column" + wider.get(cast.dtype, ", or set data.dtype to float64")
        raise UserError(problem, setting=file, remedy=remedy)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
