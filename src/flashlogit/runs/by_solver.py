"""The part of a run that goes to the optimum: a solver, its certificate, and what is said about both."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..training.checkpoint import Checkpoint, Progress
from ..config.settings import SolverSettings
from ..data import Dataset, Rows
from ..system.errors import UserError
from ..fitting.fit import Fit, FitPoint, FitState, Parameters, fit
from ..fitting.inference import Inference, infer
from .task import Bar, HistoryRow, Interrupted, Learned, Task
from ..models.model import Model
from ..training.objective import class_weights, with_class_weight
from ..system.threads import thread_count
from ..fitting.softmax import fit_softmax
from ..solvers.choose import choose_softmax_solver, choose_solver
from ..system.stopping import saving

_STATE = "state."
"""Before the names of a state's tensors in a checkpoint."""
_SETTINGS = {
    "raise max_iterations": "raise solver.max_iterations",
    "larger tolerance": "larger solver.tolerance",
    "penalty (l2)": "penalty (loss.l2)",
}
"""Parameters of a fit that its notes name, and the settings that they are here."""
_DECADE_STEPS = 100
"""Steps of the progress bar for each factor of ten that the gap falls."""


def check_start(settings: SolverSettings | None) -> Model | None:
    """The model that `solver.start` names, if it does; UserError where there is none."""
    if settings is None or settings.start is None:
        return None
    path = Path(settings.start).expanduser()
    if not path.exists():
        raise UserError(
            f"solver.start is {settings.start}, and there is no such run or model; correct it or leave it out"
        )
    return Model.load(path)


class SolverRun:
    """A run to the optimum: made before anything of an earlier run is touched, then `learn`."""

    def __init__(self, task: Task, start: Model | None) -> None:
        """Choose the solver and where it starts.

        Raises:
            UserError: a solver that cannot take the problem, or a checkpoint or model of other data.
        """
        solver = task.settings.solver
        assert solver is not None
        self._task, self._settings = task, solver
        loss, dataset = task.settings.loss, task.dataset
        self._classes = len(dataset.label_names)
        self._rows = with_class_weight(
            dataset.train, class_weights(dataset.train, loss.class_weight, classes=self._classes)
        )
        D = self._rows.X.shape[1]
        if self._classes == 2:
            name = choose_solver(solver.name, len(self._rows), D, l1=loss.l1)
        else:
            name = choose_softmax_solver(solver.name, D, self._classes, l1=loss.l1)
        self._progress = _Progress(task, solver, name)
        self._start: Parameters | FitState | None = self._progress.resumed()
        if start is not None and self._start is None:
            self._start = _on_columns(start, dataset)

    def learn(self) -> Learned:
        """Minimise the objective over the training rows until its certificate is within the tolerance.

        Raises:
            UserError: data that no fit can take.
            Interrupted: Ctrl-C or a signal; the checkpoint holds the last point.
        """
        task, solver, rows, progress = self._task, self._settings, self._rows, self._progress
        loss = task.settings.loss
        options: dict[str, Any] = {
            "sample_weight": rows.sample_weight,
            "l1": loss.l1,
            "l2": loss.l2,
            "intercept": solver.intercept,
            "solver": solver.name,
            "tolerance": solver.tolerance,
            "max_iterations": solver.max_iterations,
            "start": self._start,
            "names": task.dataset.feature_names,
            "on_point": progress.heard,
        }
        with progress.bar:
            try:
                if self._classes == 2:
                    result = fit(rows.X, rows.y, backend=task.backend.name, **options)
                else:
                    result = fit_softmax(rows.X, rows.y, classes=self._classes, **options)
                with saving():
                    progress.finished(result)
            except KeyboardInterrupt:
                with saving():
                    raise progress.interrupted() from None
            except ValueError as error:
                raise (task.saved.unusable(str(error)) if task.saved else UserError(str(error))) from error
        for sentence in sentences(result):
            task.say(sentence)
        inference, why_not = inferred(result, rows, task)
        return Learned(result.weight, result.bias, progress.history, about(result), inference, why_not)


def inferred(result: Fit, rows: Rows, task: Task) -> tuple[Inference | None, str]:
    """Standard errors of the raw columns' coefficients, or why there are none."""
    loss, settings = task.settings.loss, task.settings.solver
    assert settings is not None
    if loss.l1 > 0 or loss.l2 > 0:
        return None, (
            f"the fit is penalised (loss.l1 = {loss.l1:g}, loss.l2 = {loss.l2:g}): its coefficients are drawn towards"
            " 0, and standard errors of maximum likelihood do not describe them"
        )
    if result.separation is not None:
        return None, separation_reason(result)
    if len(task.dataset.label_names) > 2:
        return None, "standard errors are computed for two classes"
    if not result.converged:
        return None, "the fit did not reach an optimum, at which alone standard errors have a meaning"
    standardization = task.dataset.standardization
    try:
        inference = infer(
            rows.X,
            rows.y,
            result.weight,
            result.bias,
            sample_weight=rows.sample_weight,
            intercept=settings.intercept,
            mean=torch.from_numpy(standardization.mean),
            scale=torch.from_numpy(standardization.scale),
            backend=task.backend.name,
        )
    except UserError as error:
        return None, str(error)
    return inference, ""


