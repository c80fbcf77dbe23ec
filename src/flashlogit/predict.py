"""Probabilities for a file of rows, by a model that a run left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from .atomic import write_atomically
from .data import PredictionRows, read_for_prediction
from .errors import UserError
from .metrics import sigmoid
from .model import Model

PROBABILITY, PREDICTION = "probability", "prediction"


def predict_file(
    model_path: Path,
    data_path: Path,
    out_path: Path,
    *,
    id_columns: Sequence[str | int] = (),
    threshold: float | None = None,
    overwrite: bool = False,
) -> int:
    """Write the id columns, the probability of the positive class and the predicted label of every row.

    Columns are matched by name; the label and other columns of the data are ignored. The file is put in place when it
    is whole.

    Args:
        model_path: a run directory or its model.safetensors.
        data_path: .csv, .csv.gz, .parquet, .npy or .npz.
        out_path: .csv or .parquet.
        id_columns: columns to copy to the output.
        threshold: probability from which a row is called positive; default: the model's.
        overwrite: whether an existing out_path may be replaced.

    Returns:
        The number of rows written.

    Raises:
        UserError: a file, column or value that cannot be used.
    """
    writer = _writer(out_path)
    _check_output(out_path, data_path, overwrite)
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"--threshold is {threshold:g}; must lie between 0 and 1")
    model = Model.load(model_path)
    rows = read_for_prediction(
        data_path, model.feature_names, id_columns, array_widths=model.array_widths, setting="--data"
    )
    taken = {PROBABILITY, PREDICTION} & set(rows.ids.column_names)
    if taken:
        raise UserError(
            f"the id column {taken.pop()!r} has the name of an output column; rename it in {data_path}"
        )
    schema = pa.schema([*rows.ids.schema, (PROBABILITY, pa.float64()), (PREDICTION, pa.string())])
    batches = _predictions(model, rows, schema, model.threshold if threshold is None else threshold)

    def write(temporary: Path) -> None:
        with writer(temporary, schema) as file:
            for table in batches:
                file.write_table(table)

    write_atomically(out_path, write)
    return len(rows)


def _predictions(
    model: Model, rows: PredictionRows, schema: pa.Schema, threshold: float
) -> Iterator[pa.Table]:
    names = pa.array(model.label_names)
    start = 0
    for block in rows.blocks():
        probability = sigmoid(model.logits(block))
        label = names.take(pa.array((probability >= threshold).astype(np.int8)))
        ids = rows.ids.slice(start, len(block)).columns
        yield pa.Table.from_arrays([*ids, pa.array(probability), label], schema=schema)
        start += len(block)


def _writer(path: Path) -> Any:
    writers = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}
    if path.suffix.lower() not in writers:
        raise UserError(f"--out is {path}; must end in .csv or .parquet")
    return writers[path.suffix.lower()]


def _check_output(path: Path, data_path: Path, overwrite: bool) -> None:
    if path.resolve() == data_path.resolve():
        raise UserError(f"--out {path} is the data file itself; choose another file")
    if path.exists() and not overwrite:
        raise UserError(f"--out {path} exists; choose another file, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"--out {path} lies in a folder that does not exist; make it first")
