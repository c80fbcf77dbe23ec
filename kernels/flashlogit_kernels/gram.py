"""X^T diag(h) X by torch's own products: the reference's way, and float64's, which not every Triton multiplies.

Triton 3.6 cannot compile a product of float64 tiles; 3.9 can, if the GPU has units for it.
"""

from __future__ import annotations

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
    """sum_i h_i (x_i - center, 1) (x_i - center, 1)^T over the visited rows, the intercept's entries last.

    Returns [D + 1, D + 1] float64.

    Args:
        X: [N, D] of any floating dtype; cast a block at a time.
        h: [n] in the arithmetic's dtype.
        rows: [n] row numbers, or None for all.
        block_rows: rows at once.
        compute_dtype: of a block's products; blocks are added up in float64.
        center: [D], or None for 0.
    """
    sums = GramSums(X, compute_dtype, center)
    for start in range(0, h.shape[0], block_rows):
        visited = slice(start, start + block_rows)
        sums.add(X[visited] if rows is None else X.index_select(0, rows[visited]), h[visited])
    return sums.total()


class GramSums:
    """The same, block of rows by block of rows; arguments as those of `weighted_gram`.

    sum_dtype: in which blocks are added up; float64, or that of the products where a rough matrix will do, which saves
    as much time again as a product of a few hundred rows takes.
    """

    def __init__(
        self,
        X: Tensor,
        compute_dtype: torch.dtype,
        center: Tensor | None,
        *,
        sum_dtype: torch.dtype = torch.float64,
    ) -> None:
        D = X.shape[1]
        self._dtype, self._sum_dtype = compute_dtype, sum_dtype
        self._center = None if center is None else center.to(compute_dtype)
        self._upper, self._border, self._corner = (
            X.new_zeros(shape, dtype=sum_dtype) for shape in ((D, D), (D,), (1,))
        )

    def add(self, block: Tensor, h: Tensor) -> None:
        """Rows [m, D] in their storage dtype with the weights h [m]."""
        block = block.to(self._dtype)
        if self._center is not None:
            block = block - self._center
        weighted = block * h[:, None]
        self._border += weighted.sum(dim=0, dtype=self._sum_dtype)
        self._corner += h.sum(dtype=self._sum_dtype)
        if block.shape[1] == 1:  # BLAS would add up a whole column in one float32
            self._upper += (weighted * block).sum(dtype=torch.float64)
            return
        # Panels of rows that begin at the diagonal: torch has no `syrk`.
        for start in range(0, len(self._upper), _PANEL_COLUMNS):
            rows = slice(start, start + _PANEL_COLUMNS)
            total, left, right = self._upper[rows, start:], weighted[:, rows].t(), block[:, start:]
            if self._sum_dtype == self._dtype:
                total.addmm_(left, right)
            else:
                total += left @ right

    def merge(self, other: GramSums) -> GramSums:
        """Add what another thread has summed."""
        self._upper += other._upper
        self._border += other._border
        self._corner += other._corner
        return self

    def total(self) -> Tensor:
        """[D + 1, D + 1] float64."""
        D = len(self._upper)
        total = self._upper.new_empty((D + 1, D + 1), dtype=torch.float64)
        total[:D, :D] = self._upper
        for start in range(0, D, _PANEL_COLUMNS):
            stop = start + _PANEL_COLUMNS
            corner = total[start:stop, start:stop]
            corner.copy_(corner.triu() + corner.triu(1).t())
            total[stop:D, start:stop] = total[start:stop, stop:D].t()
        total[D, :D] = total[:D, D] = self._border
        total[D, D] = self._corner[0]
        return total


def bordered(matrix: Tensor, border: Tensor, corner: Tensor) -> Tensor:
    """[D + 1, D + 1] from X^T diag(h) X [D, D], X^T h [D] and sum h [1]."""
    return torch.cat([torch.cat([matrix, border[:, None]], dim=1), torch.cat([border, corner])[None, :]])
