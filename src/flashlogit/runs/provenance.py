"""Where a run came from: its data files, when and by which command it was made, and by what; kept as provenance.json.

By the files' hashes `evaluate` knows again what a model was trained on. No row is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from .. import __version__
from ..config.data import FileData
from ..config.settings import RunSettings
from ..data.files.open import named_files
from ..system.errors import UserError, listing, some_of

if TYPE_CHECKING:
    from ..data.dataset import Dataset

PROVENANCE = "provenance.json"
_TRAINING = "data.path"
_BLOCK_BYTES = 1 << 20
_PLATFORM = platform.system(), platform.release(), platform.machine()
"""platform.platform() reads the interpreter's file for the C library's version, which takes 5 ms."""


@dataclass(frozen=True)
class DataFile:
    """A file of data, by the setting that names it and as it is named there, with its size and the hash of its bytes;
    None where it could not be read again."""

    setting: str
    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Start:
    """When a run began or went on, UTC in ISO 8601, and by which command; None for a run from Python."""

    date: str
    command: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a run came from.

    Attributes:
        source: the setting data.source.
        files: those of the data; none of built-in data, or as long as the hashes of a run that goes on are being made.
        starts: the run's beginning, and each time that it was resumed.
        versions: of flashlogit, torch, numpy, python and the platform.
        rows: how many were read, how many of them had no label and were left out, and each split's.
        seed: of the split and of whatever else is drawn.
    """

    source: str
    files: tuple[DataFile, ...]
    starts: tuple[Start, ...]
    versions: dict[str, str]
    rows: dict[str, int]
    seed: int

    @classmethod
    def read(cls, path: Path) -> Provenance | None:
        """Return what a file says; None where there is none, or it is damaged: nothing else depends on it."""
        try:
            return _READER.validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None

    def text(self) -> str:
        """Return the content of provenance.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return terms and what is said of each, for a model card."""
        files = [
            each.name if each.sha256 is None else f"{each.name} ({each.bytes:,} bytes, SHA-256 {each.sha256[:16]}...)"
            for each in self.files
        ]
        first, *resumed = self.starts
        dates = [first.date, *(f"resumed {each.date}" for each in resumed)]
        command = "none, from Python" if first.command is None else shlex.join(first.command)
        without = self.rows["without_label"]
        left_out = f"{without:,} of {self.rows['read']:,}, which have no label" if without else "none"
        return (
            ("Data", some_of(files) or self.source),
            ("Read on", ", ".join(dates)),
            ("Command", command),
            ("Versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            ("Rows left out", left_out),
        )


_READER = TypeAdapter(Provenance)


class Hashing(AbstractContextManager["Hashing"]):
    """Hashes of a run's data files, made in a thread beside the load and the fit; it ends with its `with`.

    A CPU without instructions for SHA-256 takes 3 s for 1 GB, a quarter of what reading as large a CSV file takes it.
    Beside the load on a core that is free it adds nothing to the run's time.
    """

    def __init__(self, settings: RunSettings, command: Sequence[str] | None) -> None:
        """Begin; `command` is the one that was typed, if there is one."""
        self._settings = settings
        typed = None if command is None else tuple(map(_readable, command))
        self._start = Start(datetime.now(UTC).isoformat(timespec="seconds"), typed)
        self._files: list[DataFile] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def provenance(self, dataset: Dataset, earlier: Provenance | None, *, wait: bool) -> Provenance:
        """Return where the run came from, with the files' hashes once these are known, or if told so waiting for them.

        earlier: what the run that is resumed has said of itself.
        """
        import torch  # which `predict` and `evaluate` do without: it takes a second

        if wait:
            self._thread.join()
        splits = {name: len(rows) for name, rows in dataset.splits.items()}
        versions = {"flashlogit": __version__, "torch": torch.__version__, "numpy": np.__version__}
        return Provenance(
            source=self._settings.data.source,
            files=tuple(self._files) if not self._thread.is_alive() else (),
            starts=(*(earlier.starts if earlier else ()), self._start),
            versions=versions | {"python": platform.python_version(), "platform": " ".join(_PLATFORM)},
            rows={"read": sum(splits.values()) + dataset.unlabelled, "without_label": dataset.unlabelled} | splits,
            seed=self._settings.seed,
        )

    def _run(self) -> None:
        data = self._settings.data
        if not isinstance(data, FileData):
            return
        for key in ("path", "labels", "validation_path", "test_path"):
            named = getattr(data, key)
            listed = [] if named is None else [named] if isinstance(named, str) else named
            for name in listed:
                # What is wrong with a file is the load's to say.
                with suppress(UserError, OSError):
                    files = named_files(name, f"data.{key}")
                    for file in files:
                        own = name if len(files) == 1 else str(file)
                        self._files.append(_data_file(f"data.{key}", _readable(own), file, self._stop))


def training_rows(model_path: Path, data: str | Path | Sequence[str], rows: int) -> tuple[str, ...]:
    """Return a warning where files that a model is measured on are ones that it was trained on, else nothing.

    Args:
        model_path: a run directory, one of its targets', or a model in either.
        data: the files, as for `flashlogit.data.files.open.open_files`.
        rows: how many rows they have.
    """
    folder = model_path if model_path.is_dir() else model_path.parent
    run = folder.parent.parent if folder.parent.name == "targets" else folder
    known = Provenance.read(run / PROVENANCE)
    if known is None:
        return ()
    trained = Counter((each.bytes, each.sha256) for each in known.files if each.setting == _TRAINING and each.sha256)
    sizes = {size for size, _ in trained}
    same = []
    with suppress(OSError):
        files = [file for file in named_files(data, "--data") if file.stat().st_size in sizes]
        found = [(str(file), _data_file("--data", str(file), file, Event())) for file in files]
        same = [(name, (each.bytes, each.sha256)) for name, each in found if (each.bytes, each.sha256) in trained]
    if not same:
        return ()
    training = known.rows["train"]
    held_out = sum(known.rows.get(split, 0) for split in ("validation", "test"))
    some = "" if Counter(key for _, key in same) >= trained else "up to "
    are = "is a file that" if len({name for name, _ in same}) == 1 else "are files that"
    said = f"{listing(name for name, _ in same)} {are} the model was trained on: {some}{min(training, rows):,} of the"
    said += f" {rows:,} rows are training rows, on which a model looks better than it is"
    if held_out:
        return (f"{said}; {run} has metrics.json and predictions.safetensors of {held_out:,} rows that were held out",)
    return (f"{said}; give rows that it has not seen",)


def _data_file(setting: str, name: str, file: Path, stop: Event) -> DataFile:
    """Return a file with its size and hash; without them where it cannot be read, or it is time to stop."""
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb", buffering=0) as stream:
            while (block := stream.read(_BLOCK_BYTES)) and not stop.is_set():
                digest.update(block)  # for whose time hashlib lets other threads run
                size += len(block)
    except OSError:
        return DataFile(setting, name)
    return DataFile(setting, name) if stop.is_set() else DataFile(setting, name, size, digest.hexdigest())


def _readable(text: str) -> str:
    """Return the text of a name or an argument, whose bytes may be no UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
