"""Devices and their memory: what is free, and how much of X is cast at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from . import machine
from .errors import UserError

_CAST_VALUES = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Values that are cast at a time; on a CPU as many as a cache holds."""


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


def device_free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA device, or of the machine, in bytes."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return machine.free_bytes()
