"""`flashlogit evaluate`: the labels of another file mean what the training file's did, whatever they are called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flashlogit.commands.main import main
from flashlogit.config.data import Label
from flashlogit.data import Standardization
from flashlogit.data.columns.labels import find_rule
from flashlogit.models.model import Model

CONFIG = "name: run\ndata: {source: file, path: x.csv, label: {column: y}, split: {validation: 0, test: 0}}\n"


def save_model(folder: Path, values: list[Any], **label: Any) -> None:
    """A model of the column x whose training file had these labels."""
    rule = find_rule(pa.chunked_array([pa.array(values)]), Label(column="y", **label), "y")
    K = len(rule.names)
    model = Model(
        weight=np.arange(K, dtype=np.float32)[:, None] if K > 2 else np.ones(1, np.float32),
        bias=np.zeros(K if K > 2 else 1, np.float32),
        feature_names=("x",),
        label_names=rule.names,
        standardization=Standardization.identity(1),
        eps=0.0,
        threshold=0.5,
        rule=rule,
    )
    model.save(folder / "model.safetensors")
    assert Model.load(folder).rule == rule


def evaluate(folder: Path, *arguments: str, code: int = 0, label: str = "y") -> None:
    options = ["--model", str(folder), "--data", str(folder / "new.csv"), "--label", label, "--json"]
    assert main(["evaluate", *options, *arguments]) == code


@pytest.mark.parametrize(
    ("values", "label", "positive"),
    [
        (["<= 50K", "> 50K", "> 50K"], {"positive": "> 50K"}, 2),
        (["<= 5", "> 5", "<= 5"], {"positive": "> 5"}, 1),
        (["not spam", "spam", "spam"], {"positive": "spam"}, 2),
        ([4.0, 5.0, 6.0], {"above": 4.5}, 2),
        (["b", "a", "c"], {"positive": "a"}, 1),
        ([True, False, True], {}, 2),
    ],
)
def test_labels_are_read_by_the_rule_of_the_training_file(
    values: list[Any],
    label: dict[str, Any],
    positive: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(tmp_path, values, **label)
    (tmp_path / "new.csv").write_text("x,y\n" + "".join(f"1,{value}\n" for value in values))
    evaluate(tmp_path)
    assert json.loads(capsys.readouterr().out)["positives"] == positive
    # A model without a rule, as earlier versions wrote them, is asked by the names of its classes.
    replace(Model.load(tmp_path), rule=None).save(tmp_path / "model.safetensors")
    evaluate(tmp_path)
    assert json.loads(capsys.readouterr().out)["positives"] == positive
    assert main(["evaluate", "--model", str(tmp_path), "--data", str(tmp_path / "new.csv")]) == 2
    assert "--label" in capsys.readouterr().err


def test_a_label_that_the_training_file_lacks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path, ["spam", "not spam"], positive="spam")
    (tmp_path / "new.csv").write_text("x,y\n1,spam\n2,span\n")
    evaluate(tmp_path, code=2)
    error = capsys.readouterr().err
    assert '"span" in row 2' in error
    assert '"spam" and "not spam"' in error


def test_of_very_many_values_the_model_keeps_the_positive_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = find_rule(
        pa.chunked_array([pa.array([f"n{i}" for i in range(2000)])]), Label(column="y", positive="n7"), "y"
    )
    model = Model(np.ones(1), np.zeros(1), ("x",), rule.names, Standardization.identity(1), 0.0, 0.5, rule=rule)
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "new.csv").write_text("x,y\n1,n7\n2,n9999\n")
    evaluate(tmp_path)
    assert json.loads(capsys.readouterr().out)["positives"] == 1


def test_a_run_leaves_the_rule_with_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i % 7},{'> 50K' if i % 3 else '<= 50K'}\n" for i in range(60))
    (tmp_path / "new.csv").write_text(f"x,y\n{rows}")
    (tmp_path / "run.yaml").write_text(f"{CONFIG}solver: {{name: newton}}\nreport: {{html: false}}\n")
    settings = [f"output={tmp_path}", f"data.path={tmp_path}/new.csv", "data.label.positive='> 50K'"]
    assert main(["train", "--config", str(tmp_path / "run.yaml"), *settings, "--quiet"]) == 0
    options = ["--model", str(tmp_path / "run"), "--data", str(tmp_path / "new.csv"), "--json"]
    assert main(["evaluate", *options]) == 0
    assert json.loads(capsys.readouterr().out)["positives"] == 40
