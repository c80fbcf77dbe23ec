"""The launch table: a CSV file with one row for each machine, kernel, dtype and column count.

`launch.launch_config` reads it, `scripts/benchmark.py device --update-table` adds rows to it.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("launch_table.csv")
ANY_MACHINE = "any"
"""Machine of the rows that are used where a machine has none of its own."""
REFERENCE_MACHINE = "NVIDIA H100 80GB HBM3"
"""The GPU on which rows for any machine are measured."""


@dataclass(frozen=True)
class LaunchConfig:
    """Rows per tile, warps per program, programs per streaming multiprocessor, and software-pipelining depth.

    split: the tile is two pieces, of the largest power of two below D columns and of what holds the rest, instead of
    one whose width is the next power of two.
    """

    block_n: int
    num_warps: int
    programs_per_sm: int
    num_stages: int = 1
    split: bool = False


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


def read(path: Path = TABLE) -> list[Entry]:
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


def write(entries: Iterable[Entry], path: Path = TABLE) -> None:
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
    return tuple(read())


def _entry(row: dict[str, str]) -> Entry:
    block_n, num_warps, programs, stages, split = (int(row[name]) for name in _LAUNCH_FIELDS)
    launch = LaunchConfig(block_n, num_warps, programs, stages, split == 1)
    if launch.block_n < 1 or launch.block_n & (launch.block_n - 1):
        raise ValueError(f"block_n is {launch.block_n}; must be a power of two")
    machine, measured, kernel, storage, compute, D = (row[name] for name in _FIELDS[:6])
    fraction = float(row["fraction"]) if row["fraction"] else None
    return Entry(machine, measured, kernel, storage, compute, int(D), launch, fraction)
