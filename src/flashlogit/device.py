"""From the name of a device in the settings to the device."""

from __future__ import annotations

import torch

from .errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device that `name` means: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: a CUDA device that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    _, _, number = name.partition(":")
    index = int(number or 0)
    if index >= count:
        raise UserError(
            f"device is {name!r}, but torch sees {count or 'no'} CUDA devices; set device to 'auto' or 'cpu'"
        )
    return torch.device("cuda", index)
