"""What a compiled kernel takes of a multiprocessor, and what follows for its launch.

A persistent grid with more programs than fit at once runs its last ones when the others are done, on an almost empty
device. How many registers a kernel takes differs from one version of the compiler to the next, so that no table of
launches can know it: the kernel is compiled first, and the table's number of programs is a wish.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..compiling import counted
from .launch import LaunchConfig

_REGISTER_UNIT = 8
"""Registers of a thread are given in multiples of it."""
_PARTITIONS = 4
"""A multiprocessor has four, each with its own registers, and a warp stays in one."""
_RESERVED_SHARED = 1024
"""Bytes of shared memory that every resident program costs besides its own, from compute capability 8.0 on."""
_FEW_SPILLED = 32
"""Registers of a thread that may be spilled: such as addresses, which are read once for each tile."""
_COUNTS = frozenset({"tiles", "programs", "columns", "partial_count", "total_count"})
"""Arguments that change from call to call, for whose values Triton is told not to compile a kernel anew."""
_PROGRAMS = {(7, 5): 16, (8, 6): 16, (8, 7): 16, (8, 9): 24, (12, 0): 24, (12, 1): 24}
"""Programs that a multiprocessor holds at most, by compute capability; 32 for others. torch does not tell."""
_CHANGING = frozenset({"N", "K", "rows", "row_stride", "column_stride"})
"""Arguments of whose values Triton only asks whether they are 1, multiples of 16, or beyond 32 bits."""


@dataclass(frozen=True)
class Resources:
    """Registers a thread, those that it spills, and bytes of shared memory a program; None for registers that the
    driver does not tell.

    `compiled` is Triton's kernel, ready to be launched; None where it does not fit the device.
    """

    registers: int | None
    shared: int
    spilled: int | None = None
    compiled: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class DeviceLimits:
    """What a multiprocessor has: registers, warps, bytes of shared memory, bytes that a single program may take, and
    the programs that it holds whatever they take."""

    registers: int
    warps: int
    shared: int
    shared_by_program: int
    programs: int = 32


Arguments = Mapping[str, Any]
Build = Callable[[LaunchConfig], dict[str, Any]]
"""The other arguments of a kernel, as they follow from the configuration."""
Load = Callable[[Arguments], Resources]
"""Compiles and loads a kernel for its arguments."""

_loaded: dict[tuple[Any, ...], Resources] = {}
_loading = threading.Lock()
"""Held while a kernel is compiled, so that threads that want the same one compile it once."""


def loaded_kernels() -> dict[tuple[Any, ...], Resources]:
    """Return every kernel that was compiled or loaded so far: its name, then what it was compiled for."""
    return dict(_loaded)


def are_fitted(device: torch.device) -> bool:
    """Return whether launches on this device are fitted to what is compiled: on NVIDIA's GPUs.

    Not in Triton's interpreter, nor on an AMD GPU, which shares out its registers otherwise.
    """
    return device.type == "cuda" and torch.version.hip is None


def settle(
    config: LaunchConfig, build: Build, load: Load, limits: DeviceLimits, *, least_rows: int = 1
) -> tuple[LaunchConfig, dict[str, Any], Resources]:
    """Return the configuration with no more programs than a multiprocessor holds, the arguments that follow from it,
    and what the kernel takes.

    Where a program takes more shared memory than the device gives to one, tiles are halved until it does not, and where
    it spills, as long as that helps. The Hessian of 65 to 128 columns takes 128 KB and spills nothing at 64 rows on an
    H100. A GPU of compute capability 8.6 gives 99 KB and spills 3 to 7 KB a thread, 16 to 72 bytes at 16 rows; one of
    10.0 spills 300 bytes, and nothing at 32.

    Args:
        config: as the launch table has it.
        build: see `Build`.
        load: see `Load`.
        limits: of the device.
        least_rows: of a tile.
    """
    arguments = build(config)
    found = load(arguments)
    while config.block_n > least_rows:
        too_large, spilled = found.shared > limits.shared_by_program, found.spilled or 0
        if not too_large and spilled <= _FEW_SPILLED:
            break
        lower = dataclasses.replace(config, block_n=config.block_n // 2)
        of_lower = build(lower)
        takes = load(of_lower)
        if not too_large and (takes.spilled or 0) >= spilled:
            break
        config, arguments, found = lower, of_lower, takes
    fitting = resident_programs(found, config.num_warps, limits)
    return dataclasses.replace(config, programs_per_sm=min(config.programs_per_sm, fitting)), arguments, found


def resident_programs(found: Resources, num_warps: int, limits: DeviceLimits) -> int:
    """Return how many programs a multiprocessor holds at once, at least 1.

    As the occupancy calculator of CUDA has it; `scripts/benchmark.py device` holds it against the driver's own answer.
    """
    warps = limits.warps
    if found.registers:
        registers = -(-found.registers // _REGISTER_UNIT) * _REGISTER_UNIT * 32
        warps = min(warps, limits.registers // _PARTITIONS // registers * _PARTITIONS)
    by_shared = limits.shared // (found.shared + _RESERVED_SHARED)
    return max(1, min(warps // num_warps, by_shared, limits.programs))


def loaded(kernel: Any, device: torch.device, arguments: Arguments) -> Resources:
    """Return what the kernel takes that these arguments launch; the first time compile and load it.

    Tensors that are not there yet may be empty ones of their dtype, and counts may be left out. A kernel that needs
    more shared memory than there is, is compiled and not loaded: its registers are not known.
    """
    key = (kernel.__name__, device, *_specialised(arguments))
    if key not in _loaded:
        with counted(), _loading:
            if key not in _loaded:
                _loaded[key] = _compiled(kernel, device, arguments)
    return _loaded[key]


def _compiled(kernel: Any, device: torch.device, arguments: Arguments) -> Resources:
    counts = dict.fromkeys(_COUNTS.intersection(kernel.arg_names), 2)
    compiled = kernel.warmup(**{**arguments, **counts}, grid=(1,))
    if compiled.metadata.shared > device_limits(device).shared_by_program:
        return Resources(None, compiled.metadata.shared)
    _ = compiled.run  # loads it, which is when the driver tells its registers
    return Resources(compiled.n_regs, compiled.metadata.shared, compiled.n_spills, compiled)


def _specialised(arguments: Arguments) -> tuple[Any, ...]:
    """Return what Triton compiles a kernel anew for: types, constants, and what it asks of addresses and counts."""
    key: list[Any] = []
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            key += (value.dtype, value.data_ptr() % 16 == 0)
        elif name in _CHANGING:
            key += (value % 16 == 0, value == 1, value < 1 << 31)
        elif name not in _COUNTS:
            key.append(value)
    return tuple(key)


@functools.cache
def stand_in(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an empty tensor, for one that is still to come."""
    return torch.empty(0, dtype=dtype, device=device)


@functools.cache
def device_limits(device: torch.device) -> DeviceLimits:
    """Return the limits of a GPU's multiprocessors, as torch tells them."""
    properties = torch.cuda.get_device_properties(device)
    # Not every build of torch tells all of them: what they are from compute capability 7.0 on, and before opting in.
    return DeviceLimits(
        registers=getattr(properties, "regs_per_multiprocessor", 65_536),
        warps=properties.max_threads_per_multi_processor // 32,
        shared=getattr(properties, "shared_memory_per_multiprocessor", 65_536),
        shared_by_program=getattr(properties, "shared_memory_per_block_optin", 49_152),
        programs=_PROGRAMS.get((properties.major, properties.minor), 32),
    )
