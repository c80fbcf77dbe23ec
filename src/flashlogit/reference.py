"""The passes over X in pure torch: the truth in tests, and the fast path on a CPU.

Same names and signatures as in `flashlogit_kernels`, on any device, in float32 or float64 arithmetic. X is walked in
row blocks small enough that the second use of a block, for the gradient, finds it in the cache, so that main memory is
read once here too.

    z = X w + b        c = clamp(z, -Z, Z)        loss = loss(c, y)        r = dloss/dz        dL/dw = X^T (s r)
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from flashlogit_kernels.contract import (
    BCEHessian,
    BCERows,
    BCESums,
    PassInputs,
    PassOptions,
    arithmetic_dtype,
    bordered,
    check_hessian_columns,
    check_inputs,
    check_matrix,
    check_product_inputs,
    check_rows,
    check_same_device,
    check_vector,
)

from .reference_blocks import gather, over_parts, row_blocks, transposed_product, weighted_sums
from .reference_terms import labels_of, magnitudes


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
    curvature: bool = False,
    logits: bool = False,
    **options: Unpack[PassOptions],
) -> BCESums:
    """Clamped binary cross-entropy and its gradient, summed over rows: the twin of `flashlogit_kernels.bce_onepass`."""
    inputs = check_inputs(X, y, weight, bias, **options)
    rows = _RowValues(inputs, residual=residual, curvature=curvature, logits=logits)
    packed = _combine(over_parts(inputs.X, inputs.n, lambda part: _sum_part(inputs, part, rows)))
    return BCESums(packed, rows.residual, rows.curvature, rows.logits)


def bce_hessian(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    **options: Unpack[PassOptions],
) -> BCEHessian:
    """The same and the Hessian: the twin of `flashlogit_kernels.bce_hessian`."""
    check_hessian_columns(X)
    inputs = check_inputs(X, y, weight, bias, **options)
    D = inputs.X.shape[1]

    def sum_part(part: slice) -> tuple[Tensor, Tensor]:
        matrix = inputs.X.new_zeros((D + 1, D + 1), dtype=torch.float64)
        return _sum_part(inputs, part, _RowValues(inputs), matrix), matrix

    packed, matrices = zip(*over_parts(inputs.X, inputs.n, sum_part), strict=True)
    return BCEHessian(BCESums(_combine(list(packed))), torch.stack(matrices).sum(dim=0))


def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    **options: Unpack[PassOptions],
) -> BCERows:
    """Loss and residual of every row: the twin of `flashlogit_kernels.bce_rows`."""
    inputs = check_inputs(X, y, weight, bias, **options)
    rows = _RowValues(inputs, residual=True, loss=True)
    over_parts(inputs.X, inputs.n, lambda part: _sum_part(inputs, part, rows, gradient=False))
    assert rows.loss is not None
    assert rows.residual is not None
    return BCERows(rows.loss, rows.residual)


def hessian_product(
    X: Tensor,
    curvature: Tensor,
    v: Tensor,
    v_bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Tensor:
    """The Hessian times a vector, [D + 1] float64: the twin of `flashlogit_kernels.hessian_product`."""
    inputs = check_product_inputs(X, curvature, v, v_bias, rows, compute_dtype)
    v = inputs.v.to(inputs.compute_dtype)

    def sum_part(part: slice) -> Tensor:
        h = inputs.curvature[part]
        t = torch.empty_like(h)

        def weighted(block: slice, z: Tensor) -> Tensor:
            if inputs.v_bias is not None:
                z += inputs.v_bias
            return torch.mul(z, h[block], out=t[block])

        sums = weighted_sums(inputs.X, inputs.rows, part, v, weighted)
        return torch.cat([sums, t.sum(dtype=torch.float64).reshape(1)])

    return torch.stack(over_parts(inputs.X, inputs.n, sum_part)).sum(dim=0)


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

    def sum_part(part: slice) -> Tensor:
        total = X.new_zeros(X.shape[1], dtype=torch.float64)
        for block, X_block in row_blocks(X, rows, part, compute):
            total += transposed_product(X_block, v[part][block])
        return total

    parts = over_parts(X, v.shape[0], sum_part)
    return torch.stack(parts).sum(dim=0) if parts else X.new_zeros(X.shape[1], dtype=torch.float64)


def logits(X: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = X w + b, [N] in the arithmetic's dtype, block by block so that X is not copied to it as a whole."""
    X = check_matrix(X)
    compute = arithmetic_dtype(X, weight, None)
    w = weight.detach().to(compute)
    with torch.autocast(X.device.type, enabled=False):
        z = torch.cat([torch.mv(block, w) for _, block in row_blocks(X, None, slice(0, X.shape[0]), compute)])
    return z if bias is None else z.add_(bias.detach())


