"""Loss, gradient and Hessian of logistic regression for one read of X."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..contract import (
    SCALARS,
    BCEHessian,
    BCESums,
    PassOptions,
    check_hessian_columns,
    check_inputs,
)
from ..gram import bordered, weighted_gram
from . import _hessian
from .arguments import RowPass, bce_pass, launch_options, on_device
from .launch import LaunchConfig, block_width, fitted, launch_config, pipeline_stages, row_group
from .onepass import run_pass
from .reduce import reduce_partials
from .resources import prepare

_NARROWEST = 16
"""Columns that tl.dot multiplies at least."""
_FLOAT64_BLOCK_BYTES = 256 << 20
"""Of X in float64 at once, and as much again for its product with h."""
_WIDEST_IEEE = 64
"""Columns up to which a product of tiles is taken in float32; above it is three TF32 products, which are as accurate.
After an H100's times with a kernel of the same structure: 11 M x 28 and 2 M x 62 the one way, 4 M x 128 the other."""


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
    row_pass = bce_pass(check_inputs(X, y, weight, bias, **options))
    if row_pass.compute == torch.float64:
        return _in_float64(row_pass)
    with on_device(X):
        partials, totals = _launch(row_pass, launch)
        sums = reduce_partials(partials, totals)
    D = X.shape[1]
    gradient, border, corner, matrix, scalars = torch.split(sums, [D, D, 1, D * D, SCALARS])
    return BCEHessian(
        sums=BCESums(torch.cat([gradient, scalars])), matrix=bordered(matrix.view(D, D), border, corner)
    )


def _in_float64(row_pass: RowPass) -> BCEHessian:
    h = row_pass.empty()
    sums = BCESums(run_pass(row_pass, curvature=h))
    X = row_pass.X
    block_rows = _FLOAT64_BLOCK_BYTES // (8 * X.shape[1])
    return BCEHessian(
        sums,
        weighted_gram(
            X,
            h,
            row_pass.rows,
            block_rows=block_rows,
            compute_dtype=torch.float64,
            center=row_pass.terms["CENTER"],
        ),
    )


def _launch(row_pass: RowPass, launch: LaunchConfig | None) -> tuple[Tensor, Tensor]:
    X, compute = row_pass.X, row_pass.compute
    D = X.shape[1]
    config = launch or fitted(launch_config("hessian", D, X.dtype, compute, X.device), row_pass.n, X.device)
    width = max(_NARROWEST, block_width(D))

    def build(config: LaunchConfig) -> dict[str, Any]:
        group, run = row_group(width, config, X, chosen_rows=row_pass.rows is not None)
        return {
            **row_pass.terms,
            **row_pass.launch_arguments(config),
            "BLOCK_D": width,
            "GROUP": group,
            "GROUP_RUN": run,
            "PRECISION": _precision(width, X.device),
            "STAGES": pipeline_stages(config, X),
            **launch_options(config),
        }

    outputs = {"TOTALS": torch.float64, "PARTIALS": compute}
    launched = prepare(
        _hessian.hessian_kernel, config, row_pass.n, X.device, build, outputs, as_given=launch is not None
    )
    partials = X.new_empty((launched.programs, D * D + 2 * D + 1), dtype=compute)
    totals = X.new_empty((launched.programs, 5), dtype=torch.float64)
    _hessian.hessian_kernel[(launched.programs,)](**launched.arguments, TOTALS=totals, PARTIALS=partials)
    return partials, totals


def _precision(width: int, device: torch.device) -> str:
    """How float32 tiles are multiplied: TF32 needs NVIDIA's units from compute capability 8.0 on."""
    if width <= _WIDEST_IEEE:
        return "ieee"
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return "ieee"
    return "tf32x3"
