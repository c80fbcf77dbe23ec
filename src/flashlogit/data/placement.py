"""Row blocks into the splits' tensors on the device, in the storage dtype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit.data.checks import finite_blocks
from flashlogit.data.dataset import Standardization
from flashlogit.data.splits import DROPPED
from flashlogit.data.tables import Table
from flashlogit.data.wording import row_text
from flashlogit.errors import UserError
from flashlogit_kernels.padding import empty_padded, padded_columns


def allocate(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised X [rows, columns], whose rows are padded where kernels gain by it (see `padded_columns`).

    Raises:
        UserError: the device has no memory for it.
    """
    try:
        return empty_padded(rows, columns, dtype, device)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        gigabytes = rows * padded_columns(columns, dtype) * dtype.itemsize / 1e9
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
    for rows, block in finite_blocks(table, names, splits != DROPPED):
        with np.errstate(over="ignore"):
            cast = torch.from_numpy(standardization.apply(block)).to(dtype)
        _refuse_overflow(cast, rows, table.name, names, dtype)
        for split, X in tensors.items():
            here = torch.from_numpy(np.flatnonzero(splits[rows] == split))
            start = filled[split]
            filled[split] = start + len(here)
            X[start : filled[split]].copy_(cast if len(here) == len(cast) else cast[here])
    return tensors


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
