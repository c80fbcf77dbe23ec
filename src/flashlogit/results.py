"""What a finished run writes: the model, its metrics and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import __version__, reference
from .coefficients import coefficient_table, write_coefficients
from .config import RunSettings
from .data import Dataset
from .learning import Learned
from .metrics import Metrics, evaluate
from .metrics_multiclass import ClassMetrics, evaluate_classes
from .model import Model
from .plots import SplitScores, one_against_the_rest, plot_run
from .run_directory import RunDirectory


def write_results(
    directory: RunDirectory,
    settings: RunSettings,
    dataset: Dataset,
    learned: Learned,
    *,
    about: Mapping[str, Any],
) -> dict[str, Metrics | ClassMetrics]:
    """Write model.safetensors, coefficients.csv, metrics.json (with `about` the run) and curves.png.

    Returns:
        The metrics of every split.
    """
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
    content = {name: of_split.to_json() for name, of_split in metrics.items()}
    directory.write_json(directory.metrics, content | {"run": {**about, **machine}})
    plot_run(
        learned.history,
        {name: one_against_the_rest(split) for name, split in scores.items()},
        directory.curves,
        bins=settings.report.calibration_bins,
        title=settings.name,
        tolerance=settings.solver.tolerance if settings.solver else None,
        proven=settings.loss.l1 > 0 or settings.loss.l2 > 0,
    )
    return metrics


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
    return torch.stack(
        [reference.logits(X, w, b) for w, b in zip(weight, torch.split(bias, 1), strict=True)], dim=1
    )


def measure(split: SplitScores, settings: RunSettings) -> Metrics | ClassMetrics:
    """Metrics of one split as the settings ask for them."""
    if split.logits.ndim == 2:
        return evaluate_classes(split.logits, split.y, sample_weight=split.sample_weight)
    return evaluate(
        split.logits,
        split.y,
        sample_weight=split.sample_weight,
        eps=settings.loss.eps,
        threshold=settings.report.threshold,
        bins=settings.report.calibration_bins,
    )
