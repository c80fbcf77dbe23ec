"""The passes over X in pure torch: the formula, the truth in tests, and the fallback on any device.

Same names and signatures as in `flashlogit_kernels`, in float32 or float64 arithmetic. A row x_i with label y_i in
[0, 1] and weight s_i contributes, q being pos_weight and c the clamped logit,

    z = x w + b        c = clamp(z, -Z, Z)        loss = s ((1 - y) softplus(c) + q y softplus(-c))
    r = s ((1 - y) p - q y (1 - p))        p = sigmoid(z)        h = s (1 - y + q y) p (1 - p)

and sums over rows are sum loss, dL/dw = X^T r and dL/db = sum r. It is not tuned: a block of rows after the other is
cast, and multiplied by torch.
"""

from __future__ import annotations

from collections.abc import Iterator
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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK_VALUES, _BLOCK_ROWS = {"cpu": 1 << 20, "cuda": 1 << 26}, {"cpu": 1 << 16, "cuda": 1 << 26}
"""Values of a block that is cast, and its rows: sums in float32 lose digits with their length."""


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
    return BCESums(_sums(row_pass, values, border=border), values.residual, values.curvature, values.logits, border)


def bce_hessian(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCEHessian:
    """Return loss, gradient and Hessian, summed over rows: the twin of `flashlogit_kernels.bce_hessian`."""
    check_hessian_columns(X)
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(curvature=True)
    packed = _sums(row_pass, values)
    assert values.curvature is not None
    matrix = weighted_gram(
        row_pass.X,
        values.curvature,
        row_pass.rows,
        block_rows=block_rows(row_pass.X),
        compute_dtype=row_pass.compute,
        center=row_pass.center,
    )
    return BCEHessian(BCESums(packed), matrix)


def bce_rows(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCERows:
    """Return loss and residual of every row: the twin of `flashlogit_kernels.bce_rows`."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    _sums(row_pass, values)
    assert values.loss is not None
    assert values.residual is not None
    return BCERows(values.loss, values.residual)


def hessian_product(
    X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None = None, **options: Unpack[ProductOptions]
) -> Tensor:
    """Return the Hessian times a vector, [D + 1] float64: the twin of `flashlogit_kernels.hessian_product`."""
    row_pass = product_pass(X, curvature, v, v_bias, **options)
    h, total = row_pass.sample_weight, row_pass.X.new_zeros(row_pass.X.shape[1] + 1, dtype=torch.float64)
    assert h is not None
    for place, block in _blocks(row_pass):
        t = h[place] * _linear(row_pass, block)
        total += torch.cat([_transposed(block, t), t.sum(dtype=torch.float64).reshape(1)])
    return total


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    """Return (X - center)^T v, [D] float64: the twin of `flashlogit_kernels.column_sums`."""
    row_pass = column_pass(X, v, **options)
    v, total = v.detach().to(row_pass.compute), row_pass.X.new_zeros(row_pass.X.shape[1], dtype=torch.float64)
    for place, block in _blocks(row_pass):
        total += _transposed(block, v[place])
    return total


def label_sums(y: Tensor, sample_weight: Tensor | None = None) -> LabelSums:
    """Look at labels and weights: the twin of `flashlogit_kernels.label_sums`."""
    y, s = check_labels(y, sample_weight)
    least, largest = (float(end) for end in y.aminmax())
    outside, negative = not (least >= 0 and largest <= 1), s is not None and not bool((s >= 0).all())
    labels = y
    if y.dtype != torch.uint8 and not outside:
        narrow = y.to(torch.uint8)
        labels = narrow if bool((narrow == y).all()) else readable_labels(y, torch.float64)
    weights = torch.ones_like(labels, dtype=torch.float64) if s is None else s.double()
    return LabelSums(labels, s, outside, negative, float(weights.sum()), float((labels.double() * weights).sum()))


def column_moments(X: Tensor, rows: Tensor | None = None) -> NDArray[np.float64]:
    """Return a row and sums of differences from it, [3, D] float64: the twin of `flashlogit_kernels.column_moments`."""
    X = check_matrix(X)
    sums = X.new_zeros((3, X.shape[1]), dtype=torch.float64)
    sums[0] = X[0 if rows is None else rows[0]]
    for _, block in row_blocks(X, torch.float64, rows=rows, center=sums[0]):
        sums[1] += block.sum(dim=0)
        sums[2] += block.square().sum(dim=0)
    found: NDArray[np.float64] = sums.to("cpu").numpy()
    return found


def logits(X: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return z = X w + b, [N] in the arithmetic's dtype, block by block so that X is not copied to it as a whole."""
    X = check_matrix(X)
    compute = arithmetic_dtype(X, weight, None)
    w = weight.detach().to(compute)
    with torch.autocast(X.device.type, enabled=False):
        z = torch.cat([block @ w for _, block in row_blocks(X, compute)])
    return z if bias is None else z.add_(bias.detach())


def row_blocks(
    X: Tensor,
    dtype: torch.dtype,
    *,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    height: int = 0,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of the rows numbered `rows` [n] int64 of X [N, D], or of all, in `dtype` and less the centre [D],
    with their places among them; height: rows of a block, by default `block_rows`."""
    n, height = len(X) if rows is None else len(rows), height or block_rows(X)
    for start in range(0, n, height):
        place = slice(start, min(start + height, n))
        block = (X[place] if rows is None else X.index_select(0, rows[place])).to(dtype)
        yield place, block if center is None else block - center


def block_rows(X: Tensor) -> int:
    """Return the number of rows of a block."""
    values, rows = (sizes.get(X.device.type, sizes["cuda"]) for sizes in (_BLOCK_VALUES, _BLOCK_ROWS))
    return max(1, min(values // X.shape[1], rows))


def _blocks(row_pass: RowPass) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of the visited rows, to which autocast does not apply."""
    with torch.inference_mode(), torch.autocast(row_pass.X.device.type, enabled=False):
        yield from row_blocks(row_pass.X, row_pass.compute, rows=row_pass.rows, center=row_pass.center)


def _linear(row_pass: RowPass, block: Tensor) -> Tensor:
    assert row_pass.weight is not None
    z = block @ row_pass.weight.to(row_pass.compute)
    return z if row_pass.bias is None else z + row_pass.bias.to(row_pass.compute)


def _transposed(block: Tensor, v: Tensor) -> Tensor:
    """Return X^T v of a block [m, D], by sums in float32 of float32 numbers; BLAS adds up a single column in one of
    them."""
    return (block * v[:, None]).sum(dim=0) if block.shape[1] == 1 else block.t() @ v


def _terms(z: Tensor, y: Tensor, s: Tensor | None, q: Tensor | None, clamp: Clamp) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, residual and curvature of rows from their logits, labels and weights, [m] each.

    off = s (1 - y) and on = s q y: nothing cancels where a label is 0 or 1, and 0 times infinity is 0.
    """
    y = y.to(z.dtype)
    off, on = 1 - y, y if q is None else y * q
    if s is not None:
        off, on = off * s.to(z.dtype), on * s.to(z.dtype)
    c = z.clamp(-clamp.bound, clamp.bound)
    zero = z.new_zeros(())
    loss = torch.where(off == 0, zero, off * torch.logaddexp(zero, c))
    loss = loss + torch.where(on == 0, zero, on * torch.logaddexp(zero, -c))
    r = off * torch.sigmoid(z) - on * torch.sigmoid(-z)
    far = torch.sigmoid(-z.abs())
    h = (off + on) * (far - far * far)
    if clamp.zeroes_gradient:
        beyond = z.abs() > clamp.bound
        r, h = r.masked_fill(beyond, 0.0), h.masked_fill(beyond, 0.0)
    return loss, r, h


def _sums(row_pass: RowPass, values: RowValues, *, border: bool = False) -> Tensor:
    """Return `BCESums.packed` of all visited rows, and write the wanted values of them."""
    y, s, rows = row_pass.y, row_pass.sample_weight, row_pass.rows
    assert y is not None
    if rows is not None:
        y, s = y[rows], None if s is None else s[rows]
    parts = []
    for place, block in _blocks(row_pass):
        z, s_block = _linear(row_pass, block), None if s is None else s[place]
        loss, r, h = _terms(z, y[place], s_block, row_pass.pos_weight, row_pass.clamp)
        kept = (values.loss, values.residual, values.curvature, values.logits)
        for wanted, found in zip(kept, (loss, r, h, z), strict=True):
            if wanted is not None:
                wanted[place] = found
        finite = z.isfinite()
        packed = packed_sums(
            _transposed(block, r).double(),
            bias_grad=r.sum(dtype=torch.float64),
            loss=loss.sum(dtype=torch.float64),
            weight_sum=float(len(z)) if s_block is None else s_block.sum(dtype=torch.float64),
            nonfinite=(~finite).sum(),
            max_abs_logit=torch.where(finite, z.abs(), 0.0).amax(),
        )
        if border:
            packed = torch.cat([packed, _transposed(block, h).double(), h.sum(dtype=torch.float64).reshape(1)])
        parts.append(packed)
    return joined(parts, border=border)
