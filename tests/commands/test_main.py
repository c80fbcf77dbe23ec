"""The program `flashlogit`: its commands, help, output and JSON; and how it ends: user errors are one helpful sentence,
exit code 2, no traceback, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flashlogit import LogisticRegression
from flashlogit.commands import train
from flashlogit.commands.main import COMMANDS, main
from flashlogit.commands.shell import ending
from flashlogit.system.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
SCRIPTS = Path(__file__).parents[2] / "scripts"
NEWTON = f"{CONFIGS}/newton.yaml"
ASCII_ONLY = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without umlauts."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that was trained twice, and what was printed: quietly, and then with its result as JSON."""
    folder, told = tmp_path_factory.mktemp("runs"), []
    arguments = ["train", "--config", NEWTON, f"output={folder}", "name=run", "report.html=false"]
    for options in (["--quiet"], ["--json", "--overwrite"]):
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            assert main([*arguments, "report.tensorboard=true", *options]) == 0
        told.append((out.getvalue(), err.getvalue()))
    return folder / "run", told


def test_help_lists_every_command_with_examples(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for listed in (*(f"  {command} " for command in COMMANDS), "examples:\n  flashlogit inspect", "exit codes"):
        assert listed in text


@pytest.mark.parametrize(
    "script", ["train", "predict", "evaluate", "compare", "export", "inspect_data", "check_gradients"]
)
def test_every_command_and_its_script_have_help(script, capsys, monkeypatch):
    command = script.removesuffix("_data").replace("_", "-")
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  flashlogit {command} " in text
    assert "--json" in text
    monkeypatch.setattr(sys, "argv", [f"scripts/{script}.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(f"{SCRIPTS}/{script}.py", run_name="__main__")
    assert f"examples:\n  {script}.py " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trian", "there is no command trian; did you mean train?"),
        ("xyz", "there is no command xyz; give one of init, train, predict"),
        ("--json inspect a.csv", "write flashlogit inspect --json a.csv"),
        ("--nothing", "unrecognized arguments: --nothing"),
        ("train", "required: --config"),
    ],
)
def test_words_that_are_no_command(arguments, said, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments.split())
    assert done.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("benchmark fit", "the benchmarks are in the source tree"),
        ("inspect a.csv --above 3", "--above is "),
        ("inspect a.csv --above inf --label y", "--above is "),
        ("export --model {folder} --out {folder}/m.onnx", "there is no model"),
        ("export --model {folder} --out {folder}/there.onnx", "--overwrite"),
        ("train --config {newton} output={folder} --quiet report.tensorboard=true", "pip install 'flashlogit[tensor"),
    ],
)
def test_commands_that_are_refused(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where tensorboard is not installed
    (tmp_path / "there.onnx").touch()
    assert main(arguments.format(folder=tmp_path, newton=NEWTON).split()) == 2
    printed, told = capsys.readouterr()
    assert (printed, told[:7]) == ("", "error: ")
    assert said in told
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]


def test_the_module_says_its_version_without_torch():
    code = "import sys; sys.argv[1:] = ['--version']\ntry: import flashlogit.__main__ as m; m.main()\n"
    code += "finally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("flashlogit ")
    assert done.stdout.endswith("False\n")


def test_train_quietly_and_as_json_with_its_last_events(run, capsys):
    folder, (quiet, (printed, told)) = run
    assert quiet == ("", "")
    result = json.loads(printed)
    assert result["directory"] == str(folder)
    assert result["run"]["converged"] is True
    assert 0 <= result["test"]["log_loss"] < 1
    assert "backend:" in told
    files = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
    assert [name for name in files if f"\n  {name} " not in train.__doc__.replace("/", " ")] == []
    assert main(["train", "--config", NEWTON, f"output={folder.parent}", "name=run", "--json"]) == 2
    printed, told = capsys.readouterr()
    assert (printed, told[:7]) == ("", "error: ")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    logged = [event.value for event in events.Scalars("history/objective")]
    assert logged == pytest.approx([row["objective"] for row in rows])
    (loss,) = events.Scalars("test/log_loss")
    assert loss.value == pytest.approx(result["test"]["log_loss"])


