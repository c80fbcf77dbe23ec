"""Which columns become features, label and weight."""

from __future__ import annotations

import numpy as np
import pytest
from refused import NONE, refused

CSV = "age,dose,weight,y\n1,2,1,0\n3,4,2,1\n5,7,1,0\n6,1,1,1\n"
Y = np.array([0, 1, 0, 1])
FILES = {
    "d.csv": CSV,
    "d.npy": {"a": np.arange(4.0), "b": np.arange(4.0), "y": Y},
    "d.npz": {"X": np.ones((4, 2)), "y": Y, "s": np.ones(4)},
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("age", "dose", "weight")),
        ({"weight": "weight"}, ("age", "dose")),
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


def test_other_arrays_of_an_npz_are_no_features(write, load_file):
    assert load_file(write("d.npz", FILES["d.npz"]), split=NONE).feature_names == ("x0", "x1")


@pytest.mark.parametrize(
    ("file", "settings", "setting", "words"),
    [
        ("d.csv", {"label": {"column": "z"}}, "data.label.column", ['"z"', '"age", "dose", "weight" and "y"']),
        ("d.csv", {"label": {"column": "Y"}}, "data.label.column", ['did you mean "y"?']),
        ("d.csv", {"label": {"column": 3}}, "data.label.column", ["columns by name"]),
        ("d.csv", {"weight": "wieght"}, "data.weight", ['did you mean "weight"?']),
        ("d.csv", {"columns": ["age", "doses"]}, "data.columns", ['did you mean "dose"?']),
        ("d.csv", {"drop": ["agee"]}, "data.drop", ['did you mean "age"?']),
        ("d.csv", {"columns": ["age", "y"]}, "data.columns", ['"y", the label column']),
        ("d.csv", {"columns": ["weight"], "weight": "weight"}, "data.columns", ['"weight", the weight column']),
        ("d.csv", {"columns": ["age", "dose", "age"]}, "data.columns", ['"age" more than once']),
        ("d.csv", {"columns": ["age"], "drop": ["age"]}, "data.columns", ['"age", and so does data.drop']),
        ("d.csv", {"weight": "y"}, "data.weight", ["data.label.column names it too"]),
        ("d.csv", {"columns": []}, "d.csv", ["no feature columns left"]),
        ("d.csv", {"drop": ["age", "dose", "weight"]}, "d.csv", ["no feature columns left"]),
        ("d.npy", {}, "data.label.column", ['"x0", "x1" and "x2"']),
        ("d.npy", {"label": {"column": 3}}, "data.label.column", ["3 columns", "from -3 to 2"]),
        ("d.npy", {"label": {"column": -4}}, "data.label.column", ["is -4"]),
        ("d.npy", {"label": {"column": 2}, "columns": ["x1", 1]}, "data.columns", ['"x1" more than once']),
        ("d.npy", {"label": {"column": 2}, "columns": [-1]}, "data.columns", ['"x2", the label column']),
        ("d.npz", {"label": {"column": -1}}, "data.label.column", ["columns by name"]),
        ("d.npz", {"label": {"column": "x0"}}, "data.label.column", ['name one of "y" and "s"']),
        ("d.npz", {"columns": ["y"]}, "data.columns", ['"y", the label column']),
        ("d.npz", {"columns": [2]}, "data.columns", ["from -2 to 1"]),
        ("d.npz", {"drop": ["s"]}, "data.drop", ['name one of "x0" and "x1"']),
    ],
)
def test_refused(file, settings, setting, words, write, load_file):
    with refused(*words, setting=setting):
        load_file(write(file, FILES[file]), split=NONE, **settings)


def test_long_lists_are_shortened(write, load_file):
    path = write("d.npy", {f"c{j}": np.ones(2) for j in range(100)})
    with refused('"x0", "x1"', '"x7" and 92 more'):
        load_file(path)
