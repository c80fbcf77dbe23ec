"""What every command has: its parser, the arguments that several have, and its exit code.

A command is a module with `add_arguments(parser)` and `run(options, output)`, which returns the exit code or None for
0; its docstring is its help. scripts/ has each command as a program of its own too.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..system.console import Parser, add_output, complain, flush_stdout
from ..system.errors import UserError
from ..system.stopping import stopped_by_signals

EXIT_USER_ERROR = 2
EXIT_BROKEN_PIPE = 141

_ALLOCATIONS = 10_000
"""Objects that Python makes, less those that it frees, between two searches for garbage, instead of 700."""

FILES = "files, a folder, a pattern, or package:NAME/FILE"
_SHARED: dict[str, dict[str, Any]] = {
    "--config": {"type": Path, "help": "the YAML file"},
    "overrides": {"nargs": "*", "metavar": "section.key=value", "help": "settings that replace the file's"},
    "--model": {"type": Path, "required": True, "help": "a run directory or its model.safetensors"},
    "--data": {"nargs": "+", "required": True, "help": FILES},
    "--threshold": {"type": float, "help": "probability from which a row is positive; default: the model's"},
    "--ignore-unknown-features": {
        "action": "store_true",
        "help": "take a libsvm file with indices beyond the model's, and ignore them",
    },
    "--overwrite": {"action": "store_true", "help": "replace an existing output file"},
}


def command_parser(prog: str | None, command: ModuleType) -> argparse.ArgumentParser:
    """Return the parser of a command under the name `prog`; without one, under the script's.

    Its help is the docstring of the command's module, whose examples get the name before them.
    """
    parser = Parser(prog=prog)
    parser.description, _, examples = (command.__doc__ or "").rstrip().partition("\n\nexamples:\n")
    parser.epilog = "examples:\n" + textwrap.indent(textwrap.dedent(examples), f"  {parser.prog} ")
    command.add_arguments(parser)
    add_output(parser)
    return parser


def add_shared(parser: argparse._ActionsContainer, *names: str, **more: Any) -> None:
    """Add arguments that several commands have."""
    for name in names:
        parser.add_argument(name, **_SHARED[name], **more)


def column_name(text: str) -> str | int:
    """Return a column as options name it: a whole number, such as the -1 of a .npy file's last, is its number.

    Where columns have names that are numbers they are found by the number as well.
    """
    digits = text.removeprefix("-")
    return int(text) if digits.isdecimal() and str(int(text)) == text else text


@contextmanager
def few_searches() -> Iterator[None]:
    """Let Python seldom search for garbage, and not when the process ends.

    Imports make two hundred thousand objects that stay, most of them torch's, and Python would search them all again
    and again while they become more, and twice at the end. That took a third of the CPU time of a small `train`.
    """
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS)
    atexit.unregister(_stop_searching)
    atexit.register(_stop_searching)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _stop_searching() -> None:
    """Have no object searched any more. Where Triton or ONNX is loaded all are: nanobind, which binds them, would
    complain of objects of theirs that are not freed."""
    if sys.modules.keys().isdisjoint(("triton", "onnx")):
        gc.freeze()


@dataclass
class End:
    """How a command ended."""

    code: int = 0


@contextmanager
def ending(*, debug: bool) -> Iterator[End]:
    """Turn the end of a command into an exit code.

    What the user can mend is one sentence and 2, Ctrl-C 130, another signal to stop 128 and its number, and a reader of
    the output that has gone away 141, as for other programs. With `debug`, errors come through with their traceback.
    """
    _open_standard_streams()
    end = End()
    with stopped_by_signals() as stop:
        try:
            yield end
            flush_stdout()
        except UserError as error:
            if debug:
                raise
            complain(f"error: {error}")
            end.code = EXIT_USER_ERROR
        except KeyboardInterrupt as interruption:
            complain(str(interruption) or "interrupted")
            end.code = stop.exit_code
        except BrokenPipeError:  # who reads the output, such as `head`, has enough of it
            end.code = EXIT_BROKEN_PIPE
        except OSError as error:  # a disk that is full, a file that another program took away
            if debug:
                raise
            reason = error.strerror or " ".join(str(error).split())
            complain(f"error: {error.filename}: {reason}" if error.filename else f"error: {reason}")
            end.code = EXIT_USER_ERROR
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
