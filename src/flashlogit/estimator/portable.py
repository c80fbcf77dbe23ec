"""State of an estimator on another device, or where there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from .arrays import is_device_array, numpy_of


def moved(value: Any, device: torch.device) -> Any:
    """Tensors within dataclasses, dicts, lists and tuples on that device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: moved(getattr(value, f.name), device) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(item, device) for item in value)
    return value


def on_host(value: Any) -> Any:
    """A value that can be loaded on a machine without a GPU."""
    if isinstance(value, Tensor) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return moved(value, torch.device("cpu"))
    if is_device_array(value) and type(value).__module__.startswith("cupy"):
        return numpy_of(value)
    return value
