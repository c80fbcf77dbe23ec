"""Probabilities for a file of rows, by a model that a run left."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.special import softmax

from ..data import PredictionRows, read_for_prediction
from ..data.files.csv_cells import safe_cells
from ..data.files.open import named_files
from ..metrics.binary import sigmoid
from ..models.model import Model
from ..system.console import binary_stdout, writing_out
from ..system.errors import UserError
from ..system.files import write_atomically
from ..system.output_file import require_output

PROBABILITY, PREDICTION = "probability", "prediction"
PRINTED = "-"
"""As a path to write to: CSV on stdout."""
_WRITERS = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}


@dataclass(frozen=True)
class Predicted:
    """How many rows were written, and sentences on values that the model does not know."""

    rows: int
    notes: tuple[str, ...]


def predict_file(
    model_path: Path,
    data: str | Path | Sequence[str],
    out_path: Path,
    *,
    id_columns: Sequence[str | int] = (),
    threshold: float | None = None,
    overwrite: bool = False,
) -> Predicted:
    """Write the id columns, the probability of the positive class (or of each of several) and the predicted label.

    Columns are matched by name; the label and other columns of the data are ignored. The file is put in place when it
    is whole.

    Args:
        model_path: a run directory or its model.safetensors.
        data: a file, a list of files, a pattern or a folder, as for `flashlogit.data.files.open.open_files`.
        out_path: .csv or .parquet; `-` prints CSV, block by block.
        id_columns: columns to copy to the output.
        threshold: probability from which a row is called positive; default: the model's.
        overwrite: whether an existing out_path may be replaced.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    printed = str(out_path) == PRINTED
    if printed and not sys.stdout:
        raise UserError("--out is -, and the standard output is closed; give the name of a file")
    if not printed:
        _check_output(out_path, named_files(data, "--data"), overwrite)
    writer = _WRITERS[".csv" if printed else out_path.suffix.lower()]
    model = Model.load(model_path)
    threshold = model.threshold_or(threshold)
    rows = read_for_prediction(
        data,
        model.feature_names,
        id_columns,
        called="--id",
        array_widths=model.array_widths,
        encoding=model.encoding,
        setting="--data",
    )
    probabilities = _probability_columns(model)
    taken = {*probabilities, PREDICTION} & set(rows.ids.column_names)
    if taken:
        raise UserError(
            f"the id column {taken.pop()!r} has the name of an output column; rename it in {rows.table.name}"
        )
    _require_writable(rows.ids.schema, writer, rows.table.name)
    columns = [(name, pa.float64()) for name in probabilities]
    schema = pa.schema([*rows.ids.schema, *columns, (PREDICTION, pa.string())])
    batches = _predictions(model, rows, schema, threshold)
    if writer is pa.csv.CSVWriter:
        schema, batches = safe_cells(schema.empty_table()).schema, map(safe_cells, batches)

    def write(target: Any) -> None:
        with writer(target, schema) as file:
            for table in batches:
                file.write_table(table)

    if printed:
        with writing_out():
            write(binary_stdout())
    else:
        write_atomically(out_path, write)
    return Predicted(len(rows), rows.notes)


def _predictions(
    model: Model, rows: PredictionRows, schema: pa.Schema, threshold: float
) -> Iterator[pa.Table]:
    names = pa.array(model.label_names)
    start = 0
    for block in rows.blocks():
        p, number = _classified(model.logits(block), threshold)
        ids = rows.ids.slice(start, len(block)).columns
        label = names.take(pa.array(number))
        yield pa.Table.from_arrays([*ids, *map(pa.array, p.T), label], schema=schema)
        start += len(block)


def _classified(z: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The columns of probabilities, [n, 1] for two classes and else [n, K], and each row's class number."""
    if z.ndim == 1:
        p = sigmoid(z)
        return p[:, None], (p >= threshold).astype(np.int64)
    return softmax(z, axis=1), z.argmax(axis=1)


def _probability_columns(model: Model) -> list[str]:
    """`probability` of the positive class, or for more than two classes `probability_NAME` of each."""
    if len(model.label_names) == 2:
        return [PROBABILITY]
    return [f"{PROBABILITY}_{name}" for name in model.label_names]


def _require_writable(ids: pa.Schema, writer: Any, file: str) -> None:
    """UserError for an id column whose type the kind of output cannot hold, such as lists in CSV."""
    for field in ids:
        schema = pa.schema([field])
        try:
            with writer(BytesIO(), schema) as trial:
                trial.write_table(schema.empty_table())
        except pa.ArrowException as error:
            kind = "CSV" if writer is pa.csv.CSVWriter else "Parquet"
            other = ".parquet" if kind == "CSV" else ".csv"
            raise UserError(
                f'--id is "{field.name}", a column of {field.type} in {file}, which {kind} cannot hold; leave it out,'
                f" or write a {other} file"
            ) from error


def _check_output(path: Path, data_files: Sequence[Path], overwrite: bool) -> None:
    if path.resolve() in {file.resolve() for file in data_files}:
        raise UserError(f"--out {path} is the data file itself; choose another file")
    require_output(path, list(_WRITERS), overwrite)
