"""What every way of learning a model gets from a run, and gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..config.settings import RunSettings
from ..data import Dataset
from ..fitting.inference import Inference
from ..passes import Backend
from ..report.summary import EpochSummary, SolverSummary
from ..training.checkpoint import Checkpoint
from .directory import RunDirectory

HistoryRow = dict[str, float | int | None]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; its message says what was kept."""


@dataclass(frozen=True)
class Task:
    """A run whose data are loaded. `saved` is the checkpoint it goes on from, if it does."""

    settings: RunSettings
    dataset: Dataset
    backend: Backend
    device: torch.device
    directory: RunDirectory
    saved: Checkpoint | None
    say: Callable[[str], None]
    quiet: bool

    def origin(self, *sections: str) -> dict[str, Any]:
        """Return what must be the same when the run is resumed, as JSON: sections of the settings, and the data."""
        kept = self.settings.model_dump(mode="json", include={"seed", "backend", "data", *sections})
        return kept | {"device": self.device.type, "the data's fingerprint": fingerprint(self.dataset)}

    def note_threads(self, threads: int | None) -> None:
        """Tell the user where a run goes on with another number of threads than it began with."""
        here = torch.get_num_threads()
        if threads not in (None, here):
            self.say(
                f"note: the run began with {threads} threads and goes on with {here}; its last digits may differ from"
                " an uninterrupted run's"
            )


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar of a run, in a terminal only, that begins no thread of its own: beside one a fit is slower."""

    monitor_interval = 0

    def __init__(self, task: Task, **options: Any) -> None:
        """`options` are tqdm's."""
        # None: no bar where the output is not a terminal.
        super().__init__(desc=task.settings.name, disable=True if task.quiet else None, **options)


@dataclass(frozen=True)
class Learned:
    """A model: weight [D] and bias [1], or [K, D] and [K], on the columns as they are stored.

    `inference` is of the raw columns; where it is None `why_no_inference` says why, without a full stop.
    """

    weight: Tensor
    bias: Tensor
    history: list[HistoryRow]
    summary: SolverSummary | EpochSummary
    inference: Inference | None = None
    why_no_inference: str = "training by mini-batches ends near the optimum, not at it: standard errors need a solver"


def fingerprint(dataset: Dataset) -> str:
    """Return a short hash of names, labels, statistics and two rows, which tells data sets apart without reading X."""
    train = dataset.train
    digest = hashlib.sha256(repr((dataset.feature_names, dataset.label_names, tuple(train.X.shape))).encode())
    digest.update(train.y.cpu().numpy().tobytes())
    digest.update(train.X[[0, -1]].double().cpu().numpy().tobytes())
    digest.update(dataset.standardization.mean.tobytes() + dataset.standardization.scale.tobytes())
    return digest.hexdigest()[:16]
