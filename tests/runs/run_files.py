"""What tests read of a run's folder, and write into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flashlogit.data.columns.encoding import Standardization
from flashlogit.models.model import Model

CONFIGS = Path(__file__).parents[2] / "configs"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and what is in it."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of the history, without what a clock says."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in rows]


def metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json holds."""
    return json.loads((folder / "metrics.json").read_text())


def made(weight: Any, names: Any = "xyz", labels: Any = ("0", "1"), **more: Any) -> Model:
    """A model of these weights, [D] or [K, D], on columns that are not standardised."""
    D, weight = np.shape(weight)[-1], np.array(weight)
    usual = {"bias": np.zeros(len(np.atleast_2d(weight))), "standardization": Standardization.identity(D)}
    fields = {"eps": 0.0, "threshold": 0.5, **usual, **more}
    return Model(weight=weight, feature_names=tuple(names)[:D], label_names=tuple(labels), **fields)
