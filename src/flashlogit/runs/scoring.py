"""A model that a run left, on a file of rows: their probabilities, and where there are labels how good these are.

The labels, classes and weights of a file are what the model's run knew of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..config.data import FileData, Label
from ..config.load import load_settings
from ..config.settings import RunSettings
from ..data.columns.labels import Mapping, OneAgainstRest, Rule, Threshold, apply_rule, read_weights
from ..data.files.open import named_files
from ..data.files.tables import Mask, from_numpy, from_text
from ..data.files.text import safe_cells
from ..data.prediction import PredictionRows, read_for_prediction
from ..metrics.evaluation import ClassMetrics, Metrics, evaluate
from ..metrics.scores import SplitScores, expit, softmax
from ..models.model import Model
from ..system.errors import UserError
from ..system.files import require_output, write_atomically

Data = str | Path | Sequence[str]
PROBABILITY, PREDICTION = "probability", "prediction"
_BINS = 10
_WRITERS = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}


@dataclass(frozen=True)
class Predicted:
    """How many rows were written, and sentences on values that the model does not know."""

    rows: int
    notes: tuple[str, ...]


def predict_file(
    model_path: Path,
    data: Data,
    out: Path | BinaryIO,
    *,
    id_columns: Sequence[str | int],
    threshold: float | None,
    overwrite: bool,
) -> Predicted:
    """Write the id columns, the probability of the positive class (or of each of several) and the predicted label; of a
    run of several targets the id columns and each target's probabilities.

    Columns are matched by name; the label and other columns of the data are ignored. The file is put in place when it
    is whole.

    Args:
        model_path: a run directory or its model.safetensors.
        data: a file, a list of files, a pattern or a folder, as for `flashlogit.data.files.open.open_files`.
        out: a .csv or .parquet file, or a stream that takes CSV, block by block.
        id_columns: columns to copy to the output.
        threshold: probability from which a row is called positive; None for the model's.
        overwrite: whether an existing file may be replaced.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    writer = pa.csv.CSVWriter
    if isinstance(out, Path):
        if out.resolve() in {file.resolve() for file in named_files(data, "--data")}:
            raise UserError("it is the data file itself", setting="--out", value=out, remedy="choose another file")
        require_output(out, list(_WRITERS), overwrite)
        writer = _WRITERS[out.suffix.lower()]
    targets = _models_of_targets(model_path, threshold)
    model = next(iter(targets.values()), None) or Model.load(model_path)
    threshold = model.threshold_or(threshold)
    rows = _read(model, data, id_columns, ["--id"] * len(id_columns), verbatim=True)
    if targets:
        probabilities = [name for target, each in targets.items() for name in _probabilities(each, f"_{target}")]
        labels = []
    else:
        probabilities, labels = _probabilities(model), [PREDICTION]
    taken = {*probabilities, *labels} & set(rows.ids.column_names)
    if taken:
        remedy = f"rename it in {rows.table.name}"
        raise UserError("it has the name of an output column", setting="--id", value=taken.pop(), remedy=remedy)
    _require_writable(rows.ids.schema, writer, rows.table.name)
    columns = [(name, pa.float64()) for name in probabilities]
    schema = pa.schema([*rows.ids.schema, *columns, *((name, pa.string()) for name in labels)])
    batches = _predictions([*targets.values()] or [model], rows, schema, None if targets else threshold)
    if writer is pa.csv.CSVWriter:
        schema, batches = safe_cells(_without_rows(schema)).schema, map(safe_cells, batches)

    def write(target: Any) -> None:
        with writer(target, schema) as file:
            for table in batches:
                file.write_table(table)

    if isinstance(out, Path):
        write_atomically(out, write)
    else:
        write(out)
    return Predicted(len(rows), rows.notes)


def _read(
    model: Model,
    data: Data,
    more: Sequence[str | int],
    called: Sequence[str],
    *,
    verbatim: bool,
    labels: Data | None = None,
) -> PredictionRows:
    """Read the model's columns of --data, and `more` columns, of --labels if there is one, which errors name as they
    are `called`."""
    return read_for_prediction(
        data,
        model.feature_names,
        more,
        called=called,
        array_widths=model.array_widths,
        encoding=model.encoding,
        setting="--data",
        labels=labels,
        verbatim=verbatim,
    )


