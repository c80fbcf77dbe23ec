"""The part of a run that learns, by a solver: to the optimum and a proof of how near it is.

Meanwhile it keeps its history, a checkpoint now and then, and a progress bar.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..config.settings import SolverSettings
from ..data.columns.encoding import CategoryColumn
from ..data.dataset import Dataset, Rows, class_weights, with_class_weight
from ..fitting.fit import Fit, FitPoint, FitState, Parameters, fit, fit_at_once, fit_softmax
from ..fitting.inference import Inference, infer, not_identified
from ..models.model import Model
from ..report.coefficients import INTERCEPT
from ..report.content import SolverSummary
from ..solvers.choose import choose_method
from ..system.errors import UserError
from ..system.stopping import saving
from ..training.checkpoint import Checkpoint, SavedProgress
from .directory import HistoryRow
from .results import GridTables, Interrupted, Learned, ProgressBar, RunTask

_SETTINGS = {"l2": "loss.l2", "tolerance": "solver.tolerance", "max_iterations": "solver.max_iterations"}
"""What a run's user calls the parameters that a fit's notes speak of."""
_SEPARATED = {
    "complete": "no finite optimum exists: the classes are completely separated",
    "quasi-complete": "no finite optimum exists: the classes are quasi-completely separated",
    "suspected": "there may be no finite optimum: the classes seem to be separated",
}
"""Why a fit of separated classes has no standard errors, by the kind of separation."""
_STATE = "state."
"""Prefix in a checkpoint of the names of the tensors that a solver goes on from."""
_GRID = "grid"
"""In place of a solver's name in the checkpoint of a run whose grid is being solved, which has no parameters."""
_COUNTS = ("iteration", "passes", "seconds")
"""Columns of the history that go on counting when another solver takes over."""
_DECADE = 100
"""Steps of the progress bar for each factor of ten that the gap falls."""


class _Saved(SavedProgress):
    """The progress in a solver's checkpoint. Those of 0.1.0 hold the first two numbers and parameters only."""

    iteration: int = Field(ge=0, lt=2**53)
    history_length: int = Field(ge=0, lt=2**53)
    """Rows before that of the point, of which the solver tells once more when it goes on."""
    passes: float = 0.0
    seconds: float = 0.0
    before: dict[str, float] = Field(default_factory=dict)
    solver: str | None = None
    intercept: bool = True
    threads: int | None = None


@dataclass(frozen=True)
class _Made:
    """The end of a fit that was made at once, which has no state to go on from."""

    state: FitState
    parameters: Parameters

    def __call__(self) -> Parameters:
        """Return weights and intercepts."""
        return self.parameters


