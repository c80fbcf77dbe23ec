"""The stage "compile": every kernel of the later stages, compiled by a pool of processes into Triton's cache.

Compiling takes 1 to 3 seconds a kernel, on one core; the GPU's time is too dear to wait for it. Each worker makes the
calls on few rows, so that what is compiled is what will be launched. What the kernels take of a multiprocessor is held
against the driver's own answer.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import ctypes
import multiprocessing
import os
import time
from collections.abc import Sequence
from typing import Any

import torch

from .bench import Bench, Record, reason
from .calls import Call, make_data, packed

_MOST_WORKERS = 14


def compile_stage(bench: Bench, record: Record) -> None:
    """Compile what the stages correctness, host and passes launch, and the fits."""
    from .correctness import calls as checked
    from .fits import warm_fits
    from .passes import calls as timed

    tasks: list[Any] = list(dict.fromkeys([*warm_fits(bench.tiny), *timed(bench.tiny), *checked(bench.tiny)]))
    record["calls"] = compile_all(bench, tasks)
    found = [kernel for entry in record["calls"] for kernel in entry.get("kernels", ())]
    record["kernels"] = len(found)
    record["spilling"] = sum(bool(kernel["spilled"]) for kernel in found)
    record["clamped"] = sum(
        kernel["asked"] is not None and kernel["fitting"] < kernel["asked"] for kernel in found
    )
    record["disagreeing_with_the_driver"] = sum(
        kernel["driver"] is not None and kernel["driver"] != kernel["fitting"] for kernel in found
    )


def compile_all(bench: Bench, tasks: Sequence[Any]) -> list[Record]:
    """What each task, a `Call` or a `WarmFit`, compiled, in processes of their own and as far as time allows.

    In the interpreter there is nothing to compile, and they run here.
    """
    if bench.tiny:
        return [compile_task(task, str(bench.device)) for task in tasks]
    workers = max(1, min(_MOST_WORKERS, (os.cpu_count() or 4) - 2, len(tasks)))
    found: list[Record] = []
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        waiting = [pool.submit(compile_task, task, str(bench.device)) for task in tasks]
        finished = concurrent.futures.as_completed(waiting, timeout=max(1.0, bench.left() - 5))
        found.extend(done.result() for done in finished)
    except (TimeoutError, concurrent.futures.process.BrokenProcessPool) as error:
        bench.say(
            f"  {len(found)} of {len(tasks)} calls compiled, then: {reason(error)}; the others compile later"
        )
    finally:
        # Without the running ones: they would be waited for.
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
    return found


def compile_task(task: Any, device_name: str) -> Record:
    """Make a task's calls on few rows: what that compiled, and how long it took."""
    began = time.perf_counter()
    entry: Record = {"name": task.name, "launch": str(getattr(task, "launch", None))}
    try:
        device = torch.device(device_name)
        with Compiled() as compiled:
            if isinstance(task, Call):
                import flashlogit_kernels

                N = 16 + task.odd if device.type == "cpu" else task.few_rows()
                packed(task, make_data(task, N, device), flashlogit_kernels)()
            else:
                task.run(device)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            entry["kernels"] = compiled.found(device, _asked(task, device))
    except Exception as error:
        entry["error"] = reason(error)
    return entry | {"seconds": time.perf_counter() - began}


class Compiled:
    """Keeps the kernels that are compiled while it is entered, with the arguments that they were compiled for."""

    def __init__(self) -> None:
        self._kernels: dict[int, tuple[str, Any]] = {}

    def __enter__(self) -> Compiled:
        from flashlogit_kernels.gpu import _bce, _columns, _hessian

        self._jitted = [
            kernel
            for kernel in (
                _bce.onepass_kernel,
                _bce.rows_kernel,
                _columns.column_sums_kernel,
                _hessian.hessian_kernel,
            )
            if hasattr(kernel, "device_caches")
        ]
        for kernel in self._jitted:
            kernel.run = self._keeping(kernel)
        return self

    def __exit__(self, *exception: object) -> None:
        for kernel in self._jitted:
            del kernel.run

    def _keeping(self, kernel: Any) -> Any:
        run = type(kernel).run

        def keep(*args: Any, **options: Any) -> Any:
            compiled = run(kernel, *args, **options)
            self._kernels[id(compiled)] = (kernel.__name__, compiled)
            return compiled

        return keep

    def found(self, device: torch.device, asked: int | None) -> list[Record]:
        """Registers, spills, shared memory, and programs of a multiprocessor: asked for, fitting, and by the driver."""
        from flashlogit_kernels.gpu.resources import Resources, device_limits, resident_programs

        result = []
        for name, compiled in self._kernels.values():
            warps, shared = compiled.metadata.num_warps, compiled.metadata.shared
            resources = Resources(compiled.n_regs, shared, compiled.n_spills)
            result.append(
                {
                    "kernel": name,
                    "registers": compiled.n_regs,
                    "spilled": compiled.n_spills,
                    "shared": shared,
                    "warps": warps,
                    "asked": asked,
                    "fitting": resident_programs(resources, warps, device_limits(device)),
                    "driver": _driver_says(compiled.function, 32 * warps, shared),
                }
            )
        return result


def _asked(task: Any, device: torch.device) -> int | None:
    """Programs of a multiprocessor that a call's configuration asks for, before it is fitted to what was compiled."""
    if not isinstance(task, Call):
        return None
    if task.launch is not None:
        return task.launch.programs_per_sm
    from flashlogit_kernels.gpu.launch import fits_registers, launch_config

    compute = getattr(torch, task.compute)
    if task.function == "bce_rows" or not fits_registers(task.D, compute, centred="center" in task.options):
        return None
    kernel: Any = "hessian" if task.function == "bce_hessian" and task.compute == "float32" else "onepass"
    return launch_config(kernel, task.D, getattr(torch, task.storage), compute, device).programs_per_sm


def _driver_says(function: int, threads: int, shared: int) -> int | None:
    """Programs that a multiprocessor holds by the driver's own calculator; None where it cannot be asked."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        failed = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(
            ctypes.byref(count), ctypes.c_void_p(function), ctypes.c_int(threads), ctypes.c_size_t(shared)
        )
    except OSError:
        return None
    return None if failed else count.value
