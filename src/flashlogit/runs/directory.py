"""The folder that a run leaves: which files it holds, and when it may be written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..report import GRID_PICTURES, PICTURES
from ..system.errors import UserError
from ..system.files import naming, probe, remove_unfinished, write_atomically

if TYPE_CHECKING:  # these take seconds, and a wrong setting is answered before
    import pyarrow as pa

    from ..training.checkpoint import Checkpoint

HistoryRow = dict[str, float | int | None]
"""Numbers of an epoch, or of a solver's step, by name."""
_ROW: TypeAdapter[HistoryRow] = TypeAdapter(HistoryRow, config=ConfigDict(strict=True))
"""A row of the history. Its floats may be infinite or NaN, which Python writes into JSON too."""

Mode = Literal["new", "overwrite", "resume"]
PREDICTIONS = "predictions.safetensors"
_AGAIN = "start again with --overwrite"


class RunDirectory(AbstractContextManager["RunDirectory"]):
    """`<output>/<name>/` with its files; opening it checks that it can be written and changes no file in it."""

    def __init__(self, path: Path, mode: Mode) -> None:
        """Lock the folder until the end of its `with`, and remove what a run that was killed left half written.

        Raises:
            UserError: the folder cannot be written, holds a run that must not be replaced, or one that is going on.
        """
        self.path = path
        self.config = path / "config.yaml"
        self.history = path / "history.jsonl"
        self.model = path / "model.safetensors"
        self.metrics = path / "metrics.json"
        self.predictions = path / PREDICTIONS
        self.coefficients = path / "coefficients.csv"
        self.targets = path / "targets"
        self.targets_table = path / "targets.csv"
        self.grid = path / "grid.csv"
        self.out_of_fold = path / "out_of_fold.csv"
        self.report = path / "report.html"
        self.checkpoint = path / "checkpoint.safetensors"
        self.provenance = path / "provenance.json"
        self.pictures = path / "pictures"
        self.tensorboard = path / "tensorboard"
        self._files = [self.config, self.history, self.model, self.metrics, self.coefficients]
        self._files += [self.predictions, self.targets_table, self.grid, self.out_of_fold, self.report, self.checkpoint]
        self._files.append(self.provenance)
        self._files += [self.pictures / name for name in (*PICTURES, *GRID_PICTURES)]
        self._files.append(path / "curves.png")  # of 0.1.0
        self.listener: Callable[[Mapping[str, Any]], None] | None = None
        """It is told of every row of the history."""
        # Of the system, so that it ends with its process, however that ends.
        self._lock = FileLock(path / ".lock", timeout=0)
        self._check_mode(mode)
        try:
            self._open()
            self._check_mode(mode)  # once more: another run may have come and gone
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        """Let other runs have the folder, and leave none behind where nothing came of the run."""
        try:
            if self._lock.is_locked and not self._is_used():
                with suppress(OSError):  # another run may have come meanwhile
                    Path(self._lock.lock_file).unlink()
                    self.path.rmdir()
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Remove an earlier run's files, and nothing else that the user may keep there."""
        for file in self._files:
            file.unlink(missing_ok=True)
        for folder in self.targets.glob("*/"):
            for name in (self.config.name, self.model.name, self.coefficients.name, self.out_of_fold.name):
                (folder / name).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
        for events in self.tensorboard.glob("events.out.tfevents.*"):
            events.unlink()
        for folder in (self.pictures, self.targets):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Add one JSON line."""
        with naming(self.history), self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.listener:
            self.listener(row)

    def read_history(self, length: int, keys: Collection[str] = ()) -> list[HistoryRow]:
        """Return the first `length` rows; later ones, of epochs that will be trained again, are dropped from the file.

        Raises:
            UserError: the file has fewer rows, or one that is no row of a history with these keys.
        """
        lines = self.history.read_bytes().splitlines()[:length] if self.history.is_file() else []
        if len(lines) < length:
            problem = f"it has {len(lines)} rows, and the checkpoint counts {length}"
            raise UserError(problem, setting=self.history, remedy=_AGAIN)
        rows: list[HistoryRow] = []
        for number, line in enumerate(lines, 1):
            try:
                row = _ROW.validate_json(line)
            except ValidationError:
                row = {}
            if not row or row.keys() != (rows or [row])[0].keys() or not row.keys() >= {*keys}:
                raise UserError(f"line {number} is no row of the run's history", setting=self.history, remedy=_AGAIN)
            rows.append(row)
        self.write_text(self.history, "".join(f"{line.decode()}\n" for line in lines))
        return rows

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, once the rows of the history that it counts are on the disk."""
        if self.history.is_file():
            with naming(self.history), self.history.open("rb") as file:
                os.fsync(file.fileno())
        checkpoint.save(self.checkpoint)

    def write_text(self, path: Path, content: str) -> None:
        """Write a text file in one step."""
        write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))

    def write_table(self, path: Path, table: pa.Table) -> None:
        """Write a table as CSV in one step, text as `safe_cells` has it; what is null is empty."""
        from ..data.files.text import write_csv

        write_csv(path, table)

    def _is_used(self) -> bool:
        return any(file.name != ".lock" for file in self.path.glob("*"))

    def _check_mode(self, mode: Mode) -> None:
        if mode == "resume" and not self.checkpoint.is_file():
            remedy = "start the run without --resume"
            raise UserError("there is no such checkpoint", setting=self.checkpoint, remedy=remedy)
        if mode == "new" and self._is_used():
            remedy = "choose another with name=..., go on with it with --resume, or replace it with --overwrite"
            raise UserError("the run directory exists", setting=self.path, remedy=remedy)

    def _open(self) -> None:
        try:
            self._acquire()
            probe(self.model)
            for file in self._files:
                remove_unfinished(file)
        except Timeout:
            remedy = "wait for its end, or choose another with name=..."
            raise UserError("another run is writing to it", setting=self.path, remedy=remedy) from None
        except OSError as error:
            problem = f"the run directory cannot be written ({error.strerror})"
            raise UserError(problem, setting=self.path, remedy="choose another with output=...") from error

    def _acquire(self) -> None:
        """Lock the folder, and make it again where a run of which nothing came has just taken it away."""
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self._lock.acquire()
                if Path(self._lock.lock_file).exists():
                    return
                self._lock.release()
