"""Means and standard deviations of the training rows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from refused import refused

from flashlogit.data.files.matrices import MatrixTable
from flashlogit.data.placement import measure
from flashlogit.data.splits import DROPPED, TEST, TRAIN

NONE = {"validation": 0, "test": 0}


def measured(X, splits=None):
    names = [f"x{j}" for j in range(X.shape[1])]
    splits = np.full(len(X), TRAIN, dtype=np.uint8) if splits is None else splits
    return measure(MatrixTable("d.npy", X, names, {}), names, splits)


def exact(column):
    """Mean and standard deviation in rational arithmetic, rounded once."""
    values = [Fraction(float(v)) for v in column]
    mean = sum(values) / len(values)
    return float(mean), float(sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (1.7e9, 0.1), (-1e9, 1e-5), (1e15, 10), (1e-9, 1e-3), (700, 1)])
def test_huge_mean_and_tiny_deviation(mean, sd):
    X = np.random.default_rng(0).normal(mean, sd, size=(2000, 1))
    wide = np.tile(X, (1, 600))  # so that there are several blocks
    standardization, constant = measured(wide)
    true_mean, true_sd = exact(X[:, 0])
    assert constant == ()
    np.testing.assert_allclose(standardization.mean, true_mean, rtol=1e-15, atol=1e-12 * sd)
    np.testing.assert_allclose(standardization.scale, true_sd, rtol=1e-9)
    assert abs(standardization.apply(wide).std() - 1) < 1e-9


def test_a_first_row_far_from_the_others():
    X = np.random.default_rng(0).normal(size=(5000, 1))
    X[0] = 1e6
    standardization, _ = measured(X)
    true_mean, true_sd = exact(X[:, 0])
    np.testing.assert_allclose([standardization.mean[0], standardization.scale[0]], [true_mean, true_sd], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, 1e300])
def test_constant_columns_have_scale_1(value):
    X = np.column_stack([np.full(300, value), np.arange(300.0)])
    standardization, constant = measured(X)
    assert constant == ("x0",)
    assert standardization.scale[0] == 1
    assert standardization.mean[0] == value
    assert (standardization.apply(X)[:, 0] == 0).all()


def test_only_training_rows_count():
    X = np.random.default_rng(0).normal(size=(3000, 300))
    splits = np.random.default_rng(1).choice([TRAIN, TEST, DROPPED], size=3000).astype(np.uint8)
    X[splits == TEST] *= 1e6
    X[splits == DROPPED] = np.nan
    standardization, _ = measured(X, splits)
    np.testing.assert_allclose(standardization.mean, X[splits == TRAIN].mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(standardization.scale, X[splits == TRAIN].std(axis=0), rtol=1e-13)


@pytest.mark.parametrize("large", [1e308, 1e200])
def test_values_too_far_apart(large):
    X = np.array([[0.0, large], [1.0, -large], [0.0, 0.0]])
    with refused('column "x1" are too far apart', "data.drop", setting="d.npy"):
        measured(X)


def test_constant_columns_are_noted(write, load_file):
    path = write("d.csv", "a,b,c,y\n1,2,5,0\n1,3,5,1\n")
    data = load_file(path, split=NONE)
    assert data.notes == (
        f'In {path}, columns "a" and "c" are constant over the training rows and can teach the model nothing',
    )
    assert data.train.X.tolist() == [[0, -1, 0], [0, 1, 0]]
    assert load_file(path, split=NONE, drop=["a"]).notes[0].startswith(f'In {path}, column "c" is constant')


def test_without_standardising_nothing_changes(write, load_file):
    data = load_file(write("d.csv", "a,b,y\n1,2,0\n1,3,1\n"), split=NONE, standardize=False)
    assert data.notes == ()
    assert data.standardization.mean.tolist() == [0, 0]
    assert data.standardization.scale.tolist() == [1, 1]
    assert data.train.X.tolist() == [[1, 2], [1, 3]]


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        ("float16", 7e4, ["6.55e+04", "rescale the column, or set data.dtype to bfloat16 or float32"]),
        ("bfloat16", 3.4e38, ["set data.dtype to float64"]),
        ("float32", -1e39, ["set data.dtype to float64"]),
    ],
)
def test_overflow_of_the_storage_dtype(dtype, value, words, write, load_file):
    path = write("d.csv", {"a": [1.0, 2.0, 3.0], "b": [1.0, value, 3.0], "y": [0, 1, 0]})
    with refused('row 2 (the first is 1) of column "b"', f"data.dtype {dtype}", *words, setting=path):
        load_file(path, dtype=dtype, standardize=False, split=NONE)
    if abs(value) < 1e30:
        assert torch.isfinite(load_file(path, dtype=dtype, split=NONE).train.X).all()


def test_overflow_while_standardising_another_file(write, load_file):
    train = write("d.csv", {"a": [1.0, 1.001], "y": [0, 1]})
    test = write("t.csv", {"a": [1.0, 50.0], "y": [0, 1]})
    with refused("row 2", "float16", setting="t.csv"):
        load_file(train, test_path=test, split=NONE, dtype="float16")
