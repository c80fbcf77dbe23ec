"""Permutation tests: against a loop of single fits, under the null, and of an effect that is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.datasets import load_breast_cancer

from flashlogit import UserError, fit, permutation_test
from flashlogit.fitting import groups, permutations


def table(N: int = 80, seed: int = 0, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(N, 3))
    return X, (generator.random(N) < 1 / (1 + np.exp(-effect * X[:, 1]))).astype(np.float64)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("l2", "strata", "weighted"), [(0.0, 1, False), (0.05, 1, True), (0.05, 4, False)])
def test_it_is_a_loop_of_fits(
    l2: float, strata: int, weighted: bool, intercept: bool, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size == "large":
        for module in (groups, permutations):
            monkeypatch.setattr(module, "most_rows", lambda X, backend: 0)
    X, y = table(effect=1.0)
    of_rows, s = np.arange(80) % strata, np.linspace(0.5, 3, 80)
    counts = np.ones(80, dtype=bool)
    if weighted:
        counts[::9] = False
        s[~counts] = 0.0
        X[~counts] = np.nan
    how: dict[str, Any] = {
        "l2": l2,
        "intercept": intercept,
        "tolerance": 1e-13,
        "sample_weight": s if weighted else None,
    }
    B = 6
    found = permutation_test(X, y, permutations=B, groups=of_rows if strata > 1 else None, seed=3, **how)
    assert set(found.ending) == {"tolerance"}
    generator = np.random.default_rng(3)
    dealt = np.tile(y[counts], (B, 1))
    for value in range(strata):
        here = of_rows[counts] == value
        dealt[:, here] = generator.permuted(dealt[:, here], axis=1)
        assert (dealt[:, here].sum(axis=1) == y[counts][here].sum()).all()
    assert (dealt != y[counts]).any(axis=1).all()
    X, s, y = X[counts], s[counts] if weighted else np.ones(80), y[counts]
    statistics, weights = [], []
    for labels in (y, *dealt):
        alone = fit(torch.from_numpy(X), torch.from_numpy(labels), **how | {"sample_weight": torch.from_numpy(s)})
        p = 1 / (1 + np.exp(-(X @ alone.weight.numpy() + float(alone.bias))))
        mean = np.average(labels, weights=s) if intercept else 0.5
        gains = np.log(np.where(labels == 1, p / mean, (1 - p) / (1 - mean)))
        statistics.append((s * gains).sum())
        weights.append(alone.weight.numpy())
    np.testing.assert_allclose(found.statistic, statistics[0], atol=1e-8)
    np.testing.assert_allclose(found.null_statistic, statistics[1:], atol=1e-8)
    np.testing.assert_allclose(found.weight, weights[1:], atol=1e-8)
    assert found.p_value == (1 + sum(each >= statistics[0] for each in statistics[1:])) / (1 + B)
    larger = (np.abs(weights[1:]) >= np.abs(weights[0])).sum(axis=0)
    np.testing.assert_array_equal(found.coefficient_p_value, (1 + larger) / (1 + B))


def test_p_values_are_uniform_where_there_is_no_effect() -> None:
    found = [permutation_test(*table(50, seed), permutations=99, l2=0.01, seed=seed) for seed in range(120)]
    for p in ([each.p_value for each in found], *np.transpose([each.coefficient_p_value for each in found])):
        assert kstest(np.array(p) - 0.005, "uniform").pvalue > 0.02


def test_an_effect_is_found_and_strata_explain_one_away() -> None:
    X, y = table(200, effect=1.5)
    found = permutation_test(X, y, permutations=199)
    assert found.p_value == found.coefficient_p_value[1] == 1 / 200
    assert found.coefficient_p_value[[0, 2]].min() > 0.05
    # All that X says of y here is which clinic a row comes from.
    clinic = np.arange(200) % 2
    y = (np.random.default_rng(1).random(200) < 0.2 + 0.6 * clinic).astype(float)
    X[:, 0] += 2 * clinic
    assert permutation_test(X, y, permutations=199).p_value == 1 / 200
    assert permutation_test(X, y, permutations=199, groups=clinic).p_value > 0.1


def test_equal_labels_count_as_ties() -> None:
    X, y = np.arange(6.0)[:, None], np.array([0.0, 0, 1, 0, 0, 1])
    found = permutation_test(X, y, permutations=600, l2=0.1, tolerance=1e-12)
    # The fit depends on the sum of the places of the two ones, which is 7, and its mirror image is 3.
    sums = np.array([a + b for a in range(6) for b in range(a)])
    share = (np.abs(sums - 5) >= 2).mean()
    assert found.p_value == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 600))
    within = (found.null_statistic > found.statistic * (1 - 1e-6)).sum()
    assert found.p_value == (1 + within) / 601


def test_permutations_without_an_optimum_count_as_larger() -> None:
    generator = np.random.default_rng(4)
    X = generator.normal(size=(14, 3))
    y = np.array([0.0, 1] * 7)
    found = permutation_test(X, y, permutations=200)
    lost = found.ending != "tolerance"
    assert 0 < lost.sum() < 200
    assert np.isnan(found.null_statistic[lost]).all()
    assert found.weight[torch.from_numpy(lost)].isnan().all()
    assert found.p_value >= (1 + lost.sum()) / 201


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"permutations": 0}, "permutations is 0"),
        ({"permutations": 1.5}, "permutations is 1.5"),
        ({"permutations": "5"}, "permutations is '5'"),
        ({"seed": -1}, "seed is -1"),
        ({"groups": [None] * 80}, r"groups\[0\] is missing"),
        ({"y": np.full(80, "a")}, "must hold numbers"),
        ({"groups": np.zeros(3)}, "groups has the shape"),
        ({"groups": np.arange(80)}, "one label in each of the groups"),
        ({"y": np.full(80, 0.5)}, "y holds a label that is neither"),
        ({"y": np.zeros(80)}, "one label in each"),
        ({"X": np.full((80, 3), np.inf)}, "row 0, column 0"),
        ({"sample_weight": np.zeros(80)}, "one label in each"),
        ({"l2": -1.0}, "l2 is -1"),
        ({"sample_weight": -np.ones(80)}, "weight"),
    ],
)
def test_bad_permutation_tests(changed: dict[str, Any], message: str) -> None:
    X, y = table()
    with pytest.raises((ValueError, TypeError), match=message):
        permutation_test(**{"X": X, "y": y, "l2": 0.1} | changed)


def test_separated_labels_have_nothing_to_compare() -> None:
    X, _ = table()
    with pytest.raises(UserError, match="separate"):
        permutation_test(X, (X[:, 0] > 0).astype(float))


def test_seeds_and_threads() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    one, same, other = (permutation_test(X, y, permutations=20, l2=0.1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.p_value == 1 / 21
