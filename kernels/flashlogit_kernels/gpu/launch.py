"""How a kernel is launched: as the launch table has it for this machine, or for the nearest one that it lists.

The table is a CSV file with one row for each machine, kernel, dtype and column count, to which
`scripts/benchmark.py device --update-table` adds rows. Nothing is searched at import or at a first call: another
configuration on another day means another rounding.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

TABLE = Path(__file__).with_name("launch_table.csv")
ANY_MACHINE = "any"
"""Machine of the rows that are used where a machine has none of its own."""
REFERENCE_MACHINE = "NVIDIA H100 80GB HBM3"
"""The GPU on which rows for any machine are measured."""


@dataclass(frozen=True)
class LaunchConfig:
    """Rows per tile, warps per program, programs per streaming multiprocessor, and software-pipelining depth.

    split: the tile is two pieces, of the largest power of two below D columns and of what holds the rest, instead of
    one whose width is the next power of two. num_ctas: multiprocessors that share a tile, as a cluster of thread
    blocks, each with as many warps.
    """

    block_n: int
    num_warps: int
    programs_per_sm: int
    num_stages: int = 1
    split: bool = False
    num_ctas: int = 1


@dataclass(frozen=True)
class Entry:
    """A launch configuration and where it comes from.

    machine: the GPU as torch names it, or `ANY_MACHINE`. measured: ISO date, empty where it was not measured; rows for
    any machine are measured on `REFERENCE_MACHINE`.
    kernel: "onepass", which "hessian_product" shares, or "hessian". storage and compute: names of torch dtypes.
    fraction: of the read bandwidth measured in the same run.
    """

    machine: str
    measured: str
    kernel: str
    storage: str
    compute: str
    D: int
    launch: LaunchConfig
    fraction: float | None = None


_LAUNCH_FIELDS = [field.name for field in dataclasses.fields(LaunchConfig)]
_FIELDS = ["machine", "measured", "kernel", "storage", "compute", "D", *_LAUNCH_FIELDS, "fraction"]


def read_table(path: Path = TABLE) -> list[Entry]:
    """Return the table's rows, in the file's order.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a table; the message names the line.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != _FIELDS:
            raise ValueError(f"{path} begins with the columns {reader.fieldnames}; must be {_FIELDS}")
        entries = []
        for row in reader:
            try:
                entries.append(_entry(row))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}; correct or delete the line") from error
        return entries


def write_table(entries: Iterable[Entry], path: Path = TABLE) -> None:
    """Replace the table; an interruption leaves the old one."""
    draft = path.with_suffix(".draft")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FIELDS)
        for entry in entries:
            launch = [int(getattr(entry.launch, name)) for name in _LAUNCH_FIELDS]
            fraction = "" if entry.fraction is None else f"{entry.fraction:.3f}"
            key = (entry.machine, entry.measured, entry.kernel, entry.storage, entry.compute, entry.D)
            writer.writerow([*key, *launch, fraction])
    draft.replace(path)


@functools.cache
def packaged() -> tuple[Entry, ...]:
    """Return the rows of the table that comes with the package, read once."""
    return tuple(read_table())


def _entry(row: dict[str, str]) -> Entry:
    block_n, num_warps, programs, stages, split, num_ctas = (int(row[name]) for name in _LAUNCH_FIELDS)
    launch = LaunchConfig(block_n, num_warps, programs, stages, split == 1, num_ctas)
    for name in ("block_n", "num_ctas"):
        value = getattr(launch, name)
        if value < 1 or value & (value - 1):
            raise ValueError(f"{name} is {value}; must be a power of two")
    if num_ctas > 1 and row["machine"] == ANY_MACHINE:
        raise ValueError(f"num_ctas is {num_ctas} for any machine; must be 1, or the machine one that it was tried on")
    machine, measured, kernel, storage, compute, D = (row[name] for name in _FIELDS[:6])
    fraction = float(row["fraction"]) if row["fraction"] else None
    return Entry(machine, measured, kernel, storage, compute, int(D), launch, fraction)


KernelName = Literal["onepass", "hessian_product", "hessian"]

