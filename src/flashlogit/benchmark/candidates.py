"""Which launch configurations `tune` tries, and which it takes. Nothing here touches a device.

A tile and its warps decide what is compiled, which takes a second each; how many programs share a multiprocessor is
free. So tiles are tried first, each with a likely number of programs, and the best ones then with all numbers and with
software pipelining.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from flashlogit_kernels.launch import KernelName, LaunchConfig, block_width, piece_widths

WARPS = (1, 2, 4, 8, 16)
PROGRAMS = (1, 2, 4, 8, 16)
STAGES = (1, 3)
NOISE = 0.02
"""An incumbent within this of the fastest stays: another configuration means another rounding."""

_REGISTERS = (4, 128)
"""32-bit registers of a thread for its part of the tile: fewer leave it idle, more do not fit its 255."""
_REGISTER_FILE = 256 << 10
_SHARED_MEMORY = 224 << 10
"""Bytes of a multiprocessor."""
_WARPS_AT_ONCE = 64
_LIKELY_IN_FLIGHT = 64 << 10
"""Bytes on their way to a multiprocessor; 20 KB hide the latency of 3 TB/s over 132 of them, and waves need more."""
_IN_FLIGHT = (4 << 10, 512 << 10)
_WORTHWHILE = 7 / 8
"""Width of two pieces over that of one, above which splitting saves too little."""
_DOT_ROWS = 16
"""Rows that a product of tiles needs at least."""
_HESSIAN_ROWS = 256


@dataclass(frozen=True)
class Shape:
    """What is tuned for: a kernel, a column count, and the dtypes of X and of the arithmetic."""

    kernel: KernelName
    D: int
    storage: torch.dtype
    compute: torch.dtype


def coarse(shape: Shape) -> list[LaunchConfig]:
    """Every tile that fits, in one or two pieces, without pipelining, with the likeliest number of programs."""
    found = []
    for split, warps in product((False, True), WARPS):
        if split and not splits(shape):
            continue
        for block_n in _heights(shape, warps, split):
            tile = LaunchConfig(block_n, warps, 1, 1, split)
            counts = [count for count in PROGRAMS if fits(shape, replace(tile, programs_per_sm=count))]
            if counts:
                found.append(replace(tile, programs_per_sm=min(counts, key=_unlikeliness(shape, tile))))
    return found


def refined(shape: Shape, best: Sequence[LaunchConfig]) -> list[LaunchConfig]:
    """The tiles of `best` with all numbers of programs and stages that fit, without `best` itself."""
    variants = (
        replace(tile, programs_per_sm=count, num_stages=stages)
        for tile, count, stages in product(best, PROGRAMS, STAGES)
    )
    return [c for c in dict.fromkeys(variants) if c not in best and fits(shape, c)]


def splits(shape: Shape) -> bool:
    """Whether a tile in two pieces is enough narrower than one; the Hessian's products take one piece only."""
    if shape.kernel == "hessian":
        return False
    pieces = piece_widths(shape.D, LaunchConfig(1, 1, 1, 1, True))
    return sum(pieces) <= _WORTHWHILE * block_width(shape.D)


def fits(shape: Shape, config: LaunchConfig) -> bool:
    """Whether a multiprocessor can hold as many programs as asked for, with bytes in flight to keep it busy."""
    programs = config.programs_per_sm
    if programs * config.num_warps > _WARPS_AT_ONCE:
        return False
    if config.num_stages > 1 and in_flight(shape, config) > _SHARED_MEMORY:
        return False
    if programs == 1:
        return True
    tile = config.block_n * width_of(shape, config.split) * shape.compute.itemsize
    held = tile + _accumulator_numbers(shape) * shape.compute.itemsize
    least, most = _IN_FLIGHT
    return programs * held <= _REGISTER_FILE and least <= in_flight(shape, config) <= most


def in_flight(shape: Shape, config: LaunchConfig) -> int:
    """Bytes of X on their way to one multiprocessor."""
    tile = config.block_n * shape.D * shape.storage.itemsize
    return config.programs_per_sm * tile * config.num_stages


def width_of(shape: Shape, split: bool) -> int:
    """Columns of a tile with its padding."""
    if shape.kernel == "hessian":
        return max(_DOT_ROWS, block_width(shape.D))
    return sum(piece_widths(shape.D, LaunchConfig(1, 1, 1, 1, split)))


def choose(medians: Mapping[LaunchConfig, float], incumbent: LaunchConfig | None) -> LaunchConfig | None:
    """The fastest of the medians (in any unit), or the incumbent where it is as fast but for the noise.

    None where nothing was measured.
    """
    if not medians:
        return None
    fastest = min(medians, key=lambda config: medians[config])
    if (
        incumbent is not None
        and incumbent in medians
        and medians[incumbent] <= medians[fastest] * (1 + NOISE)
    ):
        return incumbent
    return fastest


def _heights(shape: Shape, warps: int, split: bool) -> list[int]:
    """Powers of two for which a thread's part of the tile takes a sensible number of registers."""
    least, most = _REGISTERS
    threads = 32 * warps
    width = width_of(shape, split)
    words = shape.compute.itemsize / 4
    if _accumulator_numbers(shape) * words > most * threads:
        return []
    heights = [1 << k for k in range(14) if least <= (1 << k) * width * words / threads <= most]
    if shape.kernel == "hessian":
        return [height for height in heights if _DOT_ROWS <= height <= _HESSIAN_ROWS]
    return heights


def _accumulator_numbers(shape: Shape) -> int:
    """Numbers that a program of the Hessian adds up beside its tile."""
    return width_of(shape, False) ** 2 if shape.kernel == "hessian" else 0


def _unlikeliness(shape: Shape, tile: LaunchConfig) -> Callable[[int], float]:
    """How far, as a factor, a number of programs is from the likeliest bytes in flight."""

    def distance(programs: int) -> float:
        bytes_in_flight = in_flight(shape, replace(tile, programs_per_sm=programs))
        return max(bytes_in_flight / _LIKELY_IN_FLIGHT, _LIKELY_IN_FLIGHT / bytes_in_flight)

    return distance
