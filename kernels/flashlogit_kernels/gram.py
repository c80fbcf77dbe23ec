"""X^T diag(h) X by torch's own products: the reference's way, and float64's, which not every Triton multiplies.

Triton 3.6 cannot compile a product of float64 tiles; 3.9 can, if the GPU has units for it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PANEL_COLUMNS = 256
"""On two CPU cores 8,192 x 1,024 takes 60 ms in such panels, as with 128, and 87 as one product."""


def weighted_gram(
    X: Tensor,
    h: Tensor,
    rows: Tensor | None,
    *,
    block_rows: int,
    compute_dtype: torch.dtype,
    center: Tensor | None = None,
) -> Tensor:
    """Return sum_i h_i (x_i - center, 1) (x_i - center, 1)^T over the visited rows, the intercept's entries last.

    Returns [D + 1, D + 1] float64.

    Args:
        X: [N, D] of any floating dtype; cast a block at a time.
        h: [n] in the arithmetic's dtype.
        rows: [n] row numbers, or None for all.
        block_rows: rows at once.
        compute_dtype: of a block's products; blocks are added up in float64.
        center: [D], or None for 0.
    """
    D = X.shape[1]
    upper, border = X.new_zeros((D, D), dtype=torch.float64), X.new_zeros(D, dtype=torch.float64)
    for start in range(0, h.shape[0], block_rows):
        visited = slice(start, start + block_rows)
        block = (X[visited] if rows is None else X.index_select(0, rows[visited])).to(compute_dtype)
        if center is not None:
            block = block - center.to(compute_dtype)
        weighted = block * h[visited, None]
        border += weighted.sum(dim=0, dtype=torch.float64)
        if D == 1:  # BLAS would add up a whole column in one float32
            upper += (weighted * block).sum(dtype=torch.float64)
        else:
            add_upper_half(upper, weighted, block)
    return bordered(mirrored(upper), border, h.sum(dtype=torch.float64).reshape(1))


def add_upper_half(total: Tensor, A: Tensor, B: Tensor) -> None:
    """Add the upper half of A^T B to `total` [D, D], for A and B [m, D] whose product is symmetric.

    In panels of rows that begin at the diagonal: torch has no `syrk`. Blocks left of it are not written.
    """
    for start in range(0, len(total), _PANEL_COLUMNS):
        panel = slice(start, start + _PANEL_COLUMNS)
        place, left, right = total[panel, start:], A[:, panel].t(), B[:, start:]
        if A.dtype == total.dtype:
            place.addmm_(left, right)
        elif A.is_cuda and A.dtype.itemsize == 2 and torch.version.hip is None:
            place += torch.mm(left, right, out_dtype=torch.float32)  # whose sums are float32 in any case
        else:
            place += left @ right


def mirrored(upper: Tensor) -> Tensor:
    """Return the symmetric matrices [..., D, D] whose upper halves are given; what is below may be anything.

    On a CPU in NumPy, panel by panel: `triu` waits for all threads of OpenMP, whatever the size.
    """
    if upper.device.type != "cpu":
        return upper.triu() + upper.triu(1).mT
    matrix = upper.numpy().copy()
    for start in range(0, matrix.shape[-1], _PANEL_COLUMNS):
        stop = start + _PANEL_COLUMNS
        square = matrix[..., start:stop, start:stop]
        square[:] = np.triu(square) + np.triu(square, 1).swapaxes(-1, -2)
        matrix[..., stop:, start:stop] = matrix[..., start:stop, stop:].swapaxes(-1, -2)
    return torch.from_numpy(matrix)


def bordered(matrix: Tensor, border: Tensor, corner: Tensor) -> Tensor:
    """Return [D + 1, D + 1] from X^T diag(h) X [D, D], X^T h [D] and sum h [1]."""
    return torch.cat([torch.cat([matrix, border[:, None]], dim=1), torch.cat([border, corner])[None, :]])
