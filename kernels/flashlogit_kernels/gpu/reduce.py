"""The second, deterministic stage of every pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import SCALARS
from . import _reduce
from .arguments import launch_options
from .launch import REDUCE, REDUCE_BLOCK_D
from .resources import are_fitted, loaded


def reduce_partials(partials: Tensor, totals: Tensor | None = None) -> Tensor:
    """Sum partials [P, D] in float64, and totals [T, 5] behind them if given; P and T may differ.

    Returns:
        [D] or [D + 5] float64.
    """
    count, D = partials.shape
    out = partials.new_empty(D + (SCALARS if totals is not None else 0), dtype=torch.float64)
    blocks = -(-D // REDUCE_BLOCK_D)
    arguments = {
        "PARTIALS": partials,
        "TOTALS": totals,
        "OUT": out,
        "D": D,
        "BLOCK_P": REDUCE.block_n,
        "BLOCK_D": REDUCE_BLOCK_D,
        **launch_options(REDUCE),
    }
    if are_fitted(partials.device):  # so that the time to compile it is counted
        loaded(_reduce.reduce_kernel, partials.device, arguments, {})
    _reduce.reduce_kernel[(blocks + (totals is not None),)](
        **arguments, partial_count=count, total_count=0 if totals is None else totals.shape[0]
    )
    return out
