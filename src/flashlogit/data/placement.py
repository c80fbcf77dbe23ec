"""Row blocks into the splits' tensors on the device, in the storage dtype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.padding import empty_padded, padded_columns

from ..system.errors import UserError
from ..system.memory import require_free
from ..system.wording import row_text
from .columns.checks import finite_blocks
from .dataset import Standardization
from .files.tables import Table
from .splits import DROPPED


def require_room(rows: int, columns: int, dtype: torch.dtype, device: torch.device, file: str) -> None:
    """Raise UserError where X [rows, columns] would not fit into the device's free memory."""
    require_free(
        _bytes(rows, columns, dtype),
        f"X of {rows:,} rows and {columns:,} columns of {file} in data.dtype {_name(dtype)}",
        "give fewer rows, leave out columns with data.drop, lower data.categories.max, or choose a narrower data.dtype",
        device,
    )


def allocate(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised X [rows, columns], whose rows are padded where kernels gain by it (see `padded_columns`).

    Raises:
        UserError: the device has no memory for it.
    """
    try:
        return empty_padded(rows, columns, dtype, device)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        gigabytes = _bytes(rows, columns, dtype) / 1e9
        if not isinstance(error, torch.OutOfMemoryError) and "allocate" not in str(error):
            raise
        raise UserError(
            f"X of {rows} rows, {columns} columns and dtype {_name(dtype)} takes {gigabytes:.1f} GB, more"
            f" than {device} has free; choose a narrower data.dtype, fewer columns or fewer rows"
        ) from error


def place(
    table: Table,
    names: Sequence[str],
    splits: NDArray[np.uint8],
    standardization: Standardization,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[int, Tensor]:
    """X [n, D] of each split that occurs in `splits` [N], standardised in float64 and then cast.

    Rows keep the file's order. Raises UserError, naming row and column, for a value that is not finite, and
    for one beyond the range of `dtype`.
    """
    sizes = {int(split): int(n) for split, n in enumerate(np.bincount(splits, minlength=DROPPED)) if n}
    sizes.pop(DROPPED, None)
    tensors = {split: allocate(n, len(names), dtype, device) for split, n in sizes.items()}
    filled = dict.fromkeys(sizes, 0)
    limit = torch.finfo(dtype).max
    chosen = np.empty((0, len(names)))
    for rows, block in finite_blocks(table, names, splits != DROPPED):
        if not len(block):
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            block -= standardization.mean
            block /= standardization.scale
        # Two reductions of the block instead of a look at every value of its cast.
        if not (-limit <= block.min() and block.max() <= limit):
            _refuse_overflow(torch.from_numpy(block).to(dtype), rows, table.name, names, dtype)
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


def _bytes(rows: int, columns: int, dtype: torch.dtype) -> int:
    return rows * padded_columns(columns, dtype) * dtype.itemsize


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


def _refuse_overflow(
    cast: Tensor, rows: NDArray[np.intp], file: str, names: Sequence[str], dtype: torch.dtype
) -> None:
    finite = torch.isfinite(cast)
    if bool(finite.all()):
        return
    i, j = torch.nonzero(~finite)[0].tolist()
    remedy = "rescale the column"
    if dtype != torch.float64:
        wider = "bfloat16 or float32" if dtype == torch.float16 else "float64"
        remedy += f", or set data.dtype to {wider}"
    raise UserError(
        f'{file} has a value in {row_text(int(rows[i]))} of column "{names[j]}" that data.dtype'
        f" {_name(dtype)} cannot hold (at most {torch.finfo(dtype).max:.4g}); {remedy}"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
