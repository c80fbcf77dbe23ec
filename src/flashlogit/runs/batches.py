"""The part of a run that learns, by mini-batches."""

from __future__ import annotations

import time

from flashlogit_kernels.contract import Clamp

from ..config.settings import CosineSchedule
from ..data.dataset import class_weights, with_class_weight
from ..report.content import EpochSummary
from ..system.errors import UserError
from ..system.stopping import saving
from ..training.trainer import Trainer, TrainingObjective
from .directory import HistoryRow
from .results import Interrupted, Learned, ProgressBar, RunTask


class BatchRun:
    """A run by mini-batches. It is made before anything of an earlier run is touched; then it may `learn`."""

    def __init__(self, task: RunTask) -> None:
        """Make the trainer, or take it up from a checkpoint. Validation rows are weighted as the training rows are.

        Raises:
            UserError: more than two classes, or a checkpoint of another run.
        """
        loss, dataset, settings = task.settings.loss, task.dataset, task.settings.training
        if len(dataset.label_names) > 2:
            problem = f"has {len(dataset.label_names)} classes, which mini-batches do not train"
            raise UserError(problem, setting="data.label", remedy="add a section `solver` (`solver: {name: auto}`)")
        factors = class_weights(dataset.train, loss.class_weight)
        clamp = Clamp(loss.eps, loss.clamp_gradient)
        train, validation = (
            None if rows is None else TrainingObjective(with_class_weight(rows, factors), clamp, loss.l2, task.backend)
            for rows in (dataset.train, dataset.validation)
        )
        assert train is not None
        self._task, self._trainer = task, Trainer(train, validation, settings, seed=task.settings.seed)
        self._origin = task.origin("loss", "training")
        # More epochs are the same run, except under a schedule that is stretched over all of them.
        del self._origin["training"]["checkpoint_every"]
        if not isinstance(settings.schedule, CosineSchedule):
            del self._origin["training"]["epochs"]
        self._history: list[HistoryRow] = []
        if task.saved:
            task.saved.check_origin(task.directory.checkpoint, self._origin)
            progress = self._trainer.restore(task.saved)
            task.say(f"resuming after epoch {self._trainer.epoch}")
            task.note_threads(progress.threads)
            self._history = task.directory.read_history(progress.history_length, ["epoch"])

    def learn(self) -> Learned:
        """Train epoch by epoch, and keep the best or the last epoch's parameters.

        Raises:
            UserError: training that diverged.
            Interrupted: Ctrl-C or a signal; the checkpoint holds the last finished epoch.
        """
        task, trainer, history = self._task, self._trainer, self._history
        settings, directory, rows = task.settings.training, task.directory, len(trainer.training.rows)
        start, first = time.perf_counter(), trainer.epoch
        newest = trainer.checkpoint(self._origin, len(history))
        try:
            with ProgressBar(
                task, total=settings.epochs * rows, initial=first * rows, unit=" rows", unit_scale=True
            ) as bar:
                for row in trainer.epochs(bar.update):
                    history.append(row)
                    directory.append_history(row)
                    newest = trainer.checkpoint(self._origin, len(history))
                    if trainer.finished or trainer.epoch % settings.checkpoint_every == 0:
                        directory.keep(newest)
                    losses = {"loss": row["train_loss"], "validation": row["validation_loss"]}
                    shown = {name: f"{loss:.4g}" for name, loss in losses.items() if loss is not None}
                    bar.set_postfix(shown, refresh=False)
        except KeyboardInterrupt:
            with saving():
                directory.keep(newest)
                raise Interrupted.after(f"epoch {newest.progress['epoch']}", directory) from None
        stopping = settings.early_stopping is not None
        kept = trainer.best.epoch if stopping and trainer.best else trainer.epoch
        if epochs := trainer.epoch - first:
            seconds = time.perf_counter() - start
            which = f"; kept the weights of epoch {kept}, the lowest validation loss" if stopping else ""
            task.say(f"trained {epochs} epochs in {seconds:.1f} s ({epochs * rows / seconds:,.0f} rows/s){which}")
        else:
            task.say(f"nothing was left to train after epoch {trainer.epoch}; raise training.epochs to go on")
        return Learned(*trainer.final_parameters(), history, EpochSummary(trainer.epoch, kept))
