"""What becomes of a file's columns: features of numbers and categories, and of missing ones; and which labels are
positive."""

import json
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from refused import ONE, refused

from flashlogit.config.data import FileData, Label
from flashlogit.data.columns.encoded import EncodedTable
from flashlogit.data.columns.encoding import CategoryColumn, Encoding, NumberColumn
from flashlogit.data.columns.labels import apply_rule, find_rule
from flashlogit.data.dataset import DROPPED, TEST, TRAIN
from flashlogit.data.encoding_fit import categorical_columns, fit_encoding
from flashlogit.data.files.arrow import ArrowTable
from flashlogit.data.problems import Problems


def table_of(**columns):
    return ArrowTable("t.csv", pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}))


def encode(table, names, splits=None, **settings):
    """The encoding, its notes and all features."""
    settings = FileData(source="file", path="t.csv", **settings)
    splits = np.full(table.rows, TRAIN, np.uint8) if splits is None else np.array(splits, np.uint8)
    problems = Problems(settings)
    categorical, usable = categorical_columns(table, names, settings, problems)
    encoding, notes = fit_encoding(table, usable, categorical, settings, splits, problems)
    problems.raise_all()
    return encoding, notes, values_of(table, encoding)


def values_of(table, encoding):
    return EncodedTable(table, encoding).block(encoding.features, 0, table.rows)


BASELINE = "data.categories.baseline"
CITY = 'column "city" of t.csv'
CITIES = ["a"] * 3 + ["b"] * 2 + ["c", "d"]
CATEGORIES = [
    (["b", "a", "b"], None, ONE, ["a", "b"], [1, 2]),
    (CITIES, None, {"min_rows": 2}, ["a", "b", "(other)"], [3, 2, 2]),
    (CITIES, None, {"min_rows": 1, "max": 1}, ["a", "(other)"], [3, 4]),
    # A value that no training row has is 0 everywhere.
    (["a", "a", "b", "b", "c"], [TRAIN, TRAIN, TRAIN, TEST, DROPPED], ONE, ["a", "b"], [2, 2]),
    (["a", "b", "b", "c"], None, {**ONE, "baseline": True}, ["a", "c"], [1, 1]),
    (["a", "b", "b", "c"], None, {**ONE, "baseline": {"city": "c"}}, ["a", "b"], [1, 2]),
    (["a", "b", "b", "c"], None, {**ONE, "baseline": {}}, ["a", "c"], [1, 1]),
    ([1, 2, 2, 3], None, {**ONE, "baseline": {"city": 1.0}}, ["2", "3"], [2, 1]),
    ([True, False], None, {**ONE, "baseline": {"city": True}}, ["false"], [1]),
    (CITIES, None, {"min_rows": 2, "baseline": {"city": "b"}}, ["a", "(other)"], [3, 2]),
    (["a", "a"], None, {**ONE, "baseline": True}, [], []),
    # Only a run knows of its penalty.
    (["a", "b", "b"], None, {**ONE, "baseline": "auto"}, ["a", "b"], [1, 2]),
]


@pytest.mark.parametrize(("city", "splits", "categories", "values", "counts"), CATEGORIES)
def test_a_feature_for_each_value_in_order(city, splits, categories, values, counts):
    table = table_of(x=range(len(city)), city=city)
    encoding, notes, block = encode(table, ["city", "x"], splits, categories=categories, categorical=["auto", "city"])
    reference = encoding.columns[0].baseline
    assert (reference is None) == (categories.get("baseline", "auto") == "auto")
    assert reference is None or f", reference {reference})" in notes[0]
    assert encoding.features == (*(f"city={value}" for value in values), "x")
    assert block.sum(axis=0)[:-1].tolist() == counts
    assert block[:, -1].tolist() == list(range(len(city)))
    for given, row in zip(city, block, strict=True):
        value = str(given).lower()
        bucket = value if value in (*values, reference) else "(other)"
        assert row[:-1].tolist() == [float(each == bucket) for each in values]
    assert notes[0].startswith("Categories: city (")
    assert ("most frequent have a feature" in notes[-1]) == ("max" in categories)


