"""The passes over X on a CPU, as compiled loops: the twins of those in `flashlogit_kernels`, which documents them.

Rows are shared out in parts, whose number depends on the size of X alone, and what the parts give is added up in their
order: the bits are the same with any number of threads.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import (
    bce_pass,
    check_hessian_columns,
    check_labels,
    check_matrix,
    column_pass,
    product_pass,
    readable_labels,
)
from ..contract import (
    MAX_ABS_LOGIT,
    SCALARS,
    BCEHessian,
    BCERows,
    BCESums,
    LabelSums,
    PassOptions,
    ProductOptions,
    RowPass,
    RowValues,
)
from ..gram import bordered, mirrored
from . import _blocks, _measure, _rows
from .pool import share

_FEW_PARTS, _FEW_VALUES = 16, 1 << 17
"""Up to so many parts have so many values of X at least: fewer are not worth another thread."""
_MOST_PARTS, _MANY_VALUES = 256, 1 << 20
"""More parts than that have so many values, as long as there are no more parts."""
_MOST_MATRICES = 64
"""Parts of a pass with the Hessian, each of which has a matrix of its own."""
_BITS = {torch.bfloat16: _blocks.BFLOAT16, torch.float16: _blocks.FLOAT16}
_STORED = {torch.uint8: _blocks.UINT8, torch.float32: _blocks.FLOAT32, torch.float64: _blocks.FLOAT64}


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
    """Return clamped binary cross-entropy and its gradient, summed over rows."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed, _ = _sums(row_pass, values, border=border)
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


def bce_hessian(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCEHessian:
    """Return loss, gradient and Hessian, summed over rows."""
    check_hessian_columns(X)
    packed, lower = _sums(bce_pass(X, y, weight, bias, **options), RowValues(), border=True, hessian=True)
    sums, border, corner = torch.split(packed, [X.shape[1] + SCALARS, X.shape[1], 1])
    return BCEHessian(BCESums(sums.clone()), bordered(mirrored(lower.t()), border, corner))


def bce_rows(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCERows:
    """Return loss and residual of every row."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    _sums(row_pass, values, gradient=False)
    assert values.loss is not None
    assert values.residual is not None
    return BCERows(values.loss, values.residual)


def hessian_product(
    X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None = None, **options: Unpack[ProductOptions]
) -> Tensor:
    """Return the Hessian times a vector, [D + 1] float64."""
    packed, _ = _sums(product_pass(X, curvature, v, v_bias, **options), RowValues())
    return BCESums(packed).gradient


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    """Return (X - center)^T v, [D] float64."""
    packed, _ = _sums(column_pass(X, v, **options), RowValues())
    return BCESums(packed).weight_grad


def label_sums(y: Tensor, sample_weight: Tensor | None = None) -> LabelSums:
    """Look at labels and weights."""
    y, s = check_labels(y, sample_weight)
    y = readable_labels(y, torch.float64)
    narrow, found = np.empty(0 if y.dtype == torch.uint8 else len(y), np.uint8), np.empty(5)
    _measure.look_at_labels(*as_bytes(y), *as_bytes(s), narrow, found)
    outside, soft, negative, total, positive = found.tolist()
    labels = torch.from_numpy(narrow) if len(narrow) and soft == 0 else y
    return LabelSums(labels, s, outside > 0, negative > 0, total, positive)


def column_moments(X: Tensor, rows: Tensor | None = None) -> NDArray[np.float64]:
    """Return a row, and partial sums of differences from it and of their squares, [1 + 2 n, D] float64."""
    X = check_matrix(X)
    D, n = X.shape[1], len(X) if rows is None else len(rows)
    first = X[0 if rows is None else int(rows[0])].double().numpy()
    parts = np.empty((number_of_parts(n, D), 2 * D))

    def add(part: int) -> None:
        _measure.add_moments(*table_of(X, rows), first, *part_of(part, len(parts), n), parts[part])

    share(add, len(parts))
    return np.concatenate([first[None], parts[:, :D], parts[:, D:]])


def _sums(
    row_pass: RowPass, values: RowValues, *, gradient: bool = True, border: bool = False, hessian: bool = False
) -> tuple[Tensor, Tensor]:
    """Return `BCESums.packed` and the lower triangle of the Hessian, [D, D] or [0, 0] float64, and write the wanted
    values of the rows."""
    X, compute, clamp, n = row_pass.X, row_pass.compute, row_pass.clamp, row_pass.n
    D, height = X.shape[1], X.shape[1] if hessian else 0
    of_dtype = np.empty(0, np.float64 if compute == torch.float64 else np.float32)
    y, s, rows = row_pass.y, row_pass.sample_weight, row_pass.rows
    if rows is not None and y is not None:  # without labels, weights are those of the visited rows already
        y, s = y[rows], None if s is None else s[rows]
    wanted = (values.loss, values.residual, values.curvature, values.logits)
    before = (
        *table_of(X, rows),
        of_dtype if row_pass.center is None else row_pass.center.numpy(),
        of_dtype if row_pass.weight is None else row_pass.weight.to(compute).numpy(),
        0.0 if row_pass.bias is None else float(row_pass.bias),
        *as_bytes(y),
        *as_bytes(s),
        1.0 if row_pass.pos_weight is None else float(row_pass.pos_weight),
        clamp.bound,
        clamp.tail,
        clamp.zeroes_gradient,
    )
    integers = of_dtype.view(np.int64 if compute == torch.float64 else np.int32)
    after = (gradient, *(of_dtype if each is None else each.numpy() for each in wanted), integers)
    count = min(number_of_parts(n, D), _MOST_MATRICES) if hessian else number_of_parts(n, D)
    sums, matrices = np.empty((count, 2 * D + SCALARS + 1 if border else D + SCALARS)), np.empty((count, height * D))

    def add(part: int) -> None:
        _rows.pass_over(*before, *part_of(part, count, n), *after, sums[part], matrices[part])

    share(add, count)
    total = sums.sum(axis=0)
    total[D + MAX_ABS_LOGIT] = sums[:, D + MAX_ABS_LOGIT].max()
    return torch.from_numpy(total), torch.from_numpy(matrices.sum(axis=0).reshape(height, height))


def number_of_parts(n: int, D: int) -> int:
    """Return the number of parts in which n rows are gone through."""
    return max(1, min(n * D // _FEW_VALUES, _FEW_PARTS), min(n * D // _MANY_VALUES, _MOST_PARTS))


def part_of(part: int, count: int, n: int) -> tuple[int, int]:
    return part * n // count, (part + 1) * n // count


def table_of(X: Tensor, rows: Tensor | None) -> tuple[Any, ...]:
    """Return X as a loop takes it: a row of numbers, or of their bits, its strides, columns and kind, and the rows to
    visit."""
    (N, D), (row_stride, column_stride) = X.shape, X.stride()
    flat = X.as_strided(((N - 1) * row_stride + (D - 1) * column_stride + 1 if N else 0,), (1,))
    kind = _BITS.get(X.dtype, _blocks.WHOLE)
    numbers = flat if kind == _blocks.WHOLE else flat.view(torch.uint16)
    visited = np.empty(0, np.int64) if rows is None else rows.numpy()
    return numbers.numpy(), row_stride, column_stride, D, kind, visited


def as_bytes(vector: Tensor | None) -> tuple[NDArray[np.uint8], int]:
    """Return the bytes of labels or weights, and how a loop is to read them."""
    if vector is None:
        return np.empty(0, np.uint8), _blocks.NONE
    return vector.view(torch.uint8).numpy(), _STORED[vector.dtype]