class SolverProgress:
    """The listener of a fit. It writes every accepted point's row, and checkpoints as often as the settings say."""

    def __init__(self, task: RunTask, settings: SolverSettings, solver: str) -> None:
        self._task, self._settings, self._solver = task, settings, solver
        self._origin = task.origin("loss", *(["grid"] if task.settings.grid else []))
        self._newest: tuple[_Saved, FitPoint | _Made] | None = None
        """The newest point and its numbers. One value, for a signal may come between two."""
        self._before = dict.fromkeys(_COUNTS, 0.0)
        """What another solver, from whose point this one went on, had counted."""
        self._saved_at = time.monotonic()
        self.history: list[HistoryRow] = []
        self.bar = _GapBar(task, settings.tolerance)

    def resumed(self) -> Parameters | FitState | None:
        """Take up the run's checkpoint and return where to go on; None for a new run.

        That is the solver's state, or only its parameters where the solver has changed since.

        Raises:
            UserError: the checkpoint is damaged or of another run.
        """
        task, saved = self._task, self._task.saved
        if saved is None:
            return None
        saved.check_origin(task.directory.checkpoint, self._origin)
        progress = saved.progress_as(_Saved)
        if progress.solver == _GRID:
            task.say("the grid, of which nothing was kept, starts again")
            return None
        state = {name.removeprefix(_STATE): each for name, each in saved.tensors.items() if name.startswith(_STATE)}
        point = {name: each for name, each in saved.tensors.items() if not name.startswith(_STATE)}
        D, K = task.dataset.train.X.shape[1], len(task.dataset.label_names)
        weight, bias = (torch.empty(D), torch.empty(1)) if K == 2 else (torch.empty(K, D), torch.empty(K))
        replace(saved, tensors=point).check_tensors({"weight": weight, "bias": bias})
        if progress.solver and progress.intercept != self._settings.intercept:
            problem = f"was {progress.intercept} in the run of {task.directory.checkpoint}"
            remedy = "set it back, choose another name, or start again with --overwrite"
            raise UserError(problem, setting="solver.intercept", value=self._settings.intercept, remedy=remedy)
        again = not state and progress.solver == self._solver  # made at once, and made again rather than gone on from
        length = 0 if again else progress.history_length
        self.history = task.directory.read_history(length, ["iteration", "relative_gap"])
        if again:
            task.say(f"the fit, which took {progress.seconds:.1g} s, is made again")
            return None
        task.say(f"resuming after iteration {progress.iteration}")
        if state and progress.solver == self._solver:
            self._before = {key: progress.before.get(key, 0.0) for key in _COUNTS}
            task.note_threads(progress.threads)
            return FitState(self._solver, state)
        self._before = {key: float(getattr(progress, key)) for key in _COUNTS}
        if state:
            task.say(f"note: {self._solver} starts anew from the point that {progress.solver} has reached")
        return point["weight"], point["bias"]

    def begin_grid(self) -> None:
        """Save that the grid is being solved: a run that is stopped meanwhile can go on, from the grid's beginning."""
        task = self._task
        if task.saved is None:
            saved = _Saved(iteration=0, history_length=0, solver=_GRID, intercept=self._settings.intercept)
            task.directory.keep(Checkpoint({}, saved.model_dump(), self._origin))
        elif task.saved.progress_as(_Saved).solver != _GRID:
            task.say("the grid is solved again, from which the run goes on")

    def add(self, row: HistoryRow, point: FitPoint | _Made) -> None:
        """Keep an accepted point's row of the history, and the point if a checkpoint is due."""
        counts: dict[str, Any] = {key: (row[key] or 0) + before for key, before in self._before.items()}
        counts["iteration"] = int(counts["iteration"])
        row = row | counts
        saved = _Saved(
            **counts,
            history_length=len(self.history),
            before=self._before,
            solver=point.state.solver,
            intercept=self._settings.intercept,
            threads=torch.get_num_threads(),
        )
        self._newest = saved, point
        self.history.append(row)
        self._task.directory.append_history(row)
        self.bar.show(row)
        if time.monotonic() - self._saved_at >= self._settings.checkpoint_seconds:
            self._save(point())

    def interrupted(self) -> Interrupted:
        """Save the newest point and return the exception that says so."""
        if self._newest is None:
            kept = "nothing was kept" if self._task.saved is None else "the checkpoint is as it was"
            return Interrupted(f"interrupted before the first iteration; {kept}")
        saved, point = self._newest
        self._save(point())
        return Interrupted.after(f"iteration {saved.iteration}", self._task.directory)

    def finished(self, result: Fit) -> None:
        """Save the result, and write the gap that was proven of it into its row of the history; of a fit that was made
        at once, and told of no point, all rows."""
        if self._newest is None:
            made = _Made(FitState(result.solver, {}), (result.weight, result.bias))
            for row in result.history:
                self.add(row, made)
        self.history[-1] |= {key: result.history[-1][key] for key in ("gap", "relative_gap")}
        directory = self._task.directory
        directory.read_history(len(self.history) - 1)
        directory.append_history(self.history[-1])
        self._save((result.weight, result.bias))

    def _save(self, parameters: tuple[Tensor, Tensor]) -> None:
        """Save the newest point's state, and these parameters for a run that goes on with another solver."""
        assert self._newest is not None
        saved, point = self._newest
        tensors = {f"{_STATE}{name}": tensor for name, tensor in point.state.tensors.items()}
        tensors |= dict(zip(("weight", "bias"), parameters, strict=True))
        self._task.directory.keep(Checkpoint(tensors, saved.model_dump(), self._origin))
        self._saved_at = time.monotonic()


