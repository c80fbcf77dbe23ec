"""Write a trained model for other programs.

A file .onnx is an ONNX graph with the outputs label [n] and probabilities [n, K].
Of a run with categories, dates or imputed values its inputs are the file's columns
by name, each [n, 1]: numbers (without a unit) are double, NaN where one is missing;
categories are strings without blanks around them, "" where one is missing; dates are
int64 seconds from 1970-01-01 to the time as written, NumPy's NaT where one is
missing. Probabilities are NaN where the model lets no value be missing. Of a run on
numbers alone there is one input X [n, D] double in the columns' own units and order.
A file .pkl or .joblib is a fitted scikit-learn LogisticRegression.

  session = onnxruntime.InferenceSession("model.onnx")
  record = {"age": 41.0, "plan": "basic", "joined": 1709251200}
  session.run(["probabilities"], {name: numpy.array([[value]]) for name, value in record.items()})

examples:
  --model runs/bce --out model.onnx
  --model runs/bce --out model.joblib --overwrite
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output, aligned
from ..system.files import require_output, write_atomically
from .shell import add_shared

_FORMATS = {".onnx": "onnx", ".pkl": "sklearn", ".joblib": "sklearn"}

_BY_HAND = (
    "what is written takes numbers only, and makes no columns of categories, dates or missing values: give it the"
    " columns that its feature names name, as NAME=VALUE is 1 where the column NAME is VALUE and else 0; an .onnx file"
    " and flashlogit.Predictor take the file's own columns"
)
_THRESHOLD = "the label is the likelier class: the model's threshold of {:g} is for you to apply to the probability"
_MOST_INPUTS = 20
"""So many inputs are said, one a line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--model")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx, .pkl or .joblib file to write")
    add_shared(parser, "--overwrite")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the model as ONNX, or as a pickled scikit-learn estimator."""
    out: Path = options.out
    require_output(out, list(_FORMATS), options.overwrite)
    from ..models.model import Model, class_labels, raw_coefficients

    model = Model.load(options.model, rule=False)
    kind, encoding, notes = _FORMATS[out.suffix.lower()], model.encoding, []
    classes, columns = sorted(class_labels(model.label_names).tolist()), len(model.feature_names)
    inputs, told = {}, []
    if kind == "sklearn":
        import joblib

        from ..estimator.logistic_regression import LogisticRegression

        theirs = LogisticRegression.load(options.model).to_sklearn()
        write_atomically(out, lambda temporary: joblib.dump(theirs, temporary))
        notes = [_BY_HAND] if encoding else []
    elif encoding is None:
        from ..models.export import write_onnx

        raw = raw_coefficients(options.model)
        write_onnx(out, raw.coef, raw.intercept, raw.classes, raw.feature_names)
        inputs, told = {"X": "double"}, [f"input X [n, {columns}] double: the columns in the model's order"]
    else:
        from ..models.onnx_columns import write_onnx_of_columns

        inputs = write_onnx_of_columns(out, model)
        columns = len(inputs)
        rows = [(f"input {name}", type_) for name, type_ in inputs.items()]
        told = aligned(rows[:_MOST_INPUTS], left=(0, 1)).split("\n")
        told += [f"and {columns - _MOST_INPUTS:,} more"] if columns > _MOST_INPUTS else []
    if model.threshold != 0.5 and len(classes) == 2:
        notes.append(_THRESHOLD.format(model.threshold))
    output.answer(
        "\n".join([f"{len(classes)} classes and {columns:,} columns written to {out}", *told]),
        {"out": str(out), "format": kind, "columns": columns, "classes": classes, "inputs": inputs},
        notes,
    )
