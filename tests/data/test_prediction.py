"""Rows for a model that exists: each means the same whatever else is in its file, and whatever file that is."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
from refused import features_of, refused

from flashlogit.data.columns.encoding import Encoding
from flashlogit.data.files.text import as_text
from flashlogit.data.prediction import read_for_prediction

HEADER = "flag,code,level,time,month,amount,y\n"
VALUES = (
    ["True", "False", "Unknown", "TRUE", "false"],
    ["01234", "1234", "x1", "77", "77.0"],
    ["1.0", "2", "low", " 1", "2.00"],
    ["12:30", "never", "13:45", "12:30", "2024-01-01 10:00"],
    ["01", "1", "2", "1.0", "12"],
)
ROWS = ["".join(f"{values[i % 5]}," for values in VALUES) + f"{i},{i % 2}\n" for i in range(10)]
SETTINGS = {"categorical": ["flag", "code", "level", "time", "month"], "dtype": "float64"}


def features(path, data):
    rows = read_for_prediction(path, data.feature_names, encoding=data.encoding)
    return features_of(rows).tolist(), rows.notes


def test_every_slice_of_a_file_is_read_like_the_whole(write, learn):
    data = learn(HEADER + "".join(ROWS), **SETTINGS)
    assert data.feature_names == (
        *("flag=Unknown", "flag=false", "flag=true"),
        *("code=01234", "code=1234", "code=77", "code=x1"),
        *("level=1", "level=2", "level=low"),
        *("time=12:30", "time=13:45", "time=2024-01-01 10:00", "time=never"),
        *("month=01", "month=1", "month=12", "month=2"),
        "amount",
    )
    whole, notes = features(write("d.csv", HEADER + "".join(ROWS)), data)
    assert notes == ()
    assert whole == data.train.X.tolist()
    for i, row in enumerate(ROWS):
        assert features(write("one.csv", HEADER + row), data)[0] == [whole[i]]
    both = write("test.csv", HEADER + ROWS[0] + ROWS[1])  # flags alone, codes alone
    other = learn(HEADER + "".join(ROWS), **SETTINGS, test_path=both)
    assert other.test.X.tolist() == whole[:2]


def test_parquet_types_are_the_same_categories(write, learn):
    text = "flag,month,y\n" + "True,1,1\nFalse,2,0\nUnknown,2,0\n" * 3
    data = learn(text, categorical=["auto", "month"])
    assert data.feature_names == ("flag=Unknown", "flag=false", "flag=true", "month=1", "month=2")
    for flag in ([True, False], ["TRUE", "False"], pa.array(["true", "false"]).cast(pa.string_view())):
        for month in ([2, 1], [2.0, 1.0], ["2.0", " 1"]):
            other = write("d.parquet", {"flag": pa.array(flag), "month": pa.array(month)})
            assert features(other, data)[0] == [[0, 0, 1, 0, 1], [0, 1, 0, 1, 0]]


GREAT = ["9007199254740992.0", "9007199254740994.0", "1e+18", "1.0000000000000001e+18"]
TEXTS = [
    ([1, 2], ["1", "2"]),
    ([1.0, None, 1.5, -0.0], ["1", None, "1.5", "0"]),
    ([True, False], ["true", "false"]),
    ([2.0**53 - 1, 1e300], ["9007199254740991", "1e+300"]),
    # Great numbers stay apart.
    ([2.0**53, 2.0**53 + 2, 1e18, 1e18 + 128], GREAT),
    (["01", "1.", "-2.00", "1.50", "+3.0"], ["01", "1", "-2", "1.50", "+3"]),
    ([" a ", "", " ", None], ["a", None, None, None]),
]


@pytest.mark.parametrize(("values", "text"), TEXTS)
def test_values_as_text(values, text):
    """Each by itself as beside the others."""
    assert as_text(pa.chunked_array([values])).to_pylist() == text
    assert [as_text(pa.chunked_array([pa.array([v], pa.array(values).type)])).to_pylist()[0] for v in values] == text


def test_missing_categories_are_refused_where_training_had_none(write, learn):
    text, message = "kind,a,y\n" + "u,1,1\nv,2,0\n" * 6, 'row 2 (the first is 1) of column "kind" is missing'
    new = write("new.csv", "kind,a,y\nu,1,1\n,2,0\n")
    with refused(message, setting=new):
        features(new, learn(text))
    with refused(message, setting=new):
        learn(text, test_path=new)
    # A row that is left out need not be whole.
    learn(text, test_path=write("part.csv", "kind,a,y\nu,1,1\nu,1,0\n,2,\n"), label={"missing": "drop"})
    assert features(new, learn(text, missing="impute"))[0] == [[1, 0, 1], [0, 0, 2]]


def test_values_that_the_model_does_not_know_are_counted(write, learn):
    text = "flag,a,y\n" + "yes,1,1\nno,2,0\n" * 12
    new = write("new.csv", "flag,a,y\nmaybe,1,1\nyes,2,0\nperhaps,2,0\n")
    data = learn(text, test_path=new)
    sentence = '2 of 3 rows have a value of "flag" that the model does not know, such as "maybe"'
    assert features(new, data)[1] == (sentence,)
    assert data.notes[-1] == f"In {new}, {sentence}"
    part = write("part.csv", "flag,a,y\nmaybe,1,1\nyes,2,0\nperhaps,2,0\nunseen,1,\n")  # one has no label
    assert learn(text, test_path=part, label={"missing": "drop"}).notes[-1] == f"In {part}, {sentence}"
    # Those that share a bucket are known.
    data = learn(text + "rare,1,1\n", categories={"min_rows": 2})
    assert "flag=(other)" in data.feature_names
    assert features(new, data)[1] == ()


@pytest.mark.parametrize(("column", "word"), [("a", '"a" (list'), ("kind", "cannot be used as categories")])
def test_remedies_fit_a_model_that_exists(column, word, write, learn):
    data = learn("kind,a,y\n" + "u,1,1\nv,2,0\n" * 10)
    other = write("new.parquet", {"kind": ["u"], "a": [1]} | {column: pa.array([[1]])})
    with refused(word, "give the kind of values that the model has learnt from", setting="new.parquet"):
        features(other, data)


MARKS = [(";", ",", ("u", "v")), (";", ",", ("1", "2")), ("|", ".", ("u", "v")), ("\t", ",", ("1", "2"))]


@pytest.mark.parametrize(("separator", "decimal", "kinds"), MARKS)
def test_the_separator_and_the_decimal_point_are_remembered(separator, decimal, kinds, write, learn):
    def text(*rows, separator=separator, decimal=decimal):
        return "\n".join(separator.join(row).replace(".", decimal) for row in rows)

    rows = text(("a", "kind", "y"), *[("1.5", kinds[0], "0"), ("-2", kinds[1], "1")] * 12)
    if decimal == ",":
        with refused("set data.decimal to a comma if that is their decimal point"):
            learn(rows, separator=separator)
    data = learn(rows, separator=separator, decimal=decimal)
    assert data.train.X[:2].tolist() == ([[1.5, 1, 0], [-2, 0, 1]] if "u" in kinds else [[1.5, 1], [-2, 2]])
    data = replace(data, encoding=Encoding.from_json(json.loads(json.dumps(data.encoding.to_json()))))
    new = [("y", "a", "kind"), ("1", "0.5", kinds[1])]
    ids = read_for_prediction(write("new.csv", text(*new)), data.feature_names, ["a"], encoding=data.encoding).ids
    assert ids.to_pydict() == {"a": [f"0{decimal}5"]}
    # The separator is the file's own; where it is a comma, the decimal point is none.
    for other, point in ((separator, decimal), (",", "."), (";", decimal), ("|", decimal), ("\t", decimal)):
        path = write("new.csv", text(*new, separator=other, decimal=point))
        assert features(path, data)[0] == ([[0.5, 0, 1]] if "u" in kinds else [[0.5, 2]])


def test_a_model_of_commas_reads_other_separators(write, learn):
    data = learn("a,b,y\n" + "1.5,2,0\n2,1,1\n" * 6)
    assert data.encoding is None
    assert features(write("new.csv", "b;a\n1;0.5\n"), data)[0] == [[0.5, 1]]
    with refused('text, such as "0,5"', "give the kind of values that the model"):
        features(write("new.csv", "b;a\n1;0,5\n"), data)


KINDS_OF_TEXT = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind_of_text", KINDS_OF_TEXT)
def test_missing_values_of_ones_own_are_remembered(kind_of_text, write, learn):
    """In Parquet as in CSV: where nothing but numbers is left they are numbers, in every slice of the file."""
    columns = {"age": ["1", "3", " ?", "-"] * 3, "kind": ["u", " -", "?", "v"] * 3, "y": ["0", "1", "0", "1"] * 3}
    text = "age, kind,y\n" + "".join(",".join(row) + "\n" for row in zip(*columns.values(), strict=True))
    settings = {"missing": "impute", "missing_values": ["?", "-"]}
    expected = [[1, 0, 1, 0, 0], [3, 0, 0, 0, 1], [2, 1, 0, 0, 1], [2, 1, 0, 1, 0]] * 3
    assert learn(text, **settings).train.X.tolist() == expected
    typed = columns | {name: pa.array(columns[name]).cast(kind_of_text) for name in ("age", "kind")}
    data = learn(typed, "d.parquet", **settings)
    assert data.feature_names == ("age", "age (missing)", "kind=u", "kind=v", "kind=(missing)")
    assert data.train.X.tolist() == expected
    for name in ("new.parquet", "new.csv"):
        for i in range(4):
            new = write(name, {each: columns[each][i : i + 1] for each in ("age", "kind")})
            assert features(new, data)[0] == [expected[i]]
    assert features(write("new.tsv", "age\t kind\n?\t-\n"), data)[0] == [expected[2]]
    # Numbers alone, of which none may be missing: the sentence is about the value, and not about its column's type.
    with refused("is missing"):
        features(write("new.csv", "age\n1\n?\n"), learn("age,y\n1,0\n2,1\n", missing_values=["?"]))
    # Ids are as they stand there.
    new = write("new.parquet", {"age": ["3", "?"], "kind": ["u", "-"], "id": ["-", "1"]})
    rows = read_for_prediction(new, data.feature_names, ["id", "kind"], encoding=data.encoding)
    assert rows.ids.to_pydict() == {"id": ["-", "1"], "kind": ["u", "-"]}
    # Without such marks a column of text is what it is.
    with refused('"age" holds numbers as text'):
        learn(columns | {"age": ["1", "3"] * 6}, "d.parquet")


@pytest.mark.parametrize(("name", "when"), [("d.csv", ["7", "8"]), ("d.parquet", [7, 8])])
def test_columns_come_in_the_models_order(name, when, write):
    columns = {"note": ["u", "v"], "b": [3, 4], "id": ["r1", "r2"], "a": [1.5, 2.5], "when": [7, 8]}
    rows = read_for_prediction(write(name, columns), ("a", "b"), ["id", "when"])
    block = features_of(rows)
    assert (len(rows), block.dtype, block.tolist()) == (2, np.float64, [[1.5, 3], [2.5, 4]])
    assert rows.ids.to_pydict() == {"id": ["r1", "r2"], "when": when}
    assert rows.ids.schema.field("id").type == pa.string()


def test_ids_stay_as_they_are_written(write):
    ids = ["00123", "12345678901234567890", "NA", "", " x ", "1.0"]
    path = write("d.csv", "id,a,y\n" + "".join(f"{each},{i},1\n" for i, each in enumerate(ids)))
    rows = read_for_prediction(path, ("a",), ["id", "a"])
    assert rows.ids.to_pydict() == {"id": ids, "a": [str(i) for i in range(6)]}
    assert features_of(rows)[:, 0].tolist() == list(range(6))
    rows = read_for_prediction(path, ("a",), ["y"], verbatim=False)
    assert rows.ids.to_pydict() == {"y": rows.table.column("y").to_pylist()} == {"y": [1] * 6}


@pytest.mark.parametrize(("ids", "parses"), [(["id"], 1), (["id", "a"], 2), ([], 1)])
def test_a_file_is_parsed_once_where_no_id_is_a_feature(ids, parses, write, learn, monkeypatch):
    text = "id,a,kind,y\n" + '01,1,"u",0\nNA, 2,,1\n,,NA,0\n?,-, ?,1\n' * 6
    data = learn(text, drop=["id"], missing="impute", missing_values=["?", "-"])
    calls, parse = [], csv.read_csv
    monkeypatch.setattr(csv, "read_csv", lambda *a, **k: calls.append(a) or parse(*a, **k))
    rows = read_for_prediction(write("d.csv", text), data.feature_names, ids, encoding=data.encoding)
    assert len(calls) == parses
    assert np.array_equal(features_of(rows), data.train.X.numpy())
    if ids:
        assert rows.ids.column("id").to_pylist() == ["01", "NA", "", "?"] * 6


def test_numpy_files(write):
    X = np.arange(6.0).reshape(3, 2)
    for path, ids, expected in (
        (write("d.npy", {"X": X, "id": [7, 8, 9]}), [-1], {"x2": [7.0, 8.0, 9.0]}),
        (write("d.npz", {"X": X, "id": ["a", "b", "c"]}), ["id"], {"id": ["a", "b", "c"]}),
    ):
        rows = read_for_prediction(path, ("x1", "x0"), ids)
        assert features_of(rows).tolist() == X[:, ::-1].tolist()
        assert rows.ids.to_pydict() == expected
    with refused("an array of 3 or 4 columns, and it has 2", setting="d.npy"):
        read_for_prediction(write("d.npy", {"X": X}), ("x0", "x1"), array_widths=(3, 4))


def test_blocks_are_the_file_in_order_and_can_be_read_again(write):
    X = np.random.default_rng(0).normal(size=(5000, 600))
    rows = read_for_prediction(write("d.npz", {"X": X}), [f"x{j}" for j in range(600)])
    for blocks in (list(rows.blocks()), list(rows.blocks())):
        assert len(blocks) > 1
        assert np.array_equal(np.concatenate([codes.numbers for codes in blocks]), X)


ID = "the id column"
REFUSED = [
    (("a", "b", "d"), [], "d.csv", ['lacks "d", which the model needs', '"a", "b", "c" and "id"']),
    (("a", "c"), [], "d.csv", ['row 2 (the first is 1) of column "c" is missing', "leave out the row"]),
    (("a",), ["idd"], ID, ['is "idd"', 'did you mean "id"?']),
    (("a",), ["id", "id"], ID, ['"id" is named more than once']),
    (("a", "id"), [], "d.csv", ['no numbers: "id" (text, such as "u" in row 1', "that the model has learnt"]),
]


@pytest.mark.parametrize(("names", "ids", "setting", "words"), REFUSED)
def test_refused(names, ids, setting, words, write):
    path = write("d.csv", "a,b,c,id\n1,2,5,u\n3,4,,v\n")
    with refused(*words, setting=setting):
        list(read_for_prediction(path, names, ids).blocks())
