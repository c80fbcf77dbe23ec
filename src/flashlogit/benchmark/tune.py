"""The program `tune`: the fastest launch of each kernel on this GPU, put into the launch table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from flashlogit.cli_output import Output
from flashlogit.errors import UserError
from flashlogit_kernels import table
from flashlogit_kernels.contract import HESSIAN_COLUMNS
from flashlogit_kernels.launch import (
    KernelName,
    LaunchConfig,
    fits_registers,
    launch_config,
    machine_name,
    table_dtypes,
)
from flashlogit_kernels.table import Entry

from .candidates import Shape, choose, coarse, refined
from .check import Checker
from .clock import Clock, Failure, Timing, failure_of
from .contenders import natural_arithmetic, our_contender
from .cuda_clock import cuda_clock
from .kernel import full_float32, memory_needed
from .options import COLUMNS, check_columns, check_dtypes, check_gigabytes, check_writable, torch_dtype
from .problem import Numbers, Problem, dtype_name, rows_for
from .shape import READ, CeilingCalls
from .table import number, wrapped

KERNELS: tuple[KernelName, ...] = ("onepass", "hessian")
"""Kernels with rows of their own: the Hessian product shares those of the one-pass kernel."""
DTYPES = ("float32", "bfloat16")

_COARSE_ROUNDS, _FINAL_ROUNDS = 5, 25
_REFINED_TILES = 4
_FINALISTS = 6

Measure = Callable[[Sequence[LaunchConfig], int], dict[LaunchConfig, Timing | Failure]]
"""Checks and times each configuration; the number is of timed rounds."""


@dataclass(frozen=True)
class Found:
    """What came of a search: the choice (None where nothing worked), its time, and what was tried on the way."""

    launch: LaunchConfig | None
    timing: Timing | None
    incumbent: Timing | Failure | None
    tried: int
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class TuneOptions:
    """A run of `tune`; `path` is the table that is changed."""

    columns: tuple[int, ...]
    dtypes: tuple[str, ...]
    kernels: tuple[KernelName, ...]
    gigabytes: float
    path: Path


def tune_options(
    *,
    columns: Sequence[int] | None,
    dtypes: Sequence[str] | None,
    kernels: Sequence[str] | None,
    gigabytes: float,
    path: Path | None,
) -> TuneOptions:
    """Defaults filled in and everything checked.

    Raises:
        UserError: no GPU, or a value that cannot be used.
    """
    D = check_columns(columns or COLUMNS)
    check_dtypes(dtypes or ())
    for kernel in kernels or ():
        if kernel == "hessian_product":
            raise UserError("--kernels is 'hessian_product', which is launched as onepass is; tune onepass")
        if kernel not in KERNELS:
            raise UserError(f"--kernels is {kernel!r}; must be some of {', '.join(KERNELS)}")
    check_writable("--table", path)
    if not torch.cuda.is_available():
        raise UserError(
            "tune needs a CUDA device and torch sees none; run it on the machine that the table is for (elsewhere the"
            " table's rows for any machine serve)"
        )
    check_gigabytes(gigabytes, "cuda")
    chosen = tuple(kernel for kernel in KERNELS if not kernels or kernel in kernels)
    return TuneOptions(D, tuple(dtypes or DTYPES), chosen, gigabytes, path or table.TABLE)


def run_tune(options: Any, output: Output) -> int:
    """Tune what the command line's options say; the table is written after every shape, so that Ctrl-C loses one."""
    settings = tune_options(
        columns=options.columns,
        dtypes=options.dtypes,
        kernels=options.kernels,
        gigabytes=options.gigabytes,
        path=options.table,
    )
    import flashlogit_kernels

    device = torch.device("cuda", torch.cuda.current_device())
    with full_float32():
        tune(settings, flashlogit_kernels, device, cuda_clock(device), output.say)
    output.answer("", {"table": str(settings.path)})
    return 0


