"""Write a trained model for other programs.

A file .onnx is an ONNX graph: input X [n, D] float64 in the columns' own units,
outputs label and probabilities. A file .pkl or .joblib is a fitted scikit-learn
LogisticRegression.

examples:
  --model runs/bce --out model.onnx
  --model runs/bce --out model.joblib --overwrite
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output
from ..system.files import require_output, write_atomically
from .shell import add_shared

_FORMATS = {".onnx": "onnx", ".pkl": "sklearn", ".joblib": "sklearn"}

_BY_HAND = (
    "what is written takes numbers only, and makes no columns of categories or missing values: give it the columns that"
    " its feature names name, as NAME=VALUE is 1 where the column NAME is VALUE and else 0"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--model")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx, .pkl or .joblib file to write")
    add_shared(parser, "--overwrite")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the model as ONNX, or as a pickled scikit-learn estimator."""
    out: Path = options.out
    require_output(out, list(_FORMATS), options.overwrite)
    from ..estimator.logistic_regression import LogisticRegression
    from ..models.model import Model

    model = LogisticRegression.load(options.model)
    kind = _FORMATS[out.suffix.lower()]
    if kind == "onnx":
        model.to_onnx(out)
    else:
        import joblib

        theirs = model.to_sklearn()
        write_atomically(out, lambda temporary: joblib.dump(theirs, temporary))
    columns, classes = model.n_features_in_, model.classes_.tolist()
    output.answer(
        f"{len(classes)} classes and {columns:,} columns written to {out}",
        {"out": str(out), "format": kind, "columns": columns, "classes": classes},
        [_BY_HAND] if Model.load(options.model).encoding else [],
    )
