"""Bootstrap intervals: against resampled rows and against known variances, bounded work, and what has no interval."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score

from flashlogit.metrics.binary import evaluate, sigmoid
from flashlogit.metrics.intervals import bootstrap
from flashlogit.metrics.intervals_multiclass import bootstrap_classes
from flashlogit.metrics.multiclass import evaluate_classes


def rows(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2.0, size=n) + shift
    return z, (rng.random(n) < sigmoid(z)).astype(np.uint8)


def intervals(z, y, weight=None, seed=1, **options):
    return bootstrap(z, y, sample_weight=weight, eps=1e-8, threshold=0.5, seed=seed, **options)


def width(interval):
    return interval[1] - interval[0]


def test_agrees_with_drawing_rows_and_scikit_learn():
    z, y = rows(400)
    rng = np.random.default_rng(5)
    p = sigmoid(z)
    scores = {
        "log_loss": lambda i: log_loss(y[i], p[i]),
        "roc_auc": lambda i: roc_auc_score(y[i], z[i]),
        "average_precision": lambda i: average_precision_score(y[i], z[i]),
        "accuracy": lambda i: ((p >= 0.5) == y)[i].mean(),
        "f1": lambda i: f1_score(y[i], p[i] >= 0.5),
        "brier": lambda i: ((p - y) ** 2)[i].mean(),
    }
    drawn = [rng.integers(400, size=400) for _ in range(500)]
    ours = intervals(z, y)
    for name, score in scores.items():
        low, high = np.quantile([score(i) for i in drawn], [0.025, 0.975])
        tolerance = 0.2 * (high - low)
        assert ours[name] == pytest.approx((low, high), abs=tolerance), name


def test_grouped_rows_have_the_width_of_theory():
    z, y = rows(60_000)
    ours = intervals(z, y)
    p = sigmoid(z)
    for name, values in (("log_loss", np.logaddexp(0, np.where(y == 1, -z, z))), ("brier", (p - y) ** 2)):
        assert width(ours[name]) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(len(z)), rel=0.1)
        assert np.mean(ours[name]) == pytest.approx(values.mean(), abs=0.1 * width(ours[name]))
    assert np.mean(ours["roc_auc"]) == pytest.approx(roc_auc_score(y, z), abs=0.1 * width(ours["roc_auc"]))


def test_grouped_weighted_rows_vary_as_much_as_their_weights_do():
    z, y = rows(60_000)
    weight = np.random.default_rng(3).exponential(size=len(z))
    loss = np.logaddexp(0, np.where(y == 1, -z, z))
    share = weight / weight.sum()
    deviation = np.sqrt(np.sum((share * (loss - share @ loss)) ** 2))
    ours = intervals(z, y, weight)
    assert width(ours["log_loss"]) == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert width(ours["log_loss"]) > 1.2 * width(intervals(z, y)["log_loss"])


def test_a_scale_of_the_weights_and_rows_of_weight_0_change_nothing():
    z, y = rows(300)
    weight = np.random.default_rng(3).random(300)
    first = intervals(z, y, weight)
    padded = intervals(np.append(z, 50.0), np.append(y, 0).astype(np.uint8), np.append(1e-20 * weight, 0.0))
    assert padded.keys() == first.keys()
    for name in first:
        assert padded[name] == pytest.approx(first[name], rel=1e-9)


def test_the_seed_decides():
    z, y = rows(200)
    assert intervals(z, y, seed=4) == intervals(z, y, seed=4) != intervals(z, y, seed=5)


def resampled(z, y, weight, replicates, seed=9):
    """Average precision, ROC area, recall and specificity at 0.5 of rows each counted Poisson(1) times."""
    rng = np.random.default_rng(seed)
    order = np.argsort(-z)
    y, s, called = y[order].astype(np.float64), weight[order], z[order] >= 0
    drawn = []
    for _ in range(replicates):
        w = s * rng.poisson(1, len(y))
        true, false = np.cumsum(w * y), np.cumsum(w * (1 - y))
        drawn.append(
            (
                (w * y * true / np.maximum(true + false, 1e-300)).sum() / true[-1],
                (w * (1 - y) * true).sum() / (true[-1] * false[-1]),
                (w * y)[called].sum() / true[-1],
                1 - (w * (1 - y))[called].sum() / false[-1],
            )
        )
    names = ("average_precision", "roc_auc", "recall", "specificity")
    return dict(zip(names, np.quantile(drawn, [0.025, 0.975], axis=0).T, strict=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "positives", "apart"), [(200_000, 30, 4.5), (100_000, 3000, 2.5)])
def test_a_rare_class_in_many_rows_agrees_with_drawing_rows(n, positives, apart, weighted):
    rng = np.random.default_rng(0)
    y = np.zeros(n, np.uint8)
    y[:positives] = 1
    z = rng.normal(size=n) + apart * y - apart + 0.7
    weight = rng.lognormal(size=n) if weighted else np.ones(n)
    ours = intervals(z, y, weight if weighted else None)
    for name, (low, high) in resampled(z, y, weight, 120).items():
        assert ours[name] == pytest.approx((low, high), abs=0.25 * (high - low)), name


def test_groups_end_at_the_threshold():
    """One group of all positives was called positive to 17/18, and so was each replicate of it."""
    y = np.zeros(100_000, np.uint8)
    y[:18] = 1
    z = np.append(np.linspace(-0.05, 1, 18), np.random.default_rng(0).normal(size=99_982) - 9)
    low, high = intervals(z, y)["recall"]
    rate = 17 / 18
    assert high == 1
    assert low == pytest.approx(rate - 1.96 * np.sqrt(rate * (1 - rate) / 18), abs=0.03)


@pytest.mark.parametrize("seed", range(18))
def test_every_interval_is_around_its_metric(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice([5, 40, 4500, 20_000]))
    y = (rng.random(n) < rng.choice([0.001, 0.03, 0.5, 0.97])).astype(np.uint8)
    y[:2] = 0, 1
    z = rng.normal(size=n) * rng.choice([0.1, 3]) + rng.choice([0, 2, 9]) * y - rng.choice([0, 4])
    if seed % 3 == 0:
        z = z.round(1)
    weight = None if seed % 2 else rng.lognormal(sigma=2, size=n)
    metrics = evaluate(z, y, sample_weight=weight, eps=1e-8, threshold=0.5, bins=10)
    ours = intervals(z, y, weight, replicates=100)
    for name in ("log_loss", "brier", "accuracy", "roc_auc", "average_precision"):
        if name in ours:
            low, high = ours[name]
            assert low - 1e-12 <= getattr(metrics, name) <= high + 1e-12, name
    assert all(low >= 0 and high <= 1 for name, (low, high) in ours.items() if "loss" not in name)


@pytest.mark.parametrize("sure", [4.0, 12.0])
@pytest.mark.parametrize("n", [4000, 30_000])
def test_every_interval_of_classes_is_around_its_metric(n, sure):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3))
    z[np.arange(n), y] += sure / 2
    metrics, ours = class_intervals(z, y)
    for name, (low, high) in ours.items():
        assert low <= getattr(metrics, name) <= high, name
        assert name == "log_loss" or (low >= 0 and high <= (2 if name == "brier" else 1))


def test_a_million_rows_take_seconds():
    z, y = rows(1_000_000)
    start = time.perf_counter()
    intervals(z, y)
    assert time.perf_counter() - start < 10


def test_no_interval_where_no_replicate_differs_or_none_is_defined():
    z = np.array([-3.0, -2.0, 2.0, 3.0])
    perfect = intervals(z, np.array([0, 0, 1, 1], np.uint8))
    assert not {"roc_auc", "average_precision", "f1"} & perfect.keys()
    assert {"log_loss", "brier"} <= perfect.keys()
    one_class = intervals(z, np.zeros(4, np.uint8))
    assert not {"roc_auc", "average_precision", "recall"} & one_class.keys()
    assert "accuracy" in one_class


@pytest.mark.parametrize("scale", [None, 1.0, 1e-9])
def test_rates_of_0_and_1_have_wilsons_interval(scale):
    z = np.array([-3.0] * 30 + [3.0] * 20)
    weight = None if scale is None else np.full(50, scale)
    right = intervals(z, (z > 0).astype(np.uint8), weight)
    for name, n in (("accuracy", 50), ("precision", 20), ("recall", 20), ("specificity", 30)):
        expected = binomtest(n, n).proportion_ci(method="wilson")
        assert right[name] == pytest.approx((expected.low, 1.0))
    wrong = intervals(z, (z < 0).astype(np.uint8), weight)
    expected = binomtest(0, 20).proportion_ci(method="wilson")
    assert wrong["precision"] == pytest.approx((0.0, expected.high))
    nobody_called = intervals(-np.abs(z), (z > 0).astype(np.uint8), weight)
    assert "precision" not in nobody_called


def class_rows(n, K=4, seed=0):
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, K))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def class_intervals(z, y, weight=None):
    metrics = evaluate_classes(z, y, sample_weight=weight)
    return metrics, bootstrap_classes(z, y, sample_weight=weight, metrics=metrics, seed=0)


def test_classes_agree_with_drawing_rows():
    z, y = class_rows(500)
    _, ours = class_intervals(z, y)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(200):
        i = rng.integers(500, size=500)
        drawn.append(evaluate_classes(z[i], y[i], sample_weight=None))
    assert set(ours) == {
        "log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc",
    }  # fmt: skip
    for name, interval in ours.items():
        low, high = np.quantile([getattr(one, name) for one in drawn], [0.025, 0.975])
        assert interval == pytest.approx((low, high), abs=0.25 * (high - low)), name


def test_sampled_classes_have_the_width_of_all_rows():
    z, y = class_rows(80_000)
    metrics, ours = class_intervals(z, y)
    accuracy = metrics.accuracy
    assert width(ours["accuracy"]) == pytest.approx(
        2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(y)), rel=0.2
    )
    for name, (low, high) in ours.items():
        assert low < getattr(metrics, name) < high


def test_classes_that_do_not_occur_leave_out_the_ranking():
    z, y = class_rows(100)
    y[y == 3] = 0
    _, ours = class_intervals(z, y)
    assert "macro_roc_auc" not in ours
    assert "macro_f1" in ours
