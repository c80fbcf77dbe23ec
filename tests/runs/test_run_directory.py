"""A run's folder against other runs, signals, and disks that are full: nothing is mixed, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from unittest.mock import Mock

import pytest
from run_files import contents, history, metrics

from flashlogit.commands.shell import ending
from flashlogit.runs import run
from flashlogit.runs.directory import RunDirectory
from flashlogit.system import stopping
from flashlogit.system.errors import UserError
from flashlogit.system.stopping import SIGNALS, saving, stopped_by_signals
from flashlogit.training.checkpoint import Checkpoint

OPTIONS = ["data.source=synthetic", "data.rows=400", "data.columns=6", "report.html=false"]
BATCHES = ["training.epochs=3", "training.batch_size=64"]
SOLVER = ["solver.name=newton", "loss.l2=1e-3"]
KINDS = pytest.mark.parametrize("kind", [BATCHES, SOLVER], ids=["batches", "solver"])


# --- one run at a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--overwrite", "--resume"])
def test_a_second_run_is_refused_while_the_first_goes_on(mode, train, tmp_path):
    train(*BATCHES)
    before = contents(tmp_path / "run")
    with RunDirectory(tmp_path / "run", "resume"):
        assert str(tmp_path / "run") in train(*BATCHES, mode, code=2)
    assert contents(tmp_path / "run") == before
    train(*BATCHES, mode)


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path):
    folder = tmp_path / "runs" / "run"
    with RunDirectory(folder, "new"):
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(UserError, match="--resume"):
        RunDirectory(folder, "resume")
    assert not folder.exists()


def test_what_a_killed_run_left_half_written_goes(train, tmp_path):
    train(*BATCHES)
    run = tmp_path / "run"
    (run / "pictures").mkdir()
    left = [run / name for name in (".report.html.ab12.tmp", ".model.safetensors.x.tmp", "pictures/.roc.png.y.tmp")]
    own = [run / ".mine.tmp", run / "report.html.tmp"]
    for file in [*left, *own]:
        file.write_bytes(b"half")
    train(*BATCHES, "--resume")
    assert [file for file in [*left, *own] if file.exists()] == own


# --- an earlier run stays until the new one can begin -------------------------------------------------------


def test_a_run_that_cannot_begin_loses_nothing(train, tmp_path):
    train(*SOLVER)
    train(*SOLVER, "name=other", "data.columns=5")
    before = contents(tmp_path / "run")
    assert "replace it with --overwrite" in train(*SOLVER, code=2)
    for wrong in (
        ["--overwrite", "device=cuda:99"],
        ["--overwrite", "solver.name=newton-cg", "loss.l1=0.1"],
        ["--overwrite", "solver.name=newton", "data.columns=3000"],
        ["--overwrite", "solver.start=nowhere"],
        ["--overwrite", f"solver.start={tmp_path / 'other'}"],
        ["--overwrite", "data.rows=4"],
        ["--overwrite", "loss.class_weight={negative: 0, positive: 1}"],
        ["--resume", "solver.intercept=false"],
    ):
        message = train(*SOLVER, *wrong, code=2)
        assert contents(tmp_path / "run") == before, wrong
        assert "solver.start" in message or "start" not in wrong[1]


# --- solvers' checkpoints -----------------------------------------------------------------------------------


def test_a_solver_writes_checkpoints_as_often_as_asked(train, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, path: saved.append(self.progress["iteration"]))
    train(*SOLVER, "solver.name=lbfgs")
    rows = len(history(tmp_path / "run"))
    assert saved == [rows - 1]
    train(*SOLVER, "solver.name=lbfgs", "solver.checkpoint_seconds=0", "--overwrite")
    assert saved[1:] == [*range(rows), rows - 1]


def test_a_run_goes_on_with_another_solver_from_the_same_point(train, tmp_path):
    train(*SOLVER, "name=first")
    # The run that is the start may go once there is a checkpoint.
    start = f"solver.start={tmp_path / 'first'}"
    train(*SOLVER, start, "solver.name=lbfgs", "solver.max_iterations=3", "loss.l2=1e-2")
    (tmp_path / "first" / "model.safetensors").unlink()
    assert "newton starts anew from the point that lbfgs" in train(*SOLVER, start, "loss.l2=1e-2", "--resume")
    rows = history(tmp_path / "run")
    assert [row["iteration"] for row in rows[:4]] == [0, 1, 2, 3]
    for key, sign in (("iteration", 1), ("passes", 1), ("objective", -1)):
        values = [sign * row[key] for row in rows]
        assert values == sorted(values)
    assert metrics(tmp_path / "run")["run"]["converged"]


# --- signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_to_stop_interrupts_but_no_saving(number, capsys, monkeypatch):
    before = [signal.getsignal(each) for each in SIGNALS]
    done = []

    with ending(debug=False) as end:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            os.kill(os.getpid(), number)
            with saving():
                monkeypatch.setattr(stopping, "_REPEAT_SECONDS", 0.0)
                for each in SIGNALS:
                    os.kill(os.getpid(), each)
                done.append("saved")
                raise KeyboardInterrupt("kept") from None
    assert (end.code, done, capsys.readouterr().err) == (128 + number, ["saved"], "kept\n")
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_while_something_is_saved_interrupts_after_it():
    saved = []
    with stopped_by_signals() as stop, pytest.raises(KeyboardInterrupt), saving():
        saved.append(signal.raise_signal(signal.SIGTERM))
    assert (saved, stop.exit_code) == ([None], 128 + signal.SIGTERM)


def test_a_signal_that_was_lost_may_be_sent_again(monkeypatch):
    monkeypatch.setattr(stopping, "_REPEAT_SECONDS", 0.0)
    with stopped_by_signals():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.signal, signal.getsignal(signal.SIGTERM)) == (None, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGTERM, before)


@KINDS
def test_an_interruption_while_results_are_written_says_what_is_safe(kind, train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", lambda *given: signal.raise_signal(signal.SIGINT))
        message = train(*kind, code=130)
    assert str(tmp_path / "run" / "checkpoint.safetensors") in message
    train(*kind, "--resume")
    assert (tmp_path / "run" / "model.safetensors").exists()


# --- full disks ---------------------------------------------------------------------------------------------


@KINDS
def test_a_full_disk_is_named_with_what_is_safe(kind, train, tmp_path, monkeypatch):
    """Wherever it happens: what is said to be safe is, and the run goes on from there to the same end."""
    given = [*kind, "training.checkpoint_every=1" if kind is BATCHES else "solver.checkpoint_seconds=0"]
    train(*given, "name=whole")
    expected = (tmp_path / "whole" / "model.safetensors").read_bytes()
    checkpoint, resumed = tmp_path / "run" / "checkpoint.safetensors", 0
    for writes in range(0, 60, 2):
        full = (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) for _ in itertools.count())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Mock(side_effect=itertools.chain([None] * writes, full)))
            message = train(*given, "--overwrite", code=None)
        if not message:
            break
        assert os.strerror(errno.ENOSPC) in message
        assert str(tmp_path / "run") in message
        assert (f"{checkpoint} is whole" if checkpoint.exists() else "nothing of the run was kept") in message
        if checkpoint.exists():
            assert not list((tmp_path / "run").glob(".*.tmp"))
            train(*given, "--resume")
            assert (tmp_path / "run" / "model.safetensors").read_bytes() == expected
            resumed += 1
    assert writes > 5
    assert resumed > 1
