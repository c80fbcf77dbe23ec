"""How good a model is on a file with labels, by what its run knew: label column, classes, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..config.data import FileData, Label
from ..config.load import load_settings
from ..config.settings import RunSettings
from ..data.columns.labels import Labels, Mapping, OneAgainstRest, Rule, Threshold, apply_rule, read_weights
from ..data.prediction import read_for_prediction
from ..metrics.evaluation import ClassMetrics, Metrics, evaluate
from ..metrics.scores import SplitScores
from ..models.model import Model
from ..system.errors import UserError

_BINS = 10


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a file, how many of its rows had no label and were left out, and sentences on values that the model
    does not know."""

    metrics: Metrics | ClassMetrics
    unlabelled: int
    notes: tuple[str, ...] = ()


def evaluate_file(
    model_path: Path,
    data: str | Path | Sequence[str],
    *,
    label: str | int | None = None,
    weight: str | int | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """Measure a model on rows that have labels; those without are left out.

    Args:
        model_path: a run directory, or its model.safetensors.
        data: files as for `flashlogit.data.files.open.open_files`.
        label: the label column; default: the run's.
        weight: a column of weights; default: the run's, if the label is.
        threshold: probability from which a row is called positive; default: the model's.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    model = Model.load(model_path)
    threshold = model.threshold_or(threshold)
    settings = _settings(model_path)
    label_called, weight_called = "--label", "--weight"
    if label is None:
        if settings is None or not isinstance(settings.data, FileData):
            raise UserError(
                "it does not say which column is the label", setting=model_path, remedy="name it with --label"
            )
        label, label_called = settings.data.label.column, "the run's label column"
        if weight is None:
            weight, weight_called = settings.data.weight, "the run's weight column"
    rows = read_for_prediction(
        data,
        model.feature_names,
        [label] if weight is None else [label, weight],
        called=[label_called] if weight is None else [label_called, weight_called],
        array_widths=model.array_widths,
        encoding=model.encoding,
        setting="--data",
        verbatim=False,
    )
    names = rows.ids.column_names
    place = f'label column "{names[0]}" of {rows.table.name}'
    labels = _labels(model, rows.ids.column(0), place)
    weights = read_weights(rows.table, names[1], labels.kept, np.float64) if len(names) > 1 else None
    logits = np.concatenate([model.logits(block) for block in rows.blocks()])[labels.kept]
    y = labels.y[labels.kept]
    weights = None if weights is None else weights[labels.kept]
    unlabelled = int((~labels.kept).sum())
    bins = _BINS if settings is None else settings.report.calibration_bins
    metrics = evaluate(SplitScores(logits, y, weights), eps=model.eps, threshold=threshold, bins=bins)
    return Evaluation(metrics, unlabelled, rows.notes)


def _settings(model_path: Path) -> RunSettings | None:
    """Return the settings of the run that left the model, if they lie beside it."""
    folder = model_path if model_path.is_dir() else model_path.parent
    config = folder / "config.yaml"
    return load_settings(config, []) if config.is_file() else None


def _labels(model: Model, column: pa.ChunkedArray, place: str) -> Labels:
    """Number the classes by the rule of the model's training file."""
    rule = _guessed_rule(model.label_names, column.type) if model.rule is None else model.rule
    return apply_rule(rule, column, Label(missing="drop"), place)


def _guessed_rule(names: tuple[str, ...], kind: pa.DataType) -> Rule:
    """Return what the names of the classes say of labels of this type, for models that do not have the rule."""
    if len(names) == 2:
        above = names[1].removeprefix("> ")
        numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if numbers and names == (f"<= {above}", f"> {above}"):
            return Threshold(float(above))
        if names[0] == f"not {names[1]}":
            return OneAgainstRest(names[1])
    return Mapping(names, tuple((name, k) for k, name in enumerate(names)))
