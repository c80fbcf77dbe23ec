"""The program `flashlogit`: its commands, help, output and JSON."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flashlogit import LogisticRegression
from flashlogit.commands.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
NEWTON = str(ROOT / "configs/newton.yaml")
SCRIPTS = {"inspect_data": "inspect", "check_gradients": "check-gradients"}
SCRIPTS |= {name: name for name in ("train", "predict", "evaluate", "export")}


@dataclass
class Trained:
    """A run on the breast-cancer set, trained twice: once quietly, once with its result as JSON."""

    folder: Path
    quiet: tuple[str, str]
    json: tuple[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["train", "--config", NEWTON, f"output={folder}", "name=run"]
    arguments += ["report.html=false", "report.tensorboard=true"]
    told = []
    with pytest.MonkeyPatch.context() as patch:
        for options in (["--quiet"], ["--json", "--overwrite"]):
            out, err = folder / "out.txt", folder / "err.txt"
            with out.open("w") as stdout, err.open("w") as stderr:
                patch.setattr(sys, "stdout", stdout)
                patch.setattr(sys, "stderr", stderr)
                assert main([*arguments, *options]) == 0
            told.append((out.read_text(), err.read_text()))
    return Trained(folder / "run", *told)


def test_help_lists_every_command_with_examples(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in text
    assert "exit codes" in text


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
        (["trian"], "there is no command trian; did you mean train?"),
        (["xyz"], "there is no command xyz; give one of train, predict"),
        (["--json", "inspect", "a.csv"], "write flashlogit inspect --json a.csv"),
        (["--nothing"], "unrecognized arguments: --nothing"),
        (["train"], "required: --config"),
    ],
)
def test_words_that_are_no_command(arguments, said, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert said in capsys.readouterr().err


def test_the_module_says_its_version_without_torch():
    code = "import sys; sys.argv[1:] = ['--version']\ntry: import flashlogit.__main__ as m; m.main()\n"
    code += "finally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("flashlogit ")
    assert done.stdout.endswith("False\n")


def test_train_quietly_and_as_json(run, capsys):
    assert run.quiet == ("", "")
    printed, told = run.json
    result = json.loads(printed)
    assert result["directory"] == str(run.folder)
    assert result["run"]["converged"] is True
    assert 0 <= result["test"]["log_loss"] < 1
    assert "backend:" in told
    assert main(["train", "--config", NEWTON, f"output={run.folder.parent}", "name=run", "--json"]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith("error: ")


def test_tensorboard_has_the_second_run_alone(run):
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    rows = (run.folder / "history.jsonl").read_text().splitlines()
    logged = [event.value for event in events.Scalars("history/objective")]
    assert logged == pytest.approx([json.loads(row)["objective"] for row in rows])
    metrics = json.loads((run.folder / "metrics.json").read_text())
    (loss,) = events.Scalars("test/log_loss")
    assert loss.value == pytest.approx(metrics["test"]["log_loss"])


def test_tensorboard_is_an_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["train", "--config", NEWTON, f"output={tmp_path}", "name=a", "report.tensorboard=true"]
    assert main(arguments) == 2
    assert "pip install 'flashlogit[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_predict_and_export_as_json(run, tmp_path, capsys):
    X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    X.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "p.csv"
    model = ["--model", str(run.folder)]
    arguments = ["predict", *model, "--data", f"{tmp_path}/new.csv", "--json"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 569, "out": str(out), "notes": []}
    assert main([*arguments, "--out", "-"]) == 2  # both would be printed
    expected = pd.read_csv(out).probability

    estimator = LogisticRegression.load(run.folder)
    assert list(estimator.feature_names_in_) == list(X.columns)
    assert list(estimator.classes_) == ["benign", "malignant"]
    assert estimator.gap_ <= 1e-6
    np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, atol=1e-9)

    for name in ("model.onnx", "model.joblib", "model.pkl"):
        path = tmp_path / name
        capsys.readouterr()
        assert main(["export", *model, "--out", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["columns"] == 30
        if name == "model.onnx":
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            label, probabilities = session.run(None, {"X": X.to_numpy()})
            assert set(label) == {"benign", "malignant"}
        else:
            probabilities = joblib.load(path).predict_proba(X)
        np.testing.assert_allclose(probabilities[:, 1], expected, atol=1e-6)


def test_export_without_a_model_or_over_a_file(tmp_path, capsys):
    (tmp_path / "there.onnx").touch()
    for name, said in (("m.onnx", "there is no model"), ("there.onnx", "--overwrite")):
        assert main(["export", "--model", str(tmp_path), "--out", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [(["--above", "3"], "--above"), (["--above", "inf", "--label", "y"], "--above"), (["--decimal", ","], "--decimal")],
)
def test_inspect_refuses(arguments, setting, capsys):
    assert main(["inspect", "a.csv", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {setting} is ")


def test_check_gradients_as_json(capsys):
    assert main(["check-gradients", "--json"]) == 0
    printed, told = capsys.readouterr()
    result = json.loads(printed)
    assert result["agrees"] is True
    assert result["methods"][0]["weight"] == [pytest.approx(6.6918, abs=1e-4)]
    assert "chain rule" in told
    assert main(["check-gradients", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
