"""Loss and gradient of logistic regression for one read of X."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from . import _bce
from .arguments import launch_options, layout, on_device, term_arguments
from .columns import partial_column_sums
from .contract import BCESums, PassInputs, PassOptions, check_inputs
from .launch import LaunchConfig, fits_registers, grid_size, onepass_config, pieces, row_group
from .reduce import reduce_partials
from .rows import launch_rows


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
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
        launch: instead of the measured table's entry.
        **options: see `PassOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, or eps outside [0, 0.5).
    """
    inputs = check_inputs(X, y, weight, bias, **options)
    with on_device(inputs.X):
        if fits_registers(inputs.X.shape[1], inputs.compute_dtype):
            return _in_registers(inputs, residual, launch)
        return _in_two_reads(inputs, residual, launch)


def _in_registers(inputs: PassInputs, keep_residual: bool, launch: LaunchConfig | None) -> BCESums:
    X = inputs.X
    D = X.shape[1]
    config = launch or onepass_config(D, X.dtype, inputs.compute_dtype)
    head, rest = pieces(D, config.split)
    tiles, programs = grid_size(inputs.n, config, X.device)
    gradients = X.new_empty((programs, D), dtype=inputs.compute_dtype)
    totals = X.new_empty((programs, 5), dtype=torch.float64)
    residual = X.new_empty(inputs.n, dtype=inputs.compute_dtype) if keep_residual else None
    _bce.onepass_kernel[(programs,)](
        **term_arguments(inputs),
        **layout(X),
        TOTALS=totals,
        RESIDUAL=residual,
        CURVATURE=None,
        LOGITS=None,
        GRADIENTS=gradients,
        tiles=tiles,
        programs=programs,
        BLOCK_N=config.block_n,
        BLOCK_D=head,
        REST_D=rest,
        GROUP=row_group(head, config, X),
        GROUP_REST=row_group(rest, config, X),
        STAGES=config.num_stages,
        **launch_options(config),
    )
    return BCESums(reduce_partials(gradients, totals), residual)


def _in_two_reads(inputs: PassInputs, keep_residual: bool, launch: LaunchConfig | None) -> BCESums:
    residual, totals = launch_rows(inputs, launch=launch)
    partials = partial_column_sums(inputs.X, residual, inputs.rows, inputs.compute_dtype, launch)
    return BCESums(reduce_partials(partials, totals), residual if keep_residual else None)
