"""Where a run came from, and what is said where a model is measured on rows that it was trained on."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

import flashlogit
from flashlogit.commands.main import main, run_command
from flashlogit.config.load import load_settings
from flashlogit.runs.directory import RunDirectory
from flashlogit.runs.provenance import Provenance
from flashlogit.runs.run import train_run

OPTIONS = ["report.html=false", "solver.tolerance=1e-8", "loss.l2=1e-3", "seed=3"]
BUILT_IN = ["data.source=synthetic", "data.rows=400", "data.columns=6"]


@pytest.fixture
def rows(tmp_path):
    """Two files of 300 rows, in the first of which 20 have no label, and the options of a run on data."""
    rng = np.random.default_rng(0)
    for name, lacking in (("a", 20), ("b", 0)):
        lines = [f"{x:.4f},{int(x + z > 0)}" for x, z in rng.normal(size=(300, 2))]
        lines[:lacking] = [f"{line.partition(',')[0]}," for line in lines[:lacking]]
        (tmp_path / f"{name}.csv").write_text("x,y\n" + "\n".join(lines) + "\n")
    data = ["data.source=file", "data.label.column=y", "data.label.missing=drop", "data.split.validation=0.1"]
    return [*data, "data.split.test=0.2"]


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Measures a model on files and gives the warnings, once as JSON and once as text."""

    def run(*files, model="run"):
        given = ["--model", str(tmp_path / model), "--data", *(str(tmp_path / file) for file in files)]
        capsys.readouterr()
        assert run_command("evaluate", [*given, "--json"]) == 0
        warnings = json.loads(capsys.readouterr().out)["warnings"]
        assert run_command("evaluate", given) == 0
        text = capsys.readouterr().out
        assert [line for line in text.splitlines() if line.startswith("warning")] == [f"warning: {w}" for w in warnings]
        return warnings

    return run


def provenance(folder):
    """What provenance.json says, read in both ways."""
    found = Provenance.read(folder / "provenance.json")
    assert found is not None
    assert found.text() == (folder / "provenance.json").read_text()
    return found


def test_of_files(train, tmp_path, rows):
    train(*rows, f"data.path={tmp_path}/a.csv", f"data.test_path={tmp_path}/b.csv")
    found = provenance(tmp_path / "run")
    assert found.source == "file"
    assert [(each.setting, each.name) for each in found.files] == [
        ("data.path", f"{tmp_path}/a.csv"),
        ("data.test_path", f"{tmp_path}/b.csv"),
    ]
    for each in found.files:
        content = (tmp_path / each.name).read_bytes()
        assert (each.bytes, each.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.rows == {"read": 600, "without_label": 20, "train": 252, "validation": 28, "test": 300}
    assert found.seed == 3
    assert found.versions == {
        "flashlogit": flashlogit.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    (start,) = found.starts
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(start.date) < timedelta(minutes=5)
    assert start.command is not None
    assert start.command[-1] == f"data.test_path={tmp_path}/b.csv"
    facts = dict(found.facts())
    assert list(facts) == ["Data", "Read on", "Command", "Versions", "Rows left out"]
    assert found.files[0].sha256[:16] in facts["Data"]
    assert facts["Rows left out"].startswith("20 of 600")


def test_of_built_in_data_and_of_python(train, tmp_path):
    train(*BUILT_IN)
    assert provenance(tmp_path / "run").files == ()
    settings = load_settings(tmp_path / "config.yaml", [*OPTIONS, *BUILT_IN, f"output={tmp_path}", "name=own"])
    with RunDirectory(tmp_path / "own", "new") as directory:
        train_run(settings, directory, "new", say=lambda _: None, quiet=True)
    found = provenance(tmp_path / "own")
    assert found.starts[0].command is None
    assert found.rows["read"] == 400
    facts = dict(found.facts())
    assert (facts["Data"], facts["Rows left out"]) == ("synthetic", "none")
    same = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "own")]
    assert same[0] == same[1]


