"""A run's history and metrics for TensorBoard, if asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from ..metrics.evaluation import ClassMetrics, Metrics
from ..system.errors import UserError

_STEPS = ("epoch", "iteration")


def check_tensorboard() -> None:
    """Raise UserError where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "the package tensorboard is not installed",
            setting="report.tensorboard",
            value=True,
            remedy="pip install 'flashlogit[tensorboard]', or set it to false",
        )


class TensorBoardLog:
    """Writes events to a folder while a run goes on: `tensorboard --logdir runs` shows all runs beside each other."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._step = 0
        self._last: Mapping[str, float | int | None] = {}

    def add(self, row: Mapping[str, float | int | None]) -> None:
        """Take a row of the history, which is written when the next step begins: a step's last row counts."""
        step = next((int(row[name] or 0) for name in _STEPS if name in row), self._step + 1)
        if step != self._step:
            self._write()
        self._step, self._last = step, row

    def _write(self) -> None:
        for name, value in self._last.items():
            if value is not None and name not in _STEPS:
                self._writer.add_scalar(f"history/{name}", value, self._step)
        self._last = {}

    def finish(self, metrics: Mapping[str, Metrics | ClassMetrics]) -> None:
        """Write the metrics of every split, at the last step."""
        for split, of_split in metrics.items():
            for name, value in of_split.to_json().items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(f"{split}/{name}", value, self._step)
        self._writer.close()

    def flush(self) -> None:
        """Write what is left, as after Ctrl-C."""
        self._write()
        self._writer.flush()