def test_missing_values_are_an_error_or_marked():
    table = table_of(city=["a", None, "a"], x=[1.0, np.nan, 4.0], z=[1, 2, 3])
    with refused('"city" (1 row, first row 2), "x" (1 row,', "set data.missing to impute", setting="t.csv"):
        encode(table, ["city", "x", "z"], categories=ONE)
    encoding, notes, values = encode(table, ["city", "x", "z"], categories=ONE, missing="impute")
    assert encoding.features == ("city=a", "city=(missing)", "x", "x (missing)", "z")
    assert values.tolist() == [[1, 0, 1, 0, 1], [0, 1, 2.5, 1, 2], [1, 0, 4, 0, 3]]
    assert 'column "x"' in notes[1]
    later = table_of(city=["a"], x=[7.0], z=pa.array([None], pa.int64()))
    assert values_of(later, encoding).tolist() == [[1, 0, 7, 0, 2]]  # z: the training rows' mean, unmarked


def test_a_missing_category_is_against_the_reference_too():
    table = table_of(city=["a", None, "a", "b"], x=[1, 2, 3, 4])
    encoding, _, values = encode(table, ["city", "x"], categories={**ONE, "baseline": True}, missing="impute")
    assert encoding.features == ("city=b", "city=(missing)", "x")
    assert values.tolist() == [[0, 0, 1], [0, 1, 2], [0, 0, 3], [1, 0, 4]]


def test_blocks_are_the_whole():
    generator = np.random.default_rng(0)
    city = generator.choice(["a", "b", "c", None], 5000)
    table = table_of(city=city, x=generator.random(5000))
    encoding, _, values = encode(table, ["city", "x"], missing="impute")
    blocks = [block for _, block in EncodedTable(table, encoding).blocks(encoding.features)]
    np.testing.assert_array_equal(np.concatenate(blocks), values)
    np.testing.assert_array_equal(values[:, :3], pd.get_dummies(pd.Series(city)))


REFUSED_COLUMNS = [
    ({"city": [f"n{i}" for i in range(50)]}, {}, CITY, "50 values and none of them in 10"),
    ({"a": ["x", "y"], "a=x": [1.0, 2.0]}, {"categories": ONE}, "t.csv", 'same name, "a=x"'),
    ({"a": ["x"]}, {"categorical": ["b"]}, "data.categorical", '"b", which is not among the features'),
    ({"city": ["(missing)", "b", None]}, {"categories": ONE, "missing": "impute"}, CITY, "rows without a value"),
    ({"city": ["(other)"] * 2 + ["b"]}, {"categories": {"min_rows": 2}}, CITY, "rare values"),
    ({"city": ["a"], "month": [1]}, {"categorical": ["month"]}, "t.csv", 'hold no numbers: "city"'),
    ({"city": ["a", "a"]}, {"categories": {**ONE, "baseline": True}}, BASELINE, "leaves no feature"),
    (
        {"city": ["a"]},
        {"categories": {"baseline": {"cty": "a"}}},
        BASELINE,
        'did you mean "city"?); name some of "city"',
    ),
    ({"x": [1, 2]}, {"categories": {"baseline": {"x": 1}}}, BASELINE, "which is no column of categories; leave it out"),
    ({"city": ["ab"]}, {"categories": {**ONE, "baseline": {"city": "abc"}}}, f"{BASELINE}.city", 'you mean "ab"?)'),
    ({"city": CITIES}, {"categories": {"min_rows": 2, "baseline": {"city": "c"}}}, f"{BASELINE}.city", "rare values"),
    ({"x": [np.inf, None]}, {"missing": "impute"}, 'column "x" of t.csv', "infinite"),
    ({"x": [None, None]}, {"missing": "impute"}, 'column "x" of t.csv', "no value in any training row"),
    ({"x": [None, None, 1], "z": [1, None, 2]}, {}, "t.csv", 'columns "x" (2 rows, first row 1), "z" (1 row, first'),
]


@pytest.mark.parametrize(("columns", "settings", "setting", "word"), REFUSED_COLUMNS)
def test_columns_that_are_refused(columns, settings, setting, word):
    with refused(word, setting=setting):
        encode(table_of(**columns), list(columns), **settings)


def read_encoding(content):
    """What a model file's JSON means."""
    return Encoding.from_json(json.loads(json.dumps(content)))


