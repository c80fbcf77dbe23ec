"""Which columns become features, label and weight."""

from __future__ import annotations

import numpy as np
import pytest

from flashlogit.system.errors import UserError

CSV = "age,dose,weight,y\n1,2,1,0\n3,4,2,1\n5,7,1,0\n6,1,1,1\n"
NONE = {"validation": 0, "test": 0}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("age", "dose", "weight")),
        ({"weight": "weight"}, ("age", "dose")),
        ({"drop": ["age"]}, ("dose", "weight")),
        ({"drop": ["age", "age", "y"]}, ("dose", "weight")),
        ({"columns": ["dose", "age"]}, ("dose", "age")),
        ({"columns": ["weight"], "drop": ["age"]}, ("weight",)),
        ({"label": {"column": "weight"}}, ("age", "dose", "y")),
    ],
)
def test_choice(settings, expected, write, load_file):
    data = load_file(write("d.csv", CSV), split=NONE, **settings)
    assert data.feature_names == expected
    assert data.train.X.shape == (4, len(expected))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label": {"column": "z"}},
            r'data\.label\.column is "z", .*no such column; it has "age", "dose", "weight" and "y"',
        ),
        ({"label": {"column": "Y"}}, r'did you mean "y"\?'),
        ({"label": {"column": 3}}, r"data\.label\.column is 3, and .* has columns by name; write one of"),
        ({"weight": "wieght"}, r'data\.weight is "wieght", .*did you mean "weight"\?'),
        ({"weight": -1}, r"data\.weight is -1, .*by name"),
        ({"columns": ["age", "doses"]}, r'data\.columns is "doses", .*did you mean "dose"\?'),
        ({"drop": ["agee"]}, r'data\.drop is "agee", .*did you mean "age"\?'),
        ({"columns": ["age", "y"]}, r'data\.columns lists "y", which is the label column; take it out'),
        ({"columns": ["weight"], "weight": "weight"}, r'lists "weight", which is the weight column'),
        ({"columns": ["age", "dose", "age"]}, r'data\.columns lists "age" more than once'),
        ({"columns": ["age"], "drop": ["age"]}, r'data\.columns and data\.drop both list "age"'),
        ({"weight": "y"}, r'data\.weight and data\.label\.column are both "y"'),
        ({"columns": []}, "has no feature columns left"),
        ({"drop": ["age", "dose", "weight"]}, "has no feature columns left"),
    ],
)
def test_refused(settings, message, write, load_file):
    with pytest.raises(UserError, match=message):
        load_file(write("d.csv", CSV), split=NONE, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r'data\.label\.column is "y", .*it has "x0", "x1" and "x2"'),
        ({"label": {"column": 3}}, r"data\.label\.column is 3, .* 3 columns; give a number from -3 to 2"),
        ({"label": {"column": -4}}, "is -4"),
        ({"label": {"column": 2}, "columns": ["x1", 1]}, 'lists "x1" more than once'),
        ({"label": {"column": 2}, "columns": [-1]}, 'lists "x2", which is the label column'),
    ],
)
def test_refused_for_npy(settings, message, write, load_file):
    path = write("d.npy", {"a": np.arange(4.0), "b": np.arange(4.0), "y": [0, 1, 0, 1]})
    with pytest.raises(UserError, match=message):
        load_file(path, split=NONE, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": {"column": -1}}, r"data\.label\.column is -1, and .* has columns by name; write one of"),
        ({"label": {"column": "x0"}}, r'data\.label\.column is "x0", .*it has "y" and "s"'),
        ({"columns": ["y"]}, 'lists "y", which is the label column'),
        ({"columns": [2]}, r"data\.columns is 2, .* give a number from -2 to 1"),
        ({"drop": ["s"]}, r'data\.drop is "s", .*it has "x0" and "x1"'),
    ],
)
def test_refused_for_npz(settings, message, write, load_file):
    path = write("d.npz", {"X": np.ones((4, 2)), "y": np.array([0, 1, 0, 1]), "s": np.ones(4)})
    with pytest.raises(UserError, match=message):
        load_file(path, split=NONE, **settings)


def test_other_arrays_of_an_npz_are_no_features(write, load_file):
    path = write("d.npz", {"X": np.ones((4, 2)), "y": np.array([0, 1, 0, 1]), "group": np.ones(4)})
    assert load_file(path, split=NONE).feature_names == ("x0", "x1")


def test_long_lists_are_shortened(write, load_file):
    path = write("d.npy", {f"c{j}": np.ones(2) for j in range(100)})
    with pytest.raises(UserError, match=r'"x0", "x1", .*"x7" and 92 more'):
        load_file(path)
