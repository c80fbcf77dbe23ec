"""Say which of several runs is better, and what differs between them.

It prints the metrics of each run's test rows with 95 % intervals, the best of
each marked, and the settings that differ. Of runs that were tested on the same
rows it also tells the difference of each from the first one, with an interval
of its own: two models err on much the same rows, and their difference is often
certain where their intervals overlap. A difference is called better or worse
where its whole interval is.

Runs of other rows, and of versions that kept no predictions, are compared on
the rows of a file with labels, by --data: rows that none was trained on.

examples:
  runs/bce runs/newton
  runs/first runs/second runs/third --baseline runs/third --split validation
  runs/bce runs/newton --out comparison --json
  runs/flights runs/flights_with_weather --data december.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output
from ..system.errors import UserError
from .shell import FILES, add_shared, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="two or more run directories")
    parser.add_argument("--split", help="test, validation or train; default: test")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="the run to compare with; default: the first")
    text = "a folder to write comparison.json, runs.csv, differences.csv and settings.csv to"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    add_shared(parser, "--overwrite")
    group = parser.add_argument_group("other rows than those of a split")
    group.add_argument("--data", nargs="+", metavar="FILE", help=FILES)
    group.add_argument(
        "--labels", nargs="+", metavar="FILE", help="files with the label of each row, if --data has none"
    )
    group.add_argument("--label", type=column_name, help="the label column; default: each run's own")
    group.add_argument("--weight", type=column_name, help="a column of weights; default: each run's own")


def run(options: argparse.Namespace, output: Output) -> None:
    """Print the comparison."""
    from ..runs.compare import LabelledData, compare_runs
    from ..runs.comparison import require_folder

    if options.out is not None:
        require_folder(options.out, options.overwrite)
    columns = {"label": options.label, "weight": options.weight, "labels": options.labels}
    if options.data is None:
        for name, value in columns.items():
            if value is not None:
                raise UserError("belongs to --data", setting=f"--{name}", value=value, remedy="give --data FILE")
    data = None if options.data is None else LabelledData(options.data, **columns)
    found = compare_runs(options.runs, split=options.split, baseline=options.baseline, data=data)
    if options.out is not None:
        found.write(options.out)
    output.answer(found.text(), found.to_json(), found.notes)
