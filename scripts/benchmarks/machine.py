"""The machine and its software: enough to compare runs, and nothing that tells one machine from its like."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "triton", "numpy", "scikit-learn", "scipy", "jax", "optax", "cupy-cuda13x", "pytest")


def facts(device: torch.device, *packages: str) -> dict[str, Any]:
    """Return date (UTC), versions, a C compiler, cores and the device."""
    versions = {}
    for package in (*PACKAGES, *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    compiler = any(shutil.which(name) for name in (os.environ.get("CC") or "gcc", "clang"))
    found = {"date": date, "python": platform.python_version(), "versions": versions, "c_compiler": compiler}
    return found | {"cores": os.cpu_count(), "device": device_of(device), "smi": _smi()}


def device_of(device: torch.device) -> dict[str, Any]:
    """Describe a GPU as torch sees it, or a CPU, on which Triton's interpreter stands in for a GPU."""
    if device.type == "cpu":
        cpuinfo = Path("/proc/cpuinfo")
        listed = cpuinfo.read_text() if cpuinfo.exists() else ""
        model = re.search(r"^model name\s*:\s*(.+)$", listed, re.MULTILINE)
        name = model.group(1) if model else platform.machine()
        return {"name": "interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else name}
    gpu = torch.cuda.get_device_properties(device)
    found = {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}"}
    found |= {"multiprocessors": gpu.multi_processor_count, "l2_bytes": gpu.L2_cache_size}
    return found | {"memory_bytes": gpu.total_memory, "cuda": torch.version.cuda}


def _smi() -> str:
    """Return driver, clocks, power and temperature as nvidia-smi tells them, in a line; empty without it."""
    query = "--query-gpu=driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.partition("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return ""