def test_json_of_earlier_versions():
    """A list of columns, without what was added since."""
    category = {"kind": "category", "name": "c", "values": ["a"], "baseline": None}
    encoding = read_encoding([{"kind": "number", "name": "x", "fill": None, "marked": False}, category])
    assert encoding == Encoding((NumberColumn("x"), CategoryColumn("c", ("a",))))
    assert values_of(table_of(x=[1], c=pa.array([None], pa.string())), encoding).tolist() == [[1, 0]]
    written = Encoding((CategoryColumn("c", ("1.0", "True"), baseline="False"),))
    assert values_of(table_of(c=["TRUE", "1", "false"]), written).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_json_and_back():
    city = CategoryColumn("city", ("ä", "b"), other=True, missing=True, baseline="c", required=True)
    for encoding in (Encoding((NumberColumn("x", 2.5, True), city)), Encoding((NumberColumn("x"),), ("?", "-"))):
        assert read_encoding(encoding.to_json()) == encoding
        assert not encoding.trivial
    # No training file gives these.
    for columns in ((NumberColumn("x"), NumberColumn("x")), (CategoryColumn("c", ("a",), baseline="a"),)):
        with pytest.raises(ValueError, match=r"same name|are the same"):
            read_encoding(Encoding(columns).to_json())


def test_many_features_are_named_once():
    """A thousand times the names of 20,000 features took ten seconds."""
    encoding = Encoding((CategoryColumn("c", tuple(f"v{i:05d}" for i in range(20_000))), NumberColumn("x")))
    assert encoding.features is encoding.features
    features = EncodedTable(table_of(c=["v00003", "v19999"], x=[0.0, 1.0]), encoding)
    assert features.block(encoding.features, 0, 2)[1, 19_999] == 1


PLACE = 'label column "y" of d.csv'
ABOVE, POSITIVE = "data.label.above", "data.label.positive"


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def labelled(train, other, **label):
    """The labels of another file's column."""
    return apply_rule(find_rule(train, Label(**label), PLACE), other, Label(**label), PLACE)


def classes(values, kind=None, **label):
    """(names, y) of a column, under the settings."""
    values = column(values, kind)
    return find_rule(values, Label(**label), PLACE).names, labelled(values, values, **label).y.tolist()


NUMBERS = [
    ([0, 1, 0], pa.int8(), ("0", "1")),
    ([-0.0, 1.0, 0.0], pa.float64(), ("0", "1")),
    ([0.1, 0.7, 0.1], pa.float32(), ("0.1", "0.7")),
    ([np.float16(0), np.float16(1), np.float16(0)], pa.float16(), ("0", "1")),
    ([False, True, False], pa.bool_(), ("false", "true")),
    ([Decimal("0.50"), Decimal("2"), Decimal("0.5")], None, ("0.5", "2")),
]


@pytest.mark.parametrize(("values", "kind", "names"), NUMBERS)
def test_larger_of_two_numbers_is_positive(values, kind, names):
    assert classes(values, kind) == (names, [0, 1, 0])
    flipped = classes(values, kind, positive=values[0] if kind != pa.float16() else 0.0)
    assert flipped == (names[::-1], [1, 0, 1])


SPELLINGS = [
    *(([1, 2, 1], positive) for positive in (1.0, "1", "1.0")),
    *(([1.0, 2.0, 1.0], positive) for positive in (1, "1")),
    *((["1", "2", "1"], 1), (["1.0", "2.0", "1.0"], "1"), ([1, 0, 1], True)),
    *(([True, False, True], positive) for positive in ("true", "TRUE", True, 1)),
    (["True", "False", "True"], "true"),
    (["yes", "no", "yes"], True),
    (["no", "yes", "no"], False),
    ([" a", "b", " a"], "a"),
]


@pytest.mark.parametrize(("values", "positive"), SPELLINGS)
def test_positive_is_matched_however_it_is_written(values, positive):
    assert classes(values, positive=positive)[1] == [1, 0, 1]


def test_the_same_spelling_wins_over_a_like_one():
    assert classes(["1", "1.0", "01", "1"], positive="1") == (("not 1", "1"), [1, 0, 0, 1])
    with refused('is "1"', "has no such value", setting=POSITIVE):
        classes(["1.0", "01", "2"], positive=1)


