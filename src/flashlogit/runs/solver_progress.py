"""What a run keeps while a solver works: its history, a checkpoint now and then, and a progress bar."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..config.settings import SolverSettings
from ..fitting.fit import Fit, FitPoint, FitState, Parameters
from ..system.errors import UserError
from ..training.checkpoint import Checkpoint, SavedProgress
from .directory import HistoryRow
from .results import Interrupted, ProgressBar, RunTask

_STATE = "state."
"""Prefix in a checkpoint of the names of the tensors that a solver goes on from."""
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
        self._origin = task.origin("loss")
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
        self._what = "gap" if loss.l1 > 0 or loss.l2 > 0 else "decrement"
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
