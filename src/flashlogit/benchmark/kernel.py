"""The program `kernel`: measure every device, dtype and shape, and leave a table, a picture and a JSON file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch

from .. import reference
from ..passes.backend import choose_backend
from ..system.errors import UserError
from .clock import Clock, CpuClock, is_out_of_memory
from .contenders import Contender, cpu_contenders, gpu_contenders
from .cuda_clock import cuda_clock
from .machine import describe_machine, describe_software
from .options import KernelOptions, Scale, torch_dtype
from .problem import Numbers, Problem, dtype_name, rows_for
from .report import Ceiling, Record, Report, write_report
from .shape import CeilingCalls, measure
from .step import make_step, measure_step
from .table import tables, wrapped

if TYPE_CHECKING:
    from .fit_report import FitReport

Say = Callable[[str], object]

METHOD = (
    "Random N(0, 1) data, X row-major. Every contender's answer is first held against float64, computed from X as it is"
    " stored; its error is relative to the largest sum of absolute terms. Wrong answers are not ranked. Then all"
    " contenders and the ceilings run in turn, again and again; the table gives the median, and the interquartile range"
    " as the spread. Bytes are those of X, once, and 4 a row for the label. The ceiling is `sum` over as many bytes as"
    " X, timed in the same turns. On a GPU: device events, the L2 cache refilled with other data before each call;"
    " calls below 0.2 ms are replayed from a CUDA graph. On a CPU: wall clock, each timed call directly after one of"
    " the same contender that is not timed. torch's ways run in the dtype of X, float32 products in full float32 (no"
    " TF32), and as whole-matrix products; eager's loss and gradient include the loss, and its Hessian is the matrix"
    " alone, without loss, gradient and intercept, which flashlogit's includes."
)


class Progress:
    """What has been measured so far."""

    def __init__(self, options: KernelOptions) -> None:
        self._options = options
        self._date = datetime.now(UTC).isoformat(timespec="seconds")
        self._machine, self._software = describe_machine(), describe_software()
        self.complete = False
        self.ceilings: list[Ceiling] = []
        self.results: list[Record] = []

    def report(self) -> Report:
        """All of it."""
        return Report(
            date=self._date,
            method=METHOD,
            machine=self._machine,
            software=self._software,
            settings=self._options.to_json(),
            complete=self.complete,
            ceilings=tuple(self.ceilings),
            results=tuple(self.results),
        )


def run_kernel(options: KernelOptions, *, say: Say = print, note: Say | None = None) -> Report:
    """Measure, print the tables and write the files; what was measured is kept when the run is cut short.

    Args:
        options: what to measure, and which files to write.
        say: gets the text; note: gets a line per shape while measuring (default: printed on stderr).

    Raises:
        KeyboardInterrupt: after Ctrl-C, with a sentence about what was kept.
    """
    progress = Progress(options)
    report = progress.report()
    say(wrapped(METHOD) + "\n")
    say(wrapped(heading(report)) + "\n")
    try:
        with full_float32():
            for device, scale in options.scales.items():
                _measure_device(_device(device), scale, options, progress, note or _note)
        progress.complete = True
    except KeyboardInterrupt as interruption:
        kept = _finish(progress.report(), options, say)
        raise KeyboardInterrupt(f"interrupted; {kept}") from interruption
    except BaseException:
        _finish(progress.report(), options, say)
        raise
    report = progress.report()
    say(_finish(report, options, say))
    return report


def _finish(report: Report, options: KernelOptions, say: Say) -> str:
    """Table, JSON and picture; says in half a sentence where they are."""
    if not report.results:
        return "nothing was measured"
    say(tables(report) + "\n")
    if options.out is not None:
        write_report(report, options.out)
    if options.picture is not None:
        from .picture import plot_report

        plot_report(report, options.picture)
    files = [str(path) for path in (options.out, options.picture) if path is not None]
    return (
        f"what was measured is in {' and '.join(files)}"
        if files
        else "no file was asked for (--out, --picture)"
    )


def heading(report: Report | FitReport) -> str:
    """The machine and the software in a few sentences."""
    machine, software = report.machine, report.software
    gpu = machine["gpu"]
    parts = []
    if gpu is None:
        parts.append("There is no CUDA device here, so that only the CPU's half is measured.")
    elif "cuda" in report.settings["devices"]:
        parts.append(
            f"GPU: {gpu['name']}, {gpu['multiprocessors']} multiprocessors, {gpu['l2_bytes'] / 2**20:.0f} MiB of L2,"
            f" {gpu['memory_bytes'] / 2**30:.0f} GiB, CUDA {gpu['cuda']}, driver {gpu['driver'] or 'unknown'}."
        )
    ram = machine["ram_bytes"]
    memory = "" if ram is None else f", {ram / 2**30:.0f} GiB"
    parts.append(
        f"CPU: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads used{memory}."
    )
    versions = ", ".join(
        f"{name} {version}" for name, version in software.items() if version and name != "system"
    )
    parts.append(f"{versions}; {report.date}.")
    return " ".join(parts)


def _measure_device(
    device: torch.device, scale: Scale, options: KernelOptions, progress: Progress, note: Say
) -> None:
    clock: Clock = CpuClock() if device.type == "cpu" else cuda_clock(device)
    for name in scale.dtypes:
        dtype = torch_dtype(name)
        shapes = [(rows_for(D, dtype, scale.gigabytes, device), D) for D in options.columns]
        with memory_needed(scale.gigabytes, device):
            numbers = Numbers(shapes, dtype, device)
            ceilings = CeilingCalls(max(N * D for N, D in shapes) * dtype.itemsize, device)
        for N, D in shapes:
            started = time.perf_counter()
            with memory_needed(scale.gigabytes, device):
                problem = numbers.problem(N, D)
            contenders = contenders_for(problem, compiled=not options.quick)
            ceiling, records = measure(problem, contenders, ceilings, clock, scale.repeats)
            progress.ceilings.append(ceiling)
            progress.results += records
            note(f"{_said(problem, records)}; {time.perf_counter() - started:.1f} s")
        if device.type == "cuda" and dtype == torch.float32:
            step = make_step(choose_backend("auto", device).passes, device)
            progress.results += measure_step(
                step, scale.repeats, synchronize=lambda: torch.cuda.synchronize(device)
            )


def _device(name: str) -> torch.device:
    """The CPU, or the current GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")


def contenders_for(problem: Problem, *, compiled: bool) -> list[Contender]:
    """All contenders on the problem's device."""
    device = problem.X.device
    if device.type == "cpu":
        return cpu_contenders(problem, reference)
    return gpu_contenders(problem, choose_backend("auto", device).passes, compiled=compiled)


def _said(problem: Problem, records: list[Record]) -> str:
    """A line of progress."""
    where = f"{problem.X.device.type}, {dtype_name(problem.X.dtype)}, {problem.n:,} x {problem.d}"
    ours = next((r for r in records if r.ours), None)
    if ours is None or ours.fraction is None:
        return where
    return f"{where}: {ours.contender} at {ours.fraction:.2f} of the ceiling"


@contextmanager
def memory_needed(gigabytes: float, device: torch.device) -> Iterator[None]:
    """Say which setting to change where the data themselves do not fit."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"--gigabytes is {gigabytes:g}, which does not fit the free memory of {device.type}; use a smaller number"
        ) from error


@contextmanager
def full_float32() -> Iterator[None]:
    """torch's float32 products in float32, not TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
