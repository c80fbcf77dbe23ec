"""How a kernel is launched: tile height, warps, programs. A measured table, and a rule for what it does not list.

Nothing is searched at import or at a first call: another configuration on another day means another rounding.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

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
    split: bool = False


# The starting point was measured on one H100 80GB (torch 2.11, triton 3.6) with a kernel that gave loss and gradient
# only. Entries marked "lowered" hold half the rows of the measured one or less: as measured, this kernel, which also
# counts non-finite logits, would spill registers. No entry has been timed with this kernel yet. float16 is as bfloat16.
_FLOAT32: dict[int, LaunchConfig] = {
    1: LaunchConfig(2048, 8, 8),
    4: LaunchConfig(1024, 4, 4),
    10: LaunchConfig(512, 8, 8),  # lowered
    28: LaunchConfig(128, 4, 8),  # lowered
    50: LaunchConfig(64, 4, 8),  # two warps measured
    100: LaunchConfig(64, 8, 4),  # lowered
    256: LaunchConfig(16, 4, 4),
    300: LaunchConfig(4, 4, 8),
    784: LaunchConfig(2, 4, 8),
    1024: LaunchConfig(8, 4, 4),
    2000: LaunchConfig(8, 4, 2),
    4096: LaunchConfig(2, 4, 2),
    8192: LaunchConfig(4, 8, 1),
    16384: LaunchConfig(1, 16, 1),
}
_BFLOAT16: dict[int, LaunchConfig] = {
    1: LaunchConfig(2048, 8, 8),
    4: LaunchConfig(512, 4, 8),
    10: LaunchConfig(256, 4, 8),  # two warps measured
    28: LaunchConfig(128, 4, 8),
    50: LaunchConfig(64, 4, 8),  # lowered
    100: LaunchConfig(64, 8, 4),  # lowered
    256: LaunchConfig(16, 8, 4),
    300: LaunchConfig(8, 4, 8),
    784: LaunchConfig(2, 2, 8, num_stages=3),
    1024: LaunchConfig(8, 4, 4),
    2000: LaunchConfig(8, 4, 2),
    4096: LaunchConfig(4, 4, 2),
    8192: LaunchConfig(4, 8, 1),
    16384: LaunchConfig(1, 8, 1),  # lowered
}
# Twice the registers: the largest tiles of the above that do not spill in float64 arithmetic. Not measured.
_FLOAT64: dict[int, LaunchConfig] = {
    1: LaunchConfig(1024, 8, 8),
    4: LaunchConfig(512, 4, 4),
    10: LaunchConfig(128, 4, 8),
    28: LaunchConfig(32, 4, 8),
    50: LaunchConfig(32, 4, 8),
    100: LaunchConfig(16, 4, 8),
    256: LaunchConfig(4, 4, 4),
    300: LaunchConfig(2, 4, 8),
    784: LaunchConfig(1, 4, 8),
    1024: LaunchConfig(4, 4, 4),
    2000: LaunchConfig(2, 4, 2),
    4096: LaunchConfig(1, 4, 2),
    8192: LaunchConfig(1, 8, 1),
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


def onepass_table(storage: torch.dtype, compute: torch.dtype) -> dict[int, LaunchConfig]:
    """Launch configurations by column count."""
    if compute == torch.float64:
        return _FLOAT64
    return _BFLOAT16 if storage.itemsize == 2 else _FLOAT32


def onepass_config(D: int, storage: torch.dtype, compute: torch.dtype) -> LaunchConfig:
    """The table's entry for the nearest column count that needs as wide a tile, or else the next wider one."""
    table = onepass_table(storage, compute)
    width = min(w for w in map(block_width, table) if w >= block_width(D))
    listed = min((c for c in table if block_width(c) == width), key=lambda c: abs(math.log(c / D)))
    return table[listed]


def block_width(D: int) -> int:
    """The smallest power of two that holds D columns, which is how wide a tile must be."""
    return 1 << (D - 1).bit_length()


def pieces(D: int, split: bool) -> tuple[int, int]:
    """Widths of a tile's two pieces, each a power of two: the largest below D and what holds the rest; or all, and 0."""
    width = block_width(D)
    return (width // 2, block_width(D - width // 2)) if split and D < width and D > 1 else (width, 0)


def row_group(width: int, config: LaunchConfig, X: torch.Tensor) -> int:
    """Rows that a program's threads read side by side, 16 bytes a thread where the rows' alignment allows it."""
    if width == 0:
        return 0
    vector = 16 // X.element_size()
    stride = X.stride(0)
    while vector > 1 and (stride % vector or vector > width):
        vector //= 2
    return max(1, min(config.block_n, 32 * config.num_warps * vector // width))


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
