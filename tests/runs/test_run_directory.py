"""A run's folder against other runs, signals, and disks that are full: nothing is mixed, and nothing is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import contents, history, metrics

from flashlogit.commands.shell import ending
from flashlogit.runs import run
from flashlogit.runs.directory import RunDirectory
from flashlogit.system import files as atomic
from flashlogit.system import stopping
from flashlogit.system.errors import UserError
from flashlogit.system.stopping import SIGNALS, saving, stopped_by_signals
from flashlogit.training.checkpoint import Checkpoint

SMALL = ["data.source=synthetic", "data.rows=400", "data.columns=6", "report.html=false"]
BATCHES = [*SMALL, "training.epochs=3", "training.batch_size=64"]
SOLVER = [*SMALL, "solver.name=newton", "loss.l2=1e-3"]
KINDS = pytest.mark.parametrize("kind", [BATCHES, SOLVER], ids=["batches", "solver"])
Train = Callable[..., str]


# --- one run at a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--overwrite", "--resume"])
def test_a_second_run_is_refused_while_the_first_goes_on(mode: str, train: Train, tmp_path: Path) -> None:
    train(*BATCHES)
    before = contents(tmp_path / "run")
    with RunDirectory(tmp_path / "run", "resume"):
        message = train(*BATCHES, mode, code=2)
    assert str(tmp_path / "run") in message
    assert contents(tmp_path / "run") == before
    train(*BATCHES, mode)


def test_the_lock_of_a_dead_run_holds_nobody_up(tmp_path: Path) -> None:
    program = (
        "import os, signal; from pathlib import Path; from flashlogit.runs.directory import RunDirectory\n"
        f"run = RunDirectory(Path({str(tmp_path / 'run')!r}), 'new'); run.append_history({{'a': 1}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with RunDirectory(tmp_path / "run", "overwrite") as run:
        assert run.history.exists()


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "runs" / "run", "new"):
        assert (tmp_path / "runs" / "run").is_dir()
    assert not (tmp_path / "runs" / "run").exists()
    with pytest.raises(UserError) as refused:
        RunDirectory(tmp_path / "runs" / "run", "resume")
    assert "--resume" in refused.value.remedy
    assert not (tmp_path / "runs" / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as refused:
        RunDirectory(tmp_path / "file" / "run", "new")
    assert refused.value.setting == str(tmp_path / "file" / "run")
    assert "output=" in refused.value.remedy


def test_what_a_killed_run_left_half_written_goes(train: Train, tmp_path: Path) -> None:
    train(*BATCHES)
    run = tmp_path / "run"
    (run / "pictures").mkdir()
    left = [run / name for name in (".curves.png.ab12.tmp", ".model.safetensors.x.tmp", "pictures/.roc.png.y.tmp")]
    own = [run / ".mine.tmp", run / "curves.png.tmp"]
    for file in [*left, *own]:
        file.write_bytes(b"half")
    train(*BATCHES, "--resume")
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in own)


# --- an earlier run stays until the new one can begin -------------------------------------------------------


def test_a_run_that_cannot_begin_loses_nothing(train: Train, tmp_path: Path) -> None:
    train(*SOLVER)
    train(*SOLVER, "name=other", "data.columns=5")
    before = contents(tmp_path / "run")
    for wrong in (
        ["solver.name=newton-cg", "loss.l1=0.1"],
        ["solver.name=newton", "data.columns=3000"],
        ["solver.start=nowhere"],
        [f"solver.start={tmp_path / 'other'}"],
        ["data.rows=4"],
        ["loss.class_weight={negative: 0, positive: 1}"],
    ):
        train(*SOLVER, "--overwrite", *wrong, code=2)
        assert contents(tmp_path / "run") == before, wrong


@KINDS
def test_a_refused_resume_loses_nothing(kind: list[str], train: Train, tmp_path: Path) -> None:
    train(*kind)
    before = contents(tmp_path / "run")
    train(*kind, "--resume", "loss.l2=0.25", code=2)
    assert contents(tmp_path / "run") == before


# --- solvers' checkpoints -----------------------------------------------------------------------------------


def test_a_solver_writes_checkpoints_as_often_as_asked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = Checkpoint.save

    def counted(checkpoint: Checkpoint, path: Path) -> None:
        saved.append(checkpoint.progress["iteration"])
        save(checkpoint, path)

    monkeypatch.setattr(Checkpoint, "save", counted)
    train(*SOLVER, "solver.name=lbfgs")
    rows = len(history(tmp_path / "run"))
    assert saved == [rows - 1]
    saved.clear()
    train(*SOLVER, "solver.name=lbfgs", "solver.checkpoint_seconds=0", "--overwrite")
    assert saved == [*range(rows), rows - 1]


def test_a_run_goes_on_with_another_solver_from_the_same_point(train: Train, tmp_path: Path) -> None:
    train(*SOLVER, "solver.name=lbfgs", "solver.max_iterations=3")
    assert "newton starts anew from the point that lbfgs has reached" in train(*SOLVER, "--resume")
    rows = history(tmp_path / "run")
    assert [row["iteration"] for row in rows[:4]] == [0, 1, 2, 3]
    assert [row["iteration"] for row in rows] == sorted(row["iteration"] for row in rows)
    objectives = [row["objective"] for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    assert [row["passes"] for row in rows] == sorted(row["passes"] for row in rows)
    assert metrics(tmp_path / "run")["run"]["converged"]


def test_a_resumed_run_needs_no_start_and_takes_no_other_intercept(train: Train, tmp_path: Path) -> None:
    train(*SOLVER, "name=first")
    start = f"solver.start={tmp_path / 'first'}"
    train(*SOLVER, start)
    (tmp_path / "first" / "model.safetensors").unlink()
    train(*SOLVER, start, "--resume")
    assert "solver.intercept is false" in train(*SOLVER, start, "--resume", "solver.intercept=false", code=2)


# --- signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_to_stop_interrupts_but_no_saving(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    done = []

    def program() -> None:
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

    with ending(debug=False) as end:
        program()
    assert end.code == 128 + number
    assert done == ["saved"]
    assert capsys.readouterr().err == "kept\n"
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_while_something_is_saved_interrupts_after_it() -> None:
    saved = []

    def save() -> None:
        with saving():
            signal.raise_signal(signal.SIGTERM)
            saved.append(1)

    with stopped_by_signals() as stop, pytest.raises(KeyboardInterrupt):
        save()
    assert saved == [1]
    assert stop.exit_code == 128 + signal.SIGTERM


def test_a_signal_that_was_lost_is_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_REPEAT_SECONDS", 0.0)
    with stopped_by_signals() as stop:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 128 + signal.SIGTERM


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal is None
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@KINDS
def test_an_interruption_while_results_are_written_says_what_is_safe(
    kind: list[str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", interrupted)
        message = train(*kind, code=130)
    assert str(tmp_path / "run" / "checkpoint.safetensors") in message
    train(*kind, "--resume")
    assert (tmp_path / "run" / "model.safetensors").exists()


# --- disks and streams --------------------------------------------------------------------------------------


def fill_up_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full once so many files have been written whole."""
    left = [writes]
    fsync = os.fsync

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(atomic.os, "fsync", full)  # type: ignore[attr-defined]


