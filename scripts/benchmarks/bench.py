"""What every stage of `device` gets, and the pool of processes that compiles what the stages launch.

Compiling takes 1 to 3 seconds a kernel, on one core; the GPU's time is too dear to wait for it. Each worker makes the
calls on few rows, so that what is compiled is what will be launched. What the kernels take of a multiprocessor is held
against the driver's own answer.
"""

import contextlib
import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import flashlogit_kernels
from flashlogit_kernels.gpu import _bce, _columns, _hessian
from flashlogit_kernels.gpu.arguments import has_clusters
from flashlogit_kernels.gpu.launch import LaunchConfig, cluster_config, fits_registers, launch_config
from flashlogit_kernels.gpu.resources import Resources, device_limits, resident_programs

from .clock import clock_of, synchronize
from .problems import Call, Table, dtype_of, make_problem, packed
from .report import Record, reason, row, say

_MOST_WORKERS = 14


class OutOfTime(BaseException):
    """A stage's deadline has passed: no error, and nothing that handles errors may stop it. What it found counts."""


class Bench:
    """One run of `device`.

    device: a GPU, or the CPU, where Triton's interpreter stands in for one and everything is `tiny`. record: what has
    been found, by stage. save: writes it to the file; called after what was expensive to find. columns: column counts
    to find launches for; all where there are none. bytes: of X where the bandwidth is measured. rounds: timed calls.
    """

    def __init__(self, device: torch.device, save: Callable[[], object] = lambda: None) -> None:
        self.device, self.clock, self.tiny, self.save = device, clock_of(device), device.type == "cpu", save
        self.record: Record = {}
        self.columns: Sequence[int] = ()
        self.bytes, self.rounds = (1 << 13, 1) if self.tiny else (2_000_000_000, 20)
        self.deadline = float("inf")
        self._buffers: dict[torch.dtype, torch.Tensor] = {}

    def left(self) -> float:
        """Return the seconds of the stage that are left."""
        return self.deadline - time.monotonic()

    def check_time(self, needed: float = 0.0) -> None:
        """Raise OutOfTime unless so many seconds are left."""
        if self.left() < needed:
            raise OutOfTime

    def add(self, records: list[Record], name: str, find: Callable[[], Record], needed: int = 1) -> Record:
        """Append what `find` finds under a name, or its error, and print it."""
        self.check_time(needed)
        found: Record = {"name": name}
        try:
            found |= find()
        except Exception as error:
            found["error"] = reason(error)
        records.append(found)
        say(row(found))
        return found

    def numbers(self, dtype: torch.dtype) -> torch.Tensor:
        """Return `bytes` of standard normal numbers, made once."""
        if dtype not in self._buffers:
            buffer = torch.empty(self.bytes // dtype.itemsize, dtype=dtype, device=self.device)
            for part in torch.split(buffer, 1 << 26):
                part.copy_(torch.randn(len(part), device=self.device))
            self._buffers[dtype] = buffer
        return self._buffers[dtype]

    def matrix(self, call: Call) -> torch.Tensor:
        """Return the X of a call as it has it, made of these numbers."""
        N, numbers = call.rows_of(self.bytes), self.numbers(dtype_of(call.storage))
        if "column_major" in call.options:
            return numbers[: N * call.D].view(call.D, N).t()
        return numbers[: N * call.stride].view(N, call.stride)[:, : call.D]

    def work(self, call: Call, N: int | None = None) -> Callable[[], torch.Tensor]:
        """Return what makes the call on N rows, or on as many as its X of `bytes` has."""
        X = self.matrix(call) if N is None else None
        return packed(call, make_problem(call, N or 0, self.device, X=X), flashlogit_kernels)

    def ceiling(self, nbytes: float, ms: float) -> float | None:
        """Return bytes over time as a share of what the device reads at most, or None where that was not measured."""
        read = self.record.get("machine", {}).get("ceilings", {}).get("read_tb_s")
        return nbytes / (ms * 1e9) / read if read else None


def compile_all(bench: Bench, tasks: Sequence[Call | Table]) -> list[Record]:
    """Return what each task compiled, in processes of their own and as far as time allows.

    In the interpreter there is nothing to compile, and they run here.
    """
    if bench.tiny:
        return [compile_task(task, bench.device) for task in tasks]
    workers = max(1, min(_MOST_WORKERS, (os.cpu_count() or 4) - 2, len(tasks)))
    found: list[Record] = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:  # which at its end stops what still runs
        finished = pool.imap_unordered(partial(compile_task, device=bench.device), tasks)
        try:
            while len(found) < len(tasks):
                found.append(finished.next(timeout=max(1.0, bench.left() - 5)))
        except multiprocessing.TimeoutError:
            say(f"  {len(found)} of {len(tasks)} compiled in time; the others compile later")
    return found


def compile_task(task: Call | Table, device: torch.device) -> Record:
    """Make a call, or the fits of a table, on few rows: what that compiled, and how long it took."""
    began = time.perf_counter()
    config = task.launch if isinstance(task, Call) else None
    entry: Record = {"name": task.name, "launch": str(config)}
    try:
        with keeping() as kept:
            if isinstance(task, Call):
                N = 16 + task.odd if device.type == "cpu" else task.few_rows()
                packed(task, make_problem(task, N, device), flashlogit_kernels)()
                config = config or table_launch(task, device)
            else:
                X, y = replace(task, N=min(task.N, 40_000)).make(device)
                for solver in task.solvers:
                    task.fit(solver, X, y)
            synchronize(device)
            asked = None if config is None else config.programs_per_sm
            entry["kernels"] = [described(*each, device, asked) for each in kept.values()]
    except Exception as error:
        entry["error"] = reason(error)
    return entry | {"seconds": time.perf_counter() - began}


@contextlib.contextmanager
def keeping() -> Iterator[dict[int, tuple[str, Any]]]:
    """Keep the kernels that Triton compiles or launches while it is entered, as compiled for their arguments."""
    kept: dict[int, tuple[str, Any]] = {}
    kernels = (_bce.onepass_kernel, _bce.rows_kernel, _columns.column_sums_kernel, _hessian.hessian_kernel)
    jitted: list[Any] = [kernel for kernel in kernels if hasattr(kernel, "device_caches")]

    def keep(kernel: Any, *args: Any, **options: Any) -> Any:
        compiled = type(kernel).run(kernel, *args, **options)
        kept[id(compiled)] = kernel.__name__, compiled
        return compiled

    for kernel in jitted:
        kernel.run = partial(keep, kernel)
    try:
        yield kept
    finally:
        for kernel in jitted:
            del kernel.run


def described(name: str, compiled: Any, device: torch.device, asked: int | None) -> Record:
    """Return what a kernel takes, and programs of a multiprocessor: asked for, fitting, and by the driver."""
    warps, needs = compiled.metadata.num_warps, Resources(compiled.n_regs, compiled.metadata.shared, compiled.n_spills)
    entry: Record = {"kernel": name, "registers": needs.registers, "spilled": needs.spilled, "shared": needs.shared}
    entry |= {"warps": warps, "asked": asked, "fitting": resident_programs(needs, warps, device_limits(device))}
    return entry | {"driver": _driver_says(compiled.function, 32 * warps, needs.shared)}


def table_launch(call: Call, device: torch.device) -> LaunchConfig | None:
    """Return the table's configuration that the call takes, before it is fitted to what was compiled, if any."""
    compute = dtype_of(call.compute)
    shape = call.D, dtype_of(call.storage), compute, device
    if call.function == "bce_rows":
        return None
    if not fits_registers(call.D, compute, centred="center" in call.options, border="border" in call.options):
        return cluster_config(*shape) if has_clusters(device) else None
    hessian = call.function == "bce_hessian" and call.compute == "float32"
    return launch_config("hessian" if hessian else "onepass", *shape)


def _driver_says(function: int, threads: int, shared: int) -> int | None:
    """Return the programs that a multiprocessor holds by the driver's own calculator; None where it does not tell."""
    count = ctypes.c_int()
    asked = ctypes.byref(count), ctypes.c_void_p(function), ctypes.c_int(threads), ctypes.c_size_t(shared)
    failed = ctypes.CDLL("libcuda.so.1").cuOccupancyMaxActiveBlocksPerMultiprocessor(*asked)
    return None if failed else count.value
