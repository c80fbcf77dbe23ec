"""The passes over X in pure torch: the truth in tests, and the fast path on a CPU.

Same names and signatures as in `flashlogit_kernels`, on any device, in float32 or float64 arithmetic. X is walked in
row blocks small enough that the second use of a block, for the gradient, finds it in the cache, so that main memory is
read once here too.

    z = X w + b        c = clamp(z, -Z, Z)        loss = (1 - y) softplus(c) + q y softplus(-c)
    r = (1 - y) sigmoid(z) - q y sigmoid(-z)      dL/dw = X^T (s r)        dL/db = sum s r

With pos_weight q = 1 the residual r is p - y, written so that nothing cancels for a sure prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

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

_CPU_BLOCK_BYTES = 2 << 20
"""Of X in the arithmetic's dtype: two cores' L2 caches. 1 MB costs up to 15 % in calls, 16 MB loses the cache."""
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
    totals = X.new_zeros(4, dtype=torch.float64)
    largest = X.new_zeros(1, dtype=torch.float64)
    kept = []
    with torch.autocast(X.device.type, enabled=False):
        for part in _walk(inputs, gradient):
            finite = part.logits.isfinite()
            magnitude = torch.where(finite, part.logits.abs(), 0.0)
            largest = torch.maximum(largest, magnitude.max().to(torch.float64))
            sums = (part.residual, part.loss(inputs.clamp), part.weight, ~finite)
            totals += torch.stack([term.sum(dtype=torch.float64) for term in sums])
            if residual:
                kept.append(part.residual)
    return BCESums(torch.cat([gradient, totals, largest]), torch.cat(kept) if residual else None)


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
            total += torch.mv(X_block.t(), v[block])
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
    """Consecutive visited rows, [m] each: logits, s_i r_i, labels, and s_i (ones where there are no weights)."""

    logits: Tensor
    residual: Tensor
    labels: _Labels
    weight: Tensor

    def loss(self, clamp: Clamp) -> Tensor:
        """s_i loss_i, [m]."""
        clamped = self.logits.clamp(-clamp.bound, clamp.bound) if clamp.eps else self.logits
        return self.labels.loss(clamped).mul_(self.weight)


@dataclass(frozen=True)
class _Labels:
    """y [m] in the arithmetic's dtype, and pos_weight [1] or None. Here the labels may be soft."""

    y: Tensor
    pos_weight: Tensor | None

    def residual(self, z: Tensor, rows: slice) -> Tensor:
        """(1 - y) p - q y (1 - p): lerp gives each end exactly, so that hard labels do not cancel."""
        negative = torch.sigmoid(-z).neg_()
        if self.pos_weight is not None:
            negative *= self.pos_weight
        return torch.lerp(torch.sigmoid(z), negative, self.y[rows])

    def loss(self, c: Tensor) -> Tensor:
        """(1 - y) softplus(c) + q y softplus(-c), with 0 times infinity taken as 0."""
        on = self.y if self.pos_weight is None else self.y * self.pos_weight
        off = 1 - self.y
        slope = torch.where(c > 0, off, on)
        linear = torch.where(slope == 0, 0.0, slope * c.abs())
        return linear + (on + off) * torch.log1p(torch.exp(-c.abs()))


class _HardLabels(_Labels):
    """Labels 0 and 1 (bool and uint8 hold no others): with t = 2y - 1 all is a function of t z, at half the price."""

    def residual(self, z: Tensor, rows: slice) -> Tensor:
        sign = self.y[rows] * 2 - 1
        return self._weighted(torch.sigmoid((sign * z).neg_()).mul_(sign.neg_()), rows)

    def loss(self, c: Tensor) -> Tensor:
        sign = self.y * 2 - 1
        return self._weighted(logsigmoid(sign.mul_(c)).neg_(), slice(None))

    def _weighted(self, term: Tensor, rows: slice) -> Tensor:
        return (
            term
            if self.pos_weight is None
            else term.mul_(torch.lerp(self.pos_weight.new_ones(1), self.pos_weight, self.y[rows]))
        )


def _walk(inputs: PassInputs, gradient: Tensor | None) -> Iterator[_Part]:
    """Visit all rows part by part, adding X^T (s r) to `gradient` [D] float64 where it is given."""
    w = inputs.weight.to(inputs.compute_dtype)
    labels_type = _HardLabels if inputs.y.dtype == torch.uint8 else _Labels
    for start in range(0, inputs.n, _PART_ROWS):
        part = slice(start, min(start + _PART_ROWS, inputs.n))
        y = _gather(inputs.y, inputs.rows, part).to(inputs.compute_dtype)
        s = None if inputs.sample_weight is None else _gather(inputs.sample_weight, inputs.rows, part)
        labels = labels_type(y, inputs.pos_weight)
        z, r = torch.empty_like(y), torch.empty_like(y)
        for block, X_block in row_blocks(inputs.X, inputs.rows, part, inputs.compute_dtype):
            torch.mv(X_block, w, out=z[block])
            if inputs.bias is not None:
                z[block] += inputs.bias
            r[block] = labels.residual(z[block], block)
            if inputs.clamp.zeroes_gradient:
                r[block].masked_fill_(z[block].abs() > inputs.clamp.bound, 0.0)
            if s is not None:
                r[block] *= s[block]
            if gradient is not None:
                gradient += torch.mv(X_block.t(), r[block])
        yield _Part(z, r, labels, y.new_ones(1).expand_as(y) if s is None else s)


def _gather(vector: Tensor, rows: Tensor | None, part: slice) -> Tensor:
    return vector[part] if rows is None else vector[rows[part]]


def row_blocks(
    X: Tensor, rows: Tensor | None, part: slice, compute_dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """Row blocks of the visited rows `part` in the arithmetic's dtype, with their place within the part."""
    block_bytes = _CPU_BLOCK_BYTES if X.device.type == "cpu" else _GPU_BLOCK_BYTES
    height = max(1, block_bytes // (X.shape[1] * compute_dtype.itemsize))
    for start in range(part.start, part.stop, height):
        visited = slice(start, min(start + height, part.stop))
        block = X[visited] if rows is None else X.index_select(0, rows[visited])
        yield slice(visited.start - part.start, visited.stop - part.start), block.to(compute_dtype)
