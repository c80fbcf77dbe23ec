"""The command-line programs; the files in scripts/ call them."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from ..system.console import Output, Parser, add_output, binary_stdout, complain, flush_stdout, writing_out
from ..system.errors import UserError
from ..system.stopping import stopped_by_signals

EXIT_USER_ERROR = 2
EXIT_BROKEN_PIPE = 141


def run_guarded(program: Callable[[], int | None], *, debug: bool) -> int:
    """Run a program and turn its end into an exit code: what the user can mend is one sentence and 2, Ctrl-C 130,
    another signal to stop 128 and its number, and a reader of its output that has gone away 141, as for other programs.

    With `debug`, errors come through with their traceback.
    """
    _open_standard_streams()
    with stopped_by_signals() as stop:
        try:
            code = program() or 0
            flush_stdout()
            return code
        except UserError as error:
            if debug:
                raise
            complain(f"error: {error}")
            return EXIT_USER_ERROR
        except KeyboardInterrupt as interruption:
            complain(str(interruption) or "interrupted")
            return stop.exit_code
        except BrokenPipeError:  # who reads the output, such as `head`, has enough of it
            return EXIT_BROKEN_PIPE
        except OSError as error:  # a disk that is full, a file that another program took away
            if debug:
                raise
            reason = error.strerror or " ".join(str(error).split())
            complain(f"error: {error.filename}: {reason}" if error.filename else f"error: {reason}")
            return EXIT_USER_ERROR
        finally:
            _forget_unwritten()


def _open_standard_streams() -> None:
    """Have all three, and let a terminal or pipe that knows ASCII only get an umlaut as \\xfc, instead of an error.

    Where the shell closed one, the next file to be opened would get its number, and what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_unwritten() -> None:
    """Drop what stdout did not take: Python would complain of it once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def column_name(text: str) -> str | int:
    """A column as options name it: a whole number, such as the -1 of a .npy file's last, is its number.

    Where columns have names that are numbers they are found by the number as well.
    """
    digits = text.removeprefix("-")
    return int(text) if digits.isdecimal() and str(int(text)) == text else text


def program(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A program's parser; its examples are given without its name, a line each."""
    lines = "\n".join(f"  {prog} {line}" for line in examples.splitlines())
    return Parser(
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
    from ..config.load import load_settings
    from ..runs.directory import Mode, RunDirectory

    settings = load_settings(options.config, options.overrides)
    mode: Mode = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    with RunDirectory(Path(settings.output).expanduser() / settings.name, mode) as directory:
        from ..runs.run import train_run

        output = Output.of(options)
        result = train_run(settings, directory, mode, say=output.say, quiet=options.quiet)
    output.answer(f"results: {directory.path}", {"directory": str(directory.path), **result.to_json()})


def predict_main(argv: Sequence[str] | None = None, *, prog: str = "predict.py") -> int:
    """Write a model's probabilities for a file; returns the exit code."""
    parser = program(
        prog,
        "Write a trained model's probabilities for the rows of a file.",
        """\
--model runs/bce --data new.csv --out probabilities.csv
--model runs/bce --data 'parts/*.parquet' --out probabilities.parquet --id patient --threshold 0.3
--model runs/bce --data new.csv --out - | head""",
    )
    parser.add_argument("--model", type=Path, required=True, help="a run directory or its model.safetensors")
    parser.add_argument(
        "--data", nargs="+", required=True, help="files, a folder, a pattern, or package:NAME/FILE"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the .csv or .parquet file to write, or - to print CSV"
    )
    parser.add_argument(
        "--id",
        nargs="+",
        default=[],
        type=column_name,
        metavar="COLUMN",
        help="columns to copy to the output; of a .npy file their numbers",
    )
    parser.add_argument(
        "--threshold", type=float, help="probability from which a row is positive; default: the model's"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")
    add_output(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _predict(options), debug=options.debug)


def _predict(options: argparse.Namespace) -> None:
    from ..runs.predict import predict_file

    printed = str(options.out) == "-"
    if printed and options.json:
        raise UserError("--out is -, and --json prints its result there too; leave one of them out")
    if printed and not sys.stdout:
        raise UserError("--out is -, and the standard output is closed; give the name of a file")
    with writing_out() if printed else nullcontext():
        done = predict_file(
            options.model,
            options.data,
            binary_stdout() if printed else options.out,
            id_columns=options.id,
            threshold=options.threshold,
            overwrite=options.overwrite,
        )
    output = Output.of(options)
    notes = [f"note: {note}" for note in done.notes]
    if printed:
        for note in notes:
            output.warn(note)
        return
    output.answer(
        "\n".join([f"{done.rows:,} rows written to {options.out}", *notes]),
        {"rows": done.rows, "out": str(options.out), "notes": done.notes},
    )
