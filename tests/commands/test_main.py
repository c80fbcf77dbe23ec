"""The program `flashlogit`: its commands, help, exit codes and JSON."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from flashlogit import LogisticRegression
from flashlogit.commands.main import main

CONFIGS = Path(__file__).parents[2] / "configs"
NEWTON = str(CONFIGS / "newton.yaml")
SMALL = ["data.rows=2000", "data.columns=3"]
COMMANDS = ["train", "predict", "evaluate", "inspect", "export", "check-gradients"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the breast-cancer set."""
    folder = tmp_path_factory.mktemp("runs")
    code = main(["train", "--config", NEWTON, f"output={folder}", "name=run", "--quiet"])
    assert code == 0
    return folder / "run"


def test_help_lists_every_command_with_examples(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in text
    assert "exit codes" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"  flashlogit {command} " in text
    assert "--json" in text


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["trian"])
    assert done.value.code == 2
    assert "there is no command trian; did you mean train?" in capsys.readouterr().err


def test_benchmarks_are_elsewhere(capsys):
    assert main(["benchmark", "fit", "--quick"]) == 2
    assert "scripts/benchmark.py of the source tree" in capsys.readouterr().err


def test_options_before_the_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--json", "inspect", "a.csv"])
    assert done.value.code == 2
    assert "write flashlogit inspect --json a.csv" in capsys.readouterr().err


def test_installed_program_and_module_say_their_version():
    for program in (["-m", "flashlogit"],):
        done = subprocess.run(
            [sys.executable, *program, "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("flashlogit ")


def test_train_as_json(tmp_path, capsys):
    arguments = ["train", "--config", NEWTON, f"output={tmp_path}", "name=a", "--json"]
    assert main(arguments) == 0
    printed, told = capsys.readouterr()
    result = json.loads(printed)
    assert result["directory"] == str(tmp_path / "a")
    assert result["run"]["converged"] is True
    assert 0 <= result["test"]["log_loss"] < 1
    assert "backend:" in told
    assert main([*arguments, "--quiet"]) == 2  # there is such a run
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith("error: the run directory")


def test_predict_and_export_as_json(run, tmp_path, capsys):
    X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    X.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "p.csv"
    assert (
        main(["predict", "--model", str(run), "--data", f"{tmp_path}/new.csv", "--out", str(out), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == {"rows": 569, "out": str(out), "notes": []}
    expected = pd.read_csv(out).probability

    estimator = LogisticRegression.load(run)
    assert list(estimator.feature_names_in_) == list(X.columns)
    assert list(estimator.classes_) == ["benign", "malignant"]
    assert estimator.gap_ <= 1e-6
    np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, atol=1e-9)

    for name in ("model.onnx", "model.joblib", "model.pkl"):
        path = tmp_path / name
        assert main(["export", "--model", str(run), "--out", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["columns"] == 30
        if name == "model.onnx":
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            label, probabilities = session.run(None, {"X": X.to_numpy()})
            assert set(label) == {"benign", "malignant"}
        else:
            import joblib

            probabilities = joblib.load(path).predict_proba(X)
        np.testing.assert_allclose(probabilities[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("model.txt", "must end in .onnx"),
        ("nowhere/model.onnx", "does not exist"),
        ("there.onnx", "--overwrite"),
        ("/proc/model.onnx", "--out /proc/model.onnx"),
        ("folder.onnx", "is a folder"),
    ],
)
def test_export_refuses(run, tmp_path, capsys, out, message):
    (tmp_path / "there.onnx").write_text("kept")
    (tmp_path / "folder.onnx").mkdir()
    assert main(["export", "--model", str(run), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "there.onnx").read_text() == "kept"


def test_export_without_a_model(tmp_path, capsys):
    assert main(["export", "--model", str(tmp_path), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_check_gradients_as_json(capsys):
    assert main(["check-gradients", "--json"]) == 0
    printed, told = capsys.readouterr()
    result = json.loads(printed)
    assert result["agrees"] is True
    assert result["methods"][0]["weight"] == [pytest.approx(6.6918, abs=1e-4)]
    assert "chain rule" in told
    assert main(["check-gradients", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_tensorboard_gets_history_and_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = [
        "train",
        "--config",
        NEWTON,
        f"output={tmp_path}",
        "name=a",
        "--quiet",
        "report.tensorboard=true",
    ]
    for extra in ([], ["--overwrite"]):  # the second replaces the first
        assert main([*arguments, *extra]) == 0
        events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
        events.Reload()
        rows = (tmp_path / "a" / "history.jsonl").read_text().splitlines()
        logged = [event.value for event in events.Scalars("history/objective")]
        assert logged == pytest.approx([json.loads(row)["objective"] for row in rows])
        metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
        (loss,) = events.Scalars("test/log_loss")
        assert loss.value == pytest.approx(metrics["test"]["log_loss"])


def test_tensorboard_is_an_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["train", "--config", NEWTON, f"output={tmp_path}", "name=a", "report.tensorboard=true"]
    assert main(arguments) == 2
    assert "pip install 'flashlogit[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
