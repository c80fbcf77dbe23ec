"""The command-line programs; the files in scripts/ call them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .cli_output import Output, add_output
from .errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def run_guarded(program: Callable[[], int | None], *, debug: bool) -> int:
    """Run a program and turn its end into an exit code: what the user can mend is one sentence and 2, Ctrl-C 130,
    and a reader of its output that has gone away 141, as for other programs.

    With `debug`, errors come through with their traceback.
    """
    try:
        code = program() or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Who reads the output, such as `head`, has enough of it; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def program(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A program's parser; its examples are given without its name, a line each."""
    lines = "\n".join(f"  {prog} {line}" for line in examples.splitlines())
    return argparse.ArgumentParser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
        epilog=f"examples:\n{lines}",
    )


def train_main(argv: Sequence[str] | None = None, *, prog: str = "train.py") -> int:
    """Train a model from a YAML config; returns the exit code."""
    parser = program(
        prog,
        "Train a logistic regression from a YAML config.",
        """\
--config configs/bce.yaml
--config configs/bce.yaml name=first training.optimizer.lr=0.01
--config configs/bce.yaml --resume
--config configs/newton.yaml --overwrite --json""",
    )
    parser.add_argument("--config", type=Path, required=True, help="the YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that replace the file's"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    group.add_argument("--overwrite", action="store_true", help="replace an existing run of this name")
    add_output(parser)
    # Settings and options may stand in any order.
    options = parser.parse_intermixed_args(argv)
    return run_guarded(lambda: _train(options), debug=options.debug)


def _train(options: argparse.Namespace) -> None:
    # Settings are checked before the slow imports, so that a typing mistake is answered at once.
    from .config_file import load_settings
    from .run_directory import Mode, RunDirectory

    settings = load_settings(options.config, options.overrides)
    mode: Mode = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    directory = RunDirectory(Path(settings.output).expanduser() / settings.name, mode)
    try:
        from .run import train_run

        output = Output.of(options)
        result = train_run(settings, directory, mode, say=output.say, quiet=options.quiet)
    finally:
        directory.remove_if_empty()
    output.answer(f"results: {directory.path}", {"directory": str(directory.path), **result.summary})


def predict_main(argv: Sequence[str] | None = None, *, prog: str = "predict.py") -> int:
    """Write a model's probabilities for a file; returns the exit code."""
    parser = program(
        prog,
        "Write a trained model's probabilities for the rows of a file.",
        """\
--model runs/bce --data new.csv --out probabilities.csv
--model runs/bce --data 'parts/*.parquet' --out probabilities.parquet --id patient --threshold 0.3""",
    )
    parser.add_argument("--model", type=Path, required=True, help="a run directory or its model.safetensors")
    parser.add_argument(
        "--data", nargs="+", required=True, help="files, a folder, a pattern, or package:NAME/FILE"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .csv or .parquet file to write")
    parser.add_argument("--id", nargs="+", default=[], metavar="COLUMN", help="columns to copy to the output")
    parser.add_argument(
        "--threshold", type=float, help="probability from which a row is positive; default: the model's"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")
    add_output(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _predict(options), debug=options.debug)


def _predict(options: argparse.Namespace) -> None:
    from .predict import predict_file

    rows = predict_file(
        options.model,
        options.data,
        options.out,
        id_columns=options.id,
        threshold=options.threshold,
        overwrite=options.overwrite,
    )
    Output.of(options).answer(
        f"{rows:,} rows written to {options.out}", {"rows": rows, "out": str(options.out)}
    )
