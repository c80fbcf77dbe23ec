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

from flashlogit.commands.main import main
from flashlogit.commands.shell import predict_main, train_main
from flashlogit.data import Standardization
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
        assert predict_main([*options, *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def expected(table: pa.Table) -> np.ndarray[Any, Any]:
    z = (table["height"].to_numpy() - 10) / 2 - 2 * (table["width"].to_numpy() - 1e6) / 1e3 + 0.5
    return 1 / (1 + np.exp(-z))


def test_a_model_reads_back_equal(tmp_path: Path, model: Model) -> None:
    loaded = Model.load(tmp_path / "run")
    for name in ("feature_names", "label_names", "eps", "threshold"):
        assert getattr(loaded, name) == getattr(model, name)
    np.testing.assert_array_equal(loaded.weight, model.weight)
    np.testing.assert_array_equal(loaded.standardization.scale, model.standardization.scale)
    assert loaded.weight.dtype == np.float32


@pytest.mark.parametrize("K", [1, 3])
def test_a_far_mean_costs_no_digits(K: int) -> None:
    # Time stamps: the mean is 2^31 times the standard deviation, and all steps are exact in binary.
    generator = np.random.default_rng(0)
    z = generator.integers(-8, 8, size=(3000, 40)) / 4
    weight = generator.integers(-4, 4, size=(K, 40)) / 2
    standardization = Standardization(mean=np.full(40, 2.0**31), scale=np.full(40, 0.25))
    model = Model(
        weight[0] if K == 1 else weight, np.full(K, 0.5), (), (), standardization, eps=0.0, threshold=0.5
    )
    block = 2.0**31 + z / 4
    before = block.copy()
    expected = (z @ weight.T + 0.5).squeeze()
    np.testing.assert_array_equal(model.logits(block), expected)
    np.testing.assert_array_equal(block, before)


@pytest.mark.parametrize("out_name", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("data_name", ["data.csv", "data.parquet"])
def test_columns_are_matched_by_name_and_ids_kept(
    data_name: str, out_name: str, tmp_path: Path, table: pa.Table, predict: Run
) -> None:
    data, out = tmp_path / data_name, tmp_path / out_name
    (pa.csv.write_csv if data.suffix == ".csv" else pa.parquet.write_table)(table, data)
    assert "5,000 rows written" in predict(data, out, "--id", "id", "number")
    written = pa.csv.read_csv(out) if out.suffix == ".csv" else pa.parquet.read_table(out)
    assert written.column_names == ["id", "number", "probability", "prediction"]
    np.testing.assert_allclose(written["probability"].to_numpy(), expected(table), rtol=1e-9)
    assert written["id"].to_pylist() == table["id"].to_pylist()
    predicted = np.where(expected(table) >= 0.5, "yes", "no")
    assert written["prediction"].to_pylist() == predicted.tolist()


def test_labels_are_not_needed(tmp_path: Path, table: pa.Table, predict: Run) -> None:
    data = tmp_path / "data.csv.gz"
    with pa.CompressedOutputStream(str(data), "gzip") as stream:
        pa.csv.write_csv(table.select(["height", "width"]), stream)
    predict(data, tmp_path / "out.parquet")
    written = pa.parquet.read_table(tmp_path / "out.parquet")
    assert written.column_names == ["probability", "prediction"]
    np.testing.assert_allclose(written["probability"].to_numpy(), expected(table), rtol=1e-9)


def test_the_threshold_can_be_given(tmp_path: Path, table: pa.Table, predict: Run) -> None:
    data = tmp_path / "data.parquet"
    pa.parquet.write_table(table, data)
    predict(data, tmp_path / "out.parquet", "--threshold", "0.9")
    labels = pa.parquet.read_table(tmp_path / "out.parquet")["prediction"].to_pylist()
    assert labels == np.where(expected(table) >= 0.9, "yes", "no").tolist()


def test_an_existing_output_is_replaced_only_when_asked(
    tmp_path: Path, table: pa.Table, predict: Run
) -> None:
    data, out = tmp_path / "data.parquet", tmp_path / "out.csv"
    pa.parquet.write_table(table, data)
    out.write_text("mine")
    assert "--overwrite" in predict(data, out, code=2)
    assert out.read_text() == "mine"
    predict(data, out, "--overwrite")
    assert out.read_text() != "mine"


def test_the_data_are_never_overwritten(tmp_path: Path, predict: Run) -> None:
    data = tmp_path / "data.csv"
    data.write_text("height,width\n1,2\n")
    assert "is the data file itself" in predict(data, data, "--overwrite", code=2)
    assert data.read_text() == "height,width\n1,2\n"


def test_a_missing_value_names_row_and_column_and_leaves_no_output(
    tmp_path: Path, table: pa.Table, predict: Run
) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text("height,width\n1,2\n3,\n")
    error = predict(data, out, code=2)
    assert "row 2" in error
    assert "width" in error
    assert not out.exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("height,breadth\n1,2\n", [], "width"),
        ("height,width\n1,a\n", [], "width"),
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
    assert not (tmp_path / "out.csv").exists()


def test_an_array_of_another_width_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    table = np.column_stack([generator.normal(size=(60, 3)), np.arange(60) % 2])
    np.save(tmp_path / "train.npy", table)
    config = str(Path(__file__).parents[2] / "configs/own_file.yaml")
    settings = [f"data.path={tmp_path}/train.npy", "data.label.column=-1", "training.epochs=2", "--quiet"]
    assert train_main(["--config", config, f"output={tmp_path}", "name=run", *settings]) == 0
    options = ["--model", str(tmp_path / "run"), "--out", str(tmp_path / "out.csv"), "--overwrite"]
    for width, code in ((2, 2), (3, 0), (4, 0), (5, 2)):
        np.save(tmp_path / "new.npy", np.zeros((2, width)))
        assert predict_main([*options, "--data", str(tmp_path / "new.npy")]) == code
        if code:
            error = capsys.readouterr().err
            assert f"needs an array of 3 or 4 columns, and it has {width}" in error


@pytest.mark.parametrize(
    "out", ["out.txt", "none/out.csv", "folder.csv", "/proc/out.csv", "/dev/fd/1.csv", "a" * 250 + ".csv"]
)
def test_an_unusable_output_is_refused_before_the_data_are_read(
    out: str, tmp_path: Path, predict: Run
) -> None:
    (tmp_path / "folder.csv").mkdir()
    told = predict(tmp_path / "does not exist.csv", tmp_path / out, "--overwrite", code=2)
    assert told.startswith("error: --out")
    assert told.count("\n") == 1


def test_a_pipe_is_not_replaced(tmp_path: Path, predict: Run) -> None:
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    assert "is a device or a pipe" in predict(tmp_path / "data.csv", pipe, "--overwrite", code=2)
    assert pipe.is_fifo()


def test_an_id_column_that_csv_cannot_hold_is_refused(tmp_path: Path, table: pa.Table, predict: Run) -> None:
    data = tmp_path / "data.parquet"
    pa.parquet.write_table(table.append_column("tags", pa.array([["a"]] * len(table))), data)
    told = predict(data, tmp_path / "out.csv", "--id", "id", "tags", code=2)
    assert '--id is "tags", a column of list<' in told
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{'ab'[i % 2]},{i % 3 // 2}\n" for i in range(40))
    (tmp_path / "train.csv").write_text(f"c,y\n{rows}")
    (tmp_path / "run.yaml").write_text(
        f"name: run\noutput: {tmp_path}\nsolver: {{name: newton}}\nreport: {{html: false}}\nloss: {{l2: 0.1}}\n"
        f"data: {{source: file, path: {tmp_path}/train.csv, label: {{column: y}}, split: {{validation: 0, test: 0}}}}\n"
    )
    assert main(["train", "--config", str(tmp_path / "run.yaml"), "--quiet"]) == 0
    (tmp_path / "new.csv").write_text("c,y\na,0\nzz,1\n")
    given = ["--model", str(tmp_path / "run"), "--data", str(tmp_path / "new.csv")]
    for arguments in (
        ["predict", *given, "--out", str(tmp_path / "p.csv"), "--overwrite"],
        ["evaluate", *given],
    ):
        assert main(arguments) == 0
        assert 'note: 1 of 2 rows has a value of "c"' in capsys.readouterr().out
        assert main([*arguments, "--json"]) == 0
        assert "zz" in json.loads(capsys.readouterr().out)["notes"][0]
    assert (
        main(["export", "--model", str(tmp_path / "run"), "--out", str(tmp_path / "m.onnx"), "--json"]) == 0
    )
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
    assert "--threshold is 0.3, and the model has 3 classes" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"something else"])
def test_an_unusable_model_is_refused(content: bytes | None, tmp_path: Path, predict: Run) -> None:
    path = tmp_path / "run" / "model.safetensors"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "data.csv").write_text("height,width\n1,2\n")
    assert "model.safetensors" in predict(tmp_path / "data.csv", tmp_path / "out.csv", code=2)
