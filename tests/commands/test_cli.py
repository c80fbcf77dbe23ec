"""How commands end: user errors are one helpful sentence, exit code 2, no traceback, and nothing left behind."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from flashlogit.commands.main import run_command
from flashlogit.commands.shell import ending
from flashlogit.runs import run as runs
from flashlogit.system.errors import UserError

ROOT = Path(__file__).parents[2]
BCE = str(ROOT / "configs/bce.yaml")
OWN = str(ROOT / "configs/own_file.yaml")
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without umlauts."""


BAD = [
    # What is said, the settings, and the table where they are of a file.
    ("did you mean training.epochs", "training.epoch=3", None),
    ("device is", "device=cuda:99", None),
    ("training.early_stopping", "data.split.validation=0", None),
    ("data.split.test", "data.split.test=0.0001", None),
    ("name is", "name=../elsewhere", None),
    ("cannot be written", "output={folder}/file", None),
    ("data.path", "data.path={folder}/none.csv", ""),
    ("table.csv", "data.label.column=y", ""),
    ("row 2", "data.split={{validation: 0, test: 0}} training.early_stopping=null", "a,y\n1,0\nnan,1\n3,0\n4,1\n"),
    ("data.label", "data.split={{validation: 0, test: 0}} training.early_stopping=null", "a,y\n1,0\n2,1\n3,2\n"),
    ("split", "data.label.column=y", "a,y\n1,0\n2,1\n"),
]


@pytest.mark.parametrize(("said", "settings", "table"), BAD)
def test_what_is_refused_leaves_no_run_directory(
    said: str, settings: str, table: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # a file in place of a folder, as root may write into read-only folders
    path = tmp_path / "table.csv"
    path.write_text(table or "")
    config = [BCE] if table is None else [OWN, f"data.path={path}"]
    given = re.split(r" (?=\w+[.=])", settings.format(folder=tmp_path))
    assert run_command("train", ["--config", *config, f"output={tmp_path}/runs", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert "Traceback" not in error
    assert not any(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no"), 2, "error: no\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyboardInterrupt("saved"), 130, "saved\n"),
        (BrokenPipeError(), 141, ""),
        (FileNotFoundError(2, "No such file or directory", "gone"), 2, "error: gone: No such file or directory\n"),
        (OSError("two\nlines"), 2, "error: two lines\n"),
    ],
)
def test_ends(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ending(debug=False) as end:
        raise error
    assert end.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("error", "debug"), [(RuntimeError, False), (UserError, True), (FileNotFoundError, True)])
def test_ends_with_a_traceback(error: type[Exception], debug: bool) -> None:
    with pytest.raises(error), ending(debug=debug):
        raise error("a bug")


def test_the_way_from_the_script_to_the_run_is_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    way: list[str] = []

    def train_run(*_: Any, **__: Any) -> None:
        frames = traceback.extract_stack()
        way.extend(frame.name for frame in frames if str(ROOT / "scripts") in frame.filename or "src" in frame.filename)
        raise UserError("far enough")

    monkeypatch.setattr(runs, "train_run", train_run)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", BCE, f"output={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts/train.py"), run_name="__main__")
    assert ended.value.code == 2
    assert way == ["<module>", "run_command", "run"]


@pytest.mark.parametrize(
    ("redirection", "code", "said", "printed"),
    [
        (">/dev/full", 2, b"error: the output cannot be written to where it was sent (No space left", b""),
        ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 141, b"", b""),
        (">&- 2>&-", 0, b"", b""),
        ("", 0, b"", rb"gr\xf6\xdfe"),
    ],
)
def test_outputs_that_take_nothing_or_ascii_only(redirection: str, code: int, said: bytes, printed: bytes) -> None:
    """The text is longer than a pipe holds, so that a reader who leaves is noticed."""
    program = (
        "import sys; from flashlogit.commands.shell import ending; from flashlogit.system.console import Output\n"
        "with ending(debug=False) as end: Output(False, False).say('gr\\xf6\\xdfe' * 20000)\n"
        "sys.exit(end.code)"
    )
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, program]
    done = subprocess.run(command, check=False, capture_output=True, env={**os.environ, **ASCII_ONLY})
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count(b"\n") == len(said[:1])
    assert printed in done.stdout


def test_the_files_of_a_run_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from flashlogit.runs.directory import RunDirectory\n"
        f"run = RunDirectory(Path({str(tmp_path)!r}), 'new')\n"
        "run.write_text(run.config, 'name: gr\\xf6\\xdfe'); run.append_history({'a': 1}); run.read_history(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **ASCII_ONLY})
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "name: größe"