@KINDS
def test_a_full_disk_is_named_with_what_is_safe(
    kind: list[str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens: what is said to be safe is, and the run goes on from there to the same end."""
    given = [*kind, "training.checkpoint_every=1" if kind is BATCHES else "solver.checkpoint_seconds=0"]
    train(*given, "name=whole")
    expected = (tmp_path / "whole" / "model.safetensors").read_bytes()
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    resumed = 0
    for writes in range(0, 60, 2):
        with monkeypatch.context() as patch:
            fill_up_after(writes, patch)
            message = train(*given, "--overwrite", code=None)
        if not message:
            break
        assert os.strerror(errno.ENOSPC) in message
        assert str(tmp_path / "run") in message
        if checkpoint.exists():
            assert f"{checkpoint} is whole" in message
            assert not list((tmp_path / "run").glob(".*.tmp"))
            train(*given, "--resume")
            assert (tmp_path / "run" / "model.safetensors").read_bytes() == expected
            resumed += 1
        else:
            assert "nothing of the run was kept" in message
    assert writes > 5
    assert resumed > 1


def test_streams_that_the_shell_closed_are_not_missed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: run\n")
    arguments = " ".join([*BATCHES, f"output={tmp_path}"])
    done = subprocess.run(
        f"{sys.executable} -m flashlogit train --config config.yaml {arguments} <&- 2>&-",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "run" / "metrics.json").exists()
    assert b"results:" in done.stdout