def test_predict_and_export_as_json(run, tmp_path, capsys):
    folder, _ = run
    X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    X.to_csv(tmp_path / "new.csv", index=False)
    arguments = ["predict", "--model", str(folder), "--data", f"{tmp_path}/new.csv", "--json", "--out"]
    assert main([*arguments, f"{tmp_path}/p.csv"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 569, "out": f"{tmp_path}/p.csv", "notes": []}
    assert main([*arguments, "-"]) == 2  # both would be printed
    expected = pd.read_csv(tmp_path / "p.csv").probability

    estimator = LogisticRegression.load(folder)
    assert list(estimator.feature_names_in_) == list(X.columns)
    assert list(estimator.classes_) == ["benign", "malignant"]
    assert estimator.gap_ <= 1e-6
    np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, atol=1e-9)

    for name in ("model.onnx", "model.joblib", "model.pkl"):
        capsys.readouterr()
        assert main(["export", "--model", str(folder), "--out", f"{tmp_path}/{name}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["columns"] == 30
        if name == "model.onnx":
            session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
            label, probabilities = session.run(None, {"X": X.to_numpy()})
            assert set(label) == {"benign", "malignant"}
        else:
            probabilities = joblib.load(tmp_path / name).predict_proba(X)
        np.testing.assert_allclose(probabilities[:, 1], expected, atol=1e-6)


def test_check_gradients_as_json(capsys):
    assert main(["check-gradients", "--json"]) == 0
    printed, told = capsys.readouterr()
    result = json.loads(printed)
    assert result["agrees"] is True
    assert result["methods"][0]["weight"] == [pytest.approx(6.6918, abs=1e-4)]
    assert "chain rule" in told
    assert main(["check-gradients", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


# --- How commands end ---------------------------------------------------------------------------------------

ALL_TRAIN = "data.split={{validation: 0, test: 0}}"


@pytest.mark.parametrize(
    ("said", "settings", "table"),
    [
        # What is said, the settings, and the table where they are of a file.
        ("did you mean training.epochs", "training.epoch=3", None),
        ("device is", "device=cuda:99", None),
        ("data.split.test", "data.split.test=0.0001", None),
        ("name is", "name=../elsewhere", None),
        ("/file/bce: the run directory cannot be written (Not a directory); choose", "output={folder}/file", None),
        ("data.path", "data.path={folder}/none.csv", ""),
        ("table.csv", "data.label.column=y", ""),
        ("row 2", ALL_TRAIN, "a,y\n1,0\nnan,1\n3,0\n4,1\n"),
        ("data.label", ALL_TRAIN, "a,y\n1,0\n2,1\n3,2\n"),
        ("split", "data.label.column=y", "a,y\n1,0\n2,1\n"),
    ],
)
def test_what_is_refused_leaves_no_run_directory(said, settings, table, tmp_path, capsys):
    (tmp_path / "file").touch()  # a file in place of a folder, as root may write into read-only folders
    (tmp_path / "table.csv").write_text(table or "")
    config = [f"{CONFIGS}/bce.yaml"]
    if table is not None:
        config = [f"{CONFIGS}/own_file.yaml", f"data.path={tmp_path}/table.csv"]
    given = re.split(r" (?=\w+[.=])", settings.format(folder=tmp_path))
    assert main(["train", "--config", *config, f"output={tmp_path}/runs", *given]) == 2
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
def test_ends(error, code, said, capsys):
    with ending(debug=False) as end:
        raise error
    assert end.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("error", "debug"), [(RuntimeError, False), (UserError, True), (FileNotFoundError, True)])
def test_ends_with_a_traceback(error, debug):
    with pytest.raises(error), ending(debug=debug):
        raise error("a bug")


@pytest.mark.parametrize(
    ("redirection", "code", "said", "printed"),
    [
        (">/dev/full", 2, b"error: the output cannot be written to where it was sent (No space left", b""),
        ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 141, b"", b""),
        (">&- 2>&-", 0, b"", b""),
        ("", 0, b"", rb"gr\xf6\xdfe"),
    ],
)
def test_outputs_that_take_nothing_or_ascii_only(redirection, code, said, printed):
    """The text is longer than a pipe holds, so that a reader who leaves is noticed."""
    program = (
        "import sys; from flashlogit.commands.shell import ending; from flashlogit.system.console import Output\n"
        "with ending(debug=False) as end: Output(False, False).say('gr\\xf6\\xdfe' * 20000)\n"
        "sys.exit(end.code)"
    )
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, program]
    done = subprocess.run(command, check=False, capture_output=True, env=ASCII_ONLY)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count(b"\n") == len(said[:1])
    assert printed in done.stdout


def test_the_files_of_a_run_are_utf8_whatever_the_locale(tmp_path):
    program = (
        "from pathlib import Path; from flashlogit.runs.directory import RunDirectory\n"
        f"run = RunDirectory(Path({str(tmp_path)!r}), 'new')\n"
        "run.write_text(run.config, 'name: gr\\xf6\\xdfe'); run.append_history({'a': 1}); run.read_history(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ASCII_ONLY)
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "name: größe"
