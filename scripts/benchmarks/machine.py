"""The stage "machine": versions, the device, a C compiler, and the ceilings of its memory."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess

import torch

from .bench import Bench, Record, reason

_PACKAGES = ("torch", "triton", "numpy", "scikit-learn", "scipy", "jax", "optax", "cupy-cuda13x", "pytest")


def machine(bench: Bench, record: Record) -> None:
    """Fill in what there is and how fast it reads and copies."""
    record["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    record["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            record.setdefault("versions", {})[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    record["c_compiler"] = any(shutil.which(name) for name in (os.environ.get("CC") or "gcc", "clang"))
    record["cores"] = os.cpu_count()
    record["device"] = device_of(bench.device)
    record["smi"] = _smi()
    bench.clock.warm()
    X = bench.numbers(torch.float32)
    room, total = torch.empty_like(X), torch.empty((), device=bench.device)
    found = bench.clock(
        {"read": lambda: torch.sum(X, dim=0, out=total), "copy": lambda: room.copy_(X)}, bench.rounds
    )
    nbytes = X.numel() * X.element_size()
    record["ceilings"] = {
        "read_tb_s": nbytes / found["read"].ms / 1e9,
        "copy_tb_s": 2 * nbytes / found["copy"].ms / 1e9,
        "method": found["read"].method,
        "late": found["read"].late,
    }


def device_of(device: torch.device) -> Record:
    """A GPU as torch sees it; the interpreter on a CPU."""
    if device.type == "cpu":
        return {"name": "interpreter"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
    }


def _smi() -> str:
    """Driver, clocks, power and temperature as nvidia-smi tells them, in a line."""
    query = "driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return reason(error)
    return told.stdout.strip().splitlines()[0]
