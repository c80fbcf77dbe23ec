"""The part of a run that learns: by mini-batches, or by a solver, to the optimum and a proof of how near it is."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import torch

from flashlogit_kernels.contract import Clamp

from ..config.settings import CosineSchedule
from ..data.dataset import Dataset, Rows, class_weights, with_class_weight
from ..fitting.fit import Fit, Parameters, fit, fit_at_once, fit_softmax
from ..fitting.inference import Inference, infer
from ..models.model import Model
from ..report.content import EpochSummary, SolverSummary
from ..solvers.choose import choose_method
from ..system.errors import UserError
from ..system.stopping import saving
from ..training.trainer import Trainer, TrainingObjective
from .directory import HistoryRow
from .results import Interrupted, Learned, ProgressBar, RunTask
from .solver_progress import SolverProgress

_SETTINGS = {"l2": "loss.l2", "tolerance": "solver.tolerance", "max_iterations": "solver.max_iterations"}
"""What a run's user calls the parameters that a fit's notes speak of."""
_SEPARATED = {
    "complete": "no finite optimum exists: the classes are completely separated",
    "quasi-complete": "no finite optimum exists: the classes are quasi-completely separated",
    "suspected": "there may be no finite optimum: the classes seem to be separated",
}
"""Why a fit of separated classes has no standard errors, by the kind of separation."""


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


class SolverRun:
    """A run to the optimum. It is made before anything of an earlier run is touched; then it may `learn`."""

    def __init__(self, task: RunTask, start: Model | None) -> None:
        """Choose the solver and where it starts: at the checkpoint of a resumed run, else at the model `start`.

        Raises:
            UserError: a solver that cannot take the problem, or a checkpoint or model of other data.
        """
        assert task.settings.solver is not None
        self._task, self._settings, self._loss = task, task.settings.solver, task.settings.loss
        self._classes, train = len(task.dataset.label_names), task.dataset.train
        factors = class_weights(train, self._loss.class_weight, classes=self._classes)
        self._rows: Rows = with_class_weight(train, factors)
        self._progress = SolverProgress(task, self._settings, self._solver())
        self._start = self._progress.resumed()
        if start is not None and self._start is None:
            self._start = _on_columns(start, task.dataset, self._settings.start)

    def learn(self) -> Learned:
        """Minimise the objective over the training rows until its certificate is within the tolerance.

        Raises:
            UserError: data that no fit can take.
            Interrupted: Ctrl-C or a signal; the checkpoint holds the last point.
        """
        task, progress = self._task, self._progress
        with progress.bar:
            try:
                result = self._fit()
                with saving():
                    progress.finished(result)
            except KeyboardInterrupt:
                with saving():
                    raise progress.interrupted() from None
            except ValueError as error:
                raise (task.saved.unusable(str(error)) if task.saved else UserError(str(error))) from error
        summary = _summary(result)
        compiled = result.compile_seconds
        task.say(
            f"{result.solver}: {result.iterations} iteration{'' if result.iterations == 1 else 's'},"
            f" {result.passes:.1f} passes over X in {result.seconds:.3g} s, {summary.terabytes_per_second:.3g} TB/s"
            + (f" (after {compiled:.1f} s of compilation)" if compiled >= 0.05 else "")
        )
        task.say("\n".join([summary.statement, *(f"note: {note}" for note in summary.notes)]))
        return Learned(result.weight, result.bias, progress.history, summary, *self._infer(result))

    def _solver(self) -> str:
        """Return the method that the fit will take; UserError where the one asked for cannot take the problem."""
        name, outputs = self._settings.name, 1 if self._classes == 2 else self._classes
        try:
            return choose_method(name, self._rows.X, outputs=outputs, l1=self._loss.l1)
        except UserError as error:
            if error.setting != "solver":  # the library's own name of the parameter
                raise
            raise UserError(error.problem, setting="solver.name", value=name, remedy=error.remedy) from error

    def _fit(self) -> Fit:
        """Fit the training rows: the one place where a run's settings become arguments of the library's fits."""
        rows, settings = self._rows, self._settings
        options = settings.model_dump(include={"intercept", "tolerance", "max_iterations"})
        options |= self._loss.model_dump(include={"l1", "l2"})
        options |= {"solver": settings.name, "sample_weight": rows.sample_weight, "start": self._start}
        options |= {"names": self._task.dataset.feature_names, "on_point": self._progress.add}
        backend = self._task.backend.name
        if self._classes > 2:
            return fit_softmax(rows.X, rows.y, classes=self._classes, backend=backend, **options)
        if backend == "torch" and (found := fit_at_once(rows.X, rows.y, **options | {"on_point": None})):
            return found
        return fit(rows.X, rows.y, backend=backend, **options)

    def _infer(self, result: Fit) -> tuple[Inference | None, str]:
        """Return the statistics of the raw columns' coefficients, or None and the reason why there are none."""
        l1, l2 = self._loss.l1, self._loss.l2
        if l1 > 0 or l2 > 0:
            return None, (
                f"the fit is penalised (loss.l1 = {l1:g}, loss.l2 = {l2:g}): its coefficients are drawn towards 0, and"
                " standard errors of maximum likelihood do not describe them"
            )
        if result.separation is not None:
            return None, _SEPARATED[result.separation.kind]
        if self._classes > 2:
            return None, "standard errors are computed for two classes"
        if not result.converged:
            return None, "the fit did not reach an optimum, at which alone standard errors have a meaning"
        standardization = self._task.dataset.standardization
        try:
            inference = infer(
                self._rows.X,
                self._rows.y,
                result.weight,
                result.bias,
                sample_weight=self._rows.sample_weight,
                intercept=self._settings.intercept,
                mean=torch.from_numpy(standardization.mean),
                scale=torch.from_numpy(standardization.scale),
                backend=self._task.backend.name,
            )
        except (UserError, ValueError) as error:
            return None, str(error)
        return inference, ""


def _summary(result: Fit) -> SolverSummary:
    certificate, separation = result.certificate, result.separation
    same: dict[str, Any] = {each.name: getattr(result, each.name, None) for each in fields(SolverSummary)}
    other = {
        "null_objective": certificate.null_objective,
        "notes": result.notes_with(_SETTINGS),
        "certificate": certificate.kind,
        "statement": certificate.sentence(),
        "separation": separation.kind if separation else None,
        "terabytes_per_second": result.bytes_read / max(result.seconds, 1e-9) / 1e12,
    }
    return SolverSummary(**same | other)


def _on_columns(model: Model, dataset: Dataset, where: str | None) -> Parameters:
    """Return a model's parameters on the columns of this data set, which may be standardised otherwise."""
    columns, classes = (model.feature_names, dataset.feature_names), (model.label_names, dataset.label_names)
    if columns[0] != columns[1] or len(classes[0]) != len(classes[1]):
        what, (theirs, ours) = ("columns", columns) if columns[0] != columns[1] else ("classes", classes)
        raise UserError(
            f"is a model of {len(theirs):,} {what}, the first {theirs[0]!r}; the data have {len(ours):,}, the first"
            f" {ours[0]!r}",
            setting="solver.start",
            value=where,
            remedy=f"choose a model of the same {what}, or leave it out",
        )
    raw, intercept = model.raw()
    here = dataset.standardization
    weight, bias = torch.from_numpy(raw * here.scale), torch.from_numpy(intercept + raw @ here.mean)
    return (weight[0] if len(model.label_names) == 2 else weight), bias
