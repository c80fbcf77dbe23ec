"""Memory that is free, and how much of X is cast at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .errors import UserError

_CAST_VALUES = {"cpu": 1 << 17, "cuda": 1 << 22}
"""On a CPU as many as a cache holds."""
_SHARE = 0.9
"""Share of the free memory that one thing may take."""
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")


def cast_rows(X: Tensor) -> int:
    """Rows of X [N, D] to cast to float64 at a time."""
    return max(1, _CAST_VALUES.get(X.device.type, 1 << 22) // X.shape[1])


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of a CUDA device, or what this program may still take of the machine's, in bytes: no more than the
    limits of its control groups leave, which containers and batch systems set."""
    if device is not None and device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return max(0, min([_available(), *_left_by_groups()]))


def require_free(needed: float, what: str, remedy: str, device: torch.device | None = None) -> None:
    """Raise UserError, which begins with `what` and ends with `remedy`, where `needed` bytes are more than 90 % of the
    free memory: a CPU gives more than it has, and ends the program when that is used."""
    limit = _SHARE * free_bytes(device)
    if needed > limit:
        raise UserError(
            f"{what} takes {_amount(needed)} of memory, and {_amount(limit)}, {_SHARE:.0%} of what is free, are the"
            f" bound; {remedy}"
        )


def _amount(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _available() -> int:
    """What the machine can give without swapping."""
    try:
        for line in _MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # another system than Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_by_groups() -> Iterator[int]:
    """What each limited control group that this process is in has left, in either version of Linux's interface."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used, cache = _GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit = _GROUPS / "memory", "memory.limit_in_bytes"
            used, cache = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        # A container sees its own group as the root, whatever path it has outside.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (most := _number(folder / limit)) is not None:
                yield most - (_number(folder / used) or 0) + _cached(folder / "memory.stat", cache)


def _number(file: Path) -> int | None:
    """The number in a file; None where there is no file, or no number, as for no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _cached(file: Path, name: str) -> int:
    """Bytes of files that a group's memory holds and would give away first."""
    try:
        counts = dict(line.split() for line in file.read_text().splitlines())
        return int(counts.get(name, 0))
    except (OSError, ValueError):
        return 0
