"""Saved runs beside each other: their metrics, what the same rows say of their difference, and what they were told.

Runs are compared by their files, so that neither data are loaded nor anything is trained: metrics.json has each split's
metrics, predictions.safetensors what the model said of each row that was held out. Rows are the same where their
numbers in the file, labels and weights are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ..config.load import load_settings
from ..config.settings import RunSettings
from ..metrics.intervals import Interval, bootstrap
from ..metrics.paired import compare_paired
from ..models.model import Model
from ..system.errors import UserError, listing
from ..system.strict import first_problem
from .comparison import Against, Comparison, Measured
from .directory import PREDICTIONS
from .predictions import Predictions, read_predictions

if TYPE_CHECKING:
    from .scoring import Data

_SEED = 0
"""The replicates' seed: the same runs give the same intervals."""
_SPLITS = ("test", "validation", "train")
_NOT_COMPARED = {"name", "output"}
"""Settings that say where a run lies."""


class _Results(BaseModel):
    """What a comparison reads of metrics.json."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    class Intervals(BaseModel):
        """The intervals of each split, by metric."""

        splits: dict[str, dict[str, Interval]] = {}

    class Grid(BaseModel):
        """What was chosen of a grid."""

        l1: float
        l2: float

    intervals: Intervals = Intervals()
    grid: Grid | None = None
    train: dict[str, float | None]
    validation: dict[str, float | None] | None = None
    test: dict[str, float | None] | None = None


@dataclass(frozen=True)
class _Run:
    """A run with its predictions of the rows of the comparison, None where it has kept none."""

    measured: Measured
    settings: RunSettings | None
    threshold: float
    kept: Predictions | None


@dataclass(frozen=True)
class LabelledData:
    """Files to compare the runs on, and the columns as for `flashlogit.runs.scoring.score_file`."""

    path: Data
    label: str | int | None = None
    weight: str | int | None = None
    labels: Data | None = None


def compare_runs(
    paths: Sequence[Path],
    *,
    split: str | None = None,
    baseline: Path | None = None,
    data: LabelledData | None = None,
) -> Comparison:
    """Return a comparison of two or more runs.

    Args:
        paths: the run directories; with `data` also model files.
        split: the split whose metrics are compared, if there are no `data`; None for test.
        baseline: the run that the others are compared with, one of `paths`; None for the first.
        data: rows on which all runs are measured in place of a split's.

    Raises:
        UserError: fewer than two runs, one that is none, has not finished, is damaged or given twice, models of other
            classes, or a split that a run lacks.
    """
    known = _distinct(paths)
    if baseline is not None and baseline.resolve() not in known:
        remedy = f"give one of {', '.join(map(str, paths))}"
        raise UserError("must be one of the runs", setting="--baseline", value=str(baseline), remedy=remedy)
    if split is not None and data is not None:
        problem = "given beside --data, whose rows are no split"
        raise UserError(problem, setting="--split", value=split, remedy="leave out one of them")
    for path in paths:
        _require_run(path, scored=data is not None)
    models = [Model.load(path) for path in paths]
    _require_same_classes(paths, models)
    names = _names(paths)
    notes: list[str] = []
    if data is None:
        chosen = split or "test"
        runs = [_saved(*each, chosen) for each in zip(paths, names, models, strict=True)]
    else:
        chosen = "data"
        runs, notes = _scored(paths, names, models, data)
    base = runs[known.index(baseline.resolve())] if baseline is not None else runs[0]
    against = []
    for run in runs:
        if run is not base:
            against.append(_against(base, run, chosen))
            notes += _other_files(base, run, chosen) if against[-1].paired else []
    settings = {run.measured.name: _tree(run.settings) for run in runs if run.settings is not None}
    measured = [run.measured for run in runs]
    return Comparison(chosen, measured, base.measured.name, against, _differing(settings), tuple(notes))


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Return the runs' real places; UserError where there are fewer than two, or two are one."""
    if len(paths) < 2:
        raise UserError("give two or more runs to compare", remedy="such as runs/first runs/second")
    known = [path.resolve() for path in paths]
    for path, place in zip(paths, known, strict=True):
        if known.count(place) > 1:
            raise UserError("is given twice", setting=path, remedy="give each run once")
    return known


def _require_run(path: Path, *, scored: bool) -> None:
    """Raise UserError where a path has no finished run; for runs to be scored it is enough that there is a model."""
    if not path.exists():
        raise UserError("there is no such run directory", setting=path, remedy="correct its name")
    if scored:
        return
    if several := sorted(path.glob("targets/*/model.safetensors")):
        problem = f"is a run of {len(several):,} targets, whose models are compared on a file's rows only"
        raise UserError(problem, setting=path, remedy=f"give models such as {several[0].parent}, and --data FILE")
    if not (path / "metrics.json").is_file():
        if not path.is_dir():
            problem, remedy = "is a file, which has no metrics", "give a run directory, or rows with --data FILE"
        elif (path / "model.safetensors").is_file():
            problem, remedy = "has a model and no metrics.json", "give a run directory, or rows with --data FILE"
        elif (path / "config.yaml").is_file():
            problem, remedy = "holds a run that has not finished", "go on with it: flashlogit train --resume"
        else:
            problem, remedy = "is no run directory: it has no metrics.json", "give a folder that train has written"
        raise UserError(problem, setting=path, remedy=remedy)