def separation_reason(result: Fit) -> str:
    """Why a fit of separated classes has no standard errors, as a part of a sentence."""
    assert result.separation is not None
    note = next(
        (note for note in result.notes if note.startswith("the classes ")), "the classes are separated"
    )
    what = note.partition(f" ({result.separation.evidence})")[0]
    proven = result.separation.kind != "suspected"
    return f"{'no finite optimum exists' if proven else 'there may be no finite optimum'}: {what}"


def sentences(result: Fit) -> list[str]:
    """What a run says about its fit."""
    rate = result.bytes_read / max(result.seconds, 1e-9) / 1e12
    compiled = (
        f" (after {result.compile_seconds:.1f} s of compilation)" if result.compile_seconds >= 0.05 else ""
    )
    iterations = f"{result.iterations} iteration{'' if result.iterations == 1 else 's'}"
    return [
        f"{result.solver}: {iterations}, {result.passes:.1f} passes over X in {result.seconds:.3g} s,"
        f" {rate:.3g} TB/s{compiled}",
        result.certificate.sentence(),
        *(f"note: {note}" for note in notes(result)),
    ]


def notes(result: Fit) -> list[str]:
    """The notes of a fit, in the words of a configuration."""
    found = list(result.notes)
    for parameter, setting in _SETTINGS.items():
        found = [note.replace(parameter, setting) for note in found]
    return found


def about(result: Fit) -> dict[str, Any]:
    """A fit for metrics.json."""
    return {
        "solver": result.solver,
        "ending": result.ending,
        "converged": result.converged,
        "objective": result.objective,
        "null_objective": result.certificate.null_objective,
        "certificate": result.certificate.kind,
        "gap": result.gap,
        "relative_gap": result.relative_gap,
        "tolerance": result.tolerance,
        "statement": result.certificate.sentence(),
        "notes": notes(result),
        "separation": result.separation.kind if result.separation else None,
        "iterations": result.iterations,
        "passes": result.passes,
        "terabytes_per_second": result.bytes_read / max(result.seconds, 1e-9) / 1e12,
        "seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
    }


class _SolverProgress(Progress):
    iteration: int = Field(ge=0, lt=2**53)
    history_length: int = Field(ge=0, lt=2**53)
    """Rows before that of the point, which is heard of once more."""
    # Checkpoints of earlier versions hold parameters only.
    passes: float = 0.0
    seconds: float = 0.0
    before: dict[str, float] = Field(default_factory=dict)
    solver: str | None = None
    intercept: bool = True
    threads: int | None = None


@dataclass(frozen=True)
class _Point:
    """What a solver gave at a point, whose row comes after so many of the history."""

    row: HistoryRow
    rows_before: int
    reached: FitPoint


