"""A run of several targets: a model for each of them over one X, with a grid of penalties or without."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from .. import __version__
from ..config.data import FileData, Label
from ..config.load import dump_settings
from ..config.settings import RunSettings, SolverSettings
from ..fitting.many import ManyFits, TargetFits
from ..metrics.evaluation import evaluate
from ..metrics.scores import SplitScores
from ..models.model import Model
from ..report.coefficients import coefficient_table
from ..report.decisions import CURVE_POINTS, Question, decide
from ..report.targets import MOST_SHOWN, TargetCurves, TargetsReport, write_targets_page
from ..report.text import SPLITS, digits, in_order, measured, plural
from ..system.console import aligned
from ..system.errors import UserError
from ..training.checkpoint import Checkpoint
from .grid import Grid, lacks, solve_grid, solve_many
from .results import OF_DATASET, RunTask
from .target_labels import classes_of, scores_of, scores_of_targets

Floats = NDArray[np.float64]
HELD_OUT = "held-out"
"""Name of the training rows with each one's logit by the model that has not seen it."""
_METRICS = {"log_loss": "log loss", "accuracy": "accuracy", "roc_auc": "ROC AUC"}
_ENDINGS = {
    "limit": "stopped at the limit of {limit:,} iterations, where {gap}; raise solver.max_iterations, or take a larger"
    " solver.tolerance or penalty",
    "precision": "stopped where rounding ends all progress, and {gap}; take a larger solver.tolerance or penalty, or"
    " set data.dtype to float64",
    "separated": "cannot be fitted without a penalty, for the classes are separated; set a penalty above 0",
}
"""What is said of the models that did not end at the tolerance, by their ending."""
_TOLD = 12
"""Targets in the table on the terminal: the worst ones."""


