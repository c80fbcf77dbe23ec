"""One training run from settings to results: load, learn, measure, write, and log for TensorBoard if asked to."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config.load import dump_settings
from ..config.settings import RunSettings
from ..data.dataset import Dataset
from ..data.loading import load
from ..metrics.evaluation import ClassMetrics, Metrics
from ..models.model import Model
from ..passes import are_few, choose_backend
from ..report.text import plural
from ..system.errors import UserError
from ..system.memory import resolve_device
from ..training.checkpoint import Checkpoint
from .batches import BatchRun
from .directory import Mode, RunDirectory
from .provenance import Hashing, Provenance
from .results import Interrupted, Learned, Results, RunTask, write_results

if TYPE_CHECKING:
    from .targets import TargetResults


def train_run(
    settings: RunSettings,
    directory: RunDirectory,
    mode: Mode,
    *,
    say: Callable[[str], None],
    quiet: bool,
    command: Sequence[str] | None = None,
) -> Results | TargetResults:
    """Learn as the settings say and fill the run directory; with mode "resume" go on from its checkpoint.

    Args:
        settings: the run: by mini-batches, or, where there is a section `solver`, to the optimum.
        directory: opened with the same mode.
        mode: "new", "overwrite" or "resume".
        say: takes the sentences for the user.
        quiet: whether to leave out the progress bar.
        command: the command that was typed, for provenance.json.

    Raises:
        UserError: a setting, file or value that cannot be used, or training that diverged.
        Interrupted: Ctrl-C or another signal to stop while training; the checkpoint holds what was reached.
    """
    settings = settings.resolved()
    device, saved, start = _checked(settings, directory, mode)
    with Hashing(settings, command) as hashing:
        dataset = load(settings.data, seed=settings.seed, device=device, origins=settings.grid is not None)
        backend = choose_backend(settings.backend, device, few=are_few(dataset.train.X))
        say(f"backend: {backend.name} on {device} ({backend.reason})")
        say(describe(dataset))
        earlier = Provenance.read(directory.provenance) if saved else None
        provenance = partial(hashing.provenance, dataset, earlier)
        task = RunTask(settings, dataset, backend, device, directory, saved, say, quiet, partial(provenance, wait=True))
        learn: Callable[[], Learned | TargetResults]
        if dataset.targets:
            from .targets import TargetsRun

            learn = TargetsRun(task).learn
        elif settings.solver:
            from .solving import SolverRun  # for which all solvers are imported

            learn = SolverRun(task, start).learn
        else:
            learn = BatchRun(task).learn
        if not saved:
            directory.clear()
        log = None
        try:
            directory.write_text(directory.config, dump_settings(settings))
            directory.write_text(directory.provenance, provenance(wait=False).text())  # in case that the run is killed
            if settings.report.tensorboard:
                log = _TensorBoardLog(directory.tensorboard)
                directory.listener = log.add
            learned = learn()
            results = write_results(task, learned) if isinstance(learned, Learned) else learned
            if log and isinstance(results, Results):
                log.finish(results.metrics)
            directory.write_text(directory.provenance, provenance(wait=True).text())
        except (Interrupted, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            if not directory.checkpoint.is_file():
                raise
            whole = f"{directory.checkpoint} is whole; go on with --resume"
            raise Interrupted(f"interrupted while the results were written: {whole}") from None
        except OSError as error:
            raise _unwritten(error, directory) from error
        finally:
            if log:
                log.flush()
        say(results.table())
        return results


def _checked(
    settings: RunSettings, directory: RunDirectory, mode: Mode
) -> tuple[torch.device, Checkpoint | None, Model | None]:
    """Return the device, the checkpoint to go on from and the model to start from; UserError, before any work, for
    what cannot be had."""
    device = resolve_device(settings.device)
    choose_backend(settings.backend, device, few=True)
    saved = Checkpoint.load(directory.checkpoint) if mode == "resume" else None
    start = None
    if settings.solver and settings.solver.start and not saved:
        path, remedy = Path(settings.solver.start).expanduser(), "correct it or leave it out"
        if not path.exists():
            raise UserError("there is no such run or model", setting="solver.start", value=path, remedy=remedy)
        start = Model.load(path)
    if settings.report.tensorboard and importlib.util.find_spec("tensorboard") is None:
        remedy = "pip install 'flashlogit[tensorboard]', or set it to false"
        problem = "the package tensorboard is not installed"
        raise UserError(problem, setting="report.tensorboard", value=True, remedy=remedy)
    return device, saved, start


def _unwritten(error: OSError, directory: RunDirectory) -> UserError:
    """Return the error that says what could not be written, why, and what of the run is safe."""
    if directory.checkpoint.is_file():
        remedy = f"{directory.checkpoint} is whole: make room and go on with --resume"
    else:
        remedy = "nothing of the run was kept: make room and start it again"
    reason = error.strerror or " ".join(str(error).split())
    return UserError(f"cannot be written ({reason})", setting=error.filename or directory.path, remedy=remedy)


def describe(dataset: Dataset) -> str:
    """Return a line on the rows, the columns and the share that each class has, and one for each note and warning."""
    y, names = dataset.train.y, dataset.label_names
    if dataset.targets:
        missing = y.isnan().double().mean().item()
        lacking = f", {missing:.1%} of their labels missing" if missing else ""
        classes = f"{plural(len(dataset.targets), 'target')}{lacking}"
    elif len(names) == 2:
        classes = f"{y.double().mean().item():.1%} of the training rows are positive ({names[1]})"
    else:
        shares = (torch.bincount(y.long(), minlength=len(names)).double() / len(y)).tolist()
        listed = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
        classes = f"{len(names)} classes: {listed}"
    rows = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    line = f"data: {rows} rows, {len(dataset.feature_names):,} columns; {classes}"
    notes = [f"note: {note}" for note in dataset.notes]
    return "\n".join([line, *notes, *(f"warning: {warning}" for warning in dataset.warnings)])


class _TensorBoardLog:
    """Writes events to a folder while a run goes on: `tensorboard --logdir runs` shows all runs beside each other."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._step = 0
        self._last: Mapping[str, float | int | None] = {}

    def add(self, row: Mapping[str, float | int | None]) -> None:
        """Take a row of the history, which is written when the next step begins: a step's last row counts."""
        step = int(row.get("epoch", row.get("iteration")) or 0)
        if step != self._step:
            self._write()
        self._step, self._last = step, row

    def _write(self) -> None:
        for name, value in self._last.items():
            if value is not None and name not in ("epoch", "iteration"):
                self._writer.add_scalar(f"history/{name}", value, self._step)
        self._last = {}

    def finish(self, metrics: Mapping[str, Metrics | ClassMetrics]) -> None:
        """Write the metrics of every split, at the last step."""
        for split, of_split in metrics.items():
            for name, value in of_split.to_json().items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(f"{split}/{name}", value, self._step)
        self._writer.close()

    def flush(self) -> None:
        """Write what is left, as after Ctrl-C."""
        self._write()
        self._writer.flush()
