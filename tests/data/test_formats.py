"""Every kind of file gives the same tensors, whatever the types of its columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch
from refused import NONE

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


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_values_are_standardised_in_float64_and_cast_by_torch(dtype, numbers, write, load_file):
    X, y = numbers
    data = load_file(write("d.npz", {"X": X, "y": y}), dtype=dtype, split=NONE)
    standardised = torch.from_numpy((X - data.standardization.mean) / data.standardization.scale)
    assert torch.equal(data.train.X, standardised.to(getattr(torch, dtype)))
    assert torch.equal(data.train.y, torch.from_numpy(y.astype(np.uint8)))
    np.testing.assert_allclose(data.standardization.mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(data.standardization.scale, X.std(axis=0), rtol=1e-13)


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
