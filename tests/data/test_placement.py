"""Which rows are for what, drawn class by class; and row blocks into tensors, standardised by the training rows."""

import statistics

import numpy as np
import pytest
import torch
from refused import CPU, NONE, refused
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flashlogit.data.columns.encoding import Standardization
from flashlogit.data.dataset import DROPPED, TEST, TRAIN, VALIDATION, stratified
from flashlogit.data.files.matrices import MatrixTable
from flashlogit.data.placement import measure, place


def divide(y, validation, test, kept=True):
    y = np.asarray(y, dtype=np.uint8)
    return stratified(y, kept & np.ones(len(y), bool), {VALIDATION: validation, TEST: test}, ("no", "yes"), seed=0)


def test_rows_without_label_are_in_no_split():
    y, kept = np.arange(100) % 2, np.arange(100) % 5 > 0
    splits = divide(y, 0.25, 0.25, kept)
    assert np.array_equal(splits == DROPPED, ~kept)
    assert np.bincount(splits).tolist() == [40, 20, 20, 20]


@pytest.mark.parametrize(("K", "shares", "seed"), [(2, (0.45, 0.45), 5), (7, (0.2, 0.1), 5), (2, (0, 0.3), 6)])
def test_splits_are_those_of_scikit_learn(K, shares, seed):
    """Which have a share of each class, though the first is much the most frequent."""
    y = (K * np.random.default_rng(K).random(1003) ** 4).astype(np.uint8)
    fractions, rest = dict(zip((VALIDATION, TEST), shares, strict=True)), np.arange(1003)
    splits = stratified(y, np.ones(1003, bool), fractions, tuple(map(str, range(K))), seed)
    for split, share in fractions.items():
        if share:
            size = round(1003 * share)
            rest, taken = train_test_split(rest, test_size=size, stratify=y[rest], random_state=seed)
            assert np.array_equal(np.flatnonzero(splits == split), np.sort(taken))
    assert np.array_equal(np.flatnonzero(splits == TRAIN), np.sort(rest))


REFUSED_SPLITS = [
    ([0, 1] * 10, 0.01, 0, "data.split.validation", ["is 0.01", "0 of 20 rows", "raise it to 0.1 or more"]),
    ([0, 1], 0.15, 0, "data.split.validation", ["0 of 2 rows", "give more rows, or set it to 0"]),
    ([0, 1] * 10, 0.5, 0.49, "data.split", ["leaves 0 of 20 rows for training"]),
    ([0, 1] * 10, 0.5, 0.45, "data.split", ["leaves 1 of 20 rows for training"]),
    ([0] * 98 + [1] * 2, 0.2, 0.2, "data.split", ['class "yes" has 2 rows, too few for every split']),
    ([1] * 97 + [0] * 3, 0.1, 0, "data.split", ['class "no" has 3 rows, too few']),
    ([0] * 997 + [1] * 3, 0.6, 0.1, "data.split", ['class "yes" has 3 rows, too few']),
]


@pytest.mark.parametrize(("y", "validation", "test", "setting", "words"), REFUSED_SPLITS)
def test_splits_that_are_refused(y, validation, test, setting, words):
    with refused(*words, setting=setting):
        divide(y, validation, test)


def table_of(X):
    names = [f"x{j}" for j in range(X.shape[1])]
    return MatrixTable("d.npy", X, names, {}), names


def measured(X, splits=None):
    return measure(*table_of(X), np.full(len(X), TRAIN, dtype=np.uint8) if splits is None else splits)


def placed(X, splits, dtype, standardization=None):
    return place(*table_of(X), splits, standardization or Standardization.identity(X.shape[1]), dtype, CPU)


SCALES = [(1.7e9, 0.1, None), (-1e9, 1e-5, None), (1e15, 10, None), (1e-9, 1e-3, None), (0, 1, 1e6)]


@pytest.mark.parametrize(("mean", "sd", "first"), SCALES)
def test_huge_means_tiny_deviations_and_a_first_row_far_from_the_others(mean, sd, first):
    X = np.random.default_rng(0).normal(mean, sd, size=(2000, 1))
    X[0] = first or X[0]
    wide = np.tile(X, (1, 600))  # so that there are several blocks
    standardization, constant = measured(wide)
    values = X[:, 0].tolist()
    true_mean, true_sd = statistics.mean(values), statistics.pstdev(values)  # in rational arithmetic, rounded once
    assert constant == ()
    np.testing.assert_allclose(standardization.mean, true_mean, rtol=1e-12 if first else 1e-15, atol=1e-12 * sd)
    np.testing.assert_allclose(standardization.scale, true_sd, rtol=1e-12 if first else 1e-9)
    assert abs(((wide - standardization.mean) / standardization.scale).std() - 1) < 1e-9


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, 1e300])
def test_constant_columns_have_scale_1(value):
    X = np.column_stack([np.full(300, value), np.arange(300.0)])
    standardization, constant = measured(X)
    assert constant == ("x0",)
    assert (standardization.mean[0], standardization.scale[0]) == (value, 1)
    assert (X[:, 0] == standardization.mean[0]).all()


