"""X^T v for rows too wide for the registers, by blocks of columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _columns
from .arguments import compute_argument, launch_options, layout
from .launch import TILES_A_PROGRAM, WIDE, WIDE_BLOCK_D, LaunchConfig, block_width, grid_size
from .resources import fitted_launch


def partial_column_sums(
    X: Tensor,
    v: Tensor,
    rows: Tensor | None,
    center: Tensor | None,
    compute: torch.dtype,
    launch: LaunchConfig | None,
) -> Tensor:
    """(X - center)^T v over each program's own row tiles, [programs, D] in the arithmetic's dtype."""
    D = X.shape[1]
    width = min(block_width(D), WIDE_BLOCK_D)

    def build(config: LaunchConfig) -> dict[str, Any]:
        return {
            "X": X,
            "V": v,
            "CENTER": center,
            "ROWS": rows,
            "N": v.shape[0],
            **layout(X),
            **compute_argument(compute),
            "BLOCK_N": config.block_n,
            "BLOCK_D": width,
            **launch_options(config),
        }

    kernel, outputs = _columns.column_sums_kernel, {"SUMS": compute}
    config, arguments = fitted_launch(
        kernel, launch or WIDE, X.device, build, outputs, as_given=launch is not None
    )
    tiles, wanted = grid_size(v.shape[0], config, X.device)
    column_blocks = -(-D // width)
    programs = max(1, wanted // column_blocks, -(-tiles // TILES_A_PROGRAM))
    partials = X.new_empty((programs, D), dtype=compute)
    kernel[(programs, column_blocks)](**arguments, SUMS=partials, tiles=tiles, programs=programs)
    return partials
