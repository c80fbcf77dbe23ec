"""User errors at the command line: one helpful sentence, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashlogit.commands.shell import run_guarded, train_main
from flashlogit.system.errors import UserError

ROOT = Path(__file__).parents[2]
BCE = str(ROOT / "configs/bce.yaml")
OWN = str(ROOT / "configs/own_file.yaml")
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without umlauts."""


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert train_main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training.epoch=3"], "did you mean training.epochs"),
        (["loss.eps=0.7"], "loss.eps is 0.7"),
        (["loss.eps=-1"], "loss.eps is -1"),
        (["device=cuda:99"], "device is 'cuda:99', but torch sees"),
        (["device=tpu"], "device is 'tpu'"),
        (["data.split.validation=0"], "training.early_stopping watches the validation rows"),
        (["data.split.test=0.0001"], "data.split.test"),
        (["name=../elsewhere"], "name is '../elsewhere'"),
    ],
)
def test_bad_settings_leave_no_run_directory(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refuse(["--config", BCE, f"output={tmp_path}/runs", *arguments], capsys)
    assert message in error
    assert not any(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a,y\n1,0\n2,0\n3,0\n", "one class"),
        ("a,y\n1,0\nnan,1\n3,0\n4,1\n", "row 2"),
        ("a,y\n1,0\ninf,1\n3,0\n4,1\n", "row 2"),
        ("a,y\n1,0\n2,\n3,0\n4,1\n", "row 2"),
        ("a,y\n1,0\n2,1\n3,2\n", "data.label"),
        ("a,z\n1,0\n2,1\n", "column"),
        ("a,y\n1,0\n2,1\n", "split"),
        ("", "table.csv"),
    ],
)
def test_bad_data_leave_no_run_directory(
    table: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(table)
    settings = [f"data.path={path}", "data.label={column: y}", "data.weight=null", "data.drop=[]"]
    if message != "split":
        settings += ["data.split={validation: 0, test: 0}", "training.early_stopping=null"]
    error = refuse(["--config", OWN, f"output={tmp_path}/runs", *settings], capsys)
    assert message in error
    assert not any(tmp_path.glob("runs/*"))


def test_a_missing_data_file_names_its_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refuse(["--config", OWN, f"output={tmp_path}", f"data.path={tmp_path}/none.csv"], capsys)
    assert "data.path" in error
    assert "none.csv" in error


def test_a_missing_config_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.yaml" in refuse(["--config", "none.yaml"], capsys)


def test_an_unwritable_output_folder_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file stands where the folder should be: root may write into read-only folders, but not below a file.
    (tmp_path / "file").write_text("")
    error = refuse(["--config", BCE, f"output={tmp_path}/file"], capsys)
    assert "cannot be written" in error
    assert "output=" in error


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train_main(["--config", BCE, f"output={tmp_path}/file", "--debug"])


def test_only_user_errors_are_caught() -> None:
    def broken() -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_guarded(broken, debug=False)


def test_ctrl_c_outside_training_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_guarded(interrupted, debug=False) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_has_gone_away_gets_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train.py", "--config", BCE, f"output={tmp_path}", "training.epochs=1"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert "Error" not in errors


def test_an_error_of_the_system_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> int:
        (tmp_path / "gone").read_bytes()
        return 0

    assert run_guarded(missing, debug=False) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/gone: No such file or directory\n"
    with pytest.raises(FileNotFoundError):
        run_guarded(missing, debug=True)


def say_umlauts(**about: Any) -> subprocess.CompletedProcess[bytes]:
    """A program of ours that says one word."""
    program = (
        "import sys; from flashlogit.commands.shell import run_guarded; from flashlogit.system.console import Output\n"
        "sys.exit(run_guarded(lambda: Output(False, False).say('gr\\xf6\\xdfe'), debug=False))"
    )
    return subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.PIPE, **about)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_output_that_takes_nothing_is_one_sentence() -> None:
    with open("/dev/full", "wb") as full:
        done = say_umlauts(stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: the output cannot be written to where it was sent (No space left")
    assert done.stderr.count(b"\n") == 1


def test_a_terminal_of_ascii_gets_escapes() -> None:
    done = say_umlauts(stdout=subprocess.PIPE, env={**os.environ, **ASCII_ONLY})
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe" in done.stdout


def test_the_files_of_a_run_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from flashlogit.runs.directory import RunDirectory\n"
        f"run = RunDirectory(Path({str(tmp_path)!r}), 'new')\n"
        "run.write_text(run.config, 'name: gr\\xf6\\xdfe'); run.append_history({'a': 1}); run.read_history(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **ASCII_ONLY})
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "name: größe"


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(["--config", BCE, f"output={tmp_path}", "training.epochs=1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("script", ["train.py", "predict.py", "check_gradients.py"])
def test_every_script_has_help_with_an_example(script: str) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=True
    )
    assert "example" in result.stdout