REGISTER_ROW_BYTES = 64 << 10
"""Widest row, in the arithmetic's dtype, that fits a streaming multiprocessor's registers (256 KB) next to the weights
and the gradient: 16384 columns in float32, 8192 in float64."""
TILES_A_PROGRAM = 256
"""Tiles that a program walks at most: each adds to the same float32 partial sums, whose rounding grows with them."""

# None of the following has been searched for; rows of 20,000 columns reach 0.99 of what two reads can (H100).
WIDE = LaunchConfig(block_n=8, num_warps=8, programs_per_sm=4)
"""For the kernels that walk a row in column blocks of `WIDE_BLOCK_D`: 32 KB of float32 a tile, on their way at once."""
WIDE_BLOCK_D = 1024
"""Columns at once where a row does not stay in registers."""
_FULL_TILE = 16_384
"""Numbers of a tile that leave no registers for a centre."""
_WEIGHT_BYTES = 128
"""Bytes of weights in a thread's registers that leave no room for a centre as well."""
REDUCE = LaunchConfig(block_n=256, num_warps=8, programs_per_sm=1)
"""For the second stage: partials at once. On an H100 1,848 x 28 of them take 20 us; 41 with 64 rows and 4 warps."""
REDUCE_BLOCK_D = 32
"""Columns that a program of the second stage sums."""


def launch_config(
    kernel: KernelName, D: int, storage: torch.dtype, compute: torch.dtype, device: torch.device
) -> LaunchConfig:
    """Return the table's entry for the nearest column count that needs as wide a tile, or else the next wider one.

    Entries of this machine come first; where it has none for a tile of this width, those of any machine serve.
    """
    family = table_dtypes(storage, compute)
    shared = "onepass" if kernel == "hessian_product" else kernel
    return _nearest(shared, D, *family, machine_name(device))


def cluster_config(D: int, storage: torch.dtype, compute: torch.dtype, device: torch.device) -> LaunchConfig | None:
    """Return the table's entry for rows of D columns that only a cluster's registers hold; None without one.

    Only what was measured on a machine of this very name counts.
    """
    key = (machine_name(device), "onepass", *table_dtypes(storage, compute), block_width(D))
    fitting = [
        entry
        for entry in packaged()
        if (entry.machine, entry.kernel, entry.storage, entry.compute, block_width(entry.D)) == key
        and entry.launch.num_ctas > 1
    ]
    return min(fitting, key=lambda entry: abs(math.log(entry.D / D))).launch if fitting else None


