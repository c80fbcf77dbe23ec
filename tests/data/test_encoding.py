"""Categories and missing values: what features come of them, and that a model reads other files alike."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import TypeAdapter
from refused import refused

from flashlogit.config.data import FileData
from flashlogit.data.columns.encoding import CategoryColumn, EncodedTable, Encoding, EncodingInJson, NumberColumn
from flashlogit.data.dataset import DROPPED, TEST, TRAIN
from flashlogit.data.encoding_fit import categorical_columns, fit_encoding
from flashlogit.data.files.arrow import ArrowTable


def table_of(**columns):
    return ArrowTable("t.csv", pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}))


def encode(table, names, splits=None, **settings):
    """The encoding, its notes and all features."""
    settings = FileData(source="file", path="t.csv", **settings)
    splits = np.full(table.rows, TRAIN, np.uint8) if splits is None else np.array(splits, np.uint8)
    encoding, notes = fit_encoding(table, names, categorical_columns(table, names, settings), settings, splits)
    return encoding, notes, values_of(table, encoding)


def values_of(table, encoding):
    return EncodedTable(table, encoding).block(encoding.features, 0, table.rows)


ONE = {"min_rows": 1}
CITY = 'column "city" of t.csv'
CITIES = ["a"] * 3 + ["b"] * 2 + ["c", "d"]


@pytest.mark.parametrize(
    ("city", "splits", "categories", "values", "counts"),
    [
        (["b", "a", "b"], None, ONE, ["a", "b"], [1, 2]),
        (CITIES, None, {"min_rows": 2}, ["a", "b", "(other)"], [3, 2, 2]),
        (CITIES, None, {"min_rows": 1, "max": 1}, ["a", "(other)"], [3, 4]),
        # A value that no training row has is 0 everywhere.
        (["a", "a", "b", "b", "c"], [TRAIN, TRAIN, TRAIN, TEST, DROPPED], ONE, ["a", "b"], [2, 2]),
        (["a", "b", "b", "c"], None, {**ONE, "baseline": True}, ["a", "c"], [1, 1]),
    ],
)
def test_a_feature_for_each_value_in_order(city, splits, categories, values, counts):
    table = table_of(x=range(len(city)), city=city)
    encoding, notes, block = encode(table, ["city", "x"], splits, categories=categories)
    assert encoding.features == (*(f"city={value}" for value in values), "x")
    assert block.sum(axis=0)[:-1].tolist() == counts
    assert block[:, -1].tolist() == list(range(len(city)))
    for value, row in zip(city, block, strict=True):
        bucket = value if value in values else "(other)"
        assert row[:-1].tolist() == [float(each == bucket) for each in values]
    assert notes[0].startswith("Categories: city (")
    assert ("most frequent have a feature" in notes[-1]) == ("max" in categories)


def test_missing_values_are_an_error_or_marked():
    table = table_of(city=["a", None, "a"], x=[1.0, np.nan, 4.0], z=[1, 2, 3])
    with refused('"city" (1 row, first row 2), "x" (1 row, first row 2)', setting="t.csv"):
        encode(table, ["city", "x", "z"], categories=ONE)
    encoding, notes, values = encode(table, ["city", "x", "z"], categories=ONE, missing="impute")
    assert encoding.features == ("city=a", "city=(missing)", "x", "x (missing)", "z")
    assert values.tolist() == [[1, 0, 1, 0, 1], [0, 1, 2.5, 1, 2], [1, 0, 4, 0, 3]]
    assert 'column "x"' in notes[1]
    later = table_of(city=["a"], x=[7.0], z=pa.array([None], pa.int64()))
    assert values_of(later, encoding).tolist() == [[1, 0, 7, 0, 2]]  # z: the training rows' mean, unmarked


def test_blocks_are_the_whole():
    generator = np.random.default_rng(0)
    city = generator.choice(["a", "b", "c", None], 5000)
    table = table_of(city=city, x=generator.random(5000))
    encoding, _, values = encode(table, ["city", "x"], missing="impute")
    blocks = [block for _, block in EncodedTable(table, encoding).blocks(encoding.features)]
    assert len(blocks) > 0
    np.testing.assert_array_equal(np.concatenate(blocks), values)
    expected = pd.get_dummies(pd.Series(city)).to_numpy(float)
    np.testing.assert_array_equal(values[:, :3], expected)


@pytest.mark.parametrize(
    ("columns", "settings", "setting", "word"),
    [
        ({"name": [f"n{i}" for i in range(50)]}, {}, 'column "name" of t.csv', "50 values and none of them in 10"),
        ({"a": ["x", "y"], "a=x": [1.0, 2.0]}, {"categories": ONE}, "t.csv", 'same name, "a=x"'),
        ({"a": ["x"]}, {"categorical": ["b"]}, "data.categorical", '"b", which is not among the features'),
        (
            {"city": ["(missing)", "b", None]},
            {"categories": ONE, "missing": "impute"},
            'column "city" of t.csv',
            "rows without a value",
        ),
        ({"city": ["(other)"] * 2 + ["b"]}, {"categories": {"min_rows": 2}}, 'column "city" of t.csv', "rare values"),
        ({"city": ["a"], "month": [1]}, {"categorical": ["month"]}, "t.csv", 'hold no numbers: "city"'),
        ({"x": [np.inf, None]}, {"missing": "impute"}, 'column "x" of t.csv', "infinite"),
    ],
)
def test_refused(columns, settings, setting, word):
    with refused(word, setting=setting):
        encode(table_of(**columns), list(columns), **settings)


def read_encoding(content):
    """What a model file's JSON means."""
    return TypeAdapter(EncodingInJson).validate_json(json.dumps(content))


def test_json_of_earlier_versions():
    """A list of columns, without what was added since."""
    category = {"kind": "category", "name": "c", "values": ["a"], "baseline": None}
    old = [{"kind": "number", "name": "x", "fill": None, "marked": False}, category]
    encoding = read_encoding(old)
    assert encoding == Encoding((NumberColumn("x"), CategoryColumn("c", ("a",))))
    assert values_of(table_of(x=[1], c=pa.array([None], pa.string())), encoding).tolist() == [[1, 0]]
    written = Encoding((CategoryColumn("c", ("1.0", "True"), baseline="False"),))
    assert values_of(table_of(c=["TRUE", "1", "false"]), written).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_json_and_back():
    city = CategoryColumn("city", ("ä", "b"), other=True, missing=True, baseline="c", required=True)
    for encoding in (Encoding((NumberColumn("x", 2.5, True), city)), Encoding((NumberColumn("x"),), ("?", "-"))):
        assert read_encoding(encoding.to_json()) == encoding
        assert not encoding.trivial


def test_json_that_no_training_file_gives():
    for columns in ((NumberColumn("x"), NumberColumn("x")), (CategoryColumn("c", ("a",), baseline="a"),)):
        with pytest.raises(ValueError, match=r"same name|one of its values"):
            read_encoding(Encoding(columns).to_json())


def test_many_features_are_named_once():
    """A thousand times the names of 20,000 features took ten seconds."""
    column = CategoryColumn("c", tuple(f"v{i:05d}" for i in range(20_000)))
    encoding = Encoding((column, NumberColumn("x")))
    assert encoding.features is encoding.features
    features = EncodedTable(table_of(c=["v00003", "v19999"], x=[0.0, 1.0]), encoding)
    assert features.block(encoding.features, 0, 2)[1, 19_999] == 1
