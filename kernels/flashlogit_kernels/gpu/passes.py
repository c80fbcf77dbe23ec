"""The passes over X as Triton kernels: each checks its arguments, launches, and names what comes back."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..checks import arithmetic_dtype, bce_pass, check_hessian_columns, check_matrix, column_pass, product_pass
from ..contract import (
    SCALARS,
    BCEHessian,
    BCERows,
    BCESums,
    PassOptions,
    ProductOptions,
    RowPass,
    RowValues,
)
from ..gram import bordered, weighted_gram
from .launch import LaunchConfig
from .plan import Plan
from .run import columns_plan, hessian_plan, pass_plan, rows_plan

_FLOAT64_BLOCK_BYTES = 256 << 20
"""Bytes of X in float64 that are multiplied at once for a Hessian; its product with h takes as many again."""


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
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCESums:
    """Sum the clamped binary cross-entropy and its gradient over rows, reading X once.

    A row too wide for the registers (more than 16384 columns in float32 arithmetic) is read twice.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, with contiguous rows or contiguous columns (any other layout is
            copied once).
        y: [N] labels in [0, 1] of any real dtype. Values are not checked: that would wait for the device.
        weight: [D] of any floating dtype.
        bias: one number, or None.
        residual: also return s_i r_i of every visited row.
        curvature: also return s_i dr_i/dz_i, which is s_i p_i (1 - p_i) where nothing is clamped.
        logits: also return z_i.
        border: also sum h_i x_i and h_i, h_i being the curvature: what the Hessian has for an intercept. A row too wide
            for the registers is read a third time, and fewer columns fit beside a border: 8192 in float32.
        launch: instead of the launch table's entry.
        **options: see `PassOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, or eps outside [0, 0.5).
    """
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed = pass_plan(row_pass, values, launch, border=border).run(row_pass.weight, row_pass.bias)
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


def plan_onepass(
    X: Tensor,
    y: Tensor,
    *,
    residual: bool = False,
    curvature: bool = False,
    logits: bool = False,
    border: bool = False,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> Plan:
    """Return a plan that does for one weight vector after another what `bce_onepass` does for one.

    A run takes weight [D] and bias, 0 by default, of the arithmetic's dtype: `compute_dtype`, or by default that of
    `bce_onepass` for weights no wider than X. It returns `BCESums.packed`. Other arguments and errors are those of
    `bce_onepass`.
    """
    row_pass, guard = _without_weights(X, y, options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    return pass_plan(row_pass, values, launch, border=border, guard=guard)


def plan_hessian(X: Tensor, y: Tensor, *, launch: LaunchConfig | None = None, **options: Unpack[PassOptions]) -> Plan:
    """Return a plan of passes that sum the Hessian too, for float32 arithmetic; see `plan_onepass`.

    A run returns [2 D + 6 + D D] float64: `BCESums.packed` with its border, then X^T diag(h) X row by row, where h_i is
    s_i dr_i/dz_i. It takes no guard. Other arguments and errors are those of `bce_hessian`.

    Raises:
        TypeError: the arithmetic is float64, whose products Triton 3.6 cannot compile.
    """
    check_hessian_columns(X)
    row_pass, _ = _without_weights(X, y, options)
    if row_pass.compute != torch.float32:
        raise TypeError("a plan of Hessians is for float32 arithmetic: pass compute_dtype=torch.float32")
    return hessian_plan(row_pass, launch)


def _without_weights(X: Tensor, y: Tensor, options: PassOptions) -> tuple[RowPass, Tensor]:
    """Return a pass whose weights are still to come and whose bias is 0, and a guard that lets it run.

    The two numbers lie at no multiple of 16 bytes, so that kernels are compiled for numbers that lie anywhere.
    """
    X = check_matrix(X)
    compute = arithmetic_dtype(X, X, options.get("compute_dtype"))
    zeros = X.new_zeros(4, dtype=torch.int32)  # in one launch
    guard, bias = zeros[1:2], zeros[2 : 2 + compute.itemsize // 4].view(compute)
    weight = X.new_empty(X.shape[1], dtype=compute)
    return bce_pass(X, y, weight, bias, **options), guard


def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCERows:
    """Return s_i loss_i and s_i r_i of every visited row; arguments and errors as for `bce_onepass`."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    rows_plan(row_pass, values, launch).run(row_pass.weight, row_pass.bias)
    assert values.loss is not None
    assert values.residual is not None
    return BCERows(values.loss, values.residual)


def bce_hessian(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCEHessian:
    """Sum the clamped binary cross-entropy, its gradient and its Hessian over rows, reading X once.

    In float64 arithmetic X is read again for the Hessian, by torch's own products. Arguments and errors are those of
    `bce_onepass`; X has at most 128 columns.
    """
    check_hessian_columns(X)
    row_pass = bce_pass(X, y, weight, bias, **options)
    if row_pass.compute != torch.float64:
        packed, D = hessian_plan(row_pass, launch).run(row_pass.weight, row_pass.bias), X.shape[1]
        sums, border, corner, inner = torch.split(packed, [D + SCALARS, D, 1, D * D])
        return BCEHessian(BCESums(sums.clone()), bordered(inner.view(D, D), border, corner))
    values = row_pass.empty(curvature=True)
    packed = pass_plan(row_pass, values).run(row_pass.weight, row_pass.bias)
    assert values.curvature is not None
    matrix = weighted_gram(
        row_pass.X,
        values.curvature,
        row_pass.rows,
        block_rows=_FLOAT64_BLOCK_BYTES // (8 * X.shape[1]),
        compute_dtype=torch.float64,
        center=row_pass.center,
    )
    return BCEHessian(BCESums(packed), matrix)


def hessian_product(
    X: Tensor,
    curvature: Tensor,
    v: Tensor,
    v_bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[ProductOptions],
) -> Tensor:
    """Return sum_i h_i (x_i v + v_bias) (x_i, 1): the Hessian of the summed loss times (v, v_bias), reading X once.

    Args:
        X: [N, D] as for `bce_onepass`, which a row too wide for the registers is read twice of here too.
        curvature: [n] h of the visited rows, as `bce_onepass` returns it.
        v: [D] of any floating dtype.
        v_bias: one number, or None for 0.
        launch: instead of the launch table's entry.
        **options: see `ProductOptions`.

    Returns:
        [D + 1] float64, the intercept's entry last.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    row_pass = product_pass(X, curvature, v, v_bias, **options)
    return BCESums(pass_plan(row_pass, RowValues(), launch).run(row_pass.weight, row_pass.bias)).gradient


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    """Return X^T v, or (X - center)^T v, [D] float64: the gradient once the residuals are known.

    Args:
        X: [N, D] as for `bce_onepass`; it is read once, whatever its width.
        v: one number of a real dtype for each visited row, [n].
        **options: see `ProductOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit.
    """
    row_pass = column_pass(X, v, **options)
    if row_pass.n == 0:
        return row_pass.X.new_zeros(row_pass.X.shape[1], dtype=torch.float64)
    return columns_plan(row_pass).run(None)[: X.shape[1]]
