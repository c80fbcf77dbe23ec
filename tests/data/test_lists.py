"""Matrices beside their labels: columns of lists, files of labels, and labels of many models."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from refused import NONE, features_of, refused

from flashlogit.config.data import FileData
from flashlogit.data.columns.targets import read_targets
from flashlogit.data.files.open import open_files
from flashlogit.data.loading import load
from flashlogit.data.prediction import read_for_prediction
from flashlogit.data.schema_report import report_text, schema_report

E = np.random.default_rng(0).normal(size=(150, 5))
Y = np.arange(150) % 2
PLAIN = {"split": NONE, "standardize": False, "dtype": "float64"}
NAMES = tuple(f"e_{j}" for j in range(5))
KINDS = {
    "list": pa.list_(pa.float64()),
    "large": pa.large_list(pa.float64()),
    "fixed": pa.list_(pa.float64(), 5),
    "decimal": pa.list_(pa.decimal128(9, 3)),
    "half": pa.list_(pa.float16(), 5),
    "int8": pa.list_(pa.int8()),
    "bool": pa.large_list(pa.bool_()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_lists_is_a_feature_for_each_number(kind, write, load_file):
    """In several chunks, which need not begin where their numbers do, and beside other columns."""
    numbers = E if kind in ("list", "large", "fixed") else np.round(E.clip(0, 1)) if kind == "bool" else np.round(4 * E)
    lists = pa.array(numbers.tolist(), pa.list_(pa.float64(), 5) if kind == "fixed" else pa.list_(pa.float64()))
    lists = (
        lists.cast(KINDS[kind])
        if kind != "half"
        else pa.array([list(map(np.float16, e)) for e in numbers], KINDS[kind])
    )
    path = write("d.parquet", {"a": Y * 2, "e": pa.chunked_array([lists[:7], lists[7:]]), "y": Y})
    data = load_file(path, **PLAIN)
    assert data.feature_names == ("a", *NAMES)
    np.testing.assert_array_equal(data.train.X, np.column_stack([Y * 2, numbers]))
    assert load_file(path, drop=["e"], **PLAIN).feature_names == ("a",)
    assert load_file(path, columns=["e"], **PLAIN).feature_names == NAMES
    assert load_file(path, columns=["e_3", "a"], **PLAIN).feature_names == ("e_3", "a")


def test_files_with_lists_are_one_table_and_models_take_them(write, load_file, tmp_path):
    for i, rows in enumerate((slice(0, 50), slice(50, 150))):
        write(f"part{i}.parquet", {"e": E[rows].tolist(), "id": np.arange(150)[rows], "y": Y[rows]})
    data = load_file(f"{tmp_path}/part*.parquet", drop=["id"], **PLAIN)
    np.testing.assert_array_equal(data.train.X, E)
    rows = read_for_prediction(f"{tmp_path}/part1.parquet", NAMES, ["id", "e"])
    np.testing.assert_array_equal(features_of(rows), E[50:])
    assert rows.ids["e"].to_pylist() == E[50:].tolist()
    write("part2.parquet", {"e": E[:, :4].tolist(), "id": Y, "y": Y})
    with refused('lacks "e_4"', setting="part2.parquet"):
        load_file(f"{tmp_path}/part*.parquet", **PLAIN)


def test_missing_numbers_as_nan_are_imputed(write, load_file):
    gaps = E.copy()
    gaps[3, 2] = np.nan
    path = write("d.parquet", {"e": gaps.tolist(), "y": Y})
    with refused("lacks values", '"e_2" (1 row, first row 4)', setting="d.parquet"):
        load_file(path, **PLAIN)
    data = load_file(path, missing="impute", **PLAIN)
    assert data.feature_names == (*NAMES[:3], "e_2 (missing)", *NAMES[3:])
    assert data.train.X[3, 2] == pytest.approx(np.nanmean(gaps[:, 2]))


@pytest.mark.parametrize(
    ("row", "value", "words"),
    [
        (149, [1.0, 2.0], ["row 150", "has 2 numbers, and the first one 5"]),
        (70, [], ["row 71", "has 0 numbers"]),
        (0, None, ["row 1", "is missing"]),
        (66, [1.0, None, 2.0, 3.0, 4.0], ["row 67", "lacks a number"]),
    ],
)
def test_lists_that_are_refused(row, value, words, write, load_file):
    lists = E.tolist()
    lists[row] = value
    path = write("d.parquet", {"e": lists, "y": Y})
    with refused('column "e" of', *words, "data.drop", setting="d.parquet"):
        load_file(path, **PLAIN)
    if value is None or len(value) == 5:
        path = write("fixed.parquet", {"e": pa.array(lists, KINDS["fixed"]), "y": Y})
        with refused('column "e" of', *words, setting="fixed.parquet"):
            load_file(path, **PLAIN)


def test_names_of_lists_and_columns_must_differ_and_text_is_no_number(write, load_file):
    with refused('two columns have the name "e_0"', setting="d.parquet"):
        load_file(write("d.parquet", {"e": E.tolist(), "e_0": Y, "y": Y}), **PLAIN)
    with refused('hold no numbers: "e" (list<', setting="d.parquet"):
        load_file(write("d.parquet", {"e": [["a", "b"]] * 150, "y": Y}), **PLAIN)


def test_a_line_for_a_column_of_lists(write):
    columns = {
        "e": E.tolist(),
        "odd": [[1.0], [2.0, 3.0]] * 75,
        "p": Y,
        "t": [f"2024-01-{1 + i % 9:02}" for i in range(150)],
    }
    report = schema_report(open_files(write("d.parquet", columns), "FILE"), None, group="p", time="t")
    assert [column.name for column in report.columns] == ["e", "odd", "p", "t"]
    assert [column.use for column in report.columns] == ["numbers", "other", "group", "time"]
    e = report.columns[0]
    assert (e.least, e.mean, e.greatest) == pytest.approx((E.min(), E.mean(), E.max()))
    told = report_text(report)
    assert "unlike odd:" in told
    assert "dates are no features" not in told


def test_labels_weights_and_groups_in_a_file_of_their_own(tmp_path, write, load_file):
    np.save(tmp_path / "X.npy", E)
    (tmp_path / "X.npy").chmod(0o444)  # it is read as it is used, and never written
    X, groups = str(tmp_path / "X.npy"), np.arange(150) // 7
    for kind, content in (("1d", Y), ("2d", Y[:, None]), ("text", np.where(Y, "yes", "no"))):
        np.save(tmp_path / f"{kind}.npy", content)
        data = load_file(X, labels=f"{tmp_path}/{kind}.npy", **PLAIN)
        assert (data.feature_names, data.array_widths) == (tuple(f"x{j}" for j in range(5)), (5,))
        np.testing.assert_array_equal(data.train.X, E)
        np.testing.assert_array_equal(data.train.y, Y)
    beside = write("beside.csv", {"y": Y, "w": Y + 0.5, "p": groups})
    data = load_file(X, labels=beside, weight="w", group="p", standardize=False, dtype="float64")
    for rows in data.splits.values():
        places = [int(np.flatnonzero((x == E).all(axis=1))[0]) for x in rows.X.numpy()]
        np.testing.assert_array_equal(rows.y, Y[places])
        np.testing.assert_array_equal(rows.sample_weight, Y[places] + 0.5)
    np.save(tmp_path / "several.npy", np.column_stack([Y, 1 - Y]))
    data = load_file(
        write("X.csv", {"e": Y * 3, "f": Y}), labels=f"{tmp_path}/several.npy", label={"column": -1}, **PLAIN
    )
    assert (data.feature_names, data.train.y.tolist()) == (("e", "f"), (1 - Y).tolist())


def test_files_of_labels_that_are_refused(tmp_path, write, load_file):
    np.save(tmp_path / "X.npy", E)
    X = str(tmp_path / "X.npy")
    for content, setting, words in (
        (Y[1:], "y.npy", ["149 rows", "has 150"]),
        (np.zeros((150, 2, 2)), "y.npy", ["shape [150, 2, 2]"]),
        (np.column_stack([Y, Y]), "data.label.column", ['name one of "y0" and "y1"']),
        (Y + 1j, "y.npy", ["complex128"]),
    ):
        np.save(tmp_path / "y.npy", content)
        with refused(*words, setting=setting):
            load_file(X, labels=f"{tmp_path}/y.npy", **PLAIN)
    with refused("no such file", setting="data.labels"):
        load_file(X, labels="gone.npy", **PLAIN)
    with refused("must end in", setting="data.labels"):
        load_file(X, labels="y.npz", **PLAIN)
    with refused('two columns have the name "x0"', setting="l.csv"):
        load_file(X, labels=write("l.csv", {"x0": Y, "y": Y}), **PLAIN)


def test_a_matrix_is_read_block_by_block(tmp_path, load_file, monkeypatch):
    """No array of its size is made but the X that training reads."""
    X = np.random.default_rng(0).normal(size=(40_000, 50)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", np.arange(40_000) % 2)
    sizes, array = [], np.array
    monkeypatch.setattr(
        np, "array", lambda *given, **more: sizes.append((made := array(*given, **more)).nbytes) or made
    )
    data = load_file(f"{tmp_path}/X.npy", labels=f"{tmp_path}/y.npy", split=NONE, standardize=False)
    assert torch.equal(data.train.X, torch.from_numpy(X))
    assert 4 << 20 >= max(sizes) > 1 << 20


def test_labels_of_many_models(tmp_path, write):
    targets = np.where(E > 1, np.nan, (E > 0).astype(float))[:, :3]
    np.save(tmp_path / "X.npy", E)
    np.save(tmp_path / "Y.npy", targets)
    lists = pa.array(targets.tolist(), pa.list_(pa.float64(), 3))
    columns = {f"Y_{t}": pa.array(targets[:, t], from_pandas=True) for t in range(3)}
    for file, names in (
        (open_files(f"{tmp_path}/X.npy", "d", labels=f"{tmp_path}/Y.npy"), [0, 1, -1]),
        (open_files(f"{tmp_path}/X.npy", "d", labels=write("Y.csv", columns)), ["Y_0", "Y_1", "Y_2"]),
        (open_files(f"{tmp_path}/X.npy", "d", labels=write("Y.parquet", {"Y": lists})), ["Y"]),
        (open_files(write("d.npz", {"X": E, "Y": targets}), "d"), ["Y"]),
        (open_files(write("d.parquet", {"e": E.tolist(), "Y": lists}), "d"), ["Y"]),
    ):
        keys = [key for name in names for key in file.find_keys(name, "data.targets")]
        np.testing.assert_array_equal(read_targets(file.read(file.features[:1], keys), keys), targets)
    for values, words in (
        (["yes", "b"], 'holds "b" in row 2'),
        ([1.0, np.inf], "is infinite in row 2"),
        ([[1.0], [2.0, 3.0]], "holds list"),
    ):
        with refused(words, setting='label column "t" of ' + (path := write("t.parquet", {"t": values}))):
            read_targets(open_files(path, "d").read((), ["t"]), ["t"])


def test_labels_of_words(write):
    words = {"t": ["yes", None, "No", "TRUE", "off"], "n": ["2", "0", "1.0", None, "3"], "b": [True, None, False] * 2}
    words["b"] = words["b"][:5]
    keys = list(words)
    found = read_targets(open_files(write("t.parquet", words), "d").read((), keys), keys)
    nan = np.nan
    np.testing.assert_array_equal(found.T, [[1, nan, 0, 1, 0], [2, 0, 1, nan, 3], [1, nan, 0, 1, nan]])


def test_errors_of_a_file_of_labels_name_that_file(tmp_path, write):
    np.save(tmp_path / "X.npy", E[:3])
    columns = {"t": [0.0, np.inf, 1.0], "s": [1.0, -1.0, 1.0], "g": [1.0, None, 2.0], "a": [0.0, 1.0, 1.0]}
    labels = write("L.csv", columns | {"y": columns["t"]})
    for more, setting in (
        ({"targets": ["t"]}, f'label column "t" of {labels}'),
        ({}, f'label column "y" of {labels}'),
        ({"targets": ["a"], "weight": "s"}, f'weight column "s" of {labels}'),
        ({"targets": ["a"], "group": "g"}, f'group column "g" of {labels}'),
    ):
        data = FileData(source="file", path=f"{tmp_path}/X.npy", labels=labels, **more)
        with refused("row 2", setting=setting):
            load(data, seed=0, device=torch.device("cpu"))


def test_parquet_of_lists_without_a_list(tmp_path, load_file, write):
    """The first rows need not have one; and where none has, there are no features to name."""
    lists = [None] * 100 + E[:50].tolist()
    with refused("the list in row 1 (the first is 1) is missing", setting="d.parquet"):
        load_file(write("d.parquet", {"e": lists, "y": Y}), **PLAIN)
    pq.write_table(pa.table({"e": pa.array([None] * 150, pa.list_(pa.float64())), "y": Y}), tmp_path / "n.parquet")
    with refused('hold no numbers: "e"', setting="n.parquet"):
        load_file(f"{tmp_path}/n.parquet", **PLAIN)
