"""What every way of learning a model gets from a run and gives back, and what a finished run writes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .. import __version__, reference
from ..config.settings import RunSettings
from ..data.dataset import Dataset
from ..metrics.evaluation import ClassMetrics, Metrics, evaluate
from ..metrics.intervals import LEVEL, METHOD, Interval, bootstrap
from ..metrics.null_model import METHOD as REFERENCE_METHOD
from ..metrics.null_model import Reference, class_shares, compare_with_null
from ..metrics.scores import SplitScores
from ..models.model import Model
from ..objectives.coordinates import Moments
from ..passes import Backend
from ..report.build import build_report
from ..report.coefficients import coefficient_table
from ..report.content import EpochSummary, RunSummary, SolverSummary
from ..report.grid import GridReport
from ..report.importance import contribution_deviation
from ..report.page import write_page
from ..report.text import in_order, metrics_table
from ..system.memory import cast_rows
from ..training.checkpoint import Checkpoint
from .directory import HistoryRow, RunDirectory
from .predictions import Predictions, write_predictions
from .provenance import Provenance

if TYPE_CHECKING:  # it imports solvers, which training by mini-batches does not need
    from ..fitting.inference import Inference


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; its message says what was kept."""

    @classmethod
    def after(cls, step: str, directory: RunDirectory) -> Interrupted:
        """Say after which epoch or iteration the checkpoint was taken."""
        return cls(f"interrupted: {directory.checkpoint} holds the state after {step}; go on with --resume")


@dataclass(frozen=True)
class RunTask:
    """A run whose data are loaded. `saved` is the checkpoint it goes on from, if it does."""

    settings: RunSettings
    dataset: Dataset
    backend: Backend
    device: torch.device
    directory: RunDirectory
    saved: Checkpoint | None
    say: Callable[[str], None]
    quiet: bool
    provenance: Callable[[], Provenance]
    """Gives where the run comes from; it waits for the hashes of the data files."""

    def origin(self, *sections: str) -> dict[str, Any]:
        """Return what must be the same when the run is resumed, as JSON: sections of the settings, and the data."""
        kept = self.settings.model_dump(mode="json", include={"seed", "backend", "data", *sections})
        if self.saved is not None and isinstance(then := self.saved.origin.get("data"), dict):
            # Settings that an earlier version did not have are the same where they have their default.
            data, fields = self.settings.data, type(self.settings.data).model_fields
            new = {name for name, field in fields.items() if name not in then and getattr(data, name) == field.default}
            kept["data"] = {name: value for name, value in kept["data"].items() if name not in new}
        return kept | {"device": self.device.type, "the data's fingerprint": fingerprint(self.dataset)}

    def note_threads(self, threads: int | None) -> None:
        """Tell the user where a run goes on with another number of threads than it began with."""
        here = torch.get_num_threads()
        if threads not in (None, here):
            self.say(
                f"note: the run began with {threads} threads and goes on with {here}; its last digits may differ from"
                " an uninterrupted run's"
            )


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """A progress bar of a run, in a terminal only, that begins no thread of its own: beside one a fit is slower."""

    monitor_interval = 0

    def __init__(self, task: RunTask, **options: Any) -> None:
        """`options` are tqdm's."""
        # None: no bar where the output is not a terminal.
        super().__init__(desc=task.settings.name, disable=True if task.quiet else None, **options)


@dataclass(frozen=True)
class GridTables:
    """What a grid says of the penalty that it chose, a row for each of its models, and one for each training row."""

    report: GridReport
    models: pa.Table
    out_of_fold: pa.Table


@dataclass(frozen=True)
class Learned:
    """A model: weight [D] and bias [1], or [K, D] and [K], on the columns as they are stored.

    `inference` is of the raw columns; where it is None `why_no_inference` says why, without a full stop.
    """

    weight: Tensor
    bias: Tensor
    history: list[HistoryRow]
    summary: SolverSummary | EpochSummary
    inference: Inference | None = None
    why_no_inference: str = "training by mini-batches ends near the optimum, not at it: standard errors need a solver"
    grid: GridTables | None = None
    """What the penalty was chosen from, if it was."""


def fingerprint(dataset: Dataset) -> str:
    """Return a short hash of names, labels, statistics and two rows, which tells data sets apart without reading X."""
    train = dataset.train
    digest = hashlib.sha256(repr((dataset.feature_names, dataset.label_names, tuple(train.X.shape))).encode())
    digest.update(train.y.cpu().numpy().tobytes())
    digest.update(train.X[[0, -1]].double().cpu().numpy().tobytes())
    digest.update(dataset.standardization.mean.tobytes() + dataset.standardization.scale.tobytes())
    return digest.hexdigest()[:16]


OF_DATASET = ("feature_names", "label_names", "standardization", "array_widths", "encoding", "rule")
"""What a model has of the data set it was learned from."""


