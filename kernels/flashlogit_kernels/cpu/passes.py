"""The passes over X as compiled loops: `flashlogit_kernels` documents them.

Rows are shared out in parts, whose number depends on the size of X only, and the parts' sums are added up in their
order: the bits are the same with any number of threads.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from ..checks import bce_pass, check_hessian_columns, column_pass, product_pass
from ..contract import (
    BCEHessian,
    BCERows,
    BCESums,
    PassOptions,
    ProductOptions,
    RowPass,
    RowValues,
    columns_of,
)
from ..contract import MAX_ABS_LOGIT, SCALARS
from ..gram import weighted_gram
from . import _rows
from .pool import share

_FEW_PARTS, _FEW_VALUES = 16, 1 << 17
"""Up to so many parts, of so many values of X at least: fewer are not worth a thread's waking."""
_MOST_PARTS, _MANY_VALUES = 256, 1 << 20
"""Parts of a larger X have so many values, unless there would be more parts."""
_STORED = {torch.bfloat16: _rows.BFLOAT16, torch.float16: _rows.FLOAT16}
_KINDS = {torch.uint8: _rows.UINT8, torch.float32: _rows.FLOAT32, torch.float64: _rows.FLOAT64}


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
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed = _sums(row_pass, values, border=border)
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


def bce_rows(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
) -> BCERows:
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    _sums(row_pass, values, gradient=False)
    return BCERows(values.loss, values.residual)


def hessian_product(
    X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None = None, **options: Unpack[ProductOptions]
) -> Tensor:
    sums = _sums(product_pass(X, curvature, v, v_bias, **options), RowValues())
    return sums[: X.shape[1] + 1]


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    return _sums(column_pass(X, v, **options), RowValues())[: X.shape[1]]


def _sums(row_pass: RowPass, values: RowValues, *, gradient: bool = True, border: bool = False) -> Tensor:
    X, clamp, compute = row_pass.X, row_pass.clamp, row_pass.compute
    n, D = row_pass.n, X.shape[1]
    nothing = np.empty(0, np.float64 if compute == torch.float64 else np.float32)
    row_stride, column_stride = X.stride()
    flat = X.as_strided(((X.shape[0] - 1) * row_stride + (D - 1) * column_stride + 1 if n else 0,), (1,))
    y, s = row_pass.y, row_pass.sample_weight
    of = [None if v is None else v.numpy() for v in (values.loss, values.residual, values.curvature, values.logits)]
    few = min(n * D // _FEW_VALUES, _FEW_PARTS)
    count = max(1, few, min(n * D // _MANY_VALUES, _MOST_PARTS))
    parts = np.empty((count, 2 * D + SCALARS + 1 if border else D + SCALARS))
    arguments = (
        (flat.view(torch.uint16) if X.dtype in _STORED else flat).numpy(),
        row_stride,
        column_stride,
        D,
        _STORED.get(X.dtype, _rows.WHOLE),
        np.empty(0, np.int64) if row_pass.rows is None else row_pass.rows.numpy(),
        nothing if row_pass.center is None else row_pass.center.numpy(),
        nothing if row_pass.weight is None else row_pass.weight.to(compute).numpy(),
        0.0 if row_pass.bias is None else float(row_pass.bias),
        *_bytes(y),
        *_bytes(s),
        1.0 if row_pass.pos_weight is None else float(row_pass.pos_weight),
        clamp.bound,
        clamp.tail,
        clamp.zeroes_gradient,
    )
    rest = (
        gradient,
        *(nothing if v is None else v for v in of),
        nothing.view(np.int64 if compute == torch.float64 else np.int32),
    )

    def work(part: int) -> None:
        _rows.pass_over(*arguments, part * n // count, (part + 1) * n // count, *rest, parts[part])

    share(work, count)
    total = parts[0] if count == 1 else parts.sum(axis=0)
    total[D + MAX_ABS_LOGIT] = parts[:, D + MAX_ABS_LOGIT].max()
    return torch.from_numpy(total)


def _bytes(vector: Tensor | None) -> tuple[np.ndarray, int]:
    if vector is None:
        return np.empty(0, np.uint8), _rows.NONE
    return vector.view(torch.uint8).numpy(), _KINDS[vector.dtype]
