"""Models on files: columns, ids, formats, what is refused, and labels that mean what the training file's did."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from run_files import made
from scipy.special import expit

from flashlogit.commands.main import run_command
from flashlogit.config.data import Label
from flashlogit.data.columns.encoding import Codes, Standardization
from flashlogit.data.columns.labels import find_rule
from flashlogit.data.files.tables import Table
from flashlogit.models.model import Model


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a command on the model in tmp_path; gives what it printed, or its errors."""

    def run(name: str, *arguments: Any, model: Path = tmp_path, code: int = 0) -> str:
        assert run_command(name, ["--model", str(model), *map(str, arguments)]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


@pytest.fixture
def predict(tmp_path, command):
    """Predicts by a model of height and width."""
    standardization = Standardization(mean=np.array([10.0, 1e6]), scale=np.array([2.0, 1e3]))
    weight, bias = np.array([1.0, -2.0], np.float32), np.array([0.5], np.float32)
    model = made(weight, ("height", "width"), ("no", "yes"), bias=bias, standardization=standardization)
    model.save(tmp_path / "model.safetensors")
    return lambda data, out, *more, code=0: command("predict", "--data", data, "--out", out, *more, code=code)


@pytest.fixture
def table() -> pa.Table:
    generator, number = np.random.default_rng(0), np.arange(5000)
    width, height = generator.normal(1e6, 1e3, 5000), generator.normal(10, 2, 5000)
    return pa.table({"id": [f"row {i}" for i in number], "width": width, "height": height, "number": number})


def expected(table: pa.Table) -> Any:
    return expit((table["height"].to_numpy() - 10) / 2 - 2 * (table["width"].to_numpy() - 1e6) / 1e3 + 0.5)


@pytest.mark.parametrize("K", [1, 3])
def test_a_far_mean_costs_no_digits(K):
    # Time stamps: the mean is 2^31 times the standard deviation, and all steps are exact in binary.
    generator = np.random.default_rng(0)
    z = generator.integers(-8, 8, size=(3000, 40)) / 4
    weight = generator.integers(-4, 4, size=(K, 40)) / 2
    far = Standardization(mean=np.full(40, 2.0**31), scale=np.full(40, 0.25))
    model = made(weight[0] if K == 1 else weight, bias=np.full(K, 0.5), standardization=far)
    block = 2.0**31 + z / 4
    block.flags.writeable = False  # it belongs to the caller
    np.testing.assert_array_equal(model.logits(Codes.of(block)), (z @ weight.T + 0.5).squeeze())


@pytest.mark.parametrize(
    ("data", "out"), [("data.csv", "out.parquet"), ("data.parquet", "out.csv"), ("data.csv.gz", "out.csv")]
)
def test_columns_are_matched_by_name_and_ids_kept(data, out, tmp_path, table, predict, monkeypatch):
    written = tmp_path / out
    monkeypatch.setattr(Table, "spans", lambda self, columns: iter([(0, 1700), (1700, 3400), (3400, self.rows)]))
    with pa.output_stream(str(tmp_path / data)) as stream:
        (pa.parquet.write_table if "parquet" in data else pa.csv.write_csv)(table, stream)
    for threshold, options in ((0.5, []), (0.9, ["--threshold", "0.9"])):
        told = predict(tmp_path / data, written, "--id", "id", "number", "--overwrite", *options)
        assert "5,000 rows written" in told
        found = pa.csv.read_csv(written) if out == "out.csv" else pa.parquet.read_table(written)
        assert found.column_names == ["id", "number", "probability", "prediction"]
        np.testing.assert_allclose(found["probability"].to_numpy(), expected(table), rtol=1e-9)
        assert found["id"].to_pylist() == table["id"].to_pylist()
        assert found["prediction"].to_pylist() == np.where(expected(table) >= threshold, "yes", "no").tolist()


def test_probabilities_can_be_printed(tmp_path, table, predict):
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    written = pa.csv.read_csv(io.BytesIO(predict(tmp_path / "d.parquet", "-", "--id", "number").encode()))
    np.testing.assert_allclose(written["probability"].to_numpy(), expected(table), rtol=1e-9)
    assert "leave one of them out" in predict(tmp_path / "d.parquet", "-", "--json", code=2)


def test_an_existing_output_is_replaced_only_when_asked_and_the_data_never(tmp_path, predict):
    data, out = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text("height,width\n1,2\n")
    out.write_text("mine")
    assert "--overwrite" in predict(data, out, code=2)
    assert out.read_text() == "mine"
    predict(data, out, "--overwrite")
    assert out.read_text() != "mine"
    assert "data file itself" in predict(data, data, "--overwrite", code=2)
    assert data.read_text() == "height,width\n1,2\n"


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("height,breadth\n1,2\n", [], "width"),
        ("height,width\n1,a\n", [], "width"),
        ("height,width\n1,2\n3,\n", [], "row 2"),
        ("height,width\n1,2\n", ["--id", "name"], "name"),
        ("height,width\n1,2\n", ["--threshold", "1.5"], "--threshold is 1.5"),
        ("height,width,probability\n1,2,3\n", ["--id", "probability"], "rename it"),
    ],
)
def test_unusable_data_are_refused(content, arguments, message, tmp_path, predict):
    (tmp_path / "data.csv").write_text(content)
    assert message in predict(tmp_path / "data.csv", tmp_path / "out.csv", *arguments, code=2)
    assert not list(tmp_path.glob("*out.csv*"))


