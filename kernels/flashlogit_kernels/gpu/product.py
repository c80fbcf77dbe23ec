"""The Hessian times a vector, and X^T v, for one read of X each."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import SCALARS, check_column_inputs, check_product_inputs
from .arguments import columns_pass, on_device, product_pass
from .columns import partial_column_sums
from .launch import LaunchConfig, fits_registers
from .onepass import run_pass
from .reduce import reduce_partials


def hessian_product(
    X: Tensor,
    curvature: Tensor,
    v: Tensor,
    v_bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
    launch: LaunchConfig | None = None,
) -> Tensor:
    """sum_i h_i (x_i v + v_bias) (x_i, 1): the Hessian of the summed loss times (v, v_bias), reading X once.

    Args:
        X: [N, D] as for `bce_onepass`, which a row too wide for the registers is read twice of here too.
        curvature: [n] h of the visited rows, as `bce_onepass` returns it.
        v: [D] of any floating dtype.
        v_bias: one number, or None for 0.
        rows: [n] visit only these rows of X, in this order; None for all.
        center: [D] what is subtracted from each x_i; None for nothing.
        compute_dtype: torch.float32 or torch.float64; default float64 where X or v are.
        launch: instead of the launch table's entry.

    Returns:
        [D + 1] float64, the intercept's entry last.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    inputs = check_product_inputs(X, curvature, v, v_bias, rows, center, compute_dtype)
    return run_pass(product_pass(inputs), launch)[: 1 - SCALARS]


def column_sums(
    X: Tensor,
    v: Tensor,
    *,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Tensor:
    """X^T v, or (X - center)^T v, [D] float64: the gradient once the residuals are known.

    Args:
        X: [N, D] as for `bce_onepass`; it is read once, whatever its width.
        v: one number of a real dtype for each visited row, [n].
        rows: [n] visit only these rows of X, in this order; None for all.
        center: [D] what is subtracted from each row; None for nothing.
        compute_dtype: torch.float32 or torch.float64; default float64 where X or v are.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit.
    """
    inputs = check_column_inputs(X, v, rows, center, compute_dtype)
    compute, centred = inputs.compute_dtype, inputs.center is not None
    if inputs.v.shape[0] > 0 and fits_registers(inputs.X.shape[1], compute, centred=centred):
        return run_pass(columns_pass(inputs))[:-SCALARS]
    with on_device(inputs.X):
        return reduce_partials(
            partial_column_sums(inputs.X, inputs.v, inputs.rows, inputs.center, compute, None)
        )
