"""What a finished run writes: the model, its metrics and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from .. import reference
from ..report.coefficient_table import coefficient_table, write_coefficients
from ..config.settings import RunSettings
from ..objectives.coordinates import Moments
from ..data import Dataset
from ..metrics.intervals import LEVEL, METHOD, Interval, bootstrap
from ..metrics.intervals_multiclass import METHOD as CLASS_METHOD
from ..metrics.intervals_multiclass import bootstrap_classes
from .task import Learned
from ..system.memory import cast_rows
from ..metrics.binary import Metrics, evaluate
from ..metrics.multiclass import ClassMetrics, evaluate_classes
from ..models.model import Model
from ..report.plots import SplitScores, plot_run
from ..report import build_report, write_page, write_pictures
from .directory import RunDirectory


@dataclass(frozen=True)
class Results:
    """Metrics and their bootstrap intervals, by split."""

    metrics: dict[str, Metrics | ClassMetrics]
    intervals: dict[str, dict[str, Interval]]

    def to_json(self) -> dict[str, Any]:
        """Each split's metrics by its name, and `intervals` with level, method and (low, high) by split and metric."""
        several = any(isinstance(of_split, ClassMetrics) for of_split in self.metrics.values())
        return {name: of_split.to_json() for name, of_split in self.metrics.items()} | {
            "intervals": {
                "level": LEVEL,
                "method": CLASS_METHOD if several else METHOD,
                "splits": {
                    name: {metric: list(ends) for metric, ends in of_split.items()}
                    for name, of_split in self.intervals.items()
                },
            }
        }


def write_results(
    directory: RunDirectory,
    settings: RunSettings,
    dataset: Dataset,
    learned: Learned,
    *,
    about: Mapping[str, Any],
) -> Results:
    """Write model.safetensors, coefficients.csv, metrics.json (with `about` the run), curves.png and the report."""
    model = Model(
        weight=learned.weight.cpu().numpy(),
        bias=learned.bias.cpu().numpy(),
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
    weight, bias = learned.weight, learned.bias
    scores = score(dataset, weight, bias)
    metrics = {name: measure(split, settings) for name, split in scores.items()}
    machine = {
        "flashlogit": __version__,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(weight.device) if weight.is_cuda else None,
        "threads": torch.get_num_threads(),
    }
    intervals = {name: _intervals(split, metrics[name], settings) for name, split in scores.items()}
    results = Results(metrics, intervals)
    directory.write_json(directory.metrics, results.to_json() | {"run": {**about, **machine}})
    plot_run(
        learned.history,
        scores,
        directory.curves,
        bins=settings.report.calibration_bins,
        title=settings.name,
        tolerance=settings.solver.tolerance if settings.solver else None,
        proven=learned.about.get("certificate") == "gap",
    )
    if settings.report.html:
        report = build_report(
            settings,
            model,
            metrics,
            intervals,
            scores,
            history=learned.history,
            about={**about, **machine},
            deviation=column_deviation(dataset),
            inference=learned.inference,
            why_no_inference=learned.why_no_inference,
            notes=dataset.notes,
        )
        write_page(report, directory.report)
        write_pictures(report, directory.pictures)
    return results


def score(dataset: Dataset, weight: Tensor, bias: Tensor) -> dict[str, SplitScores]:
    """Logits, labels and the user's own weights (not the classes') of every split."""
    return {
        name: SplitScores(
            logits=_logits(rows.X, weight, bias).double().cpu().numpy(),
            y=rows.y.cpu().numpy(),
            sample_weight=None if rows.sample_weight is None else rows.sample_weight.double().cpu().numpy(),
        )
        for name, rows in dataset.splits.items()
    }


def _logits(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[N] for weight [D], or [N, K] for weight [K, D]."""
    if weight.ndim == 1:
        return reference.logits(X, weight, bias)
    # One read of X for all classes, not one for each; a block of rows is cast at a time.
    return torch.cat(
        [torch.addmm(bias, block.to(weight.dtype), weight.t()) for block in torch.split(X, cast_rows(X))]
    )


def measure(split: SplitScores, settings: RunSettings) -> Metrics | ClassMetrics:
    """Metrics of one split as the settings ask for them."""
    if split.logits.ndim == 2:
        return evaluate_classes(split.logits, split.y, sample_weight=split.sample_weight, rest=split.rest)
    return evaluate(
        split.logits,
        split.y,
        sample_weight=split.sample_weight,
        eps=settings.loss.eps,
        threshold=settings.report.threshold,
        bins=settings.report.calibration_bins,
    )


def _intervals(
    split: SplitScores, metrics: Metrics | ClassMetrics, settings: RunSettings
) -> dict[str, Interval]:
    """Bootstrap intervals of one split, from the run's seed."""
    if isinstance(metrics, ClassMetrics):
        return bootstrap_classes(
            split.logits, split.y, sample_weight=split.sample_weight, metrics=metrics, seed=settings.seed
        )
    return bootstrap(
        split.logits,
        split.y,
        sample_weight=split.sample_weight,
        eps=settings.loss.eps,
        threshold=settings.report.threshold,
        seed=settings.seed,
    )


def column_deviation(dataset: Dataset) -> NDArray[np.float64]:
    """The training rows' standard deviation of every column [D] in the user's units.

    Where columns were standardised it is known; else it is measured, from the first row, so that a far mean costs no
    digits.
    """
    standardization, X = dataset.standardization, dataset.train.X
    if not bool((standardization.scale == 1).all()):
        return standardization.scale
    deviation: NDArray[np.float64] = Moments.of(X).variance.sqrt().cpu().numpy()
    return deviation
