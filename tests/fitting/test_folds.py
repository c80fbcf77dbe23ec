"""Which rows folds train on and hold out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashlogit.fitting.folds import Folds, make_folds
from flashlogit_kernels.models import MISSING


def made(folds: object, labels: np.ndarray, **options: object) -> Folds:
    codes = torch.from_numpy(np.where(np.isnan(labels), MISSING, labels).T.astype(np.uint8))
    return make_folds(folds, codes, **({"groups": None, "time": None, "seed": 0} | options))


def test_a_number_of_folds_is_stratified_for_one_target() -> None:
    labels = np.zeros((100, 1))
    labels[:20] = 1
    folds = made(4, labels)
    assert folds.count == 4
    tests = np.stack([folds.test(f) for f in range(4)])
    assert (tests.sum(axis=0) == 1).all()
    assert [int(labels[test].sum()) for test in tests] == [5, 5, 5, 5]
    assert all((folds.train(f) == ~tests[f]).all() for f in range(4))
    assert (made(4, labels).codes == folds.codes).all()
    assert (made(4, labels, seed=1).codes != folds.codes).any()


def test_folds_of_several_targets_are_shuffled() -> None:
    labels = np.full((90, 3), np.nan)
    labels[:40] = 0
    labels[40:, 1] = 1
    folds = made(3, labels)
    assert [int(folds.test(f).sum()) for f in range(3)] == [30, 30, 30]
    assert len(set(folds.codes[0][:30].tolist())) == 3


def test_groups_stay_together() -> None:
    groups = np.repeat([f"p{k}" for k in range(12)], 5)
    folds = made(4, np.zeros((60, 1)), groups=groups)
    for f in range(4):
        assert not set(groups[folds.test(f)]) & set(groups[folds.train(f)])


def test_time_trains_on_what_is_earlier() -> None:
    time = np.random.default_rng(0).integers(0, 40, 300)
    folds = made(4, np.zeros((300, 1)), time=time)
    assert folds.count == 4
    for f in range(4):
        assert time[folds.train(f)].max() < time[folds.test(f)].min()
        assert folds.test(f).sum() > 30
    assert time[folds.test(3)].max() == time.max()


@pytest.mark.parametrize("times", [3, 5, 9])
def test_one_crowded_time_leaves_no_fold_empty(times: int) -> None:
    time = np.concatenate([np.zeros(500), np.arange(1, times)])
    folds = Folds.in_time(time, 2)
    assert folds.count == 2
    assert all(folds.test(f).any() and folds.train(f).any() for f in range(2))


def test_numbers_and_pairs_say_the_same() -> None:
    numbers = np.array([2, 0, 0, 7, -1, 2, 7, 0])
    folds = made(numbers, np.zeros((8, 1)))
    assert folds.count == 3
    assert folds.test(1).tolist() == (numbers == 2).tolist()
    assert folds.train(2).tolist() == (numbers != 7).tolist()
    far = np.where(numbers == 7, 10**9, numbers)
    assert (made(far, np.zeros((8, 1))).codes == folds.codes).all()
    pairs = [(np.flatnonzero(numbers != v), np.flatnonzero(numbers == v)) for v in (0, 2, 7)]
    assert (made(pairs, np.zeros((8, 1))).codes == folds.codes).all()


def test_pairs_may_overlap_and_leave_rows_out() -> None:
    pairs = [([0, 1], [2, 3]), ([2, 4], [0, 3])]
    folds = made(iter(pairs), np.zeros((6, 1)))
    for f, (train, test) in enumerate(pairs):
        assert np.flatnonzero(folds.train(f)).tolist() == train
        assert np.flatnonzero(folds.test(f)).tolist() == sorted(test)


def test_no_folds_train_on_all_rows() -> None:
    folds = made(None, np.zeros((4, 1)))
    assert folds.train(0).all()
    assert not folds.test(0).any()


@pytest.mark.parametrize(
    ("folds", "options"),
    [
        (1, {}),
        (9, {}),
        (np.zeros(8, int), {}),
        (np.arange(7), {}),
        (np.arange(8.0), {}),
        (3, {"groups": np.zeros(8)}),
        (3, {"time": np.zeros(8)}),
        (3, {"groups": np.zeros(7)}),
        (2, {"groups": np.array([0.0, 1, 2, 3, 4, 5, 6, np.nan])}),
        (2, {"time": np.array(["2020", "2021", "NaT", "2023", "2024", "2025", "2026", "2027"], "M8[Y]")}),
        (3, {"groups": np.arange(8), "time": np.arange(8)}),
        (np.arange(8), {"groups": np.arange(8)}),
        ([([0, 1], [1, 2])], {}),
        ([], {}),
        ([([0, 1], [-1])], {}),
        ([([0, 1], [8])], {}),
        ([([True, False], [3])], {}),
        ("5", {}),
        (2.5, {}),
    ],
)
def test_what_makes_no_folds_is_refused(folds: object, options: dict) -> None:
    with pytest.raises(ValueError, match=r"folds|groups|time"):
        made(folds, np.zeros((8, 1)), **options)
