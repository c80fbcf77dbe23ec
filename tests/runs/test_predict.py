"""Probabilities for a file: matching columns, ids, formats, and what is refused."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from flashlogit.commands.main import main, run_command
from flashlogit.data import PredictionRows, Standardization
from flashlogit.models.model import Model

Run = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    model = Model(
        weight=np.array([1.0, -2.0], dtype=np.float32),
        bias=np.array([0.5], dtype=np.float32),
        feature_names=("height", "width"),
        label_names=("no", "yes"),
        standardization=Standardization(mean=np.array([10.0, 1e6]), scale=np.array([2.0, 1e3])),
        eps=1e-8,
        threshold=0.5,
    )
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.safetensors")
    return model


@pytest.fixture
def table() -> pa.Table:
    generator = np.random.default_rng(0)
    return pa.table(
        {
            "id": [f"row {i}" for i in range(5000)],
            "width": generator.normal(1e6, 1e3, 5000),
            "label": generator.integers(0, 2, 5000),
            "height": generator.normal(10, 2, 5000),
            "number": np.arange(5000),
        }
    )


@pytest.fixture
def predict(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Model) -> Run:
    def run(data: Path, out: Path, *arguments: str, code: int = 0) -> str:
        options = ["--model", str(tmp_path / "run"), "--data", str(data), "--out", str(out)]
        assert run_command("predict", [*options, *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def expected(table: pa.Table) -> np.ndarray[Any, Any]:
    z = (table["height"].to_numpy() - 10) / 2 - 2 * (table["width"].to_numpy() - 1e6) / 1e3 + 0.5
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("K", [1, 3])
def test_a_far_mean_costs_no_digits(K: int) -> None:
    # Time stamps: the mean is 2^31 times the standard deviation, and all steps are exact in binary.
    generator = np.random.default_rng(0)
    z = generator.integers(-8, 8, size=(3000, 40)) / 4
    weight = generator.integers(-4, 4, size=(K, 40)) / 2
    standardization = Standardization(mean=np.full(40, 2.0**31), scale=np.full(40, 0.25))
    model = Model(weight[0] if K == 1 else weight, np.full(K, 0.5), (), (), standardization, eps=0.0, threshold=0.5)
    block = 2.0**31 + z / 4
    before = block.copy()
    expected = (z @ weight.T + 0.5).squeeze()
    np.testing.assert_array_equal(model.logits(block), expected)
    np.testing.assert_array_equal(block, before)


@pytest.mark.parametrize(
    ("data_name", "out_name"),
    [("data.csv", "out.parquet"), ("data.parquet", "out.csv"), ("data.csv.gz", "out.csv")],
)
def test_columns_are_matched_by_name_and_ids_kept(
    data_name: str,
    out_name: str,
    tmp_path: Path,
    table: pa.Table,
    predict: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = PredictionRows.blocks
    monkeypatch.setattr(
        PredictionRows, "blocks", lambda rows: (b for each in whole(rows) for b in np.array_split(each, 3))
    )
    data, out = tmp_path / data_name, tmp_path / out_name
    if data.suffix == ".gz":
        with pa.CompressedOutputStream(str(data), "gzip") as stream:
            pa.csv.write_csv(table.drop_columns(["label"]), stream)
    else:
        (pa.csv.write_csv if data.suffix == ".csv" else pa.parquet.write_table)(table, data)
    for threshold, options in ((0.5, []), (0.9, ["--threshold", "0.9"])):
        told = predict(data, out, "--id", "id", "number", "--overwrite", *options)
        assert "5,000 rows written" in told
        written = pa.csv.read_csv(out) if out.suffix == ".csv" else pa.parquet.read_table(out)
        assert written.column_names == ["id", "number", "probability", "prediction"]
        np.testing.assert_allclose(written["probability"].to_numpy(), expected(table), rtol=1e-9)
        assert written["id"].to_pylist() == table["id"].to_pylist()
        labels = np.where(expected(table) >= threshold, "yes", "no")
        assert written["prediction"].to_pylist() == labels.tolist()


def test_an_existing_output_is_replaced_only_when_asked_and_the_data_never(tmp_path: Path, predict: Run) -> None:
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
def test_unusable_data_are_refused(
    content: str, arguments: list[str], message: str, tmp_path: Path, predict: Run
) -> None:
    data = tmp_path / "data.csv"
    data.write_text(content)
    assert message in predict(data, tmp_path / "out.csv", *arguments, code=2)
    assert not list(tmp_path.glob("*out.csv*"))


def test_an_array_of_another_width_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("x0", "x1", "x2")
    identity = Standardization.identity(3)
    model = Model(np.ones(3), np.zeros(1), names, ("0", "1"), identity, 0.0, 0.5, array_widths=(3, 4))
    model.save(tmp_path / "model.safetensors")
    options = ["--model", str(tmp_path), "--out", str(tmp_path / "out.csv"), "--overwrite"]
    for width, code in ((2, 2), (3, 0), (4, 0), (5, 2)):
        np.save(tmp_path / "new.npy", np.zeros((2, width)))
        assert main(["predict", *options, "--data", str(tmp_path / "new.npy")]) == code
        if code:
            assert "3 or 4 columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    "out",
    [
        "out.txt",
        "none/out.csv",
        "folder.csv",
        "/proc/out.csv",
        "/dev/fd/1.csv",
        "pipe.csv",
        "a" * 250 + ".csv",
    ],
)
def test_an_unusable_output_is_refused_before_the_data_are_read(out: str, tmp_path: Path, predict: Run) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    told = predict(tmp_path / "does not exist.csv", tmp_path / out, "--overwrite", code=2)
    assert told.startswith("error: --out")
    assert told.count("\n") == 1
    assert (tmp_path / "pipe.csv").is_fifo()


def test_an_id_column_that_csv_cannot_hold_is_refused(tmp_path: Path, table: pa.Table, predict: Run) -> None:
    data = tmp_path / "data.parquet"
    pa.parquet.write_table(table.append_column("tags", pa.array([["a"]] * len(table))), data)
    told = predict(data, tmp_path / "out.csv", "--id", "id", "tags", code=2)
    assert '--id is "tags"; is a column of list<' in told
    assert not (tmp_path / "out.csv").exists()
    predict(data, tmp_path / "out.parquet", "--id", "tags")
    assert pa.parquet.read_table(tmp_path / "out.parquet")["tags"][0].as_py() == ["a"]


def test_probabilities_can_be_printed(tmp_path: Path, table: pa.Table, predict: Run) -> None:
    data = tmp_path / "data.parquet"
    pa.parquet.write_table(table, data)
    told = predict(data, Path("-"), "--id", "number")
    written = pa.csv.read_csv(io.BytesIO(told.encode()))
    np.testing.assert_allclose(written["probability"].to_numpy(), expected(table), rtol=1e-9)
    assert "leave one of them out" in predict(data, Path("-"), "--json", code=2)


def test_columns_of_an_array_go_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X = np.column_stack([np.linspace(-1, 1, 50), np.linspace(2, 3, 50), np.arange(50) % 2])
    Model(np.ones(2), np.zeros(1), ("x0", "x1"), ("0", "1"), Standardization.identity(2), 0.0, 0.5).save(
        tmp_path / "model.safetensors"
    )
    np.save(tmp_path / "d.npy", X)
    given = ["--model", str(tmp_path), "--data", str(tmp_path / "d.npy")]
    assert main(["predict", *given, "--out", str(tmp_path / "p.csv"), "--id", "0", "-1"]) == 0
    assert pa.csv.read_csv(tmp_path / "p.csv").column_names[:2] == ["x0", "x2"]
    capsys.readouterr()
    assert main(["evaluate", *given, "--label", "-1", "--weight", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["positives"] == 25
    assert main(["evaluate", *given, "--label", "7"]) == 2
    assert "--label is 7" in capsys.readouterr().err


def test_categories_that_the_model_does_not_know_are_told(
    train: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{'ab'[i % 2]},{i % 3 // 2}\n" for i in range(40))
    (tmp_path / "train.csv").write_text(f"c,y\n{rows}")
    data = f"data={{source: file, path: {tmp_path}/train.csv, label: {{column: y}}, split: {{validation: 0, test: 0}}}}"
    train(data, "solver.name=newton", "loss.l2=0.1", "loss.eps=0", "report.html=false")
    (tmp_path / "new.csv").write_text("c,y\na,0\nzz,1\n")
    given = ["--model", str(tmp_path / "run"), "--data", str(tmp_path / "new.csv")]
    for arguments in (
        ["predict", *given, "--out", str(tmp_path / "p.csv"), "--overwrite"],
        ["evaluate", *given],
    ):
        assert main(arguments) == 0
        assert "note: 1 of 2 rows" in capsys.readouterr().out
        assert main([*arguments, "--json"]) == 0
        assert "zz" in json.loads(capsys.readouterr().out)["notes"][0]
    assert main(["export", *given[:2], "--out", str(tmp_path / "m.onnx"), "--json"]) == 0
    assert "NAME=VALUE" in json.loads(capsys.readouterr().out)["notes"][0]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_threshold_is_refused_for_several_classes(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Model(np.ones((3, 1)), np.zeros(3), ("x",), ("a", "b", "c"), Standardization.identity(1), 0.0, 0.5).save(
        tmp_path / "model.safetensors"
    )
    (tmp_path / "d.csv").write_text("x,y\n1,a\n2,b\n3,c\n")
    given = ["--model", str(tmp_path), "--data", str(tmp_path / "d.csv"), "--threshold", "0.3"]
    more = ["--label", "y"] if command == "evaluate" else ["--out", str(tmp_path / "out.csv")]
    assert main([command, *given, *more]) == 2
    assert "--threshold is 0.3" in capsys.readouterr().err
