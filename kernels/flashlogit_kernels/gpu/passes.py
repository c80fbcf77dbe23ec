"""The passes over X as Triton kernels: each checks its arguments, launches, and names what comes back."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..checks import bce_pass, check_hessian_columns, column_pass, product_pass
from ..contract import BCEHessian, BCERows, BCESums, PassOptions, ProductOptions, RowValues
from ..gram import weighted_gram
from .launch import LaunchConfig
from .run import run_columns, run_hessian, run_pass, run_rows

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
            for the registers is read a third time.
        launch: instead of the launch table's entry.
        **options: see `PassOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, or eps outside [0, 0.5).
    """
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed = run_pass(row_pass, values, launch, border=border)
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


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
    run_rows(row_pass, values, launch)
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
        packed, matrix = run_hessian(row_pass, launch)
        return BCEHessian(BCESums(packed), matrix)
    values = row_pass.empty(curvature=True)
    packed = run_pass(row_pass, values)
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
    return BCESums(run_pass(row_pass, RowValues(), launch)).gradient


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
    return run_columns(row_pass)
