"""One training run from settings to results: load, learn, measure, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..passes.backend import choose_backend
from .by_batches import BatchRun
from ..training.checkpoint import Checkpoint
from ..config.settings import RunSettings
from ..config.load import dump_settings
from ..data import Dataset, load
from ..system.device import resolve_device
from ..system.errors import UserError
from .task import HistoryRow, Interrupted, Task
from .results import Results, write_results
from .directory import Mode, RunDirectory
from .by_solver import SolverRun, check_start
from .tensorboard_log import TensorBoardLog, check_tensorboard
from ..report.terminal import metrics_table

__all__ = ["Interrupted", "RunResult", "describe", "train_run"]


@dataclass(frozen=True)
class RunResult:
    """What a run leaves, in memory: its folder, metrics with their intervals by split, and history."""

    directory: RunDirectory
    results: Results
    history: list[HistoryRow]
    about: dict[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        """What metrics.json holds, as JSON values."""
        return self.results.to_json() | {"run": self.about}


def train_run(
    settings: RunSettings,
    directory: RunDirectory,
    mode: Mode,
    *,
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> RunResult:
    """Learn as the settings say and fill the run directory; with mode "resume" go on from its checkpoint.

    Args:
        settings: the run: by mini-batches, or, where there is a section `solver`, to the optimum.
        directory: opened with the same mode.
        mode: "new", "overwrite" or "resume".
        say: where sentences for the user go.
        quiet: no progress bar.

    Raises:
        UserError: a setting, file or value that cannot be used, or training that diverged.
        Interrupted: Ctrl-C or another signal to stop while training; the checkpoint holds what was reached.
    """
    device = resolve_device(settings.device)
    backend = choose_backend(settings.backend, device)
    say(f"backend: {backend.name} on {device} ({backend.reason})")
    saved = Checkpoint.load(directory.checkpoint) if mode == "resume" else None
    start = None if saved else check_start(settings.solver)
    if settings.report.tensorboard:
        check_tensorboard()
    dataset = load(settings.data, seed=settings.seed, device=device)
    say(describe(dataset))
    task = Task(settings, dataset, backend, device, directory, saved, say, quiet)
    run = SolverRun(task, start) if settings.solver else BatchRun(task)
    if not saved:
        directory.clear()
    log = None
    try:
        directory.write_text(directory.config, dump_settings(settings))
        if settings.report.tensorboard:
            log = TensorBoardLog(directory.tensorboard)
            directory.listener = log.add
        learned = run.learn()
        results = write_results(
            directory,
            settings,
            dataset,
            learned,
            about={"device": str(device), "backend": backend.name, **learned.about},
        )
        if log:
            log.finish(results.metrics)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if not directory.checkpoint.is_file():
            raise
        raise Interrupted(
            f"interrupted while the results were written: {directory.checkpoint} is whole; go on with --resume"
        ) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten(error, directory) from error
    finally:
        if log:
            log.flush()
    say(metrics_table(results.metrics))
    return RunResult(directory, results, learned.history, learned.about)


def _unwritten(error: OSError, directory: RunDirectory) -> UserError:
    """What could not be written, why, and what of the run is safe."""
    reason = error.strerror or " ".join(str(error).split())
    safe = (
        f"{directory.checkpoint} is whole: make room and go on with --resume"
        if directory.checkpoint.is_file()
        else "nothing of the run was kept: make room and start it again"
    )
    return UserError(f"{error.filename or directory.path} cannot be written ({reason}); {safe}")


def describe(dataset: Dataset) -> str:
    """The data in a line, and a line for each note."""
    rows = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    line = f"data: {rows} rows, {len(dataset.feature_names):,} columns; {_balance(dataset)}"
    return "\n".join([line, *(f"note: {note}" for note in dataset.notes)])


def _balance(dataset: Dataset) -> str:
    """The classes' shares of the training rows."""
    y, names = dataset.train.y, dataset.label_names
    if len(names) == 2:
        return f"{y.double().mean().item():.1%} of the training rows are positive ({names[1]})"
    counts = torch.bincount(y.long(), minlength=len(names)).double()
    shares = (counts / len(y)).tolist()
    return f"{len(names)} classes: " + ", ".join(
        f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True)
    )