def test_the_command_as_typed(tmp_path, capsys, monkeypatch):
    (tmp_path / "c.yaml").write_text("name: a\n")
    typed = ["train", "--config", str(tmp_path / "c.yaml"), f"output={tmp_path}", *OPTIONS, *BUILT_IN]
    monkeypatch.setattr("sys.argv", ["/somewhere/flashlogit", *typed])
    assert main() == 0
    found = provenance(tmp_path / "a")
    assert found.starts[0].command == ("flashlogit", *typed)
    assert dict(found.facts())["Command"].startswith("flashlogit train --config")


def test_a_resumed_run_keeps_its_first_date_and_a_new_one_does_not(train, tmp_path):
    file = tmp_path / "run" / "provenance.json"
    train(*BUILT_IN)
    first = json.loads(file.read_text())
    first["starts"][0]["date"] = "2020-02-02T00:00:00+00:00"
    file.write_text(json.dumps(first))
    train(*BUILT_IN, "--resume")
    found = provenance(tmp_path / "run")
    assert len(found.starts) == 2
    assert found.starts[0].date == "2020-02-02T00:00:00+00:00"
    assert found.starts[1].command[-1] == "--resume"
    assert "resumed 2" in dict(found.facts())["Read on"]
    file.write_text("{}")
    train(*BUILT_IN, "--resume")
    assert len(provenance(tmp_path / "run").starts) == 1
    train(*BUILT_IN, "--resume")
    train(*BUILT_IN, "--overwrite")
    assert len(provenance(tmp_path / "run").starts) == 1


def test_rows_that_the_model_was_trained_on(train, tmp_path, rows, evaluate, capsys):
    train(*rows, f"data.path={tmp_path}/a.csv")
    (tmp_path / "copy.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    for name in ("a.csv", "copy.csv"):
        (warning,) = evaluate(name)
        assert f'"{tmp_path}/{name}"' in warning
        assert "196 of the 300 rows are training rows" in warning
        assert "84 rows that were held out" in warning
    assert evaluate("b.csv") == []
    assert "a.csv" in evaluate("a.csv", "b.csv")[0]
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "other.csv").write_text(text[:-2] + ("1" if text[-2] == "0" else "0") + "\n")  # of the same size
    assert evaluate("other.csv") == []
    train(*rows, f"data.path={tmp_path}/b.csv", "name=second")
    given = [str(tmp_path / run) for run in ("run", "second")]
    capsys.readouterr()
    assert run_command("compare", [*given, "--data", str(tmp_path / "a.csv"), "--json"]) == 0
    told = [note for note in json.loads(capsys.readouterr().out)["notes"] if "training rows" in note]
    assert len(told) == 1
    assert told[0].startswith("run: ")


def test_all_rows_some_files_and_no_files(train, tmp_path, rows, evaluate):
    everything = ["data.split.validation=0", "data.split.test=0"]
    train(*rows, f"data.path=[{tmp_path}/a.csv, {tmp_path}/b.csv]", *everything)
    assert "580 of the 600 rows" in evaluate("a.csv", "b.csv")[0]
    assert "up to 300 of the 300 rows" in evaluate("b.csv")[0]
    assert "rows that it has not seen" in evaluate("b.csv")[0]
    for damaged in ("", "{}", "[1]", '{"files": 3}', "\xff"):
        (tmp_path / "run/provenance.json").write_text(damaged, encoding="latin-1")
        assert evaluate("a.csv") == []
    (tmp_path / "run/provenance.json").unlink()
    assert evaluate("a.csv") == []


def test_models_of_targets(train, tmp_path, rows, evaluate):
    text = (tmp_path / "b.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text(
        "\n".join(["x,y,u", *(f"{line},{i % 2}" for i, line in enumerate(text[1:]))]) + "\n"
    )
    train("data.source=file", f"data.path={tmp_path}/t.csv", "data.targets=[y, u]")
    assert len(provenance(tmp_path / "run").files) == 1
    assert "training rows" in evaluate("t.csv", model="run/targets/u")[0]
