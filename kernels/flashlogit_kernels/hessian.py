"""Loss, gradient and Hessian of logistic regression for one read of X."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from . import _hessian
from .arguments import RowPass, bce_pass, launch_options, on_device
from .contract import (
    SCALARS,
    BCEHessian,
    BCESums,
    PassOptions,
    bordered,
    check_hessian_columns,
    check_inputs,
)
from .launch import LaunchConfig, block_width, fitted, grid_size, launch_config, pipeline_stages, row_group
from .reduce import reduce_partials

_NARROWEST = 16
"""Columns that tl.dot multiplies at least."""
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

    Arguments and errors are those of `bce_onepass`; X has at most 128 columns.
    """
    check_hessian_columns(X)
    row_pass = bce_pass(check_inputs(X, y, weight, bias, **options))
    with on_device(X):
        partials, totals = _launch(row_pass, launch)
        sums = reduce_partials(partials, totals)
    D = X.shape[1]
    gradient, border, corner, matrix, scalars = torch.split(sums, [D, D, 1, D * D, SCALARS])
    return BCEHessian(
        sums=BCESums(torch.cat([gradient, scalars])), matrix=bordered(matrix.view(D, D), border, corner)
    )


def _launch(row_pass: RowPass, launch: LaunchConfig | None) -> tuple[Tensor, Tensor]:
    X, compute = row_pass.X, row_pass.compute
    D = X.shape[1]
    config = launch or fitted(launch_config("hessian", D, X.dtype, compute, X.device), row_pass.n, X.device)
    width = max(_NARROWEST, block_width(D))
    tiles, programs = grid_size(row_pass.n, config, X.device)
    partials = X.new_empty((programs, D * D + 2 * D + 1), dtype=compute)
    totals = X.new_empty((programs, 5), dtype=torch.float64)
    _hessian.hessian_kernel[(programs,)](
        **row_pass.terms,
        TOTALS=totals,
        PARTIALS=partials,
        tiles=tiles,
        programs=programs,
        **row_pass.launch_arguments(config),
        BLOCK_D=width,
        GROUP=row_group(width, config, X),
        PRECISION="ieee" if width <= _WIDEST_IEEE or compute == torch.float64 else "tf32x3",
        STAGES=pipeline_stages(config, X),
        **launch_options(config),
    )
    return partials, totals
