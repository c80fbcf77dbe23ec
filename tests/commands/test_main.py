"""The program `flashlogit`: its commands, help, output and JSON."""

from __future__ import annotations

import json
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

ROOT = Path(__file__).parents[2]
NEWTON = str(ROOT / "configs/newton.yaml")
SCRIPTS = {"inspect_data": "inspect", "check_gradients": "check-gradients"}
SCRIPTS |= {name: name for name in ("train", "predict", "evaluate", "export")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that was trained twice, and what was printed: quietly, and then with its result as JSON."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["train", "--config", NEWTON, f"output={folder}", "name=run"]
    arguments += ["report.html=false", "report.tensorboard=true"]
    told = []
    for options in (["--quiet"], ["--json", "--overwrite"]):
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            assert main([*arguments, *options]) == 0
        told.append((out.getvalue(), err.getvalue()))
    return folder / "run", told


def test_help_lists_every_command_with_examples(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for listed in (*(f"  {command} " for command in COMMANDS), "examples:\n  flashlogit inspect", "exit codes"):
        assert listed in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_and_its_script_have_help(script, capsys, monkeypatch):
    command = SCRIPTS[script]
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  flashlogit {command} " in text
    assert "--json" in text
    monkeypatch.setattr(sys, "argv", [f"scripts/{script}.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / f"scripts/{script}.py"), run_name="__main__")
    assert f"examples:\n  {script}.py " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trian", "there is no command trian; did you mean train?"),
        ("xyz", "there is no command xyz; give one of train, predict"),
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
        ("inspect a.csv --decimal ,", "--decimal is "),
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


def test_train_quietly_and_as_json(run, capsys):
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


def test_tensorboard_has_the_second_run_alone(run):
    folder, _ = run
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    logged = [event.value for event in events.Scalars("history/objective")]
    assert logged == pytest.approx([row["objective"] for row in rows])
    (loss,) = events.Scalars("test/log_loss")
    assert loss.value == pytest.approx(json.loads((folder / "metrics.json").read_text())["test"]["log_loss"])


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
