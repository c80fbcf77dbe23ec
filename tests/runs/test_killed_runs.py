"""Runs that are killed at any moment go on to the very bytes of one that nobody disturbed.

`--kills 50` kills fifty of each kind instead of a few.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from flashlogit.commands.shell import train_main

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed here")

DATA = [
    "data.source=synthetic",
    "data.rows=3000",
    "data.columns=40",
    "data.dtype=float64",
    "report.html=false",
]
KINDS = {
    "batches": ["training.epochs=12", "training.batch_size=256", "training.checkpoint_every=1"],
    "newton": ["solver.name=newton", "solver.tolerance=1e-13"],
    "newton-cg": ["solver.name=newton-cg", "solver.tolerance=1e-13", "loss.l2=1e-7"],
    "lbfgs": ["solver.name=lbfgs", "solver.tolerance=1e-12", "loss.l1=1e-3"],
    "no penalty": ["solver.name=newton", "solver.tolerance=1e-14", "loss.l2=0"],
}


def arguments(kind: str, folder: Path) -> list[str]:
    config = folder / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("name: run\n")
    solver = [] if kind == "batches" else ["solver.checkpoint_seconds=0", "loss.eps=0"]
    return ["--config", str(config), f"output={folder}", "--quiet", *DATA, *KINDS[kind], *solver]


def train(given: list[str]) -> None:
    """What a process of its own does."""
    torch.set_num_threads(1)
    os._exit(train_main(given))


@pytest.fixture(scope="module")
def processes() -> Any:
    """Where processes come from that have imported everything, and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["flashlogit.runs.run", "flashlogit.commands.shell", "flashlogit.config.load", __name__]
    )
    return context


def finish(processes: Any, given: list[str]) -> None:
    process = processes.Process(target=train, args=(given,))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def timeless(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_same_bytes(
    kind: str, processes: Any, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    finish(processes, arguments(kind, tmp_path / "whole"))
    whole = tmp_path / "whole" / "run"
    expected = (whole / "model.safetensors").read_bytes(), timeless(whole)
    rows = len(expected[1])
    assert rows > 2
    chance = random.Random(0)
    stopped_on_the_way = 0
    for number in range(pytestconfig.getoption("--kills")):
        given = arguments(kind, tmp_path / f"{number}")
        run = tmp_path / f"{number}" / "run"
        process = processes.Process(target=train, args=(given,))
        process.start()
        # At any row, and any moment of it: while a file is written too.
        enough, checkpoint, history = (
            chance.randrange(1, rows),
            run / "checkpoint.safetensors",
            run / "history.jsonl",
        )
        while process.is_alive() and not (
            checkpoint.exists() and history.exists() and history.read_bytes().count(b"\n") >= enough
        ):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.003))
        process.kill()
        process.join()
        stopped_on_the_way += not (run / "metrics.json").exists()
        finish(processes, [*given, "--resume"])
        assert ((run / "model.safetensors").read_bytes(), timeless(run)) == expected
        assert not list(run.glob(".*.tmp"))
    assert stopped_on_the_way > 0
