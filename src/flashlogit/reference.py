"""The passes over X in pure torch: the truth in tests, and the fast path on a CPU.

Same names and signatures as in `flashlogit_kernels`, on any device, in float32 or float64 arithmetic. X is walked in
row blocks small enough that the second use of a block, for the gradient, finds it in the cache, so that main memory is
read once here too.

    z = X w + b        c = clamp(z, -Z, Z)        loss = loss(c, y)        r = dloss/dz        dL/dw = X^T (s r)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from flashlogit_kernels.contract import (
    BCERows,
    BCESums,
    Clamp,
    PassInputs,
    PassOptions,
    arithmetic_dtype,
    check_inputs,
    check_matrix,
    check_rows,
    check_same_device,
    check_vector,
)

from .reference_terms import Labels, labels_of

_CPU_BLOCK_BYTES = 2 << 20
"""Of X in the arithmetic's dtype: two cores' L2 caches. 1 MB costs up to 15 % in calls, 16 MB loses the cache."""
_CPU_BLOCK_ROWS = 1 << 16
"""BLAS adds up a column row after row in float32; blocks are added in float64, which keeps narrow tables accurate."""
_GPU_BLOCK_BYTES = 256 << 20
"""Separate products cannot keep a block in a GPU's cache; there the block only bounds the temporaries."""
_PART_ROWS = 1 << 18
"""Rows whose losses are computed at once: enough for torch to spread the elementwise work over its threads."""


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
    **options: Unpack[PassOptions],
) -> BCESums:
    """Clamped binary cross-entropy and its gradient, summed over rows: the twin of `flashlogit_kernels.bce_onepass`."""
    inputs = check_inputs(X, y, weight, bias, **options)
    gradient = X.new_zeros(X.shape[1], dtype=torch.float64)
    residual_sum, loss_sum, weight_sum, nonfinite, largest = X.new_zeros((5, 1), dtype=torch.float64)
    kept = []
    with torch.autocast(X.device.type, enabled=False):
        for part in _walk(inputs, gradient):
            residual_sum += part.residual.sum(dtype=torch.float64)
            loss_sum += part.loss(inputs.clamp).sum(dtype=torch.float64)
            weight_sum += len(part.logits) if part.weight is None else part.weight.sum(dtype=torch.float64)
            bad, magnitude = _magnitudes(part.logits)
            nonfinite += bad
            largest = torch.maximum(largest, magnitude)
            if residual:
                kept.append(part.residual)
    packed = torch.cat([gradient, residual_sum, loss_sum, weight_sum, nonfinite, largest])
    return BCESums(packed, torch.cat(kept) if residual else None)


def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    **options: Unpack[PassOptions],
) -> BCERows:
    """Loss and residual of every row: the twin of `flashlogit_kernels.bce_rows`."""
    inputs = check_inputs(X, y, weight, bias, **options)
    with torch.autocast(X.device.type, enabled=False):
        parts = [(part.loss(inputs.clamp), part.residual) for part in _walk(inputs, None)]
    losses, residuals = zip(*parts, strict=True)
    return BCERows(torch.cat(losses), torch.cat(residuals))


def column_sums(
    X: Tensor, v: Tensor, *, rows: Tensor | None = None, compute_dtype: torch.dtype | None = None
) -> Tensor:
    """X^T v, [D] float64: the twin of `flashlogit_kernels.column_sums`."""
    X = check_matrix(X)
    rows = check_rows(rows)
    check_vector("v", v, X.shape[0] if rows is None else rows.shape[0])
    check_same_device(X, {"v": v, "rows": rows})
    compute = arithmetic_dtype(X, v, compute_dtype)
    v = v.detach().to(compute)
    total = X.new_zeros(X.shape[1], dtype=torch.float64)
    with torch.autocast(X.device.type, enabled=False):
        for block, X_block in row_blocks(X, rows, slice(0, v.shape[0]), compute):
            total += _transposed_product(X_block, v[block])
    return total


