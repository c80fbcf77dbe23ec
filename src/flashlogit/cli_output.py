"""How much a program says, and in which form: sentences for people, nothing, or one JSON object for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from .errors import UserError


@dataclass(frozen=True)
class Output:
    """Sentences go to stdout, with `--json` to stderr (the result has stdout to itself), with `--quiet` nowhere."""

    quiet: bool
    json: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> Output:
        """From the options that `add_output` added."""
        return cls(options.quiet, options.json)

    def say(self, text: str) -> None:
        """A sentence on the way."""
        if not self.quiet:
            _print(text, sys.stderr if self.json else sys.stdout)

    def warn(self, text: str) -> None:
        """A sentence for stderr, where stdout is the result's."""
        if not self.quiet:
            _print(text, sys.stderr)

    def answer(self, text: str, result: Mapping[str, Any]) -> None:
        """What the program is for: as text, or as one JSON object."""
        if self.json:
            _print(json.dumps(result, allow_nan=False, default=str), sys.stdout)
        elif text:
            self.say(text)


def flush_stdout() -> None:
    """Hand on what was printed; UserError where it cannot be."""
    _print("", sys.stdout, end="")


def _print(text: str, stream: TextIO, end: str = "\n") -> None:
    with writing_out():
        print(text, end=end, file=stream, flush=True)


@contextmanager
def writing_out() -> Iterator[None]:
    """Turn what keeps stdout from taking more, such as a full disk, into a UserError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"the output cannot be written to where it was sent ({error.strerror}); make room there, or send it to"
            " another file"
        ) from error


def add_output(parser: argparse.ArgumentParser) -> None:
    """The options that every program has."""
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object; all else goes to stderr"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
