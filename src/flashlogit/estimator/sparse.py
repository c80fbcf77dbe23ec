"""Sparse matrices as dense ones, until there are kernels for them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import EfficiencyWarning
from torch import Tensor

from ..system.memory import free_bytes

_BLOCK_BYTES = 64 << 20
"""Of dense rows made at a time."""
_SHARE = 0.5
"""Of the free memory that a dense copy may take."""


def densify(X: Any, device: torch.device, *, limit: int | None = None) -> Tensor:
    """A dense copy [N, D] on `device` of a scipy.sparse CSR matrix, filled by row blocks, and a warning that says so.

    Args:
        X: of a dtype that torch knows.
        device: where the copy is made.
        limit: bytes that it may take; default half of the device's free memory.

    Raises:
        MemoryError: a copy above the limit.
    """
    N, D = X.shape
    size = N * D * X.dtype.itemsize
    limit = int(_SHARE * free_bytes(device)) if limit is None else limit
    if size > limit:
        raise MemoryError(
            f"X is sparse, {N:,} x {D:,}, and would take {size / 1e9:.1f} GB as a dense matrix, which is all that"
            f" flashlogit trains on; the bound is {limit / 1e9:.1f} GB, half of the free memory: reduce the columns"
            " (feature selection, hashing, TruncatedSVD), take fewer rows, or train in batches with partial_fit"
        )
    warnings.warn(
        f"X is sparse, {N:,} x {D:,}, and is copied into a dense matrix of {size / 1e6:,.1f} MB: flashlogit has no"
        " kernels for sparse matrices yet",
        EfficiencyWarning,
        stacklevel=4,
    )
    dtype = torch.from_numpy(np.empty(0, X.dtype)).dtype
    dense = torch.empty((N, D), dtype=dtype, device=device)
    height = max(1, _BLOCK_BYTES // (D * X.dtype.itemsize))
    for start in range(0, N, height):
        dense[start : start + height] = torch.from_numpy(X[start : start + height].toarray())
    return dense
