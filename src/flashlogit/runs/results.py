"""What a finished run writes: the model, its metrics and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__, reference
from ..data import Dataset
from ..metrics.evaluation import ClassMetrics, Metrics, evaluate
from ..metrics.intervals import LEVEL, METHOD, Interval, bootstrap
from ..metrics.scores import SplitScores
from ..models.model import Model
from ..objectives.coordinates import Moments
from ..report.build import build_report
from ..report.coefficients import coefficient_table, write_coefficients
from ..report.content import RunSummary
from ..report.page import write_page
from ..report.png import write_curves, write_pictures
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
        splits = {
            name: {metric: list(ends) for metric, ends in of_split.items()} for name, of_split in self.intervals.items()
        }
        return {name: of_split.to_json() for name, of_split in self.metrics.items()} | {
            "intervals": {
                "level": LEVEL,
                "method": METHOD,
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
    eps, threshold, bins = settings.loss.eps, settings.report.threshold, settings.report.calibration_bins
    metrics = {name: evaluate(split, eps=eps, threshold=threshold, bins=bins) for name, split in scores.items()}
    intervals = {
        name: bootstrap(split, eps=eps, threshold=threshold, seed=settings.seed) for name, split in scores.items()
    }
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
    report = build_report(
        settings,
        model,
        metrics,
        intervals,
        scores,
        history=learned.history,
        summary=run,
        deviation=column_deviation(dataset),
        inference=learned.inference,
        why_no_inference=learned.why_no_inference,
        notes=dataset.notes,
    )
    write_curves(report, directory.curves)
    if settings.report.html:
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
    return torch.cat([torch.addmm(bias, block.to(weight.dtype), weight.t()) for block in torch.split(X, cast_rows(X))])


def column_deviation(dataset: Dataset) -> NDArray[np.float64]:
    """Return the training rows' standard deviation of every column [D] in the user's units.

    It is known where columns were standardised, and else measured.
    """
    if not bool((dataset.standardization.scale == 1).all()):
        return dataset.standardization.scale
    deviation: NDArray[np.float64] = Moments.of(dataset.train.X).variance.sqrt().cpu().numpy()
    return deviation
