"""How a kernel is launched: tile height, warps, programs. A measured table, and a rule for what it does not list.

Nothing is searched at import or at a first call: another configuration on another day means another rounding.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch

REGISTER_ROW_BYTES = 64 << 10
"""Widest row, in the arithmetic's dtype, that fits a streaming multiprocessor's registers (256 KB) next to the weights
and the gradient: 16384 columns in float32, 8192 in float64."""


@dataclass(frozen=True)
class LaunchConfig:
    """Rows per tile, warps per program, programs per streaming multiprocessor, and software-pipelining depth."""

    block_n: int
    num_warps: int
    programs_per_sm: int
    num_stages: int = 1


# Measured on one H100 80GB (torch 2.11, triton 3.6) before 2026-11, float32 arithmetic, at the column count that stands
# as the key. bfloat16 stands for float16, which has the same bytes.
_ONEPASS: dict[int, dict[int, LaunchConfig]] = {
    4: {
        1: LaunchConfig(2048, 8, 8),
        4: LaunchConfig(1024, 4, 4),
        10: LaunchConfig(1024, 16, 4),
        28: LaunchConfig(512, 4, 2),
        50: LaunchConfig(64, 2, 8),
        100: LaunchConfig(128, 4, 8),
        256: LaunchConfig(16, 4, 4),
        300: LaunchConfig(4, 4, 8),
        784: LaunchConfig(2, 4, 8),
        1024: LaunchConfig(8, 4, 4),
        2000: LaunchConfig(8, 4, 2),
        4096: LaunchConfig(2, 4, 2),
        8192: LaunchConfig(4, 8, 1),
        16384: LaunchConfig(1, 16, 1),
    },
    2: {
        1: LaunchConfig(2048, 8, 8),
        4: LaunchConfig(512, 4, 8),
        10: LaunchConfig(256, 2, 8),
        28: LaunchConfig(128, 4, 8),
        50: LaunchConfig(128, 4, 8),
        100: LaunchConfig(128, 4, 8),
        256: LaunchConfig(16, 8, 4),
        300: LaunchConfig(8, 4, 8),
        784: LaunchConfig(2, 2, 8, num_stages=3),
        1024: LaunchConfig(8, 4, 4),
        2000: LaunchConfig(8, 4, 2),
        4096: LaunchConfig(4, 4, 2),
        8192: LaunchConfig(4, 8, 1),
        16384: LaunchConfig(2, 8, 1),
    },
}

# None of the following has been measured.
WIDE = LaunchConfig(block_n=4, num_warps=8, programs_per_sm=4)
"""For the kernels that walk a row in column blocks of `WIDE_BLOCK_D`."""
WIDE_BLOCK_D = 1024
"""Columns at once where a row does not stay in registers."""
REDUCE = LaunchConfig(block_n=64, num_warps=4, programs_per_sm=1)
"""For the second stage: partials at once."""
REDUCE_BLOCK_D = 32
"""Columns that a program of the second stage sums."""


def onepass_config(D: int, storage: torch.dtype, compute: torch.dtype) -> LaunchConfig:
    """The table's entry for the nearest column count that needs as wide a tile, or a wider one.

    float64 arithmetic needs twice the registers: half the rows, and from one row on twice the warps. Not measured.
    """
    table = _ONEPASS[2 if storage.itemsize == 2 else 4]
    width = block_width(D)
    widths = {block_width(listed) for listed in table}
    tile_width = min((w for w in widths if w >= width), default=max(widths))
    listed = min((c for c in table if block_width(c) == tile_width), key=lambda c: abs(math.log(c / D)))
    config = table[listed]
    if compute != torch.float64:
        return config
    if config.block_n > 1:
        return replace(config, block_n=config.block_n // 2)
    return replace(config, num_warps=min(32, config.num_warps * 2))


def block_width(D: int) -> int:
    """The smallest power of two that holds D columns, which is how wide a tile must be."""
    return 1 << (D - 1).bit_length()


def fits_registers(D: int, compute: torch.dtype) -> bool:
    """Whether a row can stay in registers between the logit and the gradient."""
    return D * compute.itemsize <= REGISTER_ROW_BYTES


def grid_size(n: int, config: LaunchConfig, device: torch.device) -> tuple[int, int]:
    """(tiles, programs) that cover n rows."""
    tiles = -(-n // config.block_n)
    return tiles, min(tiles, config.programs_per_sm * multiprocessors(device))


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; 2 for Triton's interpreter, so that small tests have several programs."""
    if device.type == "cpu":
        return 2
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
