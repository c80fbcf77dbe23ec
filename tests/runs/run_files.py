"""What tests read of a run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashlogit.system.files import write_atomically


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and what is in it."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of the history, without what a clock says."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in rows]


def metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json holds."""
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def blank(*given: Any, **options: Any) -> None:
    """Stand in for drawing into the path among what is given; drawing takes nine tenths of a small run."""
    path = next(each for each in given if isinstance(each, Path))
    write_atomically(path, lambda temporary: temporary.write_bytes(b"no picture"))


DRAWING = ("plot_run", "write_curves")
"""Names in `flashlogit.runs.results` of what draws in every run."""
