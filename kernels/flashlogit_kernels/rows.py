"""Loss and residual of every row, for upstream gradients that differ from row to row and for rows of any width."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from . import _bce
from .arguments import launch_options, layout, on_device, term_arguments
from .contract import BCERows, PassInputs, PassOptions, check_inputs
from .launch import WIDE, WIDE_BLOCK_D, LaunchConfig, block_width, grid_size


def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCERows:
    """s_i loss_i and s_i r_i of every visited row; arguments and errors as for `bce_onepass`."""
    inputs = check_inputs(X, y, weight, bias, **options)
    with on_device(inputs.X):
        loss = inputs.X.new_empty(inputs.n, dtype=inputs.compute_dtype)
        residual, _ = launch_rows(inputs, loss=loss, launch=launch)
    return BCERows(loss, residual)


def launch_rows(
    inputs: PassInputs, *, loss: Tensor | None = None, launch: LaunchConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Residual [n] and the programs' totals [programs, 5]; also fills `loss` [n] where it is given."""
    X = inputs.X
    config = launch or WIDE
    tiles, programs = grid_size(inputs.n, config, X.device)
    totals = X.new_empty((programs, 5), dtype=torch.float64)
    residual = X.new_empty(inputs.n, dtype=inputs.compute_dtype)
    _bce.rows_kernel[(programs,)](
        **term_arguments(inputs),
        **layout(X),
        TOTALS=totals,
        RESIDUAL=residual,
        CURVATURE=None,
        LOGITS=None,
        LOSS=loss,
        tiles=tiles,
        programs=programs,
        BLOCK_N=config.block_n,
        BLOCK_D=min(block_width(X.shape[1]), WIDE_BLOCK_D),
        **launch_options(config),
    )
    return residual, totals