def tune(
    options: TuneOptions,
    passes: Any,
    device: torch.device,
    clock: Clock,
    say: Callable[[str], object] = print,
) -> None:
    """Search every shape and write the table after each.

    Args:
        options: what to tune.
        passes: `flashlogit_kernels`.
        device, clock: where, and what times it.
        say: gets a paragraph per shape.
    """
    machine = machine_name(device)
    entries = read_table(options.path)
    say(f"{machine}: tuning {options.path.name}; a shape takes about a minute, most of it spent compiling.")
    for storage, shapes in _by_storage(options):
        sizes = {shape.D: rows_for(shape.D, storage, options.gigabytes, device) for shape in shapes}
        with memory_needed(options.gigabytes, device):
            numbers = Numbers([(N, D) for D, N in sizes.items()], storage, device)
            ceilings = CeilingCalls(max(N * D for D, N in sizes.items()) * storage.itemsize, device)
        for shape in shapes:
            started = time.perf_counter()
            with memory_needed(options.gigabytes, device):
                problem = numbers.problem(sizes[shape.D], shape.D)
            incumbent = incumbent_of(shape, entries, machine, device)
            found = search(shape, incumbent, measure_with(problem, passes, shape, clock))
            say(wrapped(f"{described(shape, incumbent, found)} {time.perf_counter() - started:.0f} s."))
            if found.launch is None or found.timing is None:
                continue
            fraction = _fraction(problem, found.timing, ceilings, clock)
            entries = replaced(entries, _entry(shape, machine, found.launch, fraction))
            table.write(entries, options.path)


def read_table(path: Path) -> list[Entry]:
    """The table's rows; none of a file that is not there yet.

    Raises:
        UserError: the file is not a launch table.
    """
    if not path.exists():
        return []
    try:
        return table.read(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the launch table {path} cannot be read ({error}); name another with --table"
        ) from error


def search(shape: Shape, incumbent: LaunchConfig | None, measure: Measure) -> Found:
    """Try all tiles, then the best ones with more programs and pipelining, then the best of all more often."""
    rejected: Counter[str] = Counter()
    first = list(dict.fromkeys([*([incumbent] if incumbent else []), *coarse(shape)]))
    times = _kept(measure(first, _COARSE_ROUNDS), rejected)
    second = refined(shape, _fastest(times, _REFINED_TILES))
    second = [config for config in second if config not in first]
    times |= _kept(measure(second, _COARSE_ROUNDS), rejected)
    finalists = _fastest(times, _FINALISTS)
    if incumbent in times and incumbent not in finalists:
        finalists.append(incumbent)
    final = measure(finalists, _FINAL_ROUNDS)
    right = {config: t for config, t in final.items() if isinstance(t, Timing)}
    launch = choose({config: t.ms for config, t in right.items()}, incumbent)
    return Found(
        launch=launch,
        timing=right[launch] if launch else None,
        incumbent=final.get(incumbent) if incumbent else None,
        tried=len(first) + len(second),
        rejected=rejected,
    )


def measure_with(problem: Problem, passes: Any, shape: Shape, clock: Clock) -> Measure:
    """Check a configuration's answer, and time those that are right in turn."""
    checker = Checker(problem)

    def measure(configs: Sequence[LaunchConfig], rounds: int) -> dict[LaunchConfig, Timing | Failure]:
        failures: dict[LaunchConfig, Timing | Failure] = {}
        calls = {}
        for config in configs:
            contender = our_contender(problem, passes, "", shape.kernel, shape.compute, launch=config)
            try:
                verdict = checker.check(contender, contender.run())
            except Exception as error:
                failures[config] = failure_of(error)
                continue
            if verdict.correct:
                calls[str(config)] = contender.run
            else:
                failures[config] = Failure("failed", "wrong result")
        timed = clock(calls, rounds)
        named = {str(config): config for config in configs}
        return {named[name]: outcome for name, outcome in timed.items()} | failures

    return measure


def incumbent_of(
    shape: Shape, entries: Sequence[Entry], machine: str, device: torch.device
) -> LaunchConfig | None:
    """What is launched now: this machine's row of the table at hand, else what the kernels would choose."""
    key = _key(_entry(shape, machine, LaunchConfig(1, 1, 1), None))
    for entry in entries:
        if _key(entry) == key:
            return entry.launch
    try:
        return launch_config(shape.kernel, shape.D, shape.storage, shape.compute, device)
    except ValueError:
        return None


