"""The program `flashlogit export`: a run's model for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..system.console import Output, add_output
from ..system.output_file import require_output
from .shell import program, run_guarded

_FORMATS = {".onnx": "onnx", ".pkl": "sklearn", ".joblib": "sklearn"}

_BY_HAND = (
    "what is written takes numbers only, and makes no columns of categories or missing values: give it the columns that"
    " its feature names name, as NAME=VALUE is 1 where the column NAME is VALUE and else 0"
)


def export_main(argv: Sequence[str] | None = None, *, prog: str = "export.py") -> int:
    """Write a model as ONNX, or as a pickled scikit-learn estimator; returns the exit code."""
    parser = program(
        prog,
        "Write a trained model for other programs: an ONNX graph (.onnx: input X [n, D] float64 in the columns' own"
        " units,\noutputs label and probabilities), or a fitted scikit-learn LogisticRegression (.pkl or .joblib).",
        """\
--model runs/bce --out model.onnx
--model runs/bce --out model.joblib --overwrite""",
    )
    parser.add_argument("--model", type=Path, required=True, help="a run directory or its model.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx, .pkl or .joblib file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")
    add_output(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _export(options), debug=options.debug)


def _export(options: argparse.Namespace) -> None:
    out: Path = options.out
    require_output(out, list(_FORMATS), options.overwrite)
    from ..estimator.logistic_regression import LogisticRegression
    from ..models.model import Model
    from ..system.files import write_atomically

    model = LogisticRegression.load(options.model)
    kind = _FORMATS[out.suffix.lower()]
    if kind == "onnx":
        model.to_onnx(out)
    else:
        import joblib

        theirs = model.to_sklearn()
        write_atomically(out, lambda temporary: joblib.dump(theirs, temporary))
    notes = [_BY_HAND] if Model.load(options.model).encoding else []
    written = f"{len(model.classes_)} classes and {model.n_features_in_:,} columns written to {out}"
    Output.of(options).answer(
        "\n".join([written, *(f"note: {note}" for note in notes)]),
        {
            "out": str(out),
            "format": kind,
            "columns": model.n_features_in_,
            "classes": model.classes_.tolist(),
            "notes": notes,
        },
    )
