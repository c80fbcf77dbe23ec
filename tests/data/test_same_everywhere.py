"""A row means the same whatever else is in its file, and whatever kind of file that is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from flashlogit.data import read_for_prediction
from flashlogit.data.columns.encoding import EncodingInJson
from flashlogit.data.files.category_text import as_text
from flashlogit.system.errors import UserError

NONE = {"validation": 0, "test": 0}
HEADER = "flag,code,level,time,month,amount,y\n"
FLAGS = ["True", "False", "Unknown", "TRUE", "false"]
CODES = ["01234", "1234", "x1", "77", "77.0"]
LEVELS = ["1.0", "2", "low", " 1", "2.00"]
TIMES = ["12:30", "never", "13:45", "12:30", "2024-01-01 10:00"]
MONTHS = ["01", "1", "2", "1.0", "12"]
ROWS = [
    f"{FLAGS[i % 5]},{CODES[i % 5]},{LEVELS[i % 5]},{TIMES[i % 5]},{MONTHS[i % 5]},{i},{i % 2}\n"
    for i in range(10)
]
SETTINGS = {
    "categorical": ["flag", "code", "level", "time", "month"],
    "categories": {"min_rows": 1},
    "split": NONE,
}


def features(path, data):
    rows = read_for_prediction(path, data.feature_names, encoding=data.encoding)
    return np.concatenate(list(rows.blocks())), rows.notes


def test_every_slice_of_a_file_is_read_like_the_whole(write, load_file):
    path = write("d.csv", HEADER + "".join(ROWS))
    data = load_file(path, **SETTINGS, standardize=False, dtype="float64")
    assert data.feature_names == (
        *("flag=Unknown", "flag=false", "flag=true"),
        *("code=01234", "code=1234", "code=77", "code=x1"),
        *("level=1", "level=2", "level=low"),
        *("time=12:30", "time=13:45", "time=2024-01-01 10:00", "time=never"),
        *("month=01", "month=1", "month=12", "month=2"),
        "amount",
    )
    whole, notes = features(path, data)
    assert notes == ()
    assert np.array_equal(whole, data.train.X.numpy())
    for i, row in enumerate(ROWS):
        assert features(write("one.csv", HEADER + row), data)[0].tolist() == [whole[i].tolist()]
    both = write("test.csv", HEADER + ROWS[0] + ROWS[1])  # flags alone, codes alone
    other = load_file(path, **SETTINGS, standardize=False, dtype="float64", test_path=both)
    assert other.test.X.tolist() == whole[:2].tolist()


def test_auto_categories_too(write, load_file):
    path = write("d.csv", "flag,y\n" + "True,1\nFalse,0\nUnknown,1\nUnknown,0\n" * 3)
    data = load_file(path, categories={"min_rows": 1}, split=NONE)
    assert data.feature_names == ("flag=Unknown", "flag=false", "flag=true")
    assert features(write("new.csv", "flag\nTrue\nFalse\n"), data)[0].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_parquet_types_are_the_same_categories(write, load_file):
    path = write("d.csv", "flag,month,y\n" + "True,1,1\nFalse,2,0\n" * 3)
    data = load_file(path, categorical=["flag", "month"], categories={"min_rows": 1}, split=NONE)
    expected = [[0, 1, 0, 1], [1, 0, 1, 0]]
    for flag in ([True, False], ["TRUE", "False"], pa.array(["true", "false"]).cast(pa.string_view())):
        for month in ([2, 1], [2.0, 1.0], ["2.0", " 1"]):
            other = write("d.parquet", {"flag": pa.array(flag), "month": pa.array(month)})
            assert features(other, data)[0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([2.0**53 - 1, 1e300], ["9007199254740991", "1e+300"]),
        (["01", "1.", "-2.00", "1.50", "+3.0"], ["01", "1", "-2", "1.50", "+3"]),
        ([" a ", "", " ", None], ["a", None, None, None]),
    ],
)
def test_values_as_text(values, text):
    assert as_text(pa.chunked_array([values])).to_pylist() == text


@pytest.mark.parametrize("values", [[2.0**53, 2.0**53 + 2], [1e18, 1e18 + 128], [2.0**70, 2.0**71]])
def test_whole_numbers_that_are_far_from_zero_stay_apart(values):
    assert len(set(as_text(pa.chunked_array([values])).to_pylist())) == 2


def test_a_value_is_the_same_text_beside_any_others():
    values = [1e15, 2.0**53, 1e20, 0.5, 3.0, -0.0]
    alone = [as_text(pa.chunked_array([[value]])).to_pylist() for value in values]
    assert as_text(pa.chunked_array([values])).to_pylist() == [each for (each,) in alone]


def test_missing_categories_are_refused_where_training_had_none(write, load_file):
    text = "kind,a,y\n" + "u,1,1\nv,2,0\n" * 6
    new = write("new.csv", "kind,a,y\nu,1,1\n,2,0\n")
    data = load_file(write("d.csv", text), categories={"min_rows": 1}, split=NONE)
    message = r'new\.csv has a value that is missing \(empty or NaN\) in row 2 .* of column "kind"; every feature must'
    with pytest.raises(UserError, match=message):
        features(new, data)
    with pytest.raises(UserError, match=message):
        load_file(write("d.csv", text), categories={"min_rows": 1}, split=NONE, test_path=new)
    # A row that is left out need not be whole.
    unlabelled = write("part.csv", "kind,a,y\nu,1,1\nu,1,0\n,2,\n")
    label = {"missing": "drop"}
    load_file(write("d.csv", text), categories={"min_rows": 1}, split=NONE, test_path=unlabelled, label=label)
    data = load_file(write("d.csv", text), categories={"min_rows": 1}, split=NONE, missing="impute")
    assert features(new, data)[0].tolist() == [[1, 0, 1], [0, 0, 2]]


def test_values_that_the_model_does_not_know_are_counted(write, load_file):
    text = "flag,a,y\n" + "yes,1,1\nno,2,0\n" * 12
    new = write("new.csv", "flag,a,y\nmaybe,1,1\nyes,2,0\nperhaps,2,0\n")
    data = load_file(write("d.csv", text), split=NONE, test_path=new)
    sentence = '2 of 3 rows have a value of "flag" that the model does not know, such as "maybe"'
    assert features(new, data)[1] == (sentence,)
    assert any(note.startswith("In ") and note.endswith(sentence) for note in data.notes)
    # Those that share a bucket are known.
    data = load_file(write("d.csv", text + "rare,1,1\n"), split=NONE)
    assert "flag=(other)" in data.feature_names
    assert features(new, data)[1] == ()


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_missing_values_of_ones_own_are_remembered(ending, tmp_path, load_file):
    separator = "\t" if ending == "tsv" else ","

    def write(name, rows):
        path = tmp_path / f"{name}.{ending}"
        path.write_text("\n".join(separator.join(row) for row in rows))
        return str(path)

    header = ["age", " kind", "y"]
    path = write("d", [header, *[["1", " u", "0"], ["3", " v", "1"], [" ?", " -", "0"], ["-", "u", "1"]] * 3])
    settings = {
        "missing": "impute",
        "missing_values": ["?", "-"],
        "categories": {"min_rows": 1},
        "split": NONE,
    }
    data = load_file(path, **settings, standardize=False)
    assert data.feature_names == ("age", "age (missing)", "kind=u", "kind=v", "kind=(missing)")
    assert data.train.X[:4].tolist() == [[1, 0, 1, 0, 0], [3, 0, 0, 1, 0], [2, 1, 0, 0, 1], [2, 1, 1, 0, 0]]
    assert features(write("new", [header, ["?", "-", "1"]]), data)[0].tolist() == [[2, 1, 0, 0, 1]]
    # Numbers alone, of which none may be missing: the sentence is about the value, and not about its column's type.
    path = write("d", [["age", "y"], ["1", "0"], ["2", "1"]])
    data = load_file(path, missing_values=["?"], split=NONE)
    with pytest.raises(UserError, match="is missing"):
        features(write("new", [["age"], ["1"], ["?"]]), data)


def test_which_columns_are_categories_is_said(write, load_file):
    columns = {f"c{j}": [f"v{i % (j + 2)}" for i in range(120)] for j in range(10)}
    data = load_file(write("d.csv", columns | {"y": [i // 60 for i in range(120)]}), split=NONE)
    assert data.notes[0].startswith("Categories: c0 (2 values), c1 (3 values), ")
    assert data.notes[0].endswith("c7 (9 values) and 2 more")


def test_remedies_fit_a_model_that_exists(write, load_file):
    data = load_file(write("d.csv", "kind,a,y\n" + "u,1,1\nv,2,0\n" * 10), split=NONE)
    for column, message in (
        (
            "a",
            r'new\.parquet has columns .*"a" \(list.*; give the kind of values that the model has learnt from',
        ),
        (
            "kind",
            r'column "kind" of .*new\.parquet of list.* cannot be used as categories; give the kind of values',
        ),
    ):
        other = write("new.parquet", {"kind": ["u"], "a": [1]} | {column: pa.array([[1]])})
        with pytest.raises(UserError, match=message):
            features(other, data)


def test_a_training_file_of_several_parts(write, load_file, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    pd.DataFrame({"m": ["01", "2"] * 6, "y": [0, 1] * 6}).to_csv(folder / "a.csv", index=False)
    pd.DataFrame({"m": ["3", "x"] * 6, "y": [0, 1] * 6}).to_csv(folder / "b.csv", index=False)
    data = load_file(str(folder), split=NONE, categories={"min_rows": 1}, categorical=["m"])
    assert data.feature_names == ("m=01", "m=2", "m=3", "m=x")
    assert features(str(folder), data)[0].sum(axis=0).tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize("categories", [True, False])
@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), ("|", "."), ("\t", ",")])
def test_the_separator_and_the_decimal_point_are_remembered(separator, decimal, categories, write, load_file):
    def text(*rows):
        return "\n".join(separator.join(row).replace(".", decimal) for row in rows)

    header = ("a", "kind" if categories else "b", "y")
    kinds = ("u", "v") if categories else ("1", "2")
    path = write("d.csv", text(header, *[("1.5", kinds[0], "0"), ("-2", kinds[1], "1")] * 12))
    if decimal == ",":
        with pytest.raises(UserError, match=r"set data\.decimal to a comma if that is their decimal point"):
            load_file(path, separator=separator, split=NONE)
    data = load_file(path, separator=separator, decimal=decimal, split=NONE, standardize=False)
    assert data.train.X[:2].tolist() == ([[1.5, 1, 0], [-2, 0, 1]] if categories else [[1.5, 1], [-2, 2]])
    written = json.dumps(data.encoding.to_json())
    data = replace(data, encoding=TypeAdapter(EncodingInJson).validate_json(written))
    new = write("new.csv", text(("y", *header[:2]), ("1", "0.5", kinds[1])))
    assert features(new, data)[0].tolist() == ([[0.5, 0, 1]] if categories else [[0.5, 2]])
    rows = read_for_prediction(new, data.feature_names, ["a"], encoding=data.encoding)
    assert rows.ids.to_pydict() == {"a": [f"0{decimal}5"]}
    # The separator is the file's own; where it is a comma, the decimal point is none.
    for other, point in ((",", "."), (";", decimal), ("|", decimal), ("\t", decimal)):
        rows = [("y", *header[:2]), ("1", f"0{point}5", kinds[1])]
        new = write("new.csv", "\n".join(other.join(row) for row in rows))
        assert features(new, data)[0].tolist() == ([[0.5, 0, 1]] if categories else [[0.5, 2]])


def test_a_model_of_commas_reads_other_separators(write, load_file):
    data = load_file(write("d.csv", "a,b,y\n" + "1.5,2,0\n2,1,1\n" * 6), split=NONE)
    assert data.encoding is None
    assert features(write("new.csv", "b;a\n1;0.5\n"), data)[0].tolist() == [[0.5, 1]]
    with pytest.raises(UserError, match=r'text, such as "0,5" .*give the kind of values that the model'):
        features(write("new.csv", "b;a\n1;0,5\n"), data)


def test_marks_of_missing_values_in_parquet(write, load_file):
    """As in CSV: where nothing but numbers is left they are numbers, in every slice of the file."""
    age, kind = ["1", "3", " ?", "-"] * 3, ["u", " -", "?", "v"] * 3
    columns = {"age": age, "kind": kind, "y": ["0", "1", "0", "1"] * 3}
    settings = {"missing": "impute", "categories": {"min_rows": 1}, "split": NONE, "standardize": False}
    settings["missing_values"] = ["?", "-"]
    text = "age,kind,y\n" + "".join(",".join(row) + "\n" for row in zip(*columns.values(), strict=True))
    expected = load_file(write("d.csv", text), **settings)
    for kind_of_text in (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ):
        typed = columns | {name: pa.array(columns[name]).cast(kind_of_text) for name in ("age", "kind")}
        data = load_file(write("d.parquet", typed), **settings)
        assert data.feature_names == ("age", "age (missing)", "kind=u", "kind=v", "kind=(missing)")
        assert data.train.X.tolist() == expected.train.X.tolist()
    for name in ("new.parquet", "new.csv"):
        for each in range(4):
            new = write(name, {"age": age[each : each + 1], "kind": kind[each : each + 1]})
            assert features(new, data)[0].tolist() == [expected.train.X[each].tolist()]
    # Ids are as they stand there.
    new = write("new.parquet", {"age": ["3", "?"], "kind": ["u", "-"], "id": ["-", "1"]})
    rows = read_for_prediction(new, data.feature_names, ["id", "kind"], encoding=data.encoding)
    assert rows.ids.to_pydict() == {"id": ["-", "1"], "kind": ["u", "-"]}
    # Without such marks a column of text is what it is.
    with pytest.raises(UserError, match=r'"age" looks like numbers|"age" holds numbers as text'):
        load_file(write("d.parquet", columns | {"age": ["1", "3"] * 6}), categorical="auto")
    with pytest.raises(UserError, match='such as "u"'):
        load_file(write("d.parquet", columns), **settings | {"categorical": []})


def test_marks_in_the_label_column_of_parquet(write, load_file):
    columns = {"a": list(range(12)), "y": ["0", "1", "1", "?", "0", "-"] * 2}
    label = {"column": "y", "missing": "drop"}
    data = load_file(write("d.parquet", columns), missing_values=["?", "-"], label=label, split=NONE)
    assert data.train.y.tolist() == [0, 1, 1, 0] * 2
    assert data.label_names == ("0", "1")
