"""One training run from settings to results: load, train, measure, write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from flashlogit_kernels.contract import Clamp

from .backend import Backend, choose_backend
from .checkpoint import Checkpoint
from .config import CosineSchedule, RunSettings
from .config_file import dump_settings
from .data import Dataset, load
from .device import resolve_device
from .metrics import Metrics
from .objective import Objective, class_weights, with_class_weight
from .results import write_results
from .run_directory import Mode, RunDirectory
from .terminal import metrics_table
from .training import HistoryRow, Trainer


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; its message says what was kept."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves, in memory: its folder, metrics by split, and history."""

    directory: RunDirectory
    metrics: dict[str, Metrics]
    history: list[HistoryRow]


def train_run(
    settings: RunSettings,
    directory: RunDirectory,
    mode: Mode,
    *,
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> RunResult:
    """Train as the settings say and fill the run directory; with mode "resume" go on from its checkpoint.

    Args:
        settings: the run.
        directory: opened with the same mode.
        mode: "new", "overwrite" or "resume".
        say: where sentences for the user go.
        quiet: no progress bar.

    Raises:
        UserError: a setting, file or value that cannot be used, or training that diverged.
        Interrupted: Ctrl-C while training; the checkpoint holds the last finished epoch.
    """
    device = resolve_device(settings.device)
    backend = choose_backend(settings.backend, device)
    say(f"backend: {backend.name} on {device} ({backend.reason})")
    saved = Checkpoint.load(directory.checkpoint) if mode == "resume" else None
    dataset = load(settings.data, seed=settings.seed, device=device)
    say(describe(dataset))
    trainer = build_trainer(settings, dataset, backend)
    origin = run_origin(settings, dataset, device)
    history: list[HistoryRow] = []
    if saved:
        history = _resume(trainer, saved, origin, directory, say)
    else:
        directory.clear()
    directory.write_text(directory.config, dump_settings(settings))

    start = time.perf_counter()
    first = trainer.epoch
    _train(trainer, settings, origin, directory, history, quiet=quiet)
    seconds = time.perf_counter() - start
    say(_summary(trainer, trainer.epoch - first, seconds, settings))

    metrics = write_results(
        directory,
        settings,
        dataset,
        *trainer.final_parameters(),
        history=history,
        about={
            "device": str(device),
            "backend": backend.name,
            "epochs": trainer.epoch,
            "kept_epoch": kept_epoch(trainer, settings),
        },
    )
    say(metrics_table(metrics))
    say(f"results: {directory.path}")
    return RunResult(directory, metrics, history)


def describe(dataset: Dataset) -> str:
    """The data in a line, and a line for each note."""
    rows = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    positive = dataset.train.y.double().mean().item()
    line = (
        f"data: {rows} rows, {len(dataset.feature_names):,} columns;"
        f" {positive:.1%} of the training rows are positive ({dataset.label_names[1]})"
    )
    return "\n".join([line, *(f"note: {note}" for note in dataset.notes)])


def build_trainer(settings: RunSettings, dataset: Dataset, backend: Backend) -> Trainer:
    """The trainer of the settings' objective; validation rows are weighted as the training rows are."""
    loss = settings.loss
    factors = class_weights(dataset.train, loss.class_weight)
    clamp = Clamp(loss.eps, loss.clamp_gradient)
    training, validation = (
        None if rows is None else Objective(with_class_weight(rows, factors), clamp, loss.l2, backend)
        for rows in (dataset.train, dataset.validation)
    )
    assert training is not None
    return Trainer(training, validation, settings.training, seed=settings.seed)


def run_origin(settings: RunSettings, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """What must not change when a run is resumed, as JSON values.

    More epochs are another matter, except under a schedule that is stretched over all of them.
    """
    kept = settings.model_dump(mode="json", include={"seed", "backend", "data", "loss", "training"})
    del kept["training"]["checkpoint_every"]
    if not isinstance(settings.training.schedule, CosineSchedule):
        del kept["training"]["epochs"]
    return kept | {"device": device.type, "the data's fingerprint": fingerprint(dataset)}


def fingerprint(dataset: Dataset) -> str:
    """A short hash that tells data sets apart without reading all of X: names, labels, statistics, two rows."""
    train = dataset.train
    digest = hashlib.sha256(repr((dataset.feature_names, dataset.label_names, tuple(train.X.shape))).encode())
    digest.update(train.y.cpu().numpy().tobytes())
    digest.update(train.X[[0, -1]].double().cpu().numpy().tobytes())
    digest.update(dataset.standardization.mean.tobytes() + dataset.standardization.scale.tobytes())
    return digest.hexdigest()[:16]


def kept_epoch(trainer: Trainer, settings: RunSettings) -> int:
    """The epoch whose parameters the run keeps."""
    return trainer.best.epoch if settings.training.early_stopping and trainer.best else trainer.epoch


def _resume(
    trainer: Trainer,
    saved: Checkpoint,
    origin: dict[str, Any],
    directory: RunDirectory,
    say: Callable[[str], None],
) -> list[HistoryRow]:
    saved.check_origin(directory.checkpoint, origin)
    trainer.restore(saved)
    say(f"resuming after epoch {trainer.epoch}")
    threads = saved.progress["threads"]
    if threads != torch.get_num_threads():
        say(
            f"note: the run began with {threads} threads and goes on with {torch.get_num_threads()};"
            " its last digits may differ from an uninterrupted run's"
        )
    return directory.read_history(saved.progress["history_length"])


def _train(
    trainer: Trainer,
    settings: RunSettings,
    origin: dict[str, Any],
    directory: RunDirectory,
    history: list[HistoryRow],
    *,
    quiet: bool,
) -> None:
    """Run the epochs, keeping history and checkpoints; the newest finished epoch survives Ctrl-C."""
    rows = len(trainer.training.rows)
    newest = trainer.checkpoint(origin, len(history))
    bar = tqdm(
        total=settings.training.epochs * rows,
        initial=trainer.epoch * rows,
        unit=" rows",
        unit_scale=True,
        desc=settings.name,
        disable=True if quiet else None,  # None: no bar where the output is not a terminal
    )
    try:
        with bar:
            for row in trainer.epochs(bar.update):
                history.append(row)
                directory.append_history(row)
                newest = trainer.checkpoint(origin, len(history))
                if trainer.finished or trainer.epoch % settings.training.checkpoint_every == 0:
                    newest.save(directory.checkpoint)
                bar.set_postfix(_losses(row), refresh=False)
    except KeyboardInterrupt:
        newest.save(directory.checkpoint)
        raise Interrupted(
            f"interrupted: {directory.checkpoint} holds the state after epoch {newest.progress['epoch']};"
            " go on with --resume"
        ) from None


def _losses(row: HistoryRow) -> dict[str, str]:
    return {
        name: f"{row[key]:.4g}"
        for name, key in (("loss", "train_loss"), ("validation", "validation_loss"))
        if row[key] is not None
    }


def _summary(trainer: Trainer, epochs: int, seconds: float, settings: RunSettings) -> str:
    if not epochs:
        return f"nothing was left to train after epoch {trainer.epoch}; raise training.epochs to go on"
    rate = epochs * len(trainer.training.rows) / seconds
    line = f"trained {epochs} epochs in {seconds:.1f} s ({rate:,.0f} rows/s)"
    if settings.training.early_stopping:
        line += f"; kept the weights of epoch {kept_epoch(trainer, settings)}, the lowest validation loss"
    return line
