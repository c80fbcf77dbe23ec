"""Loss and gradient of logistic regression for one read of X."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..contract import BCESums, PassOptions, check_inputs
from . import _bce
from .arguments import RowPass, bce_pass, launch_options, on_device
from .columns import partial_column_sums
from .launch import (
    LaunchConfig,
    beside_center,
    fits_registers,
    fitted,
    launch_config,
    piece_widths,
    pipeline_stages,
    row_group,
)
from .reduce import reduce_partials
from .resources import prepare
from .rows import launch_rows


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
    curvature: bool = False,
    logits: bool = False,
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
        launch: instead of the launch table's entry.
        **options: see `PassOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, or eps outside [0, 0.5).
    """
    row_pass = bce_pass(check_inputs(X, y, weight, bias, **options))
    outputs = {
        name: row_pass.empty() if asked else None
        for name, asked in (("residual", residual), ("curvature", curvature), ("logits", logits))
    }
    return BCESums(run_pass(row_pass, launch, **outputs), **outputs)


def run_pass(
    row_pass: RowPass,
    launch: LaunchConfig | None = None,
    *,
    residual: Tensor | None = None,
    curvature: Tensor | None = None,
    logits: Tensor | None = None,
) -> Tensor:
    """The packed sums of a pass, [D + 5] float64; fills what is given of the rows' own values, [n] each."""
    X = row_pass.X
    with on_device(X):
        if fits_registers(X.shape[1], row_pass.compute, centred=row_pass.terms["CENTER"] is not None):
            return _in_registers(row_pass, launch, residual, curvature, logits)
        residual, totals = launch_rows(
            row_pass, residual=residual, curvature=curvature, logits=logits, launch=launch
        )
        partials = partial_column_sums(
            X, residual, row_pass.rows, row_pass.terms["CENTER"], row_pass.compute, launch
        )
        return reduce_partials(partials, totals)


def _in_registers(
    row_pass: RowPass,
    launch: LaunchConfig | None,
    residual: Tensor | None,
    curvature: Tensor | None,
    logits: Tensor | None,
) -> Tensor:
    X, compute = row_pass.X, row_pass.compute
    D = X.shape[1]
    config = launch or fitted(launch_config("onepass", D, X.dtype, compute, X.device), row_pass.n, X.device)
    if launch is None and row_pass.terms["CENTER"] is not None:
        config = beside_center(config, D, compute)

    def build(config: LaunchConfig) -> dict[str, Any]:
        width, rest = piece_widths(D, config)
        group, run = row_group(width, config, X, chosen_rows=row_pass.rows is not None)
        return {
            **row_pass.terms,
            "RESIDUAL": residual,
            "CURVATURE": curvature,
            "LOGITS": logits,
            **row_pass.launch_arguments(config),
            "BLOCK_D": width,
            "REST_D": rest,
            "GROUP": group,
            "GROUP_RUN": run,
            "GROUP_REST": row_group(rest, config, X)[0],
            "STAGES": pipeline_stages(config, X),
            **launch_options(config),
        }

    outputs = {"TOTALS": torch.float64, "GRADIENTS": compute}
    launched = prepare(
        _bce.onepass_kernel, config, row_pass.n, X.device, build, outputs, as_given=launch is not None
    )
    gradients = X.new_empty((launched.programs, D), dtype=compute)
    totals = X.new_empty((launched.programs, 5), dtype=torch.float64)
    _bce.onepass_kernel[(launched.programs,)](**launched.arguments, TOTALS=totals, GRADIENTS=gradients)
    return reduce_partials(gradients, totals)
