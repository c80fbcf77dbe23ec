"""How much a program says, and in which form: sentences for people, nothing, or one JSON object for programs."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO, cast

from .errors import UserError


@dataclass(frozen=True)
class Output:
    """Sentences go to stdout, with `--json` to stderr (the result has stdout to itself), with `--quiet` nowhere."""

    quiet: bool
    json: bool

    def say(self, text: str) -> None:
        """Print a sentence on the way."""
        if not self.quiet:
            _print(text, sys.stderr if self.json else sys.stdout)

    def warn(self, text: str) -> None:
        """Print a sentence to stderr, where stdout is the result's."""
        if text and not self.quiet:
            _print(text, sys.stderr)

    def answer(self, text: str, result: Mapping[str, Any], notes: Sequence[str] | None = None) -> None:
        """Print what the program is for, as text or as one JSON object, with notes where there can be any."""
        if self.json:
            whole = result if notes is None else {**result, "notes": notes}
            _print(json.dumps(whole, allow_nan=False, default=str), sys.stdout)
        elif text:
            self.say("\n".join([text, *(f"note: {note}" for note in notes or ())]))


class Parser(argparse.ArgumentParser):
    """A parser of options, which keeps the lines of its texts and shows control characters in what it says."""

    def __init__(self, **about: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **about)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; refuse arguments with a NUL, which no name of a file can have."""
        wrong = next((each for each in args or () if "\0" in each), None)
        if wrong is not None:
            self.error(f"{wrong} has a NUL, which no name of a file or column can have; correct it")
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


def complain(text: str) -> None:
    """Print an error's sentence to stderr; nowhere if there is none or it takes nothing."""
    with suppress(OSError, ValueError):
        if sys.stderr:
            print(visible(text), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return the text with its control characters written out, such as \\x1b: a terminal obeys them, and they may come
    from any name in a file. Line breaks and tabs stay."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves the cursor, colours, renames the window or turns the direction of writing."""


def binary_stdout() -> BinaryIO:
    """Return where bytes of a result go: stdout, and where that is a terminal, as `visible` has them."""
    return cast(BinaryIO, _Visible()) if sys.stdout.isatty() else sys.stdout.buffer


class _Visible(io.RawIOBase):
    """Lines of UTF-8 for a terminal."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        sys.stdout.write(visible(bytes(data).decode("utf-8", errors="backslashreplace")))
        return len(data)


def flush_stdout() -> None:
    """Flush stdout; UserError where that cannot be."""
    _print("", sys.stdout, end="")


def _print(text: str, stream: TextIO, end: str = "\n") -> None:
    with writing_out():
        print(visible(text), end=end, file=stream, flush=True)


@contextmanager
def writing_out() -> Iterator[None]:
    """Turn what keeps stdout from taking more, such as a full disk, into a UserError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = f"the output cannot be written to where it was sent ({error.strerror})"
        raise UserError(problem, remedy="free some space there, or send it to another file") from error


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), gap: str = "  ") -> str:
    """Return a table's rows as lines: the columns numbered in `left` flush left, the others flush right.

    The last cell of a row that is shorter than the others runs on over the columns that it lacks.
    """
    columns = max(map(len, rows))
    full = [[*row[: len(row) - (len(row) < columns)], *[""] * columns][:columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    pads = [str.ljust if i in left else str.rjust for i in range(len(widths))]
    lines = []
    for row in rows:
        cells = [pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=False)]
        lines.append(gap.join(cells).rstrip())
    return "\n".join(lines)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that every program has."""
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object; all else goes to stderr"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
