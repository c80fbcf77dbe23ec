"""The part of a run that learns by mini-batches: epochs, checkpoints, resuming."""

from __future__ import annotations

import time
from typing import Any

from flashlogit_kernels.contract import Clamp

from ..training.checkpoint import Checkpoint
from ..config.settings import CosineSchedule, RunSettings
from ..system.errors import UserError
from .task import Bar, HistoryRow, Interrupted, Learned, Task
from ..training.objective import Objective, class_weights, with_class_weight
from ..system.stopping import saving
from ..training.trainer import Trainer


class BatchRun:
    """A run by mini-batches: made before anything of an earlier run is touched, then `learn`."""

    def __init__(self, task: Task) -> None:
        """Make the trainer, or take it up from a checkpoint.

        Raises:
            UserError: a checkpoint of another run.
        """
        K = len(task.dataset.label_names)
        if K > 2:
            raise UserError(
                f"data.label has {K} classes, which mini-batches do not train; add a section `solver`"
                " (`solver: {name: auto}`)"
            )
        self._task = task
        self._trainer = build_trainer(task)
        self._origin = run_origin(task)
        self._history = _resume(self._trainer, task.saved, self._origin, task) if task.saved else []

    def learn(self) -> Learned:
        """Train epoch by epoch, and keep the best or the last epoch's parameters.

        Raises:
            UserError: training that diverged.
            Interrupted: Ctrl-C or a signal; the checkpoint holds the last finished epoch.
        """
        task, trainer = self._task, self._trainer
        start, first = time.perf_counter(), trainer.epoch
        _train(trainer, task, self._origin, self._history)
        task.say(_summary(trainer, trainer.epoch - first, time.perf_counter() - start, task.settings))
        weight, bias = trainer.final_parameters()
        about = {"epochs": trainer.epoch, "kept_epoch": kept_epoch(trainer, task.settings)}
        return Learned(weight, bias, self._history, about)


def build_trainer(task: Task) -> Trainer:
    """The trainer of the settings' objective; validation rows are weighted as the training rows are."""
    loss, dataset = task.settings.loss, task.dataset
    factors = class_weights(dataset.train, loss.class_weight)
    clamp = Clamp(loss.eps, loss.clamp_gradient)
    training, validation = (
        None if rows is None else Objective(with_class_weight(rows, factors), clamp, loss.l2, task.backend)
        for rows in (dataset.train, dataset.validation)
    )
    assert training is not None
    return Trainer(training, validation, task.settings.training, seed=task.settings.seed)


def run_origin(task: Task) -> dict[str, Any]:
    """What must not change when a run is resumed, as JSON values.

    More epochs are another matter, except under a schedule that is stretched over all of them.
    """
    kept = task.origin("loss", "training")
    del kept["training"]["checkpoint_every"]
    if not isinstance(task.settings.training.schedule, CosineSchedule):
        del kept["training"]["epochs"]
    return kept


def kept_epoch(trainer: Trainer, settings: RunSettings) -> int:
    """The epoch whose parameters the run keeps."""
    return trainer.best.epoch if settings.training.early_stopping and trainer.best else trainer.epoch


def _resume(trainer: Trainer, saved: Checkpoint, origin: dict[str, Any], task: Task) -> list[HistoryRow]:
    saved.check_origin(task.directory.checkpoint, origin)
    progress = trainer.restore(saved)
    task.say(f"resuming after epoch {trainer.epoch}")
    task.note_threads(progress.threads)
    return task.directory.read_history(progress.history_length, ["epoch"])


def _train(trainer: Trainer, task: Task, origin: dict[str, Any], history: list[HistoryRow]) -> None:
    """Run the epochs, keeping history and checkpoints; the newest finished epoch survives Ctrl-C."""
    settings, directory = task.settings, task.directory
    rows = len(trainer.training.rows)
    newest = trainer.checkpoint(origin, len(history))
    bar = Bar(
        task,
        total=settings.training.epochs * rows,
        initial=trainer.epoch * rows,
        unit=" rows",
        unit_scale=True,
    )
    try:
        with bar:
            for row in trainer.epochs(bar.update):
                history.append(row)
                directory.append_history(row)
                newest = trainer.checkpoint(origin, len(history))
                if trainer.finished or trainer.epoch % settings.training.checkpoint_every == 0:
                    directory.keep(newest)
                bar.set_postfix(_losses(row), refresh=False)
    except KeyboardInterrupt:
        with saving():
            directory.keep(newest)
            raise Interrupted(
                f"interrupted: {directory.checkpoint} holds the state after epoch {newest.progress['epoch']};"
                " go on with --resume"
            ) from None


def _losses(row: HistoryRow) -> dict[str, str]:
    return {
        name: f"{row[key]:.4g}"
        for name, key in (("loss", "train_loss"), ("validation", "validation_loss"))
        if row[key] is not None
    }


def _summary(trainer: Trainer, epochs: int, seconds: float, settings: RunSettings) -> str:
    if not epochs:
        return f"nothing was left to train after epoch {trainer.epoch}; raise training.epochs to go on"
    rate = epochs * len(trainer.training.rows) / seconds
    line = f"trained {epochs} epochs in {seconds:.1f} s ({rate:,.0f} rows/s)"
    if settings.training.early_stopping:
        line += f"; kept the weights of epoch {kept_epoch(trainer, settings)}, the lowest validation loss"
    return line
