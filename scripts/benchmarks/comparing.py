"""`compare A.json B.json` for two files that the command `device` wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .summary import compare, is_device_record


def takes(arguments: Sequence[str]) -> bool:
    """Whether such a file is among the arguments."""
    return any(is_device_record(Path(argument)) for argument in arguments)


def main(arguments: Sequence[str]) -> int:
    """Print them side by side; 1 where an answer is wrong that was right, 2 where there are not two of a kind."""
    others = [argument for argument in arguments if not is_device_record(Path(argument))]
    if others or len(arguments) != 2:
        what = f"{others[0]} is not one" if others else f"{len(arguments)} are named"
        print(f"error: compare takes two files of the command device, and {what}; name two", file=sys.stderr)
        return 2
    before, after = (json.loads(Path(argument).read_text(encoding="utf-8")) for argument in arguments)
    text = compare(before, after)
    print(text)
    return int("wrong now:" in text)
