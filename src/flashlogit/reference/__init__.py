"""The passes over X in pure torch: the truth in tests, and the fast path on a CPU.

Same names and signatures as in `flashlogit_kernels`, on any device, in float32 or float64 arithmetic. X is walked in
row blocks small enough that the second use of a block, for the gradient, finds it in the cache, so that main memory is
read once here too.

    z = X w + b        c = clamp(z, -Z, Z)        loss = loss(c, y)        r = dloss/dz        dL/dw = X^T (s r)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Unpack

import torch
from torch import Tensor

from flashlogit_kernels.checks import arithmetic_dtype, check_matrix
from flashlogit_kernels.contract import (
    BCEHessian,
    BCERows,
    BCESums,
    Clamp,
    PassInputs,
    PassOptions,
    check_column_inputs,
    check_hessian_columns,
    check_inputs,
    check_product_inputs,
)
from flashlogit_kernels.gram import weighted_gram

from ..system.scratch import borrowed
from .blocks import block_rows, gather, over_parts, row_blocks, transposed_product, weighted_sums
from .terms import Labels, labels_of


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
    return BCESums(_sums(inputs, rows), rows.residual, rows.curvature, rows.logits)


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
    matrices: dict[int, Tensor] = {}

    def add_part(part: slice, h: Tensor) -> None:
        X_part, rows = (inputs.X[part], None) if inputs.rows is None else (inputs.X, inputs.rows[part])
        height = block_rows(inputs.X, inputs.compute_dtype)
        matrices[part.start] = weighted_gram(
            X_part, h, rows, block_rows=height, compute_dtype=inputs.compute_dtype, center=inputs.center
        )

    sums = _sums(inputs, _RowValues(inputs), use_curvature=add_part)
    return BCEHessian(BCESums(sums), torch.stack([matrices[start] for start in sorted(matrices)]).sum(dim=0))


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
    _sums(inputs, rows, gradient=False)
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
    center: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Tensor:
    """The Hessian times a vector, [D + 1] float64: the twin of `flashlogit_kernels.hessian_product`."""
    inputs = check_product_inputs(X, curvature, v, v_bias, rows, center, compute_dtype)
    v = inputs.v.to(inputs.compute_dtype)
    b = None if inputs.v_bias is None else inputs.v_bias.to(inputs.compute_dtype)

    def sum_part(part: slice) -> Tensor:
        h = inputs.curvature[part]
        with borrowed(len(h), h.dtype, h.device) as t:
            sums = weighted_sums(inputs.X, inputs.rows, part, inputs.center, v, b, torch.Tensor.mul_, t, h)
            return torch.cat([sums, t.sum(dtype=torch.float64).reshape(1)])

    return over_parts(inputs.X, inputs.n, sum_part, lambda parts: torch.stack(parts).sum(dim=0))


def column_sums(
    X: Tensor,
    v: Tensor,
    *,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Tensor:
    """(X - center)^T v, [D] float64: the twin of `flashlogit_kernels.column_sums`."""
    inputs = check_column_inputs(X, v, rows, center, compute_dtype)
    X, rows, center, compute = inputs.X, inputs.rows, inputs.center, inputs.compute_dtype
    v = inputs.v.to(compute)

    def sum_part(part: slice) -> Tensor:
        total = X.new_zeros(X.shape[1], dtype=torch.float64)
        for block, X_block in row_blocks(X, rows, part, compute, center):
            total += transposed_product(X_block, v[part][block])
        return total

    nothing = X.new_zeros(X.shape[1], dtype=torch.float64)
    return over_parts(X, v.shape[0], sum_part, lambda parts: torch.stack([*parts, nothing]).sum(dim=0))


def logits(X: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = X w + b, [N] in the arithmetic's dtype, block by block so that X is not copied to it as a whole."""
    X = check_matrix(X)
    compute = arithmetic_dtype(X, weight, None)
    w = weight.detach().to(compute)
    with torch.autocast(X.device.type, enabled=False):
        z = torch.cat([torch.mv(block, w) for _, block in row_blocks(X, None, slice(0, X.shape[0]), compute)])
    return z if bias is None else z.add_(bias.detach())


_NEIGHBOURS = 64
"""Rows that are added up in float32 first: torch does so in 32 lanes, of two rows each."""

_Scalars = list[float | Tensor]
"""Residual, loss, weight, non-finite logits, largest magnitude."""


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


