"""Write a trained model's probabilities for the rows of a file.

Of a run of several targets it writes a column for each: probability_NAME.

With --data - rows come from a pipe, as CSV with a header line or as a JSON
object a line, and each is answered before the next is read. A row that cannot
be used has an answer that says why, and the exit code is 2 at the end.

examples:
  --model runs/bce --data new.csv --out probabilities.csv
  --model runs/bce --data 'parts/*.parquet' --out probabilities.parquet --id patient --threshold 0.3
  --model runs/bce --data new.csv --out - | head
  --model runs/bce --data - < new.jsonl
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from ..system.console import Output, binary_stdout, writing_out
from ..system.errors import UserError
from .shell import EXIT_USER_ERROR, add_shared, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--model", "--data")
    text = "the .csv or .parquet file to write, or - to print CSV"
    parser.add_argument("--out", type=Path, help=text)
    text = "columns to copy to the output; of a .npy file their numbers"
    parser.add_argument("--id", nargs="+", default=[], type=column_name, metavar="COLUMN", help=text)
    add_shared(parser, "--threshold", "--overwrite")


def run(options: argparse.Namespace, output: Output) -> int:
    """Write the probabilities; 2 where a row of a pipe could not be used."""
    if "-" in options.data:
        return _stream(options, output)
    if options.out is None:
        problem = "is needed: the .csv or .parquet file to write, or - to print CSV"
        raise UserError(problem, setting="--out")
    from ..runs.scoring import predict_file

    printed = str(options.out) == "-"
    if printed and options.json:
        problem = "--json prints its result there too"
        raise UserError(problem, setting="--out", value="-", remedy="leave one of them out")
    choices = {"id_columns": options.id, "threshold": options.threshold, "overwrite": options.overwrite}
    with writing_out() if printed else nullcontext():
        out = binary_stdout() if printed else options.out
        done = predict_file(options.model, options.data, out, **choices)
    if printed:
        output.warn("\n".join(f"note: {note}" for note in done.notes))
    else:
        result = {"rows": done.rows, "out": str(options.out)}
        output.answer(f"{done.rows:,} rows written to {options.out}", result, done.notes)
    return 0


def _stream(options: argparse.Namespace, output: Output) -> int:
    """Answer the rows of a pipe."""
    from ..runs.streaming import predict_stream

    if options.data != ["-"]:
        raise UserError("given beside files", setting="--data", value="-", remedy="leave out one of them")
    if options.out is not None and str(options.out) != "-":
        remedy = "leave it out, and send the output to a file"
        raise UserError("must be - beside --data -", setting="--out", value=options.out, remedy=remedy)
    with writing_out():
        ids = [str(column) for column in options.id]
        rows, bad = predict_stream(
            options.model, sys.stdin.buffer, sys.stdout, id_columns=ids, threshold=options.threshold
        )
    if bad:
        output.warn(f"{bad:,} of {rows:,} rows could not be used; their answers say why")
    return EXIT_USER_ERROR if bad else 0
