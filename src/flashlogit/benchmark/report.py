"""What is kept of a run: the JSON file that tables, pictures and comparisons are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..system.errors import UserError
from ..system.files import write_atomically

FORMAT = "flashlogit-benchmark"
FIT_FORMAT = "flashlogit-fit-benchmark"
VERSION = 1

Status = Literal["ok", "incorrect", "skipped", "failed"]


@dataclass(frozen=True)
class Record:
    """One contender at one shape. None: not known, or without meaning here.

    ms, q25_ms, q75_ms: milliseconds, median and quartiles of `calls` calls, timed by `timing`.
    bytes: what has to be read, X once and one float32 number a row; tb_per_s: 10^12 of these a second.
    fraction: of the ceiling, `sum` over as many bytes as X timed in turn with it.
    speedup: time of `speedup_against` over this one's; only for right answers against right answers.
    product_ratio: this one's time over that of a whole-matrix X @ w.
    error: of the gradient (or what the pass gives instead), relative to the sum of absolute terms; allowed: its bound.
    reason: why the status is not "ok".
    """

    device: str
    pass_name: str
    contender: str
    ours: bool
    dtype: str
    arithmetic: str
    n: int
    d: int
    status: Status
    correct: bool | None
    reason: str = ""
    ms: float | None = None
    q25_ms: float | None = None
    q75_ms: float | None = None
    calls: int = 0
    timing: str = ""
    bytes: int | None = None
    tb_per_s: float | None = None
    fraction: float | None = None
    speedup: float | None = None
    speedup_against: str = ""
    product_ratio: float | None = None
    error: float | None = None
    allowed: float | None = None

    @property
    def spread(self) -> float | None:
        """Interquartile range as a share of the median."""
        if not self.ms or self.q25_ms is None or self.q75_ms is None:
            return None
        return (self.q75_ms - self.q25_ms) / self.ms


@dataclass(frozen=True)
class Ceiling:
    """What the machine can do with as many bytes as X of this shape: read them, and copy them (read and write)."""

    device: str
    dtype: str
    n: int
    d: int
    read_tb_per_s: float | None
    copy_tb_per_s: float | None


@dataclass(frozen=True)
class Report:
    """A run of the benchmark. machine and software: see `flashlogit.benchmark.machine`; date: UTC, ISO 8601."""

    date: str
    method: str
    machine: dict[str, Any]
    software: dict[str, Any]
    settings: dict[str, Any]
    complete: bool
    ceilings: tuple[Ceiling, ...]
    results: tuple[Record, ...]

    def to_json(self) -> dict[str, Any]:
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["ceilings"] = [asdict(ceiling) for ceiling in self.ceilings]
        content["results"] = [_renamed(asdict(record), "pass_name", "pass") for record in self.results]
        return {"format": FORMAT, "version": VERSION, **content}


def write_report(report: Report, path: Path) -> None:
    """Write the JSON file, whole or not at all."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda unfinished: unfinished.write_text(text))


def read_report(path: Path) -> Report:
    """Read a file that `write_report` wrote.

    Raises:
        UserError: there is no such file, or it is not a report of this version.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(
            f"the report {path} cannot be read ({reason}); name a file written with --out"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"the report {path} is not JSON (line {error.lineno}: {error.msg}); name a file written with --out"
        ) from error
    if isinstance(content, dict) and content.get("format") == FIT_FORMAT:
        raise UserError(
            f"{path} is a report of `fit`, and only those of `kernel` are compared; name one of them"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a benchmark's report; name a file written with --out")
    if content.get("version") != VERSION:
        raise UserError(
            f"the report {path} has version {content.get('version')!r} of the format, and this program reads {VERSION};"
            " measure again, or compare with the version of flashlogit that wrote it"
        )
    try:
        return _from_json(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the report {path} is damaged ({error}); measure again") from error


def _from_json(content: Mapping[str, Any]) -> Report:
    named = {field.name: content[field.name] for field in fields(Report)}
    named["ceilings"] = tuple(Ceiling(**ceiling) for ceiling in named["ceilings"])
    named["results"] = tuple(Record(**_renamed(dict(r), "pass", "pass_name")) for r in named["results"])
    for record in named["results"]:
        for name in ("ms", "q25_ms", "q75_ms", "fraction", "error"):
            value = getattr(record, name)
            if value is not None and not isinstance(value, (int, float)):
                raise TypeError(f"{name} is {value!r}; must be a number or null")
    return Report(**named)


def _renamed(record: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """`pass` is a word of Python's and cannot be a field's name."""
    return {new if name == old else name: value for name, value in record.items()}