def replaced(entries: Sequence[Entry], new: Entry) -> list[Entry]:
    """The rows with `new` in place of this machine's row for the same kernel, dtypes and D, else behind them."""
    found = [new if _key(entry) == _key(new) else entry for entry in entries]
    return found if new in found else [*found, new]


def described(shape: Shape, incumbent: LaunchConfig | None, found: Found) -> str:
    """What a search found, in a few sentences."""
    what = f"{shape.kernel}, {dtype_name(shape.storage)}, D = {shape.D}:"
    reasons = ", ".join(f"{count} x {reason}" for reason, count in found.rejected.most_common())
    tried = f"{found.tried} tried, {found.rejected.total()} rejected{f' ({reasons})' if reasons else ''}."
    if found.launch is None or found.timing is None:
        return f"{what} nothing worked. {tried}"
    chosen = f"{what} {_said(found.launch)}, {number(found.timing.ms)} ms"
    if found.launch == incumbent:
        return f"{chosen}, as before. {tried}"
    if isinstance(found.incumbent, Timing) and incumbent is not None:
        return f"{chosen}; before {_said(incumbent)}, {number(found.incumbent.ms)} ms. {tried}"
    return f"{chosen}. {tried}"


def _by_storage(options: TuneOptions) -> Iterator[tuple[torch.dtype, list[Shape]]]:
    """Shapes that the kernels hold in registers; dtypes that share the table's rows are tuned once."""
    seen = set()
    for name in options.dtypes:
        storage = torch_dtype(name)
        compute = natural_arithmetic(storage)
        row = table_dtypes(storage, compute)
        if row in seen:
            continue
        seen.add(row)
        shapes = [
            Shape(kernel, D, storage, compute)
            for D in options.columns
            for kernel in options.kernels
            if fits_registers(D, compute)
            # In float64 the Hessian is torch's product.
            and (kernel != "hessian" or (D <= HESSIAN_COLUMNS and compute != torch.float64))
        ]
        if shapes:
            yield storage, shapes


def _entry(shape: Shape, machine: str, launch: LaunchConfig, fraction: float | None) -> Entry:
    storage, compute = table_dtypes(shape.storage, shape.compute)
    today = datetime.now(UTC).date().isoformat()
    return Entry(machine, today, shape.kernel, storage, compute, shape.D, launch, fraction)


def _key(entry: Entry) -> tuple[str, str, str, str, int]:
    return entry.machine, entry.kernel, entry.storage, entry.compute, entry.D


def _fraction(problem: Problem, timing: Timing, ceilings: CeilingCalls, clock: Clock) -> float | None:
    """Bytes a millisecond over those of `sum`."""
    X_bytes = problem.X.numel() * problem.X.element_size()
    read = clock({READ: ceilings.calls(X_bytes)[READ]}, _FINAL_ROUNDS)[READ]
    return (problem.bytes / timing.ms) / (X_bytes / read.ms) if isinstance(read, Timing) else None


def _kept(
    outcomes: dict[LaunchConfig, Timing | Failure], rejected: Counter[str]
) -> dict[LaunchConfig, Timing]:
    """Those that worked; the others are counted by the first words of their reason."""
    for outcome in outcomes.values():
        if isinstance(outcome, Failure):
            rejected[outcome.reason.partition(":")[0]] += 1
    return {config: t for config, t in outcomes.items() if isinstance(t, Timing)}


def _fastest(times: dict[LaunchConfig, Timing], count: int) -> list[LaunchConfig]:
    return sorted(times, key=lambda config: times[config].ms)[:count]


def _said(config: LaunchConfig) -> str:
    pieces = ", two pieces" if config.split else ""
    return (
        f"{config.block_n} rows, {config.num_warps} warps, {config.programs_per_sm} programs,"
        f" {config.num_stages} stages{pieces}"
    )
