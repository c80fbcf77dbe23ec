"""Rows are divided class by class, from one seed."""

from __future__ import annotations

import numpy as np
import pytest
from refused import refused
from sklearn.model_selection import train_test_split

from flashlogit.data.splits import DROPPED, TEST, TRAIN, VALIDATION, stratified


def divide(y, validation, test, seed=0, kept=None):
    y = np.asarray(y, dtype=np.uint8)
    kept = np.ones(len(y), dtype=bool) if kept is None else kept
    return stratified(y, kept, {VALIDATION: validation, TEST: test}, ("no", "yes"), seed)


@pytest.mark.parametrize(("positives", "fractions"), [(30, (0.45, 0.45)), (500, (0.15, 0.15)), (970, (0.0, 0.3))])
def test_every_split_has_its_share_of_both_classes(fractions, positives):
    y = np.random.default_rng(0).permutation(np.arange(1000) < positives)
    splits = divide(y, *fractions)
    shares = {VALIDATION: fractions[0], TEST: fractions[1], TRAIN: 1 - sum(fractions)}
    for split, share in shares.items():
        assert np.sum(splits == split) == round(1000 * share)
        assert abs(np.sum(y[splits == split]) - positives * share) <= 1


def test_same_seed_same_split():
    y = np.arange(500) % 2
    assert np.array_equal(divide(y, 0.2, 0.2, seed=3), divide(y, 0.2, 0.2, seed=3))
    assert not np.array_equal(divide(y, 0.2, 0.2, seed=3), divide(y, 0.2, 0.2, seed=4))


def test_rows_without_label_are_in_no_split():
    y, kept = np.arange(100) % 2, np.arange(100) % 5 > 0
    splits = divide(y, 0.25, 0.25, kept=kept)
    assert np.array_equal(splits == DROPPED, ~kept)
    assert np.bincount(splits).tolist() == [40, 20, 20, 20]


@pytest.mark.parametrize("K", [2, 7])
def test_splits_are_those_of_scikit_learn(K):
    y = np.random.default_rng(K).integers(0, K, 1003).astype(np.uint8)
    names = tuple(map(str, range(K)))
    splits = stratified(y, np.ones(1003, bool), {VALIDATION: 0.2, TEST: 0.1}, names, seed=5)
    rest, validation = train_test_split(np.arange(1003), test_size=201, stratify=y, random_state=5)
    _, test = train_test_split(rest, test_size=100, stratify=y[rest], random_state=5)
    assert np.array_equal(np.flatnonzero(splits == VALIDATION), np.sort(validation))
    assert np.array_equal(np.flatnonzero(splits == TEST), np.sort(test))


@pytest.mark.parametrize(
    ("y", "validation", "test", "setting", "words"),
    [
        ([0, 1] * 10, 0.01, 0, "data.split.validation", ["is 0.01", "0 of 20 rows", "raise it to 0.1 or more"]),
        ([0, 1], 0.15, 0, "data.split.validation", ["0 of 2 rows", "give more rows, or set it to 0"]),
        ([0, 1] * 10, 0.5, 0.49, "data.split", ["leaves 0 of 20 rows for training"]),
        ([0] * 98 + [1] * 2, 0.2, 0.2, "data.split", ['class "yes" has 2 rows, too few for every split']),
        ([1] * 97 + [0] * 3, 0.1, 0, "data.split", ['class "no" has 3 rows, too few']),
        ([0] * 997 + [1] * 3, 0.6, 0.1, "data.split", ['class "yes" has 3 rows, too few']),
    ],
)
def test_refused(y, validation, test, setting, words):
    with refused(*words, setting=setting):
        divide(y, validation, test)