class _Progress:
    """What a run keeps while the solver works: history, checkpoint, progress bar."""

    def __init__(self, task: Task, settings: SolverSettings, solver: str) -> None:
        self._task, self._settings, self._solver = task, settings, solver
        self._origin = task.origin("loss")
        self._newest: _Point | None = None
        self._before = {"iteration": 0.0, "passes": 0.0, "seconds": 0.0}
        """What another solver had taken, from which this one went on."""
        self._saved_at = time.monotonic()
        self.history: list[HistoryRow] = []
        self.bar = _GapBar(task)

    def resumed(self) -> Parameters | FitState | None:
        """What to go on from, if the run does: the state, or the point where the solver is another one now.

        Earlier history is taken up.
        """
        task, saved = self._task, self._task.saved
        if saved is None:
            return None
        saved.check_origin(task.directory.checkpoint, self._origin)
        progress = saved.progress_as(_SolverProgress)
        D, K = task.dataset.train.X.shape[1], len(task.dataset.label_names)
        shapes = {"weight": (D,), "bias": (1,)} if K == 2 else {"weight": (K, D), "bias": (K,)}
        state = {
            name.removeprefix(_STATE): tensor
            for name, tensor in saved.tensors.items()
            if name.startswith(_STATE)
        }
        point = {name: tensor for name, tensor in saved.tensors.items() if not name.startswith(_STATE)}
        replace(saved, tensors=point).check_tensors(
            {name: torch.empty(shape) for name, shape in shapes.items()}
        )
        if state and progress.intercept != self._settings.intercept:
            raise UserError(
                f"{task.directory.checkpoint} belongs to another run: solver.intercept was {progress.intercept} and is"
                f" {self._settings.intercept}; set it back, choose another name, or start again with --overwrite"
            )
        goes_on = bool(state) and progress.solver == self._solver
        self.history = task.directory.read_history(progress.history_length, ["iteration", "relative_gap"])
        if goes_on:
            self._before = {key: progress.before.get(key, 0.0) for key in self._before}
        else:
            self._before = {
                "iteration": progress.iteration,
                "passes": progress.passes,
                "seconds": progress.seconds,
            }
        task.say(f"resuming after iteration {progress.iteration}")
        if not goes_on:
            if state:
                task.say(
                    f"note: {self._solver} starts anew from the point that {progress.solver} has reached"
                )
            return saved.tensors["weight"], saved.tensors["bias"]
        task.note_threads(progress.threads)
        return FitState(self._solver, state)

    def heard(self, row: HistoryRow, point: FitPoint) -> None:
        """A new point."""
        row = row | {key: (row[key] or 0) + before for key, before in self._before.items()}
        row["iteration"] = int(row["iteration"] or 0)
        self._newest = _Point(row, len(self.history), point)
        self.history.append(row)
        self._task.directory.append_history(row)
        self.bar.show(row)
        if time.monotonic() - self._saved_at >= self._settings.checkpoint_seconds:
            self._save(self._newest, *point())

    def interrupted(self) -> Interrupted:
        """Keep what was reached."""
        if self._newest is None:
            kept = "nothing was kept" if self._task.saved is None else "the checkpoint is as it was"
            return Interrupted(f"interrupted before the first iteration; {kept}")
        self._save(self._newest, *self._newest.reached())
        return Interrupted(
            f"interrupted: {self._task.directory.checkpoint} holds the state after iteration"
            f" {self._newest.row['iteration']}; go on with --resume"
        )

    def finished(self, result: Fit) -> None:
        """Keep the result, and the certified gap in its row of the history."""
        certified = {key: result.history[-1][key] for key in ("gap", "relative_gap")}
        self.history[-1] |= certified
        directory = self._task.directory
        directory.read_history(len(self.history) - 1)
        directory.append_history(self.history[-1])
        assert self._newest is not None
        self._save(self._newest, result.weight, result.bias)

    def _save(self, point: _Point, weight: Tensor, bias: Tensor) -> None:
        """A point's state, and these parameters for a run that goes on with another solver."""
        progress = _SolverProgress(
            iteration=int(point.row["iteration"] or 0),
            history_length=point.rows_before,
            passes=float(point.row["passes"] or 0.0),
            seconds=float(point.row["seconds"] or 0.0),
            before=self._before,
            solver=point.reached.state.solver,
            intercept=self._settings.intercept,
            threads=thread_count(),
        )
        tensors = {f"{_STATE}{name}": tensor for name, tensor in point.reached.state.tensors.items()}
        self._task.directory.keep(
            Checkpoint({"weight": weight, "bias": bias, **tensors}, progress.model_dump(), self._origin)
        )
        self._saved_at = time.monotonic()


class _GapBar:
    """A progress bar that is full when the gap has come down to the tolerance; a decade is as far as any other."""

    def __init__(self, task: Task) -> None:
        assert task.settings.solver is not None
        self._tolerance = task.settings.solver.tolerance
        loss = task.settings.loss
        self._what = "gap" if loss.l1 > 0 or loss.l2 > 0 else "decrement"
        self._bar = Bar(task, total=1, bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}")
        self._first: float | None = None
        self._place, self._length = 0.0, 1

    def __enter__(self) -> _GapBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, row: HistoryRow) -> None:
        """The gap of a history row."""
        gap = max(float(row["relative_gap"] or 0.0), 1e-300)
        if self._first is None:
            self._first = max(gap, 10 * self._tolerance)
            self._bar.total = self._length = round(_DECADE_STEPS * math.log10(self._first / self._tolerance))
        fallen = _DECADE_STEPS * math.log10(self._first / gap)
        self._place = min(max(fallen, self._place), self._length)
        self._bar.n = round(self._place)
        self._bar.set_postfix_str(
            f"{self._what} {gap:.1e}, to reach {self._tolerance:.0e}; {row['passes']:.0f} passes",
            refresh=True,
        )


def _on_columns(model: Model, dataset: Dataset) -> Parameters:
    """A model's parameters on the columns of this data set, which may be standardised otherwise."""
    theirs, ours = model.feature_names, dataset.feature_names
    if theirs != ours:
        raise UserError(
            f"solver.start is a model of {len(theirs):,} columns, the first {theirs[0]!r}, and the data have"
            f" {len(ours):,}, the first {ours[0]!r}: choose a model of the same columns, or leave solver.start out"
        )
    if len(model.label_names) != len(dataset.label_names):
        raise UserError(
            f"solver.start is a model of {len(model.label_names)} classes, and the data have"
            f" {len(dataset.label_names)}; choose a model of the same classes, or leave solver.start out"
        )
    raw = model.weight / model.standardization.scale
    bias = model.bias - raw @ model.standardization.mean
    here = dataset.standardization
    return torch.from_numpy(raw * here.scale), torch.from_numpy(bias + raw @ here.mean)
