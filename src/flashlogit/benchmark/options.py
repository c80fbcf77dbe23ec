"""What the programs may be asked for, checked before any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..system.errors import UserError
from .machine import memory_bytes
from .problem import dtype_name

COLUMNS = (1, 4, 10, 28, 37, 50, 100, 256, 300, 513, 784, 1024, 2000, 4096, 8192, 16384, 32768)
QUICK_COLUMNS = (1, 28, 256, 1024)
DTYPES = ("float32", "bfloat16", "float16", "float64")
_MOST_COLUMNS = 1 << 20
_MEMORY_SHARE = 0.25
"""Of a device's memory that X may take: ceilings and products need temporaries as large as X."""


@dataclass(frozen=True)
class Scale:
    """Size of X in units of 10^9 bytes, storage dtypes, and timed rounds on one kind of device."""

    gigabytes: float
    dtypes: tuple[str, ...]
    repeats: int


_SCALES = {
    ("cuda", False): Scale(2.0, ("float32", "bfloat16"), 30),
    ("cuda", True): Scale(0.5, ("float32", "bfloat16"), 10),
    ("cpu", False): Scale(0.2, ("float32",), 11),
    ("cpu", True): Scale(0.1, ("float32",), 5),
}
"""Larger than any last-level cache that one such device is likely to have for itself."""


@dataclass(frozen=True)
class KernelOptions:
    """A run of `kernel`: `scales` by device, in the order of measuring."""

    scales: dict[str, Scale]
    columns: tuple[int, ...]
    quick: bool
    out: Path | None
    picture: Path | None

    def to_json(self) -> dict[str, Any]:
        """What was measured, without the files' places."""
        return {
            "columns": list(self.columns),
            "quick": self.quick,
            "devices": {
                device: {
                    "gigabytes": scale.gigabytes,
                    "dtypes": list(scale.dtypes),
                    "repeats": scale.repeats,
                }
                for device, scale in self.scales.items()
            },
        }


def kernel_options(
    *,
    devices: Sequence[str] | None,
    columns: Sequence[int] | None,
    dtypes: Sequence[str] | None,
    gigabytes: float | None,
    repeats: int | None,
    quick: bool,
    out: Path | None,
    picture: Path | None,
) -> KernelOptions:
    """Defaults filled in and everything checked.

    Raises:
        UserError: a value that cannot be used, a device that is not there, or a file that cannot be written.
    """
    chosen = check_devices(devices)
    D = check_columns(columns or (QUICK_COLUMNS if quick else COLUMNS))
    check_dtypes(dtypes or ())
    check_repeats(repeats)
    for option, path in (("--out", out), ("--picture", picture)):
        check_writable(option, path)
    check_picture(out, picture)
    scales = {}
    for device in chosen:
        default = _SCALES[device, quick]
        size = default.gigabytes if gigabytes is None else gigabytes
        check_gigabytes(size, device)
        scales[device] = Scale(
            size, tuple(dict.fromkeys(dtypes or default.dtypes)), repeats or default.repeats
        )
    return KernelOptions(scales, D, quick, out, picture)


def check_devices(devices: Sequence[str] | None) -> tuple[str, ...]:
    """ "cuda" and "cpu" as asked for, or all that there are; the GPU first."""
    for device in devices or ():
        if device not in ("cuda", "cpu"):
            raise UserError(f"--devices is {device!r}; must be cuda, cpu or both")
    there = torch.cuda.is_available()
    if devices and "cuda" in devices and not there:
        raise UserError(
            "--devices is cuda, but torch sees no CUDA device; use --devices cpu, or a GPU build of torch"
        )
    return tuple(d for d in ("cuda", "cpu") if (d in devices if devices else there or d == "cpu"))


def check_columns(columns: Sequence[int]) -> tuple[int, ...]:
    """Column counts in increasing order, each once."""
    for D in columns:
        if not 1 <= D <= _MOST_COLUMNS:
            raise UserError(f"--columns is {D}; must be from 1 to {_MOST_COLUMNS:,}: try --columns 28 300")
    return tuple(sorted(set(columns)))


def check_dtypes(dtypes: Sequence[str]) -> None:
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise UserError(f"--dtypes is {dtype!r}; must be some of {', '.join(DTYPES)}")


def check_repeats(repeats: int | None) -> None:
    if repeats is not None and not 1 <= repeats <= 100_000:
        raise UserError(f"--repeats is {repeats}; must be from 1 to 100,000: 10 give a stable median")


def check_gigabytes(gigabytes: float, device: str) -> None:
    """A size that leaves room for temporaries in the device's memory."""
    if not (math.isfinite(gigabytes) and gigabytes > 0):
        raise UserError(f"--gigabytes is {gigabytes:g}; must be a number above 0: 2 suits a GPU, 0.2 a CPU")
    memory = memory_bytes(torch.device(device))
    if memory is not None and gigabytes * 1e9 > memory * _MEMORY_SHARE:
        raise UserError(
            f"--gigabytes is {gigabytes:g}; must be at most {memory * _MEMORY_SHARE / 1e9:.3g} for {device}, a quarter"
            " of its memory, as temporaries are as large as the data"
        )


def check_writable(option: str, path: Path | None) -> None:
    """A file whose folder is there, and which can be put into it."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise UserError(
            f"{option} is {path}, but {path.parent} is not a folder; make it, or name another file"
        )
    if path.is_dir():
        raise UserError(f"{option} is {path}, which is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{option} is {path}, but {path.parent} cannot be written; name a file elsewhere")


def check_picture(out: Path | None, picture: Path | None) -> None:
    """A PNG, and another file than the JSON."""
    if picture is not None and picture.suffix.lower() != ".png":
        raise UserError(f"--picture is {picture}; the picture is a PNG: use a name that ends in .png")
    if out is not None and out == picture:
        raise UserError(f"--out and --picture are both {out}; name two files")


def torch_dtype(name: str) -> torch.dtype:
    """torch.float32 for float32."""
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    assert dtype_name(found) == name
    return found
