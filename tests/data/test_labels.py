"""What in a label column is positive."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from refused import refused

from flashlogit.config.data import Label
from flashlogit.data.columns.labels import apply_rule, find_rule

PLACE = 'label column "y" of d.csv'
ABOVE, POSITIVE = "data.label.above", "data.label.positive"


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def classes(values, kind=None, **label):
    """(names, y) of a column, under the settings."""
    settings, values = Label(**label), column(values, kind)
    rule = find_rule(values, settings, PLACE)
    return rule.names, apply_rule(rule, values, settings, PLACE).y.tolist()


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        ([0, 1, 0], pa.int8(), ("0", "1")),
        ([1, 2, 1], pa.uint64(), ("1", "2")),
        ([-0.0, 1.0, 0.0], pa.float64(), ("0", "1")),
        ([0.1, 0.7, 0.1], pa.float32(), ("0.1", "0.7")),
        ([np.float16(0), np.float16(1), np.float16(0)], pa.float16(), ("0", "1")),
        ([False, True, False], pa.bool_(), ("false", "true")),
        ([decimal.Decimal("0.50"), decimal.Decimal("2"), decimal.Decimal("0.5")], None, ("0.5", "2")),
    ],
)
def test_larger_of_two_numbers_is_positive(values, kind, names):
    assert classes(values, kind) == (names, [0, 1, 0])
    flipped = classes(values, kind, positive=values[0] if kind != pa.float16() else 0.0)
    assert flipped == (names[::-1], [1, 0, 1])


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        *(([1, 2, 1], positive) for positive in (1.0, "1", "1.0")),
        *(([1.0, 2.0, 1.0], positive) for positive in (1, "1")),
        *((["1", "2", "1"], 1), (["1.0", "2.0", "1.0"], "1"), ([1, 0, 1], True)),
        *(([True, False, True], positive) for positive in ("true", "TRUE", True, 1)),
        (["True", "False", "True"], "true"),
        (["yes", "no", "yes"], True),
        (["no", "yes", "no"], False),
        ([" a", "b", " a"], "a"),
    ],
)
def test_positive_is_matched_however_it_is_written(values, positive):
    assert classes(values, positive=positive)[1] == [1, 0, 1]


def test_the_same_spelling_wins_over_a_like_one():
    assert classes(["1", "1.0", "01", "1"], positive="1") == (("not 1", "1"), [1, 0, 0, 1])
    with refused('is "1"', "has no such value", setting=POSITIVE):
        classes(["1.0", "01", "2"], positive=1)


@pytest.mark.parametrize(
    ("values", "label", "names", "y"),
    [
        (["m", "b", "m"], {"positive": "m"}, ("b", "m"), [1, 0, 1]),
        (["a", "b", "c", "a"], {"positive": "a"}, ("not a", "a"), [1, 0, 0, 1]),
        (["c", "a", "b"], {"multiclass": True}, ("a", "b", "c"), [2, 0, 1]),
        ([10, 15, 16], {"above": 15}, ("<= 15", "> 15"), [0, 0, 1]),
        (np.float32([0.1, 0.2, 0.1]), {"above": 0.1}, ("<= 0.1", "> 0.1"), [0, 1, 0]),
        ([False, True, False], {"above": 0.5}, ("<= 0.5", "> 0.5"), [0, 1, 0]),
        ([2**62, 3, -(2**62)], {"above": 0}, ("<= 0", "> 0"), [1, 1, 0]),
    ],
)
def test_names_and_classes(values, label, names, y):
    assert classes(values, **label) == (names, y)


def test_categories_dates_and_several_chunks():
    assert classes(pa.array(["a", "b", "a"]).dictionary_encode(), positive="b")[1] == [0, 1, 0]
    days = [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]
    assert classes(days, positive="2020-01-02") == (("2020-01-01", "2020-01-02"), [0, 1])
    chunks = pa.chunked_array([pa.array([1, 0]), pa.array([1, 1])])
    rule = find_rule(chunks, Label(), PLACE)
    assert apply_rule(rule, chunks, Label(), PLACE).y.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("values", "label", "setting", "words"),
    [
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
    ],
)
def test_refused(values, label, setting, words):
    with refused(*words, setting=setting):
        classes(values, **label)


MISSING = [(pa.float64(), {"positive": 1}), (pa.int64(), {"above": 0.5}), (pa.string(), {"positive": 1})]


@pytest.mark.parametrize(("kind", "label"), MISSING)
def test_missing_labels_can_be_dropped(kind, label):
    values = column([1, None, 0, None, 1]).cast(kind)
    settings = Label(missing="drop", **label)
    labels = apply_rule(find_rule(values, settings, PLACE), values, settings, PLACE)
    assert labels.kept.tolist() == [True, False, True, False, True]
    assert labels.y.tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("train", "other"),
    [
        (["b", "m"], ["m", "m", "b"]),
        ([0, 1], [1.0, 1.0, 0.0]),
        ([0.1, 0.3], np.float32([0.3, 0.3, 0.1])),
        ([False, True], ["true", "TRUE", "no"]),
        ([0, 1], ["1", "1.0", "0"]),
    ],
)
def test_other_files_follow_the_training_file(train, other):
    label = Label(positive=train[1])
    rule = find_rule(column(train), label, PLACE)
    assert apply_rule(rule, column(other), label, "other").y.tolist() == [1, 1, 0]
    assert apply_rule(rule, column(other[2:]), label, "other").y.tolist() == [0]  # a file with one class


def test_unknown_value_in_another_file():
    label = Label(positive="a", missing="drop")
    rule = find_rule(column(["a", "b", "c"]), label, PLACE)
    with refused('holds "d" in row 3', '"a", "b" and "c"', setting="other"):
        apply_rule(rule, column([None, "a", "d", "d"]), label, "other")


def test_as_many_values_as_rows():
    """This must not take quadratic time."""
    names, y = classes(np.arange(20_000) / 7, positive=0)
    assert (names, sum(y)) == (("not 0", "0"), 1)