def test_only_training_rows_count():
    X = np.random.default_rng(0).normal(size=(3000, 300))
    splits = np.random.default_rng(1).choice([TRAIN, TEST, DROPPED], size=3000).astype(np.uint8)
    X[splits == TEST] *= 1e6
    X[splits == DROPPED] = np.nan
    found, training = measured(X, splits)[0], X[splits == TRAIN]
    np.testing.assert_allclose(found.mean, training.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(found.scale, training.std(axis=0), rtol=1e-13)


def test_mean_and_scale_are_those_of_scikit_learn():
    X = np.random.default_rng(0).normal(3, [1e-3, 1, 1e9], size=(400_000, 3))  # so that there are several blocks
    found, peer = measured(X)[0], StandardScaler()
    for block in table_of(X)[0].blocks(["x0", "x1", "x2"]):
        peer.partial_fit(block[1] - X[0])
    assert np.array_equal([found.mean, found.scale], [X[0] + peer.mean_, peer.scale_])


def test_values_too_far_apart():
    for large in (1e308, 1e200):
        with refused('column "x1" are too far apart', "data.drop", setting="d.npy"):
            measured(np.array([[0.0, large], [1.0, -large], [0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rows_go_to_their_split_in_order(dtype):
    generator = np.random.default_rng(0)
    X = generator.normal(5, 2, size=(5000, 300))  # wide, so that there are several blocks
    splits = generator.choice(np.array([TRAIN, VALIDATION, TEST, DROPPED], np.uint8), 5000)
    splits[1000:3000], splits[3000:4800] = TRAIN, DROPPED  # whole blocks of one split, or of none
    X[splits == DROPPED] = np.nan
    mean, scale = generator.normal(size=300), generator.uniform(1, 2, 300)
    tensors = placed(X, splits, dtype, Standardization(mean, scale))
    assert set(tensors) == {TRAIN, VALIDATION, TEST}
    for split, rows in tensors.items():
        expected = torch.from_numpy((X[splits == split] - mean) / scale).to(dtype)
        assert torch.equal(rows, expected)


GREATEST = [
    (torch.float16, 65519.0, 65521.0, ["6.55e+04", "dtype float16", "set data.dtype to bfloat16 or float32"]),
    (torch.bfloat16, 3.396e38, 3.3962e38, ["dtype bfloat16", "set data.dtype to float64"]),
    (torch.float32, 3.40282350e38, 3.4028236e38, ["dtype float32", "set data.dtype to float64"]),
]


@pytest.mark.parametrize(("dtype", "kept", "beyond", "words"), GREATEST)
def test_what_is_rounded_to_the_greatest_number_fits(dtype, kept, beyond, words):
    X, splits = np.array([[1.0, 2.0], [-kept, kept]]), np.zeros(2, np.uint8)
    assert placed(X, splits, dtype)[TRAIN].abs().max() == torch.finfo(dtype).max
    for sign in (-1, 1):
        X[0, 1] = sign * beyond
        with refused('row 1 (the first is 1) of column "x1"', "rescale the column", *words, setting="d.npy"):
            placed(X, splits, dtype)


def test_a_row_that_is_infinite_once_standardised():
    X, splits = np.array([[1.0], [1.0], [1e300]]), np.array([DROPPED, TRAIN, TEST], np.uint8)
    with refused("row 3 "):
        placed(X, splits, torch.float64, Standardization(np.zeros(1), np.full(1, 1e-10)))


def test_constant_columns_are_noted(write, load_file):
    path = write("d.csv", "a,b,c,y\n1,2,5,0\n1,3,5,1\n")
    data = load_file(path, split=NONE)
    (note,) = data.notes
    assert note.startswith(f'In {path}, columns "a" and "c" are constant over the training rows')
    assert data.train.X.tolist() == [[0, -1, 0], [0, 1, 0]]
    data = load_file(path, split=NONE, standardize=False)
    assert data.notes == ()
    assert data.train.X.tolist() == [[1, 2, 5], [1, 3, 5]]