@pytest.mark.parametrize(
    "out", ["out.txt", "none/out.csv", "folder.csv", "/proc/out.csv", "/dev/fd/1.csv", "pipe.csv", "a" * 250 + ".csv"]
)
def test_an_unusable_output_is_refused_before_the_data_are_read(out, tmp_path, predict):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    told = predict(tmp_path / "does not exist.csv", tmp_path / out, "--overwrite", code=2)
    assert told.startswith("error: --out")
    assert told.count("\n") == 1
    assert (tmp_path / "pipe.csv").is_fifo()


def test_an_id_column_that_csv_cannot_hold_is_refused(tmp_path, table, predict):
    data = tmp_path / "data.parquet"
    pa.parquet.write_table(table.append_column("tags", pa.array([["a"]] * len(table))), data)
    told = predict(data, tmp_path / "out.csv", "--id", "id", "tags", code=2)
    assert '--id is "tags"; it is a column of list<' in told
    assert not (tmp_path / "out.csv").exists()
    predict(data, tmp_path / "out.parquet", "--id", "tags")
    assert pa.parquet.read_table(tmp_path / "out.parquet")["tags"][0].as_py() == ["a"]


def test_an_array_of_another_width_is_refused(tmp_path, command):
    made(np.ones(3), ("x0", "x1", "x2"), array_widths=(3, 4)).save(tmp_path / "model.safetensors")
    given = ["predict", "--data", tmp_path / "new.npy", "--out", tmp_path / "out.csv", "--overwrite"]
    for width, code in ((2, 2), (3, 0), (4, 0), (5, 2)):
        np.save(tmp_path / "new.npy", np.zeros((2, width)))
        assert ("3 or 4 columns" in command(*given, code=code)) == bool(code)


def test_columns_of_an_array_go_by_number(tmp_path, command):
    np.save(tmp_path / "d.npy", np.column_stack([np.linspace(-1, 1, 50), np.linspace(2, 3, 50), np.arange(50) % 2]))
    made(np.ones(2), ("x0", "x1")).save(tmp_path / "model.safetensors")
    data = ["--data", tmp_path / "d.npy"]
    command("predict", *data, "--out", tmp_path / "p.csv", "--id", "0", "-1")
    assert pa.csv.read_csv(tmp_path / "p.csv").column_names[:2] == ["x0", "x2"]
    given = ["evaluate", *data, "--label", "-1", "--json"]
    plain, weighted = (json.loads(command(*given, *more)) for more in ([], ["--weight", "1"]))
    assert plain["positives"] == weighted["positives"] == 25
    assert plain["log_loss"] != weighted["log_loss"]
    assert "--label is 7" in command("evaluate", *data, "--label", "7", code=2)