@dataclass(frozen=True)
class Results:
    """A run's metrics and their bootstrap intervals by split, and what it says of itself."""

    metrics: dict[str, Metrics | ClassMetrics]
    intervals: dict[str, dict[str, Interval]]
    references: dict[str, Reference]
    run: RunSummary
    grid: GridReport | None = None

    def table(self) -> str:
        """Return the metrics as a table for the terminal."""
        return metrics_table({name: self.metrics[name] for name in in_order(self.metrics)})

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json.

        It has each split's metrics by its name, `intervals` with level, method and (low, high) by split and metric,
        `reference` with what the null model reaches, the `run`, and the `grid` if the penalty was chosen from one.
        """
        intervals = {"level": LEVEL, "method": METHOD, "splits": self.intervals}
        metrics = {name: of_split.to_json() for name, of_split in self.metrics.items()}
        grid = {} if self.grid is None else {"grid": self.grid.to_json()}
        splits = {name: of_split.to_json() for name, of_split in self.references.items()}
        reference = {"method": REFERENCE_METHOD, "splits": splits}
        return {**metrics, "intervals": intervals, "reference": reference, "run": self.run.to_json(), **grid}


def write_results(task: RunTask, learned: Learned) -> Results:
    """Write model.safetensors, coefficients.csv, metrics.json, predictions.safetensors of splits that were held out, of
    a grid grid.csv and out_of_fold.csv and, if asked for, the report and its pictures; return what was measured."""
    directory, settings, dataset = task.directory, task.settings, task.dataset
    weight, bias = learned.weight, learned.bias
    eps, threshold, bins = settings.loss.eps, settings.report.threshold, settings.report.calibration_bins
    model = Model(
        weight=weight.cpu().numpy(),
        bias=bias.cpu().numpy(),
        eps=eps,
        threshold=threshold,
        **{name: getattr(dataset, name) for name in OF_DATASET},
    )
    model.save(directory.model)
    directory.write_table(directory.coefficients, coefficient_table(model, learned.inference))
    grid = None
    if learned.grid is not None:
        grid = learned.grid.report
        directory.write_table(directory.grid, learned.grid.models)
        directory.write_table(directory.out_of_fold, learned.grid.out_of_fold)
    scores = score(dataset, weight, bias)
    metrics = {name: evaluate(split, eps=eps, threshold=threshold, bins=bins) for name, split in scores.items()}
    intervals = {
        name: bootstrap(split, eps=eps, threshold=threshold, seed=settings.seed) for name, split in scores.items()
    }
    shares = class_shares(scores["train"])
    references = {
        name: compare_with_null(split, metrics[name], shares, eps=eps, threshold=threshold, bins=bins)
        for name, split in scores.items()
    }
    run = RunSummary(
        device=str(task.device),
        backend=task.backend.name,
        learned=learned.summary,
        flashlogit=__version__,
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name(weight.device) if weight.is_cuda else None,
        threads=torch.get_num_threads(),
    )
    results = Results(metrics, intervals, references, run, grid)
    held_out = {
        name: Predictions(rows.number, scores[name]) for name, rows in dataset.splits.items() if rows.number is not None
    }
    if held_out:
        write_predictions(directory.predictions, held_out)
    # Numbers that JSON does not know raise ValueError.
    directory.write_text(directory.metrics, json.dumps(results.to_json(), indent=2, allow_nan=False) + "\n")
    deviation, origins = column_deviation(dataset), dataset.origins
    numbers = {name: rows.number for name, rows in dataset.splits.items() if rows.number is not None}
    report = build_report(
        settings,
        model,
        metrics,
        intervals,
        scores,
        references=references,
        history=learned.history,
        summary=run,
        deviation=deviation,
        contribution=contribution_deviation(model, dataset.train.X, deviation),
        inference=learned.inference,
        why_no_inference=learned.why_no_inference,
        grid=grid,
        numbers=numbers if origins is None else {"train": origins.number, **numbers},
        notes=dataset.notes,
        warnings=dataset.warnings,
        provenance=task.provenance().facts(),
    )
    if settings.report.html:
        write_page(report, directory.report)
    if settings.report.pictures:
        from ..report.png import write_pictures  # matplotlib takes 0.5 s

        write_pictures(report, directory.pictures)
    return results


def score(dataset: Dataset, weight: Tensor, bias: Tensor) -> dict[str, SplitScores]:
    """Return logits, labels and the user's own weights (not the classes') of every split."""
    return {
        name: SplitScores(
            logits=_logits(rows.X, weight, bias).double().cpu().numpy(),
            y=rows.y.cpu().numpy(),
            sample_weight=None if rows.sample_weight is None else rows.sample_weight.double().cpu().numpy(),
        )
        for name, rows in dataset.splits.items()
    }


def _logits(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return [N] for weight [D], or [N, K] for weight [K, D]."""
    if weight.ndim == 1:
        return reference.logits(X, weight, bias)
    # X is read once for all classes, not once for each, and a block of its rows is cast at a time.
    return torch.cat([torch.addmm(bias, block.to(weight.dtype), weight.t()) for block in torch.split(X, cast_rows(X))])


def column_deviation(dataset: Dataset) -> NDArray[np.float64]:
    """Return the training rows' standard deviation of every column [D] in the user's units.

    It is known where columns were standardised, and else measured.
    """
    scale = dataset.standardization.scale
    if (scale != 1).any():
        return scale
    measured: NDArray[np.float64] = np.sqrt(Moments.of(dataset.train.X).variance)
    return measured
