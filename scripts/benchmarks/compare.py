"""The command `compare`: which numbers of a second file are slower than those of a first one, or wrong now."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .report import Record, between, number, say, spread_of, trouble

_TIMES = ("ms", "us", "wall_ms")
_COUNTS = ("launches", "waits")


def records(content: Any, where: str = "") -> Iterator[tuple[str, Record]]:
    """Yield all that has a name, with the names that it is under."""
    if isinstance(content, dict):
        if "name" in content:
            where = f"{where}{': ' * bool(where)}{content['name']}"
            yield where, content
        content = list(content.values())
    for part in content if isinstance(content, list) else ():
        yield from records(part, where)


def changes(before: Record, after: Record, threshold: float, by_share: bool) -> Iterator[tuple[str, str]]:
    """Yield (what became of a number, its line): "slower", "faster" or "" for each number of a record."""
    spread = max(threshold, spread_of(before) or 0.0, spread_of(after) or 0.0)
    for key in (*_TIMES, *_COUNTS):
        old, new = before.get(key), after.get(key)
        if old and new:
            ratio = new / old
            if by_share and key == "ms" and before.get("fraction") and after.get("fraction"):
                ratio = before["fraction"] / after["fraction"]
            mark = "slower" if ratio > 1 + spread else "faster" if ratio < 1 / (1 + spread) else ""
            yield mark, f"{key:8} {number(old):>9} {number(new):>9} {ratio:>7.3f}  {mark}"


def read(parser: argparse.ArgumentParser, path: Path) -> Record:
    """Return what a command wrote into a file."""
    try:
        content: Record = json.loads(path.read_text(encoding="utf-8"))
        content["machine"]["device"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{path} is no file of this program ({type(error).__name__}); name one of --out")
    return content


def main(arguments: Sequence[str]) -> int:
    """Print what changed; returns 1 where something became slower or wrong."""
    parser = argparse.ArgumentParser(prog="benchmark.py compare", description=__doc__)
    parser.add_argument("files", nargs=2, type=Path, metavar="A.json B.json")
    slack = "share by which a number has to be larger, and by more than the spread; default: 0.05"
    parser.add_argument("--threshold", type=between(0, 10), default=0.05, help=slack)
    options = parser.parse_args(arguments)
    a, b = (read(parser, path) for path in options.files)
    if a.get("kind") != b.get("kind"):
        parser.error(f"the files are of the commands {a.get('kind')} and {b.get('kind')}; name two of a kind")
    names = [content["machine"]["device"]["name"] for content in (a, b)]
    say(f"before: {names[0]}, after: {names[1]}")
    if names[0] != names[1]:
        say("the devices differ: ratios of passes are those of their shares of the bandwidth")
    before, after = (dict(found for key in each for found in records(each[key], key)) for each in (a, b))
    bad = 0
    for name in [name for name in before if name in after]:
        now = trouble(after[name])
        if bool(now) != bool(trouble(before[name])):
            bad += bool(now)
            say(f"{name:<70} {f'wrong now: {now}' if now else 'right now'}")
        for mark, line in changes(before[name], after[name], options.threshold, names[0] != names[1]):
            bad += mark == "slower"
            say(f"{name:<70} {line}")
    say(f"{bad} numbers became slower or wrong" if bad else "nothing became slower or wrong")
    return int(bad > 0)