def fitted(config: LaunchConfig, n: int, device: torch.device) -> LaunchConfig:
    """Return the configuration with tiles so low that n rows make a tile for every multiprocessor, but no thread has
    none."""
    block_n = config.block_n
    while block_n > 32 * config.num_warps and -(-n // (block_n // 2)) <= multiprocessors(device):
        block_n //= 2
    return dataclasses.replace(config, block_n=block_n)


def table_dtypes(storage: torch.dtype, compute: torch.dtype) -> tuple[str, str]:
    """Return (storage, compute) under which the table lists a pair of dtypes: what counts is the width of each."""
    if compute == torch.float64:
        return "float64", "float64"
    return ("bfloat16" if storage.itemsize == 2 else "float32"), "float32"


@functools.cache
def _nearest(kernel: str, D: int, storage: str, compute: str, machine: str) -> LaunchConfig:
    fitting = [
        entry
        for entry in packaged()
        if (entry.kernel, entry.storage, entry.compute) == (kernel, storage, compute)
        and entry.machine in (machine, ANY_MACHINE)
        and entry.launch.num_ctas == 1
        and block_width(entry.D) >= block_width(D)
    ]
    if not fitting:
        raise ValueError(
            f"{D} columns in {compute} arithmetic are more than the launch table lists for the kernel {kernel};"
            " pass launch="
        )
    best = min(
        fitting, key=lambda entry: (block_width(entry.D), entry.machine == ANY_MACHINE, abs(math.log(entry.D / D)))
    )
    return best.launch


@functools.cache
def machine_name(device: torch.device) -> str:
    """Return a GPU's name as torch gives it; "interpreter" on a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def block_width(D: int) -> int:
    """Return the smallest power of two that holds D columns, which is how wide a tile of one piece must be."""
    return 1 << (D - 1).bit_length()


def piece_widths(D: int, config: LaunchConfig) -> tuple[int, int]:
    """Return the widths of a tile's two pieces, each a power of two; the second is 0 unless the configuration splits
    the tile."""
    width = block_width(D)
    if not config.split or width == D:
        return width, 0
    return width // 2, block_width(D - width // 2)


def vector_length(X: torch.Tensor) -> int:
    """Return how many neighbours in X a thread can load at once: up to 16 bytes, as far as its rows (or columns) are
    aligned."""
    vector = 16 // X.element_size()
    longest = X.stride(1 if is_column_major(X) else 0)
    while X.shape[1] > 1 and longest % vector:
        vector //= 2
    return vector


def row_group(width: int, config: LaunchConfig, X: torch.Tensor, *, chosen_rows: bool = False) -> tuple[int, int]:
    """Return (threads that hold a column's rows, consecutive rows of each) in a piece of this width, as Triton lays it
    out.

    Another guess would be as right, but slower. `chosen_rows` are not neighbours in memory.
    """
    threads = 32 * config.num_warps
    if is_column_major(X):
        group = min(config.block_n, threads)
        return group, 1 if chosen_rows else min(vector_length(X), config.block_n // group)
    vector = min(vector_length(X), max(width, 1))
    return max(1, min(config.block_n, threads * vector // max(width, 1))), 1


def is_column_major(X: torch.Tensor) -> bool:
    """Return whether the columns of X [N, D] lie contiguously, and its rows do not or are a single number."""
    return X.stride(0) == 1 if X.shape[1] == 1 else X.stride(1) != 1


def pipeline_stages(config: LaunchConfig, X: torch.Tensor) -> int:
    """Return the configuration's stages, or 1 where rows begin at odd multiples of 2 bytes: copies ahead move at least
    4."""
    return config.num_stages if vector_length(X) * X.element_size() >= 4 else 1


def with_room(config: LaunchConfig, D: int, compute: torch.dtype, *, centred: bool, border: bool) -> LaunchConfig:
    """Return the configuration with room in the registers for a centre of D columns, the sums of a border, or both.

    Half the rows where tiles fill the registers, and twice the warps where the weights do. Found by compiling for an
    H100: as they were, 2,000 and 8,192 columns spilled 24 to 88 bytes a thread beside a centre. The float64 rows of the
    table leave room for one of the two.
    """
    for _ in range(centred + border - (compute == torch.float64)):
        if config.block_n * block_width(D) >= _FULL_TILE and config.block_n > 1:
            config = dataclasses.replace(config, block_n=config.block_n // 2)
        elif block_width(D) * compute.itemsize >= _WEIGHT_BYTES * 32 * config.num_warps:
            config = dataclasses.replace(
                config, num_warps=2 * config.num_warps, programs_per_sm=max(1, config.programs_per_sm // 2)
            )
    return config


def fits_registers(
    D: int, compute: torch.dtype, *, centred: bool = False, border: bool = False, num_ctas: int = 1
) -> bool:
    """Return whether a row can stay in the registers of so many multiprocessors between the logit and the gradient, and
    with it the columns' centre and the sums of a border, each of which takes as many."""
    return D * compute.itemsize * (1 + centred + border) <= REGISTER_ROW_BYTES * num_ctas


def grid_size(n: int, config: LaunchConfig, device: torch.device) -> tuple[int, int]:
    """Return (tiles, programs) that cover n rows: as many programs as fit the device at once, or a multiple of that."""
    tiles = -(-n // config.block_n)
    resident = max(1, config.programs_per_sm * multiprocessors(device) // config.num_ctas)
    waves = -(-tiles // (resident * TILES_A_PROGRAM))
    return tiles, min(tiles, resident * waves)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of streaming multiprocessors of a GPU; 2 for Triton's interpreter, so that small tests have
    several programs."""
    if device.type == "cpu":
        return 2
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@functools.cache
def has_tf32(device: torch.device) -> bool:
    """Return whether tiles of float32 can be multiplied as TF32: by NVIDIA's units, from compute capability 8.0 on."""
    return device.type == "cpu" or (torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0))
