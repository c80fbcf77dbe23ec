"""What a report says about the machine and the software: enough to compare runs, nothing that names the machine."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Processor, memory, and the GPU where there is one. Bytes are binary, as the system reports them."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_bytes": memory_bytes(torch.device("cpu")),
        "gpu": _gpu() if torch.cuda.is_available() else None,
    }


def describe_software(*packages: str) -> dict[str, str | None]:
    """Versions of what computes, and of `packages` too; None for what is not installed."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in ("flashlogit", "torch", "triton", *packages)},
        "system": f"{platform.system()} {platform.machine()}",
    }


def memory_bytes(device: torch.device) -> int | None:
    """All memory of the device; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def name_of(machine: dict[str, Any], device: str) -> str:
    """What to call the machine in a sentence about one of its devices ("cuda" or "cpu")."""
    if device == "cuda" and machine.get("gpu"):
        return str(machine["gpu"]["name"])
    return f"{machine['cpu']}, {machine['threads']} threads"


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda or torch.version.hip,
        "driver": _driver(),
    }


def _driver(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", _text(file))
    return found.group(1) if found else None


def _cpu_model(file: Path = Path("/proc/cpuinfo")) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(file), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