@dataclass(frozen=True)
class TargetResults:
    """A row of targets.csv for each target, and what the run says of itself."""

    rows: list[dict[str, Any]]
    run: dict[str, Any]
    headline: str

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json: `targets` by name, and the `run`."""
        return {"targets": {row["target"]: row for row in self.rows}, "run": self.run}

    def table(self) -> str:
        """Return the targets with the greatest loss as an aligned table, and how many there are."""
        keys = [f"{self.headline}_{name}" for name in _METRICS]
        worst = sorted(self.rows, key=lambda row: -(row[keys[0]] if row[keys[0]] is not None else -1))[:_TOLD]
        lines = [["target", *(f"{self.headline} {name}" for name in _METRICS.values())]]
        lines += [[row["target"][:30], *(measured(row[key], 4) for key in keys)] for row in worst]
        more = len(self.rows) - len(worst)
        return aligned(lines, gap="  ") + (f"\nand {plural(more, 'target')} with a smaller loss" if more else "")


class TargetsRun:
    """A run of several targets. It is made before anything of an earlier run is touched; then it may `learn`."""

    def __init__(self, task: RunTask) -> None:
        """Check the labels, and a checkpoint that the run goes on from.

        Raises:
            UserError: labels that are no class numbers, a target without rows of a class, or a checkpoint of another
                run.
        """
        self._task, dataset = task, task.dataset
        self._labels: Floats = dataset.train.y.cpu().numpy()
        self._origin = task.origin("loss", "grid")
        if task.saved is not None:
            task.saved.check_origin(task.directory.checkpoint, self._origin)
        self._classes = {name: classes_of(dataset.targets, t, dataset.splits) for t, name in enumerate(dataset.targets)}
        weight = dataset.train.sample_weight
        mass = None if weight is None else weight.double().cpu().numpy()
        for t, (name, names) in enumerate(self._classes.items()):
            lacking = lacks(self._labels[:, t], mass, names)
            if lacking is not None:
                problem = f"has no training row of positive weight of the class {lacking}"
                remedy = "give such rows, or leave the target out of data.targets"
                raise UserError(problem, setting=f'target "{name}"', remedy=remedy)

    def learn(self) -> TargetResults:
        """Solve all models, and write what they are and how good.

        Raises:
            UserError: data that no fit can take.
            Interrupted: Ctrl-C or a signal.
        """
        task, rows, loss = self._task, self._task.dataset.train, self._task.settings.loss
        if task.saved is None:
            task.directory.keep(Checkpoint({}, {}, self._origin))
        else:
            task.say("the models, which are kept only when all are done, are solved again")
        grid = None
        if task.settings.grid is not None:
            grid = solve_grid(task, rows, self._labels, self._classes, refit=True)
            fits = grid.fits
        else:
            l2 = loss.l1 + loss.l2
            share = loss.l1 / l2 if l2 else 0.0
            fits = solve_many(task, rows, self._labels, list(self._classes), l2=l2, l1_ratio=share)
        results = self._write(fits, grid)
        run = results.run
        said = f"{plural(run['models'], 'model')} in {run['seconds']:.3g} s and {run['passes']:.0f} passes over the"
        task.say("\n".join([f"{said} training rows", run["statement"], *(f"note: {note}" for note in run["notes"])]))
        return results

    def _write(self, fits: ManyFits, grid: Grid | None) -> TargetResults:
        task, directory, settings = self._task, self._task.directory, self._task.settings
        models = {name: of if of.refit is None else of.refit for name, of in fits.items()}
        folders = _folders(list(fits))
        out_of_fold = {} if grid is None else grid.out_of_fold_logits()
        reports = {} if grid is None else {name: grid.report(name) for name in fits}
        table: list[dict[str, Any]] = []
        shown: list[TargetCurves] = []
        for t, (name, scores) in enumerate(scores_of_targets(task.dataset.splits, models)):
            model = models[name]
            if grid is not None:
                held = ~np.isnan(self._labels[:, t]) & ~np.isnan(out_of_fold[name].reshape(len(self._labels), -1)[:, 0])
                weight = task.dataset.train.sample_weight
                scores[HELD_OUT] = scores_of(out_of_fold[name], self._labels[:, t], weight, held)
            known = {split: one for split, one in scores.items() if one is not None}
            table.append(self._row(name, fits[name], model, f"targets/{folders[name]}", known))
            self._save(name, model, directory.targets / folders[name])
            if len(shown) < MOST_SHOWN and settings.report.html:
                shown.append(TargetCurves(name, self._question(name, known), reports.get(name)))
        if grid is not None:
            directory.write_table(directory.grid, grid.models())
            for name, tables in grid.out_of_fold(out_of_fold):
                directory.write_table(directory.targets / folders[name] / directory.out_of_fold.name, tables)
        columns = {key: pa.array([row.get(key) for row in table], from_pandas=True) for key in table[0]}
        directory.write_table(directory.targets_table, pa.table(columns))
        headline = next(name for name in SPLITS if f"{name}_log_loss" in table[0])
        results = TargetResults(table, self._run(fits, models), headline)
        text = json.dumps(results.to_json(), indent=2, allow_nan=False) + "\n"
        directory.write_text(directory.metrics, text)
        if settings.report.html:
            write_targets_page(self._report(results, shown, fits, grid), directory.report)
        return results

    def _row(
        self, name: str, of: TargetFits, model: TargetFits, path: str, scores: Mapping[str, SplitScores]
    ) -> dict[str, Any]:
        """Return a target's row of targets.csv; None for what is undefined."""
        best = of.best or 0
        l1, l2 = float(model.l1[0, 0]), float(model.l2[0, 0])
        row: dict[str, Any] = {"target": name, "model": path, "classes": len(self._classes[name])}
        row |= {"rows": len(scores["train"].y), "l1": l1, "l2": l2, "penalty": l1 + l2}
        if of.best is not None:
            row |= {"held_out_loss": float(of.mean_loss[best]), "standard_error": float(of.standard_error[best])}
        row |= {key: float(getattr(model, key)[0, 0]) for key in ("objective", "gap", "relative_gap")}
        row |= {"ending": str(model.ending[0, 0]), "iterations": int(model.iterations[0, 0])}
        settings = self._task.settings
        asked = {"eps": settings.loss.eps, "threshold": settings.report.threshold}
        names = [*self._task.dataset.splits, *([HELD_OUT] if of.best is not None else [])]
        for split in names:
            found: dict[str, Any] = {}
            if split in scores:
                found = evaluate(scores[split], **asked, bins=settings.report.calibration_bins).to_json()
                found["roc_auc"] = found.get("roc_auc", found.get("macro_roc_auc"))
            row |= {f"{split}_{key}": found.get(key) for key in _METRICS}
        return {
            key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()
        }

    def _save(self, name: str, model: TargetFits, folder: Any) -> None:
        """Write a target's model.safetensors and coefficients.csv."""
        task, dataset = self._task, self._task.dataset
        folder.mkdir(parents=True, exist_ok=True)
        whole = Model(
            weight=model.weight[0, 0].cpu().numpy(),
            bias=model.bias[0, 0].reshape(-1).cpu().numpy(),
            eps=task.settings.loss.eps,
            threshold=task.settings.report.threshold,
            **{key: getattr(dataset, key) for key in OF_DATASET} | {"label_names": self._classes[name], "rule": None},
        )
        whole.save(folder / task.directory.model.name)
        if isinstance(task.settings.data, FileData):
            alone = self._alone(name, task.settings, task.settings.data, model)
            task.directory.write_text(folder / task.directory.config.name, dump_settings(alone))
        task.directory.write_table(folder / task.directory.coefficients.name, coefficient_table(whole, None))

    def _alone(self, name: str, settings: RunSettings, data: FileData, model: TargetFits) -> RunSettings:
        """Return the settings of a run of one target alone with its penalty, by which `evaluate` knows its label."""
        others = [] if data.labels is not None else [other for other in self._classes if other != name]
        drop = data.drop if data.columns is not None else [*data.drop, *others]
        label = Label(column=name, missing="drop", multiclass=len(self._classes[name]) > 2)
        penalty = {"l1": float(model.l1[0, 0]), "l2": float(model.l2[0, 0])}
        update = {
            "name": re.sub(r"[^A-Za-z0-9._-]", "_", f"{settings.name}-{name}"),
            "data": data.model_copy(update={"targets": None, "label": label, "drop": drop}),
            "loss": settings.loss.model_copy(update=penalty),
            "grid": None,
        }
        return settings.model_copy(update=update)

    def _question(self, name: str, scores: Mapping[str, SplitScores]) -> Question | None:
        """Return the curves of a target of two classes; of the training rows only where nothing else is held out."""
        if len(self._classes[name]) > 2:
            return None
        report = self._task.settings.report
        asked: dict[str, Any] = {"threshold": report.threshold, "bins": report.calibration_bins}
        asked["points"] = CURVE_POINTS // 2
        shown = [split for split in in_order(scores) if split != "train"] or ["train"]
        return Question(name, f"not {name}", tuple(decide(split, scores[split], **asked) for split in shown))

    def _run(self, fits: ManyFits, models: Mapping[str, TargetFits]) -> dict[str, Any]:
        """Return `run` of metrics.json."""
        task = self._task
        same = {key: getattr(fits, key) for key in ("passes", "seconds", "compile_seconds", "tolerance")}
        counts = {"targets": len(fits), "models": sum(of.l2.size + (of.refit is not None) for of in fits.values())}
        assert isinstance(task.settings.solver, SolverSettings)
        proven = _proof(models, task.settings.solver.max_iterations)
        machine = {"device": str(task.device), "backend": task.backend.name, "flashlogit": __version__}
        gpu = torch.cuda.get_device_name(task.device) if task.device.type == "cuda" else None
        return (
            counts
            | proven
            | same
            | machine
            | {"torch": torch.__version__, "gpu": gpu}
            | {"threads": torch.get_num_threads()}
        )

    def _report(
        self, results: TargetResults, shown: Sequence[TargetCurves], fits: ManyFits, grid: Grid | None
    ) -> TargetsReport:
        run, task, settings = results.run, self._task, self._task.settings
        places = {one.name: place for place, one in enumerate(shown)}
        heads = {"target": "Target", "rows": "Labelled rows", "penalty": "Penalty"}
        heads |= {"held_out_loss": "Held-out loss", "standard_error": "Its error"} if grid is not None else {}
        heads |= {f"{results.headline}_{key}": f"{results.headline} {name}" for key, name in _METRICS.items()}
        heads["relative_gap"] = "Relative gap"
        facts = [
            ("Rows", ", ".join(f"{len(task.dataset.splits[name]):,} {name}" for name in in_order(task.dataset.splits))),
            ("Columns", f"{len(task.dataset.feature_names):,}"),
            ("Models", f"{run['models']:,} in {digits(fits.seconds, 3)} s and {fits.passes:.0f} passes over the rows"),
            ("Tolerance", f"{digits(fits.tolerance, 2)} of each null model’s objective"),
            (
                "Computed on",
                f"{task.device} ({run['gpu'] or plural(run['threads'], 'CPU thread')}), {task.backend.name}",
            ),
            ("Versions", f"flashlogit {__version__}, torch {torch.__version__}"),
            ("Seed", str(settings.seed)),
        ]
        return TargetsReport(
            title=settings.name,
            statement=run["statement"],
            converged=run["converged"],
            notes=(*task.dataset.notes, *run["notes"]),
            warnings=task.dataset.warnings,
            facts=tuple({**dict(facts), **dict(task.provenance().facts())}.items()),
            settings=dump_settings(settings),
            headline=results.headline,
            heads=heads,
            rows=[{**row, "shown": places.get(row["target"])} for row in results.rows],
            shown=[one for one in shown if one.question is not None or one.grid is not None],
        )


