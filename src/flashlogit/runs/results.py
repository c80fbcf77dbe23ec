"""What a finished run writes: the model, its metrics and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__, reference
from ..config.settings import RunSettings
from ..data import Dataset
from ..metrics.binary import Metrics, evaluate
from ..metrics.intervals import LEVEL, METHOD, Interval, bootstrap
from ..metrics.intervals_multiclass import METHOD as CLASS_METHOD
from ..metrics.intervals_multiclass import bootstrap_classes
from ..metrics.multiclass import ClassMetrics, evaluate_classes
from ..models.model import Model
from ..objectives.coordinates import Moments
from ..report import build_report, write_page, write_pictures
from ..report.coefficient_table import coefficient_table, write_coefficients
from ..report.plots import SplitScores, plot_run
from ..report.summary import RunSummary, SolverSummary
from ..system.memory import cast_rows
from .task import Learned, Task


@dataclass(frozen=True)
class Results:
    """A run's metrics and their bootstrap intervals by split, and what it says of itself."""

    metrics: dict[str, Metrics | ClassMetrics]
    intervals: dict[str, dict[str, Interval]]
    run: RunSummary

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json.

        It has each split's metrics by its name, `intervals` with level, method and (low, high) by split and metric, and
        the `run`.
        """
        several = any(isinstance(of_split, ClassMetrics) for of_split in self.metrics.values())
        splits = {
            name: {metric: list(ends) for metric, ends in of_split.items()}
            for name, of_split in self.intervals.items()
        }
        return {name: of_split.to_json() for name, of_split in self.metrics.items()} | {
            "intervals": {
                "level": LEVEL,
                "method": CLASS_METHOD if several else METHOD,
                "splits": splits,
            },
            "run": self.run.to_json(),
        }


def write_results(task: Task, learned: Learned) -> Results:
    """Write model.safetensors, coefficients.csv, metrics.json, curves.png and the report."""
    directory, settings, dataset = task.directory, task.settings, task.dataset
    weight, bias, summary = learned.weight, learned.bias, learned.summary
    model = Model(
        weight=weight.cpu().numpy(),
        bias=bias.cpu().numpy(),
        feature_names=dataset.feature_names,
        label_names=dataset.label_names,
        standardization=dataset.standardization,
        eps=settings.loss.eps,
        threshold=settings.report.threshold,
        array_widths=dataset.array_widths,
        encoding=dataset.encoding,
        rule=dataset.rule,
    )
    model.save(directory.model)
    write_coefficients(coefficient_table(model, learned.inference), directory.coefficients)
    scores = score(dataset, weight, bias)
    metrics: dict[str, Metrics | ClassMetrics] = {}
    intervals: dict[str, dict[str, Interval]] = {}
    for name, split in scores.items():
        metrics[name], intervals[name] = _measure(split, settings)
    run = RunSummary(
        device=str(task.device),
        backend=task.backend.name,
        learned=summary,
        flashlogit=__version__,
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name(weight.device) if weight.is_cuda else None,
        threads=torch.get_num_threads(),
    )
    results = Results(metrics, intervals, run)
    directory.write_json(directory.metrics, results.to_json())
    plot_run(
        learned.history,
        scores,
        directory.curves,
        bins=settings.report.calibration_bins,
        title=settings.name,
        tolerance=settings.solver.tolerance if settings.solver else None,
        proven=isinstance(summary, SolverSummary) and summary.certificate == "gap",
    )
    if settings.report.html:
        report = build_report(
            settings,
            model,
            metrics,
            intervals,
            scores,
            history=learned.history,
            about=run.to_json(),  # until merged
            deviation=column_deviation(dataset),
            inference=learned.inference,
            why_no_inference=learned.why_no_inference,
            notes=dataset.notes,
        )
        write_page(report, directory.report)
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
    return torch.cat(
        [torch.addmm(bias, block.to(weight.dtype), weight.t()) for block in torch.split(X, cast_rows(X))]
    )


def _measure(split: SplitScores, settings: RunSettings) -> tuple[Metrics | ClassMetrics, dict[str, Interval]]:
    """Return one split's metrics as the settings ask for them, and their intervals, drawn from the run's seed."""
    weighted: dict[str, Any] = {"sample_weight": split.sample_weight}
    seed, report = settings.seed, settings.report
    if split.logits.ndim == 2:
        of_classes = evaluate_classes(split.logits, split.y, rest=split.rest, **weighted)
        return of_classes, bootstrap_classes(split.logits, split.y, metrics=of_classes, seed=seed, **weighted)
    weighted |= {"eps": settings.loss.eps, "threshold": report.threshold}
    metrics = evaluate(split.logits, split.y, bins=report.calibration_bins, **weighted)
    return metrics, bootstrap(split.logits, split.y, seed=seed, **weighted)


def column_deviation(dataset: Dataset) -> NDArray[np.float64]:
    """Return the training rows' standard deviation of every column [D] in the user's units.

    It is known where columns were standardised, and else measured.
    """
    if not bool((dataset.standardization.scale == 1).all()):
        return dataset.standardization.scale
    deviation: NDArray[np.float64] = Moments.of(dataset.train.X).variance.sqrt().cpu().numpy()
    return deviation
