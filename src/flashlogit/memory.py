"""Memory that is free, and how much of X is cast at a time."""

from __future__ import annotations

import os

import torch
from torch import Tensor

_CAST_VALUES = {"cpu": 1 << 17, "cuda": 1 << 22}
"""On a CPU as many as a cache holds."""


def cast_rows(X: Tensor) -> int:
    """Rows of X [N, D] to cast to float64 at a time."""
    return max(1, _CAST_VALUES.get(X.device.type, 1 << 22) // X.shape[1])


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of a CUDA device, or what programs may still take of the machine's, in bytes."""
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # another system than Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
