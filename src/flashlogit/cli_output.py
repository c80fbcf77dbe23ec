"""How much a program says, and in which form: sentences for people, nothing, or one JSON object for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
            print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def answer(self, text: str, result: Mapping[str, Any]) -> None:
        """What the program is for: as text, or as one JSON object."""
        if self.json:
            print(json.dumps(result, allow_nan=False, default=str), flush=True)
        elif text:
            self.say(text)


def add_output(parser: argparse.ArgumentParser) -> None:
    """The options that every program has."""
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object; all else goes to stderr"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