def _require_same_classes(paths: Sequence[Path], models: Sequence[Model]) -> None:
    first = models[0].label_names
    for path, model in zip(paths, models, strict=True):
        if model.label_names != first:
            problem = f"has the classes {listing(model.label_names, 4)}, and {paths[0]} {listing(first, 4)}"
            raise UserError(problem, setting=path, remedy="compare runs of the same classes in the same order")


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, or the paths as they were given where two have the same."""
    names = [path.resolve().name for path in paths]
    return names if len({*names}) == len(names) and all(path.is_dir() for path in paths) else [*map(str, paths)]


def _settings(path: Path) -> RunSettings | None:
    config = path / "config.yaml"
    return load_settings(config, []) if config.is_file() else None


def _saved(path: Path, name: str, model: Model, split: str) -> _Run:
    """Return a run with what its folder says of a split."""
    file = path / "metrics.json"
    try:
        results = _Results.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = f"is damaged ({first_problem(error)})"
        raise UserError(problem, setting=file, remedy="train the run again with --overwrite") from error
    there = {each: found for each in _SPLITS if (found := getattr(results, each)) is not None}
    if split not in there:
        remedy = f"it has {', '.join(there)}; choose one with --split, or give rows with --data FILE"
        raise UserError(f"the run {path} has no such split", setting="--split", value=split, remedy=remedy)
    kept = read_predictions(path / PREDICTIONS, split, len(model.label_names))
    measured = Measured(name, _whole(there[split]), results.intervals.splits.get(split, {}))
    settings = _settings(path)
    if settings is not None and results.grid is not None:  # the penalties of the model that is compared
        loss = settings.loss.model_copy(update=results.grid.model_dump())
        settings = settings.model_copy(update={"loss": loss})
    return _Run(measured, settings, model.threshold, kept)


def _whole(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the metrics with counts as whole numbers, which JSON does not tell from others."""
    return {
        name: int(v) if v is not None and name in ("rows", "positives", "classes") else v for name, v in metrics.items()
    }


def _scored(
    paths: Sequence[Path], names: Sequence[str], models: Sequence[Model], data: LabelledData
) -> tuple[list[_Run], list[str]]:
    """Return the runs measured on a file's rows, and notes."""
    from .scoring import score_file

    runs, notes = [], []
    for path, name, model in zip(paths, names, models, strict=True):
        file = score_file(model, path, data.path, label=data.label, weight=data.weight, labels=data.labels)
        metrics = file.metrics(model.threshold).to_json()
        intervals = bootstrap(file.scores, eps=model.eps, threshold=model.threshold, seed=_SEED)
        kept = Predictions(np.flatnonzero(file.kept) + 1, file.scores)
        runs.append(_Run(Measured(name, metrics, intervals), file.settings, model.threshold, kept))
        notes += [f"{name}: {note}" for note in file.notes]
        if unlabelled := int((~file.kept).sum()):
            notes.append(f"{name}: left out {unlabelled:,} rows without a label")
    return runs, notes


def _against(base: _Run, run: _Run, rows: str) -> Against:
    name = run.measured.name
    if rows == "train":
        return Against(name, None, "runs keep no predictions of training rows; --data FILE compares them on a file's")
    first, second = base.kept, run.kept
    if first is None or second is None:
        lacking = (base if first is None else run).measured.name
        problem = f"{lacking} has no {PREDICTIONS}, which earlier versions did not write"
        return Against(name, None, f"{problem}; --data FILE compares them on a file's rows")
    if not (np.array_equal(first.number, second.number) and first.scores.same_rows(second.scores)):
        wanted = (
            "--label and --weight choose these for all" if rows == "data" else "--data FILE compares them on a file's"
        )
        return Against(name, None, f"they were measured on other rows, or on other labels or weights of them; {wanted}")
    thresholds = base.threshold, run.threshold
    return Against(name, compare_paired(first.scores, second.scores, thresholds=thresholds, seed=_SEED))


def _other_files(base: _Run, run: _Run, split: str) -> list[str]:
    """Return a note where the rows that were taken for the same come from files of other names."""
    if split == "data" or base.settings is None or run.settings is None:
        return []
    first, second = (
        (
            data.source,
            getattr(data, f"{split}_path", None) or getattr(data, "path", None),
            getattr(data, "labels", None),
        )
        for data in (base.settings.data, run.settings.data)
    )
    if first == second:
        return []
    names = f"{run.measured.name} and {base.measured.name}"
    return [f"{names} were trained on other files; rows of equal number, label and weight are taken for the same"]


def _tree(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that a run was made by, of the two ways to learn that which was taken."""
    unused = {"training"} if settings.solver else {"solver"}
    return settings.model_dump(mode="json", exclude=_NOT_COMPARED | unused)


def _differing(runs: Mapping[str, Any], above: str = "") -> dict[str, dict[str, Any]]:
    """Return for each setting that differs its value in each run that has it, by the setting's dotted name.

    A section is taken apart where no run has another value in its place, such as null.
    """
    keys = dict.fromkeys(key for tree in runs.values() for key in tree)
    found: dict[str, dict[str, Any]] = {}
    for key in keys:
        values = {name: tree[key] for name, tree in runs.items() if key in tree}
        if all(isinstance(value, dict) for value in values.values()):
            found |= _differing({name: values.get(name, {}) for name in runs}, f"{above}{key}.")
        elif len(values) < len(runs) or any(value != next(iter(values.values())) for value in values.values()):
            found[f"{above}{key}"] = values
    return found
