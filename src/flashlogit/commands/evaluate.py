"""Measure a trained model on a file whose rows have labels.

It prints log-loss, accuracy, ROC AUC, calibration and more. The label column,
the classes and the weights are those of the run, unless named. It warns of a
file that the model was trained on, which it knows by its hash.

examples:
  --model runs/flights --data december.csv
  --model runs/flights --data 'parts/*.parquet' --threshold 0.3 --json
  --model model.safetensors --data new.csv --label churned --weight w
  --model runs/embeddings --data X.npy --labels y.npy
"""

from __future__ import annotations

import argparse

from ..system.console import Output
from .shell import add_shared, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--model", "--data")
    parser.add_argument(
        "--labels", nargs="+", metavar="FILE", help="files with the label of each row, if --data has none"
    )
    parser.add_argument(
        "--label", type=column_name, help="the label column, in a .npy file its number; default: the run's"
    )
    parser.add_argument("--weight", type=column_name, help="a column of weights; default: the run's")
    add_shared(parser, "--threshold", "--ignore-unknown-features")


def run(options: argparse.Namespace, output: Output) -> None:
    """Print the model's metrics on the file."""
    from ..report.text import metrics_table
    from ..runs.scoring import evaluate_file

    columns = {"label": options.label, "weight": options.weight, "labels": options.labels}
    choices = {"threshold": options.threshold, "ignore_unknown": options.ignore_unknown_features}
    result = evaluate_file(options.model, options.data, **choices, **columns)
    text = metrics_table({"data": result.metrics})
    if result.unlabelled:
        text += f"\nnote: left out {result.unlabelled:,} rows without a label"
    text = "\n".join([text, *(f"warning: {warning}" for warning in result.warnings)])
    said = {"unlabelled": result.unlabelled, "warnings": result.warnings}
    output.answer(text, result.metrics.to_json() | said, result.notes)
