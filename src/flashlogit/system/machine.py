"""The machine's memory: what is free of it, and the error where something would not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

_SHARE = 0.9
"""Share of the free memory that one thing may take."""
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""Files of a control group's limit and use, and the name in memory.stat of what it would give away first."""


def free_bytes() -> int:
    """Return what this program may still take of the machine's memory, in bytes.

    That is no more than the limits of its control groups leave, which containers and batch systems set.
    """
    return max(0, min([_available(), *_left_by_groups()]))


def require_free(needed: float, what: str, remedy: str, free: int | None = None) -> None:
    """Raise UserError, which begins with `what` and ends with `remedy`, where `needed` bytes are more than 90 % of the
    `free` ones of a device, or of the machine: it gives more than it has, and ends the program when that is used."""
    limit = _SHARE * (free_bytes() if free is None else free)
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
