"""Probabilities for a file of rows, by a model that a run left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from scipy.special import expit, softmax

from ..data import PredictionRows, read_for_prediction
from ..data.files.open import named_files
from ..data.files.text import safe_cells
from ..models.model import Model
from ..system.errors import UserError
from ..system.files import require_output, write_atomically

PROBABILITY, PREDICTION = "probability", "prediction"
_WRITERS = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}


@dataclass(frozen=True)
class Predicted:
    """How many rows were written, and sentences on values that the model does not know."""

    rows: int
    notes: tuple[str, ...]


def predict_file(
    model_path: Path,
    data: str | Path | Sequence[str],
    out: Path | BinaryIO,
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
        out: a .csv or .parquet file, or a stream that takes CSV, block by block.
        id_columns: columns to copy to the output.
        threshold: probability from which a row is called positive; default: the model's.
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
            "it has the name of an output column",
            setting="--id",
            value=taken.pop(),
            remedy=f"rename it in {rows.table.name}",
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

    if isinstance(out, Path):
        write_atomically(out, write)
    else:
        write(out)
    return Predicted(len(rows), rows.notes)


def _predictions(model: Model, rows: PredictionRows, schema: pa.Schema, threshold: float) -> Iterator[pa.Table]:
    names = pa.array(model.label_names)
    start = 0
    for block in rows.blocks():
        z = model.logits(block)
        if z.ndim == 1:
            p = expit(z)[:, None]
            number = (p[:, 0] >= threshold).astype(np.int64)
        else:
            p, number = softmax(z, axis=1), z.argmax(axis=1)
        ids = rows.ids.slice(start, len(block)).columns
        yield pa.Table.from_arrays([*ids, *map(pa.array, p.T), names.take(pa.array(number))], schema=schema)
        start += len(block)


def _probability_columns(model: Model) -> list[str]:
    """Return `probability` of the positive class, or for more than two classes `probability_NAME` of each."""
    if len(model.label_names) == 2:
        return [PROBABILITY]
    return [f"{PROBABILITY}_{name}" for name in model.label_names]


def _require_writable(ids: pa.Schema, writer: Any, file: str) -> None:
    """Raise UserError for an id column whose type the kind of output cannot hold, such as lists in CSV."""
    for field in ids:
        schema = pa.schema([field])
        try:
            with writer(BytesIO(), schema) as trial:
                trial.write_table(schema.empty_table())
        except pa.ArrowException as error:
            kind, other = ("CSV", ".parquet") if writer is pa.csv.CSVWriter else ("Parquet", ".csv")
            raise UserError(
                f"is a column of {field.type} in {file}, which {kind} cannot hold",
                setting="--id",
                value=field.name,
                remedy=f"leave it out, or write a {other} file",
            ) from error
