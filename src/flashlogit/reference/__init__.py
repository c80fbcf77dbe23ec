"""The passes over X in pure torch: the truth in tests, and the fast path on a CPU.

Same names and signatures as in `flashlogit_kernels`, on any device, in float32 or float64 arithmetic. X is walked in
row blocks small enough that the second use of a block, for the gradient, finds it in the cache, so that main memory is
read once here too.

    z = X w + b        c = clamp(z, -Z, Z)        loss = loss(c, y)        r = dloss/dz        dL/dw = X^T (s r)
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from flashlogit_kernels.checks import (
    arithmetic_dtype,
    bce_pass,
    check_hessian_columns,
    check_labels,
    check_matrix,
    column_pass,
    product_pass,
    readable_labels,
)
from flashlogit_kernels.contract import (
    BCEHessian,
    BCERows,
    BCESums,
    Clamp,
    LabelSums,
    PassOptions,
    ProductOptions,
    RowPass,
    RowValues,
    joined,
    packed_sums,
)
from flashlogit_kernels.gram import weighted_gram

from ..system.memory import cast_rows, scratch_buffer
from .blocks import block_rows, gather, linear, over_parts, row_blocks, transposed_product
from .terms import Labels, labels_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
    curvature: bool = False,
    logits: bool = False,
    border: bool = False,
    **options: Unpack[PassOptions],
) -> BCESums:
    """Return clamped binary cross-entropy and its gradient, summed over rows: the twin of
    `flashlogit_kernels.bce_onepass`."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed = over_parts(
        row_pass.X,
        row_pass.n,
        functools.partial(_sums, row_pass, values, border=border),
        functools.partial(joined, border=border),
    )
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


def _sums(row_pass: RowPass, values: RowValues, part: slice, *, gradient: bool = True, border: bool = False) -> Tensor:
    """Return `BCESums.packed` of the visited rows `part`, and write the wanted values of these rows.

    Without `gradient` its first D entries are 0. What is cheaper for many rows at once waits for the end of the loop;
    with `border` the curvatures cannot, since they are multiplied by the block while that is in the cache.
    """
    X, compute, clamp = row_pass.X, row_pass.compute, row_pass.clamp
    w, b = _parameters(row_pass)
    y, s = gather(row_pass.y, row_pass.rows, part), gather(row_pass.sample_weight, row_pass.rows, part)
    assert y is not None
    s = None if s is None else s.to(compute)
    weight_grad, h_sums = X.new_zeros((2, X.shape[1]), dtype=torch.float64)
    vectors = 4 if border else 3
    with scratch_buffer(vectors * len(y), compute, X.device) as scratch:
        z, r, own = scratch.view(vectors, -1)[:3]
        h = scratch.view(vectors, -1)[3] if border else None
        labels = labels_of(y, row_pass.pos_weight, s, own)
        # Split at once: a slice costs as much as the arithmetic of a small block.
        height = block_rows(X, compute)
        blocks = row_blocks(X, row_pass.rows, part, compute, row_pass.center, touch=gradient)
        for (block, X_b), z_b, r_b, labels_b in zip(
            blocks, torch.split(z, height), torch.split(r, height), labels.split(height), strict=True
        ):
            linear(X_b, w, b, out=z_b)
            labels_b.residual(z_b, out=r_b)
            if clamp.zeroes_gradient:
                r_b.masked_fill_(z_b.abs() > clamp.bound, 0.0)
            if gradient:
                weight_grad += transposed_product(X_b, r_b)
            if h is not None:
                h_sums += transposed_product(X_b, _curvature(labels_b, z_b, h[block], clamp))
        if values.logits is not None:
            labels.logits(z, out=values.logits[part])
        if values.residual is not None:
            values.residual[part] = r
        if values.curvature is not None:
            if h is None:
                _curvature(labels, z, values.curvature[part], clamp)
            else:
                values.curvature[part] = h
        nonfinite, largest, inside = _extremes(z, clamp)
        loss = labels.loss(z if inside else z.clamp_(-clamp.bound, clamp.bound))
        if values.loss is not None:
            values.loss[part] = loss
        packed = packed_sums(
            weight_grad,
            bias_grad=_total(r),
            loss=_total(loss),
            weight_sum=float(len(y)) if s is None else _total(s),
            nonfinite=nonfinite,
            max_abs_logit=largest,
        )
        if h is None:
            return packed
        return torch.cat([packed, h_sums, torch.as_tensor(_total(h), dtype=torch.float64).reshape(1)])