class _GapBar(ProgressBar):
    """A progress bar that is full when the gap is within the tolerance; each factor of ten has the same length."""

    def __init__(self, task: RunTask, tolerance: float) -> None:
        super().__init__(task, total=1, bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}")
        loss = task.settings.loss
        self._what = "gap" if loss.l1 > 0 or loss.l2 > 0 or task.settings.grid else "decrement"
        self._tolerance = tolerance
        self._first = 0.0

    def show(self, row: HistoryRow) -> None:
        """Show the gap of a row of the history."""
        gap = max(float(row["relative_gap"] or 0.0), 1e-300)
        self._first = self._first or max(gap, 10 * self._tolerance)
        self.total = round(_DECADE * math.log10(self._first / self._tolerance))
        self.n = min(max(round(_DECADE * math.log10(self._first / gap)), self.n), self.total)
        text = f"{self._what} {gap:.1e}, to reach {self._tolerance:.0e}; {row['passes']:.0f} passes"
        self.set_postfix_str(text, refresh=True)


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
        grid = None
        if task.settings.grid:
            progress.begin_grid()
            grid = self._choose_penalty()
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
        inference, why_not = self._infer(result)
        summary = _summary(result)
        if inference is not None and (note := self._unidentified(inference)):
            summary = replace(summary, notes=(*summary.notes, note))
        compiled = result.compile_seconds
        task.say(
            f"{result.solver}: {result.iterations} iteration{'' if result.iterations == 1 else 's'},"
            f" {result.passes:.1f} passes over X in {result.seconds:.3g} s, {summary.terabytes_per_second:.3g} TB/s"
            + (f" (after {compiled:.1f} s of compilation)" if compiled >= 0.05 else "")
        )
        task.say("\n".join([summary.statement, *(f"note: {note}" for note in summary.notes)]))
        return Learned(result.weight, result.bias, progress.history, summary, inference, why_not, grid)

    def _choose_penalty(self) -> GridTables:
        """Solve the grid and take over its penalty, with which all training rows are then fitted."""
        from .grid import solve_grid  # many models at once, for which other runs have no use

        labels = self._rows.y.double().cpu().numpy()[:, None]
        grid = solve_grid(self._task, self._rows, labels, {"y": self._task.dataset.label_names}, refit=False)
        told, ((_, out_of_fold),) = grid.report("y"), grid.out_of_fold(grid.out_of_fold_logits())
        self._loss = self._loss.model_copy(update={"l1": told.l1, "l2": told.l2})
        self._task.say(f"grid: {told.work}\ngrid: {told.sentence}")
        if told.ends:
            self._task.say(f"note: {told.ends}")
        return GridTables(told, grid.models(), out_of_fold)

    def _solver(self) -> str:
        """Return the method that the fit will take; UserError where the one asked for cannot take the problem."""
        name, outputs = self._settings.name, 1 if self._classes == 2 else self._classes
        try:
            l1 = self._task.settings.grid.l1_ratio if self._task.settings.grid else self._loss.l1
            return choose_method(name, self._rows.X, outputs=outputs, l1=l1)
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
            options["classes"] = self._classes
        if backend == "torch" and (found := fit_at_once(rows.X, rows.y, **options | {"on_point": None})):
            return found
        return (fit_softmax if self._classes > 2 else fit)(rows.X, rows.y, backend=backend, **options)

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

    def _unidentified(self, inference: Inference) -> str:
        """Return a sentence on the coefficients that have no standard errors; "" where all have one."""
        dataset = self._task.dataset
        names = inference.unidentified([*dataset.feature_names, INTERCEPT])
        if not names:
            return ""
        remedy, columns = "leave out dependent columns", dataset.encoding.columns if dataset.encoding else ()
        full = {
            name for each in columns if isinstance(each, CategoryColumn) and not each.baseline for name in each.features
        }
        if self._settings.intercept and not full.isdisjoint(names):
            remedy = "set data.categories.baseline to true for those of the categories against a reference"
        return f"{not_identified(names)}; {remedy}"


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
        problem = (
            f"is a model of {len(theirs):,} {what}, the first {theirs[0]!r}; the data have {len(ours):,}, the first"
        )
        and_references = " and references (data.categories.baseline)" if what == "columns" and model.encoding else ""
        remedy = f"choose a model of the same {what}{and_references}, or leave it out"
        raise UserError(f"{problem} {ours[0]!r}", setting="solver.start", value=where, remedy=remedy)
    raw, intercept = model.raw()
    here = dataset.standardization
    weight, bias = torch.from_numpy(raw * here.scale), torch.from_numpy(intercept + raw @ here.mean)
    return (weight[0] if len(model.label_names) == 2 else weight), bias