def _folders(names: Sequence[str]) -> dict[str, str]:
    """Return a folder's name for each target: its own, as far as file systems have such names, and each another."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")[:100] or "target"
        taken, folder, number = {each.lower() for each in found.values()}, plain, 2
        while folder.lower() in taken:
            folder, number = f"{plain}-{number}", number + 1
        found[name] = folder
    return found


def _proof(models: Mapping[str, TargetFits], limit: int) -> dict[str, Any]:
    """Return whether all models, [1, 1] each, have ended at the tolerance, the largest gap of those that have, None for
    none, both in a sentence, and a note for each other ending; limit: solver.max_iterations. Without a penalty half the
    squared Newton decrement is in a gap's place, and separated classes have no optimum."""
    rest = [f"{name}: {of.ending[0, 0]}" for name, of in models.items() if of.ending[0, 0] != "tolerance"]
    gaps = [float(of.relative_gap[0, 0]) for of in models.values() if of.ending[0, 0] == "tolerance"]
    largest = max(gaps, default=None)
    shown = "unknown" if largest is None else f"{largest:.1e}"
    free = any(float(of.l1[0, 0] + of.l2[0, 0]) == 0 for of in models.values())
    what = "The gap, or without a penalty half the squared Newton decrement," if free else "The objective"
    end = f"is at most {shown}" if free else f"is within {shown} of its optimum"
    said = f"{what} of every target {end}, relative to the null model's objective"
    if rest:
        few = ", ".join(rest[:5]) + (", ..." if len(rest) > 5 else "")
        have = "has" if len(rest) == 1 else "have"
        said = f"{len(rest):,} of {plural(len(models), 'target')} {have} no proven optimum ({few})"
    notes = []
    for ending, what in _ENDINGS.items():
        found = [float(of.relative_gap[0, 0]) for of in models.values() if of.ending[0, 0] == ending]
        if found:
            largest_gap = f"the gap is up to {max(found):.1e} of the null model's objective"
            notes.append(f"{plural(len(found), 'target')} {what.format(limit=limit, gap=largest_gap)}")
    return {"converged": not rest, "largest_relative_gap": largest, "statement": said, "notes": notes}