def _models_of_targets(path: Path, threshold: float | None) -> dict[str, Model]:
    """Return the models of a run of several targets by name; none for anything else.

    Raises:
        UserError: a threshold, which says nothing of probabilities, or a run that is damaged.
    """
    if not (path / "targets.csv").is_file() or (path / "model.safetensors").is_file():
        return {}
    if threshold is not None:
        problem = f"{path} is a run of several targets, of which probabilities are written and no labels"
        raise UserError(
            problem, setting="--threshold", value=threshold, remedy="leave it out, or give one target's model"
        )
    try:
        found = json.loads((path / "metrics.json").read_bytes())["targets"]
        folders = {name: path / row["model"] for name, row in found.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        remedy = f"give one of the models in {path / 'targets'}"
        raise UserError("does not say which targets there are", setting=path / "metrics.json", remedy=remedy) from error
    return {name: Model.load(folder) for name, folder in folders.items()}


def _probabilities(model: Model, target: str = "") -> list[str]:
    """Return the names of the columns of probabilities."""
    classes = [f"_{name}" for name in model.label_names] if len(model.label_names) > 2 else [""]
    return [f"{PROBABILITY}{target}{name}" for name in classes]


def _predictions(
    models: Sequence[Model], rows: PredictionRows, schema: pa.Schema, threshold: float | None
) -> Iterator[pa.Table]:
    """Yield the output block by block; without a threshold, as of several targets, there are no labels."""
    names, start = from_text(models[0].label_names).cast(pa.string()), 0
    for block in rows.blocks():
        columns = rows.ids.slice(start, len(block.numbers)).columns
        for model in models:
            z = model.logits(block)
            p = expit(z)[:, None] if z.ndim == 1 else softmax(z)
            columns += map(from_numpy, p.T)
            if threshold is not None:
                number = (p[:, 0] >= threshold).astype(np.int64) if z.ndim == 1 else z.argmax(axis=1)
                columns.append(names.take(from_numpy(number)))
        yield pa.Table.from_arrays(columns, schema=schema)
        start += len(block.numbers)


def _require_writable(ids: pa.Schema, writer: Any, file: str) -> None:
    """Raise UserError for an id column whose type the kind of output cannot hold, such as lists in CSV."""
    for field in ids:
        schema = pa.schema([field])
        try:
            with writer(BytesIO(), schema) as trial:
                trial.write_table(_without_rows(schema))
        except pa.ArrowException as error:
            kind, other = ("CSV", ".parquet") if writer is pa.csv.CSVWriter else ("Parquet", ".csv")
            problem = f"is a column of {field.type} in {file}, which {kind} cannot hold"
            remedy = f"leave it out, or write a {other} file"
            raise UserError(problem, setting="--id", value=field.name, remedy=remedy) from error


def _without_rows(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


@dataclass(frozen=True)
class ScoredFile:
    """What a model says of the rows of a file that have a label."""

    model: Model
    scores: SplitScores
    kept: Mask
    """[N] bool: which rows of the file have one."""
    settings: RunSettings | None
    """Those of the model's run, if its folder has them."""
    notes: tuple[str, ...]
    """Sentences on values that the model does not know."""

    def metrics(self, threshold: float) -> Metrics | ClassMetrics:
        """Return all metrics, with this probability from which a row is positive."""
        bins = _BINS if self.settings is None else self.settings.report.calibration_bins
        return evaluate(self.scores, eps=self.model.eps, threshold=threshold, bins=bins)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a file, how many of its rows had no label and were left out, and sentences on values that the model
    does not know."""

    metrics: Metrics | ClassMetrics
    unlabelled: int
    notes: tuple[str, ...] = ()


def evaluate_file(
    model_path: Path,
    data: Data,
    *,
    label: str | int | None,
    weight: str | int | None,
    threshold: float | None,
    labels: Data | None = None,
) -> Evaluation:
    """Measure a model on rows that have labels; those without are left out.

    Args:
        model_path, data, label, weight, labels: as for `score_file`.
        threshold: probability from which a row is called positive; None for the model's.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    model = Model.load(model_path)
    threshold = model.threshold_or(threshold)
    file = score_file(model, model_path, data, label=label, weight=weight, labels=labels)
    return Evaluation(file.metrics(threshold), int((~file.kept).sum()), file.notes)


def score_file(
    model: Model,
    model_path: Path,
    data: Data,
    *,
    label: str | int | None,
    weight: str | int | None,
    labels: Data | None = None,
) -> ScoredFile:
    """Return a model's logits of rows that have labels; those without are left out.

    Args:
        model: the model.
        model_path: its run directory, or its model.safetensors.
        data: files as for `flashlogit.data.files.open.open_files`.
        label: the label column; None for the run's.
        weight: a column of weights; None for the run's, if the label is.
        labels: files that have the label and the weight of each row, if `data` has not.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    config = (model_path if model_path.is_dir() else model_path.parent) / "config.yaml"
    settings = load_settings(config, []) if config.is_file() else None
    label_called, weight_called = "--label", "--weight"
    if label is None:
        if settings is None or not isinstance(settings.data, FileData):
            problem = "it does not say which column is the label"
            raise UserError(problem, setting=model_path, remedy="name it with --label")
        label, label_called = settings.data.label.column, "the run's label column"
        if weight is None:
            weight, weight_called = settings.data.weight, "the run's weight column"
        if labels is None and settings.data.labels is not None:
            label_called += ", which it took from a file of labels (--labels),"
    columns = {label_called: label} if weight is None else {label_called: label, weight_called: weight}
    rows = _read(model, data, [*columns.values()], [*columns], verbatim=False, labels=labels)
    names = rows.ids.column_names
    column = rows.ids.column(0)
    rule = _guessed_rule(model.label_names, column.type) if model.rule is None else model.rule
    found = apply_rule(
        rule, column, Label(missing="drop"), f'label column "{names[0]}" of {rows.table.file_of(names[0])}'
    )
    kept = found.kept
    weights = read_weights(rows.table, names[1], kept, np.float64)[kept] if len(names) > 1 else None
    logits = np.concatenate([model.logits(block) for block in rows.blocks()])[kept]
    return ScoredFile(model, SplitScores(logits, found.y[kept], weights), kept, settings, rows.notes)


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