@pytest.mark.parametrize("arguments", [["evaluate", "--label", "y"], ["predict", "--out", "out.csv"]])
def test_a_threshold_is_refused_for_several_classes(arguments, tmp_path, command):
    made(np.ones((3, 1)), labels="abc").save(tmp_path / "model.safetensors")
    (tmp_path / "d.csv").write_text("x,y\n1,a\n2,b\n3,c\n")
    assert "--threshold is 0.3" in command(*arguments, "--data", tmp_path / "d.csv", "--threshold", "0.3", code=2)


def test_what_a_run_knew_of_its_file_goes_with_its_model(train, tmp_path, command):
    """The rule of the labels, and the categories, of which others are told."""
    rows = "".join(f"{'ab'[i % 2]},{'> 50K' if i % 3 == 2 else '<= 50K'}\n" for i in range(40))
    (tmp_path / "train.csv").write_text(f"c,y\n{rows}")
    label, split = "{column: y, positive: '> 50K'}", "{validation: 0, test: 0}"
    data = f"data={{source: file, path: {tmp_path}/train.csv, label: {label}, split: {split}}}"
    train(data, "solver.name=newton", "loss.l2=0.1", "loss.eps=0", "report.html=false")
    (tmp_path / "new.csv").write_text("c,y\na,<= 50K\nzz,> 50K\n")
    new, model = ["--data", tmp_path / "new.csv"], tmp_path / "run"
    for arguments in (["predict", *new, "--out", tmp_path / "p.csv", "--overwrite"], ["evaluate", *new]):
        assert "note: 1 of 2 rows" in command(*arguments, model=model)
        found = json.loads(command(*arguments, "--json", model=model))
        assert "zz" in found["notes"][0]
    assert found["positives"] == 1
    told = json.loads(command("export", "--out", tmp_path / "m.onnx", "--json", model=model))
    assert (told["inputs"], told["notes"]) == ({"c": "string"}, [])
    told = json.loads(command("export", "--out", tmp_path / "m.joblib", "--json", model=model))
    assert "NAME=VALUE" in told["notes"][0]


def labelled(folder: Path, values: list[Any], **label: Any) -> Model:
    """A saved model of the column x whose training file had these labels."""
    rule = find_rule(pa.chunked_array([pa.array(values)]), Label(column="y", **label), "y")
    weight = np.ones(1) if len(rule.names) == 2 else np.arange(len(rule.names), dtype=np.float64)[:, None]
    model = made(weight, labels=rule.names, rule=rule)
    model.save(folder / "model.safetensors")
    return model


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
def test_labels_are_read_by_the_rule_of_the_training_file(values, label, positive, tmp_path, command):
    model = labelled(tmp_path, values, **label)
    (tmp_path / "new.csv").write_text("x,y\n" + "".join(f"1,{value}\n" for value in values))
    # A model without a rule, as earlier versions wrote them, is asked by the names of its classes.
    for each in (model, replace(model, rule=None)):
        each.save(tmp_path / "model.safetensors")
        assert Model.load(tmp_path).rule == each.rule
        found = json.loads(command("evaluate", "--data", tmp_path / "new.csv", "--label", "y", "--json"))
        assert found["positives"] == positive
    assert "--label" in command("evaluate", "--data", tmp_path / "new.csv", code=2)


def test_a_label_that_the_training_file_lacks_is_refused_unless_it_had_very_many(tmp_path, command):
    (tmp_path / "new.csv").write_text("x,y\n1,spam\n2,span\n")
    given = ["evaluate", "--data", tmp_path / "new.csv", "--label", "y", "--json"]
    labelled(tmp_path, ["spam", "not spam"], positive="spam")
    error = command(*given, code=2)
    assert '"span" in row 2' in error
    assert '"spam" and "not spam"' in error
    labelled(tmp_path, ["spam", *map(str, range(2000))], positive="spam")
    assert json.loads(command(*given))["positives"] == 1
