"""The program `flashlogit evaluate`: how good a model is on a file with labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..system.console import Output, add_output
from .shell import column_name, program, run_guarded


def evaluate_main(argv: Sequence[str] | None = None, *, prog: str = "evaluate.py") -> int:
    """Print a model's metrics on a file; returns the exit code."""
    parser = program(
        prog,
        "Measure a trained model on a file whose rows have labels: log-loss, accuracy, ROC AUC, calibration and more.\n"
        "The label column, the classes and the weights are those of the run, unless named.",
        """\
--model runs/flights --data december.csv
--model runs/flights --data 'parts/*.parquet' --threshold 0.3 --json
--model model.safetensors --data new.csv --label churned --weight w""",
    )
    parser.add_argument("--model", type=Path, required=True, help="a run directory or its model.safetensors")
    parser.add_argument(
        "--data", nargs="+", required=True, help="files, a folder, a pattern, or package:NAME/FILE"
    )
    parser.add_argument(
        "--label", type=column_name, help="the label column, in a .npy file its number; default: the run's"
    )
    parser.add_argument("--weight", type=column_name, help="a column of weights; default: the run's")
    parser.add_argument(
        "--threshold", type=float, help="probability from which a row is positive; default: the model's"
    )
    add_output(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _evaluate(options), debug=options.debug)


def _evaluate(options: argparse.Namespace) -> None:
    from ..report.terminal import metrics_table
    from ..runs.evaluate import evaluate_file

    result = evaluate_file(
        options.model,
        options.data,
        label=options.label,
        weight=options.weight,
        threshold=options.threshold,
    )
    notes = list(result.notes)
    if result.unlabelled:
        notes.insert(0, f"left out {result.unlabelled:,} rows without a label")
    Output.of(options).answer(
        "\n".join([metrics_table({"data": result.metrics}), *(f"note: {note}" for note in notes)]),
        {**result.metrics.to_json(), "unlabelled": result.unlabelled, "notes": result.notes},
    )
