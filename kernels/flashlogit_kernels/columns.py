"""X^T v: the gradient once the residuals are known."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _columns
from .arguments import compute_argument, launch_options, layout, on_device
from .checks import arithmetic_dtype, check_center, check_matrix, check_rows, check_same_device, check_vector
from .launch import TILES_A_PROGRAM, WIDE, WIDE_BLOCK_D, LaunchConfig, block_width, grid_size
from .reduce import reduce_partials


def column_sums(
    X: Tensor,
    v: Tensor,
    *,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
    launch: LaunchConfig | None = None,
) -> Tensor:
    """X^T v, or (X - center)^T v, [D] float64.

    Args:
        X: [N, D] as for `bce_onepass`.
        v: one number of a real dtype for each visited row, [n].
        rows: [n] visit only these rows of X, in this order; None for all.
        center: [D] what is subtracted from each row; None for nothing.
        compute_dtype: torch.float32 or torch.float64; default float64 where X or v are.
        launch: instead of the default configuration.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit.
    """
    X = check_matrix(X)
    rows = check_rows(rows)
    check_vector("v", v, X.shape[0] if rows is None else rows.shape[0])
    check_same_device(X, {"v": v, "rows": rows, "center": center})
    with on_device(X):
        compute = arithmetic_dtype(X, v, compute_dtype)
        center = check_center(center, X, compute)
        return reduce_partials(partial_column_sums(X, v.detach().contiguous(), rows, center, compute, launch))


def partial_column_sums(
    X: Tensor,
    v: Tensor,
    rows: Tensor | None,
    center: Tensor | None,
    compute: torch.dtype,
    launch: LaunchConfig | None,
) -> Tensor:
    """(X - center)^T v over each program's own row tiles, [programs, D] in the arithmetic's dtype."""
    config = launch or WIDE
    D = X.shape[1]
    width = min(block_width(D), WIDE_BLOCK_D)
    tiles, wanted = grid_size(v.shape[0], config, X.device)
    column_blocks = -(-D // width)
    programs = max(1, wanted // column_blocks, -(-tiles // TILES_A_PROGRAM))
    partials = X.new_empty((programs, D), dtype=compute)
    _columns.column_sums_kernel[(programs, column_blocks)](
        X=X,
        V=v,
        CENTER=center,
        ROWS=rows,
        SUMS=partials,
        N=v.shape[0],
        tiles=tiles,
        programs=programs,
        **layout(X),
        **compute_argument(compute),
        BLOCK_N=config.block_n,
        BLOCK_D=width,
        **launch_options(config),
    )
    return partials