def logits(X: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = X w + b, [N] in the arithmetic's dtype, block by block so that X is not copied to it as a whole."""
    X = check_matrix(X)
    compute = arithmetic_dtype(X, weight, None)
    w = weight.detach().to(compute)
    with torch.autocast(X.device.type, enabled=False):
        z = torch.cat([torch.mv(block, w) for _, block in row_blocks(X, None, slice(0, X.shape[0]), compute)])
    return z if bias is None else z.add_(bias.detach())


@dataclass(frozen=True)
class _Part:
    """Consecutive visited rows, [m] each: logits, s_i r_i, labels, and s_i or None for ones."""

    logits: Tensor
    residual: Tensor
    labels: Labels
    weight: Tensor | None

    def loss(self, clamp: Clamp) -> Tensor:
        """s_i loss_i, [m]."""
        loss = self.labels.loss(self.logits.clamp(-clamp.bound, clamp.bound) if clamp.eps else self.logits)
        return loss if self.weight is None else loss.mul_(self.weight)


def _walk(inputs: PassInputs, gradient: Tensor | None) -> Iterator[_Part]:
    """Visit all rows part by part, adding X^T (s r) to `gradient` [D] float64 where it is given."""
    w = inputs.weight.to(inputs.compute_dtype)
    for start in range(0, inputs.n, _PART_ROWS):
        part = slice(start, min(start + _PART_ROWS, inputs.n))
        labels = labels_of(_gather(inputs.y, inputs.rows, part), inputs.pos_weight, inputs.compute_dtype)
        s = None if inputs.sample_weight is None else _gather(inputs.sample_weight, inputs.rows, part)
        z, r = inputs.X.new_empty((2, part.stop - start), dtype=inputs.compute_dtype)
        for block, X_block in row_blocks(inputs.X, inputs.rows, part, inputs.compute_dtype):
            z_block, r_block = z[block], r[block]
            torch.mv(X_block, w, out=z_block)
            if inputs.bias is not None:
                z_block += inputs.bias
            labels.residual(z_block, block, r_block)
            if inputs.clamp.zeroes_gradient:
                r_block.masked_fill_(z_block.abs() > inputs.clamp.bound, 0.0)
            if s is not None:
                r_block *= s[block]
            if gradient is not None:
                gradient += _transposed_product(X_block, r_block)
        yield _Part(z, r, labels, s)


def _transposed_product(X: Tensor, v: Tensor) -> Tensor:
    """X^T v. BLAS takes six times as long over a single column, and its dot product adds up in one float32."""
    return (X[:, 0] * v).sum(dtype=torch.float64) if X.shape[1] == 1 else torch.mv(X.t(), v)


def _magnitudes(z: Tensor) -> tuple[Tensor | int, Tensor]:
    """Number of non-finite entries, and the largest finite magnitude.

    Extremes keep NaN, so that on the CPU one look at them settles the usual case at a tenth of the price.
    """
    extreme = torch.stack(z.aminmax()).abs().max()
    if z.device.type == "cpu" and extreme.isfinite():
        return 0, extreme.to(torch.float64)
    finite = z.isfinite()
    return (~finite).sum(), torch.where(finite, z.abs(), 0.0).max().to(torch.float64)


def _gather(vector: Tensor, rows: Tensor | None, part: slice) -> Tensor:
    return vector[part] if rows is None else vector[rows[part]]


def row_blocks(
    X: Tensor, rows: Tensor | None, part: slice, compute_dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """Row blocks of the visited rows `part` in the arithmetic's dtype, with their place within the part."""
    row_bytes = X.shape[1] * compute_dtype.itemsize
    on_cpu = X.device.type == "cpu"
    height = min(_CPU_BLOCK_BYTES // row_bytes, _CPU_BLOCK_ROWS) if on_cpu else _GPU_BLOCK_BYTES // row_bytes
    height = max(1, height)
    for start in range(part.start, part.stop, height):
        visited = slice(start, min(start + height, part.stop))
        block = X[visited] if rows is None else X.index_select(0, rows[visited])
        yield slice(visited.start - part.start, visited.stop - part.start), block.to(compute_dtype)