class _RowValues:
    """Room for what a caller wants of every visited row, [n] each, and None for the rest."""

    def __init__(
        self,
        inputs: PassInputs,
        *,
        residual: bool = False,
        curvature: bool = False,
        logits: bool = False,
        loss: bool = False,
    ) -> None:
        def room(asked: bool) -> Tensor | None:
            return inputs.X.new_empty(inputs.n, dtype=inputs.compute_dtype) if asked else None

        self.residual, self.curvature, self.logits, self.loss = map(room, (residual, curvature, logits, loss))


def _sum_part(
    inputs: PassInputs,
    part: slice,
    wanted: _RowValues,
    matrix: Tensor | None = None,
    *,
    gradient: bool = True,
) -> Tensor:
    """`BCESums.packed` of consecutive visited rows.

    Fills what is wanted of them, and adds their Hessian to `matrix` [D + 1, D + 1] float64 where it is given.
    """
    y, s = gather(inputs.y, inputs.rows, part), None
    if inputs.sample_weight is not None:
        s = gather(inputs.sample_weight, inputs.rows, part)
    labels = labels_of(y, inputs.pos_weight, inputs.compute_dtype)
    z, r = inputs.X.new_empty((2, y.shape[0]), dtype=inputs.compute_dtype)

    def residual(block: slice, z_block: Tensor) -> Tensor:
        r_block = r[block]
        if inputs.bias is not None:
            z_block += inputs.bias
        labels.residual(z_block, block, r_block)
        if inputs.clamp.zeroes_gradient:
            r_block.masked_fill_(z_block.abs() > inputs.clamp.bound, 0.0)
        if s is not None:
            r_block *= s[block]
        return r_block

    w = inputs.weight.to(inputs.compute_dtype)
    weight_grad = weighted_sums(inputs.X, inputs.rows, part, w, residual, logits=z, multiply=gradient)
    loss = labels.loss(z.clamp(-inputs.clamp.bound, inputs.clamp.bound) if inputs.clamp.eps else z)
    if s is not None:
        loss *= s
    h = None
    if matrix is not None or wanted.curvature is not None:
        h = labels.curvature(z)
        if inputs.clamp.zeroes_gradient:
            h.masked_fill_(z.abs() > inputs.clamp.bound, 0.0)
        if s is not None:
            h *= s
    for room, values in (
        (wanted.residual, r),
        (wanted.curvature, h),
        (wanted.logits, z),
        (wanted.loss, loss),
    ):
        if room is not None and values is not None:
            room[part] = values
    if matrix is not None and h is not None:
        _add_hessian(inputs, part, h, matrix)
    scalars = z.new_empty(5, dtype=torch.float64)
    scalars[0] = r.sum(dtype=torch.float64)
    scalars[1] = loss.sum(dtype=torch.float64)
    scalars[2] = len(z) if s is None else s.sum(dtype=torch.float64)
    scalars[3], scalars[4] = magnitudes(z)
    return torch.cat([weight_grad, scalars])


def _add_hessian(inputs: PassInputs, part: slice, h: Tensor, matrix: Tensor) -> None:
    """Add sum_i h_i (x_i, 1) (x_i, 1)^T of the part's rows to `matrix`."""
    for block, X_block in row_blocks(inputs.X, inputs.rows, part, inputs.compute_dtype):
        h_block = h[block]
        product = (X_block * h_block[:, None]).t() @ X_block
        border = transposed_product(X_block, h_block).to(torch.float64)
        corner = h_block.sum(dtype=torch.float64).reshape(1)
        matrix += bordered(product.to(torch.float64), border, corner)


def _combine(parts: list[Tensor]) -> Tensor:
    """`BCESums.packed` of all parts together: the last entry is a maximum, the others are sums."""
    stacked = torch.stack(parts)
    total = stacked.sum(dim=0)
    total[-1] = stacked[:, -1].max()
    return total
