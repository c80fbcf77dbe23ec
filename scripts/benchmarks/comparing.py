"""`compare A.json B.json` for two files that the command `device` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .summary import compare, is_device_record


def takes(arguments: Sequence[str]) -> bool:
    """Whether exactly two such files are named."""
    return len(arguments) == 2 and all(is_device_record(Path(argument)) for argument in arguments)


def main(arguments: Sequence[str]) -> int:
    """Print them side by side; 1 where an answer is wrong that was right."""
    before, after = (json.loads(Path(argument).read_text(encoding="utf-8")) for argument in arguments)
    text = compare(before, after)
    print(text)
    return int("wrong now:" in text)