def _sums(
    inputs: PassInputs,
    wanted: _RowValues,
    *,
    gradient: bool = True,
    use_curvature: Callable[[slice, Tensor], None] | None = None,
) -> Tensor:
    """`BCESums.packed` of all visited rows; fills what is wanted of them.

    Without `gradient` the first D entries are 0. `use_curvature` gets the places and s dr/dz of consecutive rows.
    """
    w = inputs.weight.to(inputs.compute_dtype)
    b = None if inputs.bias is None else inputs.bias.to(inputs.compute_dtype)

    def sum_part(part: slice) -> tuple[Tensor, _Scalars]:
        y, s = gather(inputs.y, inputs.rows, part), None
        if inputs.sample_weight is not None:
            s = gather(inputs.sample_weight, inputs.rows, part).to(inputs.compute_dtype)
        with borrowed(3 * len(y), inputs.compute_dtype, y.device) as room:
            return sum_rows(part, y, s, *room.view(3, -1))

    def sum_rows(
        part: slice, y: Tensor, s: Tensor | None, margin: Tensor, r: Tensor, room: Tensor
    ) -> tuple[Tensor, _Scalars]:
        labels = labels_of(y, inputs.pos_weight, room)
        residual = _residual_rule(labels, inputs.clamp, weighted=s is not None)
        vectors = (r, *labels.vectors) if s is None else (r, s, *labels.vectors)
        weight_grad = weighted_sums(
            inputs.X, inputs.rows, part, inputs.center, w, b, residual, margin, *vectors, multiply=gradient
        )
        if wanted.logits is not None:
            labels.logits(margin, out=wanted.logits[part])
        if wanted.residual is not None:
            wanted.residual[part] = r
        if wanted.curvature is not None or use_curvature is not None:
            out = torch.empty_like(margin) if wanted.curvature is None else wanted.curvature[part]
            h = _curvature(labels, inputs.clamp, margin, s, out)
            if use_curvature is not None:
                use_curvature(part, h)
        nonfinite, largest, inside = _extremes(margin, inputs.clamp)
        loss = labels.loss(margin if inside else margin.clamp_(-inputs.clamp.bound, inputs.clamp.bound))
        if s is not None:
            loss *= s
        if wanted.loss is not None:
            wanted.loss[part] = loss
        sums = [_total(r), _total(loss), float(len(r)) if s is None else _total(s), nonfinite, largest]
        return weight_grad, sums

    return over_parts(inputs.X, inputs.n, sum_part, _packed)


def _packed(parts: list[tuple[Tensor, _Scalars]]) -> Tensor:
    """`BCESums.packed` from that of all parts: the last entry is a maximum, the others are sums."""
    weight_grad = torch.stack([part[0] for part in parts]).sum(dim=0)
    *sums, largest = (
        _column(values, weight_grad) for values in zip(*(part[1] for part in parts), strict=True)
    )
    return torch.cat(
        [weight_grad, *(s.sum(dim=0, keepdim=True) for s in sums), largest.amax(dim=0, keepdim=True)]
    )


def _residual_rule(labels: Labels, clamp: Clamp, *, weighted: bool) -> Callable[..., Tensor]:
    """What writes s r of a block of rows, given z, room for it, s where rows are weighted, and the labels' vectors."""

    def residual(z: Tensor, r: Tensor, *vectors: Tensor) -> Tensor:
        labels.residual(z, r, *(vectors[1:] if weighted else vectors))
        if clamp.zeroes_gradient:
            r.masked_fill_(z.abs() > clamp.bound, 0.0)
        if weighted:
            r *= vectors[0]
        return r

    return residual


def _curvature(labels: Labels, clamp: Clamp, margin: Tensor, s: Tensor | None, out: Tensor) -> Tensor:
    """s dr/dz of rows from their margins [m], in `out`."""
    h = labels.curvature(margin, out)
    if clamp.zeroes_gradient:
        h.masked_fill_(margin.abs() > clamp.bound, 0.0)
    return h if s is None else h.mul_(s)


def _total(values: Tensor) -> float | Tensor:
    """The sum in float64: a number on the CPU, and a tensor where reading it would wait for the device.

    A sum with dtype=torch.float64 first makes a float64 copy. Adding up a few neighbours in float32 is as good and
    takes a third of the time.
    """
    if values.device.type != "cpu":
        return values.sum(dtype=torch.float64)
    whole = len(values) // _NEIGHBOURS * _NEIGHBOURS
    sums = values[:whole].view(-1, _NEIGHBOURS).sum(dim=1)
    return float(sums.sum(dtype=torch.float64)) + float(values[whole:].sum(dtype=torch.float64))


def _column(values: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """One scalar of every part, [parts] in the dtype and on the device of `like`."""
    if like.device.type == "cpu":
        return like.new_tensor(values)
    return torch.stack([torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values])


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
