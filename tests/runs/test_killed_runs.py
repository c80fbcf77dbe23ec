"""Runs that are stopped at any moment go on to the very bytes of one that nobody disturbed.

`--kills 50` stops fifty of each kind instead of one.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from run_files import history

from flashlogit.commands.main import run_command
from flashlogit.runs import run
from flashlogit.training.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed here")

DATA = ["data.source=synthetic", "data.rows=8000", "data.columns=30", "data.dtype=float64"]
KINDS = {
    "batches": ["training.epochs=8", "training.batch_size=256", "training.checkpoint_every=1"],
    "at once": ["solver.name=newton", "solver.tolerance=1e-13", "data.rows=2000"],
    "newton": ["solver.name=newton", "solver.tolerance=1e-13"],
    "newton-cg": ["solver.name=newton-cg", "solver.tolerance=1e-13", "loss.l2=1e-7"],
    "lbfgs": ["solver.name=lbfgs", "solver.tolerance=1e-12", "loss.l1=1e-3"],
    "no penalty": ["solver.name=newton", "solver.tolerance=1e-14", "loss.l2=0"],
}
STOPS = [*((kind, signal.SIGKILL) for kind in KINDS), ("batches", signal.SIGTERM), ("lbfgs", signal.SIGINT)]


def arguments(kind: str, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: run\n")
    solver = [] if kind == "batches" else ["solver.checkpoint_seconds=0", "loss.eps=0"]
    given = ["--config", str(folder / "config.yaml"), f"output={folder}", "--quiet", "report.html=false"]
    return [*given, *DATA, *KINDS[kind], *solver]


def train(given: list[str], hold: bool) -> None:
    """What a process of its own does; `hold` keeps it from its results, so that it is stopped before in any case."""
    torch.set_num_threads(1)
    if hold:
        run.write_results = lambda *given: time.sleep(60)
    os._exit(run_command("train", given))


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["flashlogit.runs.run", "flashlogit.commands.shell", __name__])


def start(given: list[str], hold: bool = False) -> Any:
    """Start a training process that has imported everything and computed nothing."""
    process = CONTEXT.Process(target=train, args=(given, hold))
    process.start()
    return process


@functools.cache
def whole(kind: str) -> tuple[bytes, list[dict[str, Any]]]:
    """The model's bytes and the history of a run of a kind that nobody stopped."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(arguments(kind, Path(folder)))
        process.join(300)
        assert process.exitcode == 0
        return Path(folder, "run", "model.safetensors").read_bytes(), history(Path(folder, "run"))


@pytest.mark.parametrize(("kind", "number"), STOPS, ids=lambda value: getattr(value, "name", value))
def test_a_stopped_run_goes_on_to_the_same_bytes(kind, number, tmp_path, pytestconfig):
    rows = len(whole(kind)[1])
    assert rows > 2
    chance = random.Random(0)
    for time_over in range(pytestconfig.getoption("--kills")):
        folder = tmp_path / f"{time_over}"
        given, written = arguments(kind, folder), folder / "run"
        process = start(given, hold=True)
        # At any row, and any moment of it: while a file is written too.
        enough = chance.randrange(1, rows)
        checkpoint, lines = written / "checkpoint.safetensors", written / "history.jsonl"
        while not (checkpoint.exists() and lines.exists() and lines.read_bytes().count(b"\n") >= enough):
            assert process.is_alive()
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.003))
        os.kill(process.pid, number)
        process.join(300)
        assert process.exitcode == (-number if number == signal.SIGKILL else 128 + number)
        assert not (written / "metrics.json").exists()
        assert Checkpoint.load(checkpoint).progress["history_length"] >= 0
        process = start([*given, "--resume"])
        process.join(300)
        assert process.exitcode == 0
        assert ((written / "model.safetensors").read_bytes(), history(written)) == whole(kind)
        assert not list(written.glob(".*.tmp"))
