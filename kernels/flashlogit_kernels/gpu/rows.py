"""Loss and residual of every row, for upstream gradients that differ from row to row and for rows of any width."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..contract import BCERows, PassOptions, check_inputs
from . import _bce
from .arguments import RowPass, bce_pass, launch_options, on_device
from .launch import WIDE, WIDE_BLOCK_D, LaunchConfig, block_width
from .resources import prepare


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
    row_pass = bce_pass(check_inputs(X, y, weight, bias, **options))
    with on_device(X):
        loss = row_pass.empty()
        residual, _ = launch_rows(row_pass, loss=loss, launch=launch)
    return BCERows(loss, residual)


def launch_rows(
    row_pass: RowPass,
    *,
    loss: Tensor | None = None,
    residual: Tensor | None = None,
    curvature: Tensor | None = None,
    logits: Tensor | None = None,
    launch: LaunchConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Residual [n] and the programs' totals [programs, 5]; also fills what else is given, [n] each."""
    X = row_pass.X
    config = launch or WIDE
    if residual is None:
        residual = row_pass.empty()

    def build(config: LaunchConfig) -> dict[str, Any]:
        return {
            **row_pass.terms,
            "RESIDUAL": residual,
            "CURVATURE": curvature,
            "LOGITS": logits,
            "LOSS": loss,
            **row_pass.launch_arguments(config),
            "BLOCK_D": min(block_width(X.shape[1]), WIDE_BLOCK_D),
            **launch_options(config),
        }

    outputs = {"TOTALS": torch.float64}
    launched = prepare(
        _bce.rows_kernel, config, row_pass.n, X.device, build, outputs, as_given=launch is not None
    )
    totals = X.new_empty((launched.programs, 5), dtype=torch.float64)
    _bce.rows_kernel[(launched.programs,)](**launched.arguments, TOTALS=totals)
    return residual, totals
