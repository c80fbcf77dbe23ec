"""Devices and their memory: what is free, and how much of X is cast at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .errors import UserError

_CAST_VALUES = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Values that are cast at a time; on a CPU as many as a cache holds."""
_SHARE = 0.9
"""Share of the free memory that one thing may take."""
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""Files of a control group's limit and use, and the name in memory.stat of what it would give away first."""


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device that `name` means: "auto", "cpu", "cuda" or "cuda:N", or a torch device.

    Raises:
        UserError: another name, or a CUDA device that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    try:
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device is {name!r}; must be auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    index = device.index or 0
    if index >= count:
        problem = f"torch sees {count or 'no'} CUDA devices"
        raise UserError(problem, setting="device", value=str(name), remedy="set it to auto or cpu")
    return torch.device("cuda", index)


def cast_rows(X: Tensor) -> int:
    """Return how many rows of X [N, D] to cast to float64 at a time."""
    return max(1, _CAST_VALUES.get(X.device.type, 1 << 22) // X.shape[1])


def free_bytes(device: torch.device | None = None) -> int:
    """Return the free memory of a CUDA device, or what this program may still take of the machine's, in bytes.

    That is no more than the limits of its control groups leave, which containers and batch systems set.
    """
    if device is not None and device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return max(0, min([_available(), *_left_by_groups()]))


def require_free(needed: float, what: str, remedy: str, device: torch.device | None = None) -> None:
    """Raise UserError, which begins with `what` and ends with `remedy`, where `needed` bytes are more than 90 % of the
    free memory: a CPU gives more than it has, and ends the program when that is used."""
    limit = _SHARE * free_bytes(device)
    if needed > limit:
        bound = f"{_amount(limit)}, {_SHARE:.0%} of what is free, are the bound"
        raise UserError(f"{what} takes {_amount(needed)} of memory, and {bound}", remedy=remedy)


def _amount(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _available() -> int:
    """Return what the machine can give without swapping, in bytes; all of it on another system than Linux."""
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1024 * _field(_MEMORY, "MemAvailable:") or everything


def _left_by_groups() -> Iterator[int]:
    """Yield the bytes that each limited control group of this process has left, in either version of Linux's files."""
    for line in _lines(_OWN_GROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        limit, used, cached = _VERSION_1 if controllers else _VERSION_2
        # A container sees its own group as the root, whatever path it has outside.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            most = "".join(_lines(folder / limit))
            if folder.is_relative_to(root) and most.isdecimal():
                in_use = int("".join(_lines(folder / used)) or 0)
                yield int(most) - in_use + _field(folder / "memory.stat", cached)


def _field(file: Path, name: str) -> int:
    """Return the number after a name that begins a line; 0 where there is none."""
    fields = (line.split() for line in _lines(file))
    return next((int(words[1]) for words in fields if words[0] == name), 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
