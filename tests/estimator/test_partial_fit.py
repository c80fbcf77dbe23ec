"""Mini-batches: near the optimum, repeatable, and apart from copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from estimator_data import SMALL, WINE

from flashlogit import LogisticRegression


@pytest.mark.parametrize(("data", "l1_ratio"), [(SMALL, 0.0), (WINE, 0.5)])
def test_comes_near_the_optimum(data, l1_ratio):
    X, y = data
    best = LogisticRegression(l1_ratio=l1_ratio).fit(X, y)
    model = LogisticRegression(l1_ratio=l1_ratio, random_state=0, batch_size=32, learning_rate=0.05)
    for _ in range(60):
        model.set_params(learning_rate=model.learning_rate * 0.95).partial_fit(X, y)
    assert not hasattr(model, "gap_")
    assert model.score(X, y) >= best.score(X, y) - 0.02

    def objective(model):
        p = model.predict_log_proba(X)[np.arange(len(y)), y]
        return -p.sum() + l1_ratio * np.abs(model.coef_).sum() + 0.5 * (1 - l1_ratio) * np.square(model.coef_).sum()

    assert objective(model) <= 1.05 * objective(best)


def test_is_repeatable_and_goes_on_after_pickle():
    X, y = WINE
    model, interrupted = (LogisticRegression(random_state=3).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2))
    assert not np.array_equal(LogisticRegression(random_state=4).partial_fit(X, y).coef_, model.coef_)
    for _ in range(2):
        interrupted = pickle.loads(pickle.dumps(interrupted)).partial_fit(X, y, classes=[0, 1, 2])
        model.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(interrupted.coef_, model.coef_)
    assert model.n_iter_.tolist() == [0]


def test_knows_its_classes():
    X, y = WINE
    model = LogisticRegression().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    assert model.coef_.shape == (3, 13)
    with pytest.raises(ValueError, match="label 7"):
        model.partial_fit(X[:2], [0, 7])
    with pytest.raises(ValueError, match="earlier calls had"):
        model.partial_fit(X[:2], [0, 1], classes=[0, 1])
    for classes, message in ((None, "one class"), ([[0, 1]], "classes has the shape"), ([0, np.nan], "no label")):
        with pytest.raises(ValueError, match=message):
            LogisticRegression().partial_fit(X[:50], y[:50], classes=classes)


@pytest.mark.parametrize(("dtype", "constant"), [(np.float32, 1.7e9), (np.float64, 2013.0)])
def test_a_column_that_is_constant_so_far_and_a_row_without_weight(dtype, constant):
    X, y = SMALL
    columns = np.c_[X[:, :2], np.full(len(y), constant)].astype(dtype)
    rows, labels, weight = np.r_[columns, [[1e6, 1e6, constant]]], np.r_[y, 1], np.r_[np.ones(len(y)), 0]
    model = LogisticRegression(random_state=0, batch_size=16)
    for _ in range(10):
        model.partial_fit(rows.astype(dtype), labels, sample_weight=weight)
    assert model.coef_[0, 2] == 0
    assert model.score(columns, y) > 0.85
    columns[:, 2] *= 1.01
    assert model.score(columns, y) > 0.85


@pytest.mark.parametrize("data", [SMALL, WINE])
def test_a_weight_of_0_leaves_the_row_out(data):
    X, y = data
    weight, n = (np.arange(len(y)) % 3 > 0).astype(float), len(y)
    whole = LogisticRegression(batch_size=n).partial_fit(X, y, sample_weight=weight)
    kept = LogisticRegression(batch_size=n).partial_fit(X[weight > 0], y[weight > 0])
    np.testing.assert_allclose(whole.coef_, kept.coef_, rtol=1e-4)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients_around_it(guard):
    X, y = (torch.from_numpy(array) for array in SMALL)
    expected = LogisticRegression(random_state=0).partial_fit(X, y)
    with guard():
        model = LogisticRegression(random_state=0).partial_fit(X.clone(), y.clone())
    assert torch.equal(model.coef_, expected.coef_)


@pytest.mark.parametrize("size", [1, 5])
def test_a_stream_of_few_rows(size):
    """The first rows say little of a column's spread; what later ones say is taken up."""
    generator = np.random.default_rng(0)
    X = 1e5 + 1e4 * generator.normal(size=(200, 2))
    y = (X[:, 0] - 1e5 + 3e3 * generator.logistic(size=len(X)) > 0).astype(int)
    best = LogisticRegression().fit(X, y).score(X, y)
    model = LogisticRegression(random_state=0, learning_rate=0.05 * size)
    for start in range(0, len(X), size):
        model.partial_fit(X[start : start + size], y[start : start + size], classes=[0, 1])
    assert model.score(X, y) > best - 0.03


def test_copies_are_trained_apart():
    X, y = (torch.from_numpy(array) for array in SMALL)
    model = LogisticRegression(random_state=0).partial_fit(X, y)
    twin, deep = copy.copy(model), copy.deepcopy(model)
    assert deep.coef_ is not model.coef_
    twin.partial_fit(X, y)
    for fresh in (LogisticRegression(), copy.copy(model)):
        with pytest.raises(ValueError, match="learning_rate is 1e\\+308"):
            fresh.set_params(learning_rate=1e308).partial_fit(X, y)
    expected = LogisticRegression(random_state=0).partial_fit(X, y).partial_fit(X, y)
    for same in (twin, deep.partial_fit(X, y), model.partial_fit(X, y)):
        assert torch.equal(same.coef_, expected.coef_)
