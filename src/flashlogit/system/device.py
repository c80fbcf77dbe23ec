"""From the name of a device in the settings to the device."""

from __future__ import annotations

import torch

from .errors import UserError


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
        raise UserError("must be 'auto', 'cpu', 'cuda' or 'cuda:N'", setting="device", value=name)
    if device.type == "cpu":
        return torch.device("cpu")
    index = device.index or 0
    if index >= count:
        problem = f"torch sees {count or 'no'} CUDA devices"
        raise UserError(problem, setting="device", value=str(name), remedy="set device to 'auto' or 'cpu'")
    return torch.device("cuda", index)
