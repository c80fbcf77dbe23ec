"""One training run from settings to results: load, learn, measure, write."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..config.load import dump_settings
from ..config.settings import RunSettings
from ..data import Dataset, load
from ..passes import choose_backend
from ..report.terminal import metrics_table
from ..system.device import resolve_device
from ..system.errors import UserError
from ..training.checkpoint import Checkpoint
from .by_batches import BatchRun
from .by_solver import SolverRun, check_start
from .directory import Mode, RunDirectory
from .results import Results, write_results
from .task import Interrupted, Task
from .tensorboard_log import TensorBoardLog, check_tensorboard


def train_run(
    settings: RunSettings,
    directory: RunDirectory,
    mode: Mode,
    *,
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> Results:
    """Learn as the settings say and fill the run directory; with mode "resume" go on from its checkpoint.

    Args:
        settings: the run: by mini-batches, or, where there is a section `solver`, to the optimum.
        directory: opened with the same mode.
        mode: "new", "overwrite" or "resume".
        say: takes the sentences for the user.
        quiet: whether to leave out the progress bar.

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
        results = write_results(task, run.learn())
        if log:
            log.finish(results.metrics)
    except (Interrupted, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        if not directory.checkpoint.is_file():
            raise
        raise Interrupted(
            f"interrupted while the results were written: {directory.checkpoint} is whole; go on with --resume"
        ) from None
    except OSError as error:
        raise _unwritten(error, directory) from error
    finally:
        if log:
            log.flush()
    say(metrics_table(results.metrics))
    return results


def _unwritten(error: OSError, directory: RunDirectory) -> UserError:
    """Return the error that says what could not be written, why, and what of the run is safe."""
    if directory.checkpoint.is_file():
        remedy = f"{directory.checkpoint} is whole: make room and go on with --resume"
    else:
        remedy = "nothing of the run was kept: make room and start it again"
    reason = error.strerror or " ".join(str(error).split())
    return UserError(f"cannot be written ({reason})", setting=error.filename or directory.path, remedy=remedy)


def describe(dataset: Dataset) -> str:
    """Return a line on the data, and a line for each note."""
    rows = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    line = f"data: {rows} rows, {len(dataset.feature_names):,} columns; {_balance(dataset)}"
    return "\n".join([line, *(f"note: {note}" for note in dataset.notes)])


def _balance(dataset: Dataset) -> str:
    """Say which share of the training rows each class has."""
    y, names = dataset.train.y, dataset.label_names
    if len(names) == 2:
        return f"{y.double().mean().item():.1%} of the training rows are positive ({names[1]})"
    counts = torch.bincount(y.long(), minlength=len(names)).double()
    shares = (counts / len(y)).tolist()
    return f"{len(names)} classes: " + ", ".join(
        f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True)
    )