NAMED = [
    (["m", "b", "m"], {"positive": "m"}, ("b", "m"), [1, 0, 1]),
    (["a", "b", "c", "a"], {"positive": "a"}, ("not a", "a"), [1, 0, 0, 1]),
    (["c", "a", "b"], {"multiclass": True}, ("a", "b", "c"), [2, 0, 1]),
    ([10, 15, 16], {"above": 15}, ("<= 15", "> 15"), [0, 0, 1]),
    (np.float32([0.1, 0.2, 0.1]), {"above": 0.1}, ("<= 0.1", "> 0.1"), [0, 1, 0]),
    ([False, True, False], {"above": 0.5}, ("<= 0.5", "> 0.5"), [0, 1, 0]),
    ([2**62, 3, -(2**62)], {"above": 0}, ("<= 0", "> 0"), [1, 1, 0]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), {"positive": "b"}, ("a", "b"), [0, 1, 0]),
    ([date(2020, 1, 1), date(2020, 1, 2)], {"positive": "2020-01-02"}, ("2020-01-01", "2020-01-02"), [0, 1]),
]


@pytest.mark.parametrize(("values", "label", "names", "y"), NAMED)
def test_names_and_classes(values, label, names, y):
    assert classes(values, **label) == (names, y)


REFUSED_LABELS = [
    (["b", "m"], {}, PLACE, ['"b" (1 row), "m" (1 row), and either', POSITIVE]),
    ([1, 2, 3], {}, PLACE, ["has 3 values", f"or a number that positive rows exceed in {ABOVE}"]),
    (list(range(1001)), {"multiclass": True}, PLACE, ["has 1,001 values", "there may be 1000 classes"]),
    ([1, 1, 1], {}, PLACE, ['one class only, "1" (3 rows)']),
    (["b", "m"], {"positive": "M"}, POSITIVE, ['is "M"', '(did you mean "m"?)', 'it has "b"']),
    ([1, 2], {"above": 2}, ABOVE, ["lies between 1 and 2", "one class only"]),
    ([1.5, 2], {"above": 0.5}, ABOVE, ["choose a number from 1.5 up to, but less than, 2"]),
    (["a", "b"], {"above": 1}, ABOVE, ["holds string, not numbers", POSITIVE]),
    ([float("nan"), None], {"missing": "drop"}, PLACE, ["no label in any row"]),
    ([0.0, 1.0, float("inf")], {}, PLACE, ["is infinite in row 3 (the first is 1)"]),
    ([0.0, None, float("nan"), 1.0], {}, PLACE, ["in 2 rows, the first of them row 2", "missing to drop"]),
    ([[1], [2]], {}, PLACE, ["holds list<", "a label must be"]),
]


@pytest.mark.parametrize(("values", "label", "setting", "words"), REFUSED_LABELS)
def test_labels_that_are_refused(values, label, setting, words):
    with refused(*words, setting=setting):
        classes(values, **label)


MISSING = [(pa.float64(), {"positive": 1}), (pa.int64(), {"above": 0.5}), (pa.string(), {"positive": 1})]


@pytest.mark.parametrize(("kind", "label"), MISSING)
def test_missing_labels_can_be_dropped(kind, label):
    values = pa.chunked_array([[1, None], [0, None, 1]]).cast(kind)
    labels = labelled(values, values, missing="drop", **label)
    assert (labels.kept.tolist(), labels.y.tolist()) == ([True, False, True, False, True], [1, 0, 0, 0, 1])


OTHER_FILES = [
    (["b", "m"], ["m", "m", "b"]),
    ([0, 1], [1.0, 1.0, 0.0]),
    ([0.1, 0.3], np.float32([0.3, 0.3, 0.1])),
    ([False, True], ["true", "TRUE", "no"]),
    ([0, 1], ["1", "1.0", "0"]),
]


@pytest.mark.parametrize(("train", "other"), OTHER_FILES)
def test_other_files_follow_the_training_file(train, other):
    train, other = column(train), column(other)
    assert labelled(train, other, positive=train[1].as_py()).y.tolist() == [1, 1, 0]
    assert labelled(train, other[2:], positive=train[1].as_py()).y.tolist() == [0]  # a file with one class


def test_unknown_value_in_another_file():
    with refused('holds "d" in row 3', '"a", "b" and "c"', setting=PLACE):
        labelled(column(["a", "b", "c"]), column([None, "a", "d", "d"]), positive="a", missing="drop")


def test_as_many_values_as_rows():
    """This must not take quadratic time."""
    names, y = classes(np.arange(20_000) / 7, positive=0)
    assert (names, sum(y)) == (("not 0", "0"), 1)
