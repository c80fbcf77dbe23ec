"""Rows of a file for a model that exists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
from refused import refused

from flashlogit.data import read_for_prediction


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.parquet"])
def test_columns_come_in_the_models_order(name, write):
    columns = {"note": ["u", "v"], "b": [3, 4], "id": ["r1", "r2"], "a": [1.5, 2.5], "when": [7, 8]}
    rows = read_for_prediction(write(name, columns), ("a", "b"), ["id", "when"])
    assert len(rows) == 2
    (block,) = rows.blocks()
    assert block.dtype == np.float64
    assert block.tolist() == [[1.5, 3], [2.5, 4]]
    written = [7, 8] if name == "d.parquet" else ["7", "8"]
    assert rows.ids.to_pydict() == {"id": ["r1", "r2"], "when": written}
    assert rows.ids.schema.field("id").type == pa.string()


def test_ids_stay_as_they_are_written(write):
    ids = ["00123", "12345678901234567890", "NA", "", " x ", "1.0"]
    path = write("d.csv", "id,a,y\n" + "".join(f"{each},{i},1\n" for i, each in enumerate(ids)))
    rows = read_for_prediction(path, ("a",), ["id", "a"])
    assert rows.ids.to_pydict() == {"id": ids, "a": [str(i) for i in range(6)]}
    assert next(rows.blocks())[:, 0].tolist() == list(range(6))
    rows = read_for_prediction(path, ("a",), ["y"], verbatim=False)
    assert rows.ids.to_pydict() == {"y": [1] * 6}
    assert rows.table.column("y").to_pylist() == [1] * 6


@pytest.mark.parametrize(("ids", "parses"), [(["id"], 1), (["id", "a"], 2), ([], 1)])
def test_a_file_is_parsed_once_where_no_id_is_a_feature(ids, parses, write, learn, monkeypatch):
    text = "id,a,kind,y\n" + '01,1,"u",0\nNA, 2,,1\n,,NA,0\n?,-, ?,1\n' * 6
    data = learn(text, drop=["id"], missing="impute", missing_values=["?", "-"])
    calls, parse = [], csv.read_csv
    monkeypatch.setattr(csv, "read_csv", lambda *a, **k: calls.append(a) or parse(*a, **k))
    rows = read_for_prediction(write("d.csv", text), data.feature_names, ids, encoding=data.encoding)
    assert len(calls) == parses
    assert np.array_equal(np.concatenate(list(rows.blocks())), data.train.X.numpy())
    if ids:
        assert rows.ids.column("id").to_pylist() == ["01", "NA", "", "?"] * 6


def test_numpy_files(write):
    X = np.arange(6.0).reshape(3, 2)
    for path, ids, expected in [
        (write("d.npy", {"X": X, "id": np.array([7, 8, 9])}), [-1], {"x2": [7.0, 8.0, 9.0]}),
        (write("d.npz", {"X": X, "id": np.array(["a", "b", "c"])}), ["id"], {"id": ["a", "b", "c"]}),
    ]:
        rows = read_for_prediction(path, ("x1", "x0"), ids)
        assert np.concatenate(list(rows.blocks())).tolist() == X[:, ::-1].tolist()
        assert rows.ids.to_pydict() == expected


def test_blocks_are_the_file_in_order_and_can_be_read_again(write):
    X = np.random.default_rng(0).normal(size=(5000, 600))
    rows = read_for_prediction(write("d.npz", {"X": X}), [f"x{j}" for j in range(600)])
    blocks = list(rows.blocks())
    assert len(blocks) > 1
    assert np.array_equal(np.concatenate(blocks), X)
    assert np.array_equal(np.concatenate(list(rows.blocks())), X)
    assert rows.ids.num_columns == 0


@pytest.mark.parametrize(
    ("names", "ids", "setting", "words"),
    [
        (("a", "b", "c"), [], "d.csv", ['lacks "c", which the model needs', '"a", "b" and "id"']),
        (("a",), ["idd"], "the id column", ['is "idd"', 'did you mean "id"?']),
        (("a",), [0], "the id column", ["is 0", "has columns by name"]),
        (("a",), ["id", "id"], "the id column", ['"id" is named more than once']),
        (("a", "id"), [], "d.csv", ['no numbers: "id" (text, such as "u" in row 1', "that the model has learnt"]),
    ],
)
def test_refused(names, ids, setting, words, write):
    path = write("d.csv", "a,b,id\n1,2,u\n3,4,v\n")
    with refused(*words, setting=setting):
        read_for_prediction(path, names, ids)


def test_the_path_goes_by_the_name_it_is_given(tmp_path):
    with refused("gone.csv", "there is no such file", setting="--data"):
        read_for_prediction(tmp_path / "gone.csv", ("a",), setting="--data")


@pytest.mark.parametrize(("value", "what"), [(None, "missing"), (float("nan"), "missing"), (float("inf"), "infinite")])
def test_value_that_is_not_finite(value, what, write):
    rows = read_for_prediction(write("d.parquet", {"a": [1.0] * 4999 + [value]}), ("a",))
    with refused(f'row 5000 (the first is 1) of column "a" is {what}', "leave out the row"):
        list(rows.blocks())


def test_npy_must_have_the_models_columns(write):
    path = write("d.npy", {"a": np.zeros(3), "b": np.zeros(3)})
    with refused('lacks "x2"', setting=path):
        read_for_prediction(path, ("x0", "x1", "x2"))
    with refused("an array of 3 or 4 columns, and it has 2", setting=path):
        read_for_prediction(path, ("x0", "x1"), array_widths=(3, 4))
