"""Leaks, copies and numbers of rows are named, with figures that are right; honest tables are not suspected."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.metrics import roc_auc_score

from flashlogit.config.data import BreastCancerData, DigitsData
from flashlogit.data import suspicions
from flashlogit.data.column_tests import is_copy, roc_areas, roc_areas_of_categories
from flashlogit.data.columns.encoding import Standardization
from flashlogit.data.files.open import open_files
from flashlogit.data.loading import load
from flashlogit.data.sampled_columns import class_numbers, samples, stored_columns
from flashlogit.data.schema_report import report_text, schema_report
from flashlogit.data.suspicions import find_suspicions

RNG = np.random.default_rng(7)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws():
    """A test draws the same numbers whichever tests ran before it."""
    RNG.bit_generator.state = START


def suspicions_of(X, y, *, dtype=torch.float32, standardize=True, **more):
    """What is found of the columns x0, x1, ..., by kind and columns."""
    X = np.asarray(X, np.float64)
    how = Standardization(X.mean(axis=0), X.std(axis=0) + (X.std(axis=0) == 0))
    how = how if standardize else Standardization.identity(X.shape[1])
    stored = torch.from_numpy((X - how.mean) / how.scale).to(dtype)
    columns = stored_columns(stored, [f"x{j}" for j in range(X.shape[1])], None, how)
    return {(each.kind, *each.columns): each for each in find_suspicions(columns, class_numbers(np.asarray(y)), **more)}


def noise(n=3000, columns=4):
    return RNG.normal(size=(n, columns)), RNG.random(n) < 0.2


# --- what is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_leak_stands_out(sign, dtype):
    X, y = noise()
    X[:, 2] = sign * (4 * y + X[:, 2])
    found = suspicions_of(X, y, dtype=dtype)
    assert [*found] == [("leak", "x2")]
    sentence = found["leak", "x2"].sentence
    area = roc_auc_score(y, sign * X[:, 2])
    assert abs(float(sentence.partition("AUC of ")[2].split()[0].strip(",")) - area) < 1e-3
    assert 'data.drop: ["x2"]' in sentence


def test_several_leaks_do_not_hide_each_other():
    X, y = noise()
    X[:, 1:3] += 5 * y[:, None]
    assert [*suspicions_of(X, y)] == [("leak", "x1"), ("leak", "x2")]


def test_a_leak_beside_strong_columns_takes_many_rows():
    X, y = noise(8000)
    X[:, 0] += 2.5 * y  # 0.96
    X[:, 2] += 5 * y
    assert [*suspicions_of(X, y)] == [("leak", "x2")]
    assert not suspicions_of(X[:1000], y[:1000])


def test_a_copy_of_the_label_is_one_whatever_else_is_there():
    X, y = noise()
    X[:, 0] += 6 * y
    X[:, 3] = 5 - 2 * y
    assert ("label", "x3") in suspicions_of(X, y)
    X[0, 3] = 5 - 2 * ~y[0]
    assert ("label", "x3") not in suspicions_of(X, y)
    classes = RNG.integers(0, 4, 900)
    assert [*suspicions_of(np.c_[RNG.normal(size=900), classes * 10 + 3], classes)] == [("label", "x1")]


def test_a_value_that_is_there_for_one_class_only(write, load_file):
    y = np.arange(2000) % 5 == 0
    refund = np.where(y & (RNG.random(2000) < 0.3), RNG.gamma(2, 20, 2000), np.nan)
    path = write("d.csv", {"fee": RNG.normal(size=2000), "refund": refund, "y": y.astype(int)})
    data = load_file(path, label={"column": "y"}, missing="impute", split={"validation": 0, "test": 0})
    rate = np.isfinite(refund[y]).mean()
    assert len(data.warnings) == 1
    assert (
        f'"refund" is filled in {rate:.1%} of the rows of class "1" and in 0.0% of those of class "0"'
        in data.warnings[0]
    )
    report = schema_report(open_files(path, "FILE"), "y")
    assert [each["sentence"] for each in report.to_json()["suspicions"]] == [*data.warnings]
    assert f"warning: {data.warnings[0]}" in report_text(report)


def test_a_rare_sign_of_one_class_is_honest():
    X, y = noise()
    X[:, 1] = y & (RNG.random(len(y)) < 0.3)
    assert not suspicions_of(X, y)
    X[:, 1] = y & (RNG.random(len(y)) < 0.7)
    assert [*suspicions_of(X, y)] == [("filled", "x1")]


def test_copies_in_groups():
    X, y = noise(3000, 7)
    X[:, 2], X[:, 4] = X[:, 0], X[:, 0]
    X[:, 5] = 32 - 1.8 * X[:, 3]
    X[:, 6] = X[:, 1] + 1e-3 * X[:, 6]
    for options in ({}, {"dtype": torch.float64, "standardize": False}):
        found = suspicions_of(X, y, **options)
        assert {*found} == {("copy", "x0", "x2", "x4"), ("copy", "x3", "x5")}
        assert "are equal in every row" in found["copy", "x0", "x2", "x4"].sentence
        assert "but for scale, sign or offset" in found["copy", "x3", "x5"].sentence
        assert 'data.drop: ["x2", "x4"]' in found["copy", "x0", "x2", "x4"].sentence


def test_one_far_value_makes_no_copies():
    X, y = noise()
    X[5] = 1e7
    assert not suspicions_of(X, y, dtype=torch.float64, standardize=False)
    sparse = np.zeros((3000, 2))
    sparse[3] = 1.0  # in one row alone both are what they are by chance
    assert not suspicions_of(sparse, y)


def test_numbers_of_rows():
    X, y = noise(3000)
    X[:, 1] = np.arange(3000) + 1e6
    X[:, 2] = RNG.permutation(3000)
    X[:, 3] = RNG.integers(0, 10**9, 3000)  # amounts: each once, and by chance
    found = suspicions_of(X, y)
    assert {*found} == {("row number", "x1"), ("row number", "x2")}
    assert not any(each.tells for each in found.values())
    found = suspicions_of(X, np.arange(3000) >= 2000)
    assert found["row number", "x1"].tells
    assert "AUC of 1.0000" in found["row number", "x1"].sentence
    assert not found["row number", "x2"].tells
    assert len(found) == 2


def test_categories_as_a_whole(write, load_file):
    n = 4000
    y = RNG.random(n) < 0.4
    many = [f"c{i}" for i in RNG.integers(0, 300, n)]
    status = np.where(y, RNG.choice(["left", "gone"], n), RNG.choice(["here", "new", "old"], n))
    again = np.char.add(status, "!")
    columns = {"many": many, "status": status, "again": again, "y": y.astype(int)}
    path = write("d.csv", columns)
    data = load_file(path, label={"column": "y"}, split={"validation": 0, "test": 0})
    report = schema_report(open_files(path, "FILE"), "y")
    for said in (data.warnings, [each.sentence for each in report.suspicions]):
        assert len(said) == 3
        assert all(f'"{name}" alone ranks' in text for name, text in zip(("status", "again"), said, strict=False))
        assert '"status" and "again" divide the rows alike' in said[2]


def test_targets_each_have_their_leaks():
    X, _ = noise(2000)
    Y = (RNG.random((2000, 3)) < 0.3).astype(float)
    Y[:300, 1] = np.nan
    X[:, 2] += 5 * np.nan_to_num(Y[:, 1])
    found = suspicions_of(X, Y, targets=("a", "b", "c"))
    assert [*found] == [("leak", "x2")]
    assert 'class "1" of "b"' in found["leak", "x2"].sentence
    assert not suspicions_of(X, np.zeros((2000, 0)))


@pytest.mark.parametrize(("leaks", "told"), [(20, 20), (50, 0)])
def test_where_many_columns_tell_the_class_none_stands_out(leaks, told):
    X, y = noise(1000, 60)
    X[:, 5 : 5 + leaks] += 8 * y[:, None]
    assert len(suspicions_of(X, y)) == told


def test_a_sample_says_so(monkeypatch):
    monkeypatch.setattr(suspicions, "_CONFIRMED", 1000)
    X, y = noise()
    X[:, 1] += 6 * y
    sentence = suspicions_of(X, y)["leak", "x1"].sentence
    assert "(on 1,000 of the rows)" in sentence


# --- what is not said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_honest_data(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X = X[:, X.std(axis=0) > 0]
    assert not suspicions_of(X, y)
    for k in np.unique(y):
        assert not suspicions_of(X, y == k)
    if name == "iris":
        for k in range(3):
            assert not suspicions_of(X[y != k], y[y != k] == y[y != k].max())


def test_honest_builtin_data():
    for settings in (BreastCancerData(source="breast_cancer"), DigitsData(source="digits")):
        assert load(settings, seed=0, device=torch.device("cpu")).warnings == ()


@pytest.mark.parametrize("shape", [(40, 400), (300, 2000), (3, 2), (1, 1)])
def test_noise(shape):
    y = RNG.random(shape[0]) < 0.3
    assert not suspicions_of(RNG.normal(size=shape), y)
    assert not suspicions_of(RNG.normal(size=shape) < 1, y)


# --- the pieces ---------------------------------------------------------------------------------------------


def test_areas_are_scikit_learns():
    values = np.stack([RNG.normal(size=400), RNG.integers(0, 5, 400), np.ones(400)])
    y = RNG.random((400, 2)) < [0.1, 0.6]
    areas, distinct = roc_areas(values, y.astype(float), (~y).astype(float))
    expected = [[roc_auc_score(of, column) for of in y.T] for column in values]
    np.testing.assert_allclose(areas, expected, rtol=1e-12)
    assert distinct.tolist() == [400, 5, 1]


def test_names_of_single_rows_rank_nothing():
    y = np.arange(1000) < 300
    sides = y[:, None].astype(float), (~y)[:, None].astype(float)
    assert roc_areas_of_categories(RNG.permutation(1000), *sides)[0] == 0.5
    assert roc_areas_of_categories(y.astype(int), *sides)[0] == 1.0


@pytest.mark.parametrize("size", [1000, 70_000])
def test_a_sample_has_the_rare_class_and_no_row_twice(size):
    y = np.full((100_000, 1), 0, np.int16)
    y[::1000] = 1
    y[::7] = -1
    first, all_of_them = samples(y, size, 10**6)
    assert len(all_of_them) == 100_000
    assert len(first) == size == len(np.unique(first))
    assert (np.diff(first) > 0).all()
    assert (y[first] == 1).sum() == (y == 1).sum()
    assert (y[first] >= 0).all()


def test_time_stamps_apart_are_no_copies():
    started = 1.7e9 + np.sort(RNG.random(1000)) * 1e6
    assert is_copy(started, started / 60 - 5, 2.0**-52)
    assert not is_copy(started, started + RNG.random(1000), 2.0**-52)
