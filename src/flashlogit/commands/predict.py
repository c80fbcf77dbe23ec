"""Write a trained model's probabilities for the rows of a file.

Of a run of several targets it writes a column for each: probability_NAME.

examples:
  --model runs/bce --data new.csv --out probabilities.csv
  --model runs/bce --data 'parts/*.parquet' --out probabilities.parquet --id patient --threshold 0.3
  --model runs/bce --data new.csv --out - | head
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from ..system.console import Output, binary_stdout, writing_out
from ..system.errors import UserError
from .shell import add_shared, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--model", "--data")
    text = "the .csv or .parquet file to write, or - to print CSV"
    parser.add_argument("--out", type=Path, required=True, help=text)
    text = "columns to copy to the output; of a .npy file their numbers"
    parser.add_argument("--id", nargs="+", default=[], type=column_name, metavar="COLUMN", help=text)
    add_shared(parser, "--threshold", "--ignore-unknown-features", "--overwrite")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the probabilities."""
    from ..runs.scoring import predict_file

    printed = str(options.out) == "-"
    if printed and options.json:
        problem = "--json prints its result there too"
        raise UserError(problem, setting="--out", value="-", remedy="leave one of them out")
    choices = {"id_columns": options.id, "threshold": options.threshold, "overwrite": options.overwrite}
    choices["ignore_unknown"] = options.ignore_unknown_features
    with writing_out() if printed else nullcontext():
        out = binary_stdout() if printed else options.out
        done = predict_file(options.model, options.data, out, **choices)
    if printed:
        output.warn("\n".join(f"note: {note}" for note in done.notes))
    else:
        result = {"rows": done.rows, "out": str(options.out)}
        output.answer(f"{done.rows:,} rows written to {options.out}", result, done.notes)