def bce_hessian(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCEHessian:
    """Return loss, gradient and Hessian, summed over rows: the twin of `flashlogit_kernels.bce_hessian`."""
    check_hessian_columns(X)
    row_pass = bce_pass(X, y, weight, bias, **options)
    X, rows, values = row_pass.X, row_pass.rows, row_pass.empty(curvature=True)
    assert values.curvature is not None
    h, height = values.curvature, block_rows(X, row_pass.compute)

    def sums_and_matrix(part: slice) -> tuple[Tensor, Tensor]:
        packed = _sums(row_pass, values, part)
        X_part, rows_part = (X[part], None) if rows is None else (X, rows[part])
        matrix = weighted_gram(
            X_part, h[part], rows_part, block_rows=height, compute_dtype=row_pass.compute, center=row_pass.center
        )
        return packed, matrix

    packed, matrices = zip(*over_parts(X, row_pass.n, sums_and_matrix, list), strict=True)
    return BCEHessian(BCESums(joined(list(packed))), torch.stack(matrices).sum(dim=0))


def bce_rows(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCERows:
    """Return loss and residual of every row: the twin of `flashlogit_kernels.bce_rows`."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    over_parts(row_pass.X, row_pass.n, functools.partial(_sums, row_pass, values, gradient=False), joined)
    assert values.loss is not None
    assert values.residual is not None
    return BCERows(values.loss, values.residual)


def hessian_product(
    X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None = None, **options: Unpack[ProductOptions]
) -> Tensor:
    """Return the Hessian times a vector, [D + 1] float64: the twin of `flashlogit_kernels.hessian_product`."""
    row_pass = product_pass(X, curvature, v, v_bias, **options)
    X, compute, h = row_pass.X, row_pass.compute, row_pass.sample_weight
    assert h is not None
    v, b = _parameters(row_pass)
    height = block_rows(X, compute)

    def sum_part(part: slice) -> Tensor:
        total = X.new_zeros(X.shape[1], dtype=torch.float64)
        with scratch_buffer(part.stop - part.start, compute, X.device) as t:
            blocks = row_blocks(X, row_pass.rows, part, compute, row_pass.center, touch=True)
            for (_, X_b), t_b, h_b in zip(blocks, torch.split(t, height), torch.split(h[part], height), strict=True):
                linear(X_b, v, b, out=t_b).mul_(h_b)
                total += transposed_product(X_b, t_b)
            return torch.cat([total, t.sum(dtype=torch.float64).reshape(1)])

    return over_parts(X, row_pass.n, sum_part, _added)


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    """Return (X - center)^T v, [D] float64: the twin of `flashlogit_kernels.column_sums`."""
    row_pass = column_pass(X, v, **options)
    X, compute = row_pass.X, row_pass.compute
    nothing = X.new_zeros(X.shape[1], dtype=torch.float64)
    assert row_pass.sample_weight is not None
    v = row_pass.sample_weight.to(compute)

    def sum_part(part: slice) -> Tensor:
        total = torch.zeros_like(nothing)
        for block, X_b in row_blocks(X, row_pass.rows, part, compute, row_pass.center):
            total += transposed_product(X_b, v[part][block])
        return total

    return over_parts(X, row_pass.n, sum_part, lambda parts: _added([*parts, nothing]))


def label_sums(y: Tensor, sample_weight: Tensor | None = None) -> LabelSums:
    """Look at labels and weights: the twin of `flashlogit_kernels.label_sums`."""
    y, s = check_labels(y, sample_weight)
    least, largest = (float(end) for end in y.aminmax())
    outside, negative = not (least >= 0 and largest <= 1), s is not None and not bool((s >= 0).all())
    labels = y
    if y.dtype != torch.uint8 and not outside:
        narrow = y.to(torch.uint8)
        labels = narrow if bool((narrow == y).all()) else readable_labels(y, torch.float64)
    if s is None:
        return LabelSums(labels, s, outside, negative, float(len(y)), float(labels.sum(dtype=torch.float64)))
    total = float(s.sum(dtype=torch.float64))
    return LabelSums(labels, s, outside, negative, total, float((labels.double() * s).sum()))


def column_moments(X: Tensor, rows: Tensor | None = None) -> NDArray[np.float64]:
    """Return a row and sums of differences from it, [3, D] float64: the twin of `flashlogit_kernels.column_moments`."""
    X = check_matrix(X)
    X = X if rows is None else X.index_select(0, rows)
    sums = X.new_zeros((3, X.shape[1]), dtype=torch.float64)
    first, total, squares = sums
    first.copy_(X[0])
    for block in torch.split(X, cast_rows(X)):
        shifted = block.double() - first
        total += shifted.sum(dim=0)
        squares += shifted.square_().sum(dim=0)
    found: NDArray[np.float64] = sums.to("cpu").numpy()
    return found


def logits(X: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return z = X w + b, [N] in the arithmetic's dtype, block by block so that X is not copied to it as a whole."""
    X = check_matrix(X)
    compute = arithmetic_dtype(X, weight, None)
    w = weight.detach().to(compute)
    with torch.autocast(X.device.type, enabled=False):
        z = torch.cat([torch.mv(block, w) for _, block in row_blocks(X, None, slice(0, X.shape[0]), compute)])
    return z if bias is None else z.add_(bias.detach())


def _curvature(labels: Labels, margins: Tensor, out: Tensor, clamp: Clamp) -> Tensor:
    """Return s dr/dz of rows from their margins, in `out`."""
    h = labels.curvature(margins, out=out)
    return h.masked_fill_(margins.abs() > clamp.bound, 0.0) if clamp.zeroes_gradient else h


_NEIGHBOURS = 64
"""Rows that are added up in float32 first: torch does so in 32 lanes, of two rows each."""


def _parameters(row_pass: RowPass) -> tuple[Tensor, Tensor | None]:
    """Return weights [D] and intercept [1] in the arithmetic's dtype."""
    assert row_pass.weight is not None
    bias = None if row_pass.bias is None else row_pass.bias.to(row_pass.compute)
    return row_pass.weight.to(row_pass.compute), bias


def _added(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(dim=0)


def _total(values: Tensor) -> float | Tensor:
    """Return the sum in float64: a number on the CPU, and a tensor where reading it would wait for the device.

    A sum with dtype=torch.float64 first makes a float64 copy. Adding up a few neighbours in float32 is as good and
    takes a third of the time.
    """
    if values.device.type != "cpu":
        return values.sum(dtype=torch.float64)
    whole = len(values) // _NEIGHBOURS * _NEIGHBOURS
    sums = values[:whole].view(-1, _NEIGHBOURS).sum(dim=1)
    return float(sums.sum(dtype=torch.float64)) + float(values[whole:].sum(dtype=torch.float64))


def _extremes(z: Tensor, clamp: Clamp) -> tuple[float | Tensor, float | Tensor, bool]:
    """Count of non-finite logits, the largest finite magnitude, and whether none is known to be clamped.

    Extremes keep NaN, so that on the CPU one look at them settles the usual case at a tenth of the price.
    """
    if z.device.type == "cpu":
        smallest, greatest = (float(end) for end in z.aminmax())
        extreme = max(-smallest, greatest)
        if math.isfinite(extreme) and math.isfinite(smallest):
            return 0.0, extreme, extreme <= clamp.bound
    finite = z.isfinite()
    nonfinite, largest = (~finite).sum(), torch.where(finite, z.abs(), 0.0).amax()
    if z.device.type == "cpu":
        return float(nonfinite), float(largest), clamp.eps == 0
    return nonfinite, largest, clamp.eps == 0
