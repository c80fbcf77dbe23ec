"""Bootstrap intervals: against resampled rows and against known variances, bounded work, and what has no interval."""

from unittest.mock import Mock

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.intervals import CELLS, bootstrap
from flashlogit.metrics.scores import SplitScores

MEANS = ("log_loss", "clamped_log_loss", "brier")
RATES = ("accuracy", "precision", "recall", "specificity", "f1")
AREAS = ("roc_auc", "average_precision")
RARE = (*AREAS, "recall", "specificity")
OF_CLASSES = ("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc")


def rows(n, *, weighted=False, K=2, sure=0.0, positives=None, apart=0.0):
    """Logits, labels and perhaps weights of n rows; with `sure` more for the right one of K > 2 classes, or with so few
    positive rows whose logits are `apart`."""
    rng = np.random.default_rng(0)
    weight = np.random.default_rng(3).lognormal(size=n) if weighted else None
    z = rng.normal(size=n if K == 2 else (n, K))
    if positives is not None:
        y = (np.arange(n) < positives).astype(np.uint8)
        return z + apart * y - apart + 0.7, y, weight
    if K == 2:
        return 2 * z, (rng.random(n) < expit(2 * z)).astype(np.uint8), weight
    y = (1.5 * z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return 1.5 * z + sure * (y[:, None] == np.arange(K)), y, weight


def metrics_of(z, y, weight):
    return evaluate(SplitScores(z, y, weight), eps=0.1, threshold=0.5, bins=10)


def intervals(z, y, weight=None, seed=1, **options):
    return bootstrap(SplitScores(z, y, weight), eps=0.1, threshold=0.5, seed=seed, **options)


@pytest.mark.parametrize(
    ("given", "names", "replicates"),
    [
        (rows(400), MEANS + RATES + AREAS, 400),
        (rows(400, weighted=True), MEANS + RATES + AREAS, 400),
        (rows(500, K=4), OF_CLASSES, 120),
        (rows(3000, K=4, weighted=True), OF_CLASSES, 80),
        (rows(3000, K=4, sure=3.0), OF_CLASSES, 80),
        (rows(30_000, positives=30, apart=4.0, weighted=True), RARE, 100),
        (rows(20_000, positives=2000, apart=2.5), RARE, 100),
    ],
)
def test_agrees_with_counting_each_row_poisson_1_times(given, names, replicates):
    z, y, weight = given
    ours, metrics, rng = intervals(*given), metrics_of(*given), np.random.default_rng(9)
    s = np.ones(len(y)) if weight is None else weight
    drawn = [metrics_of(z, y, s * rng.poisson(1, len(y))) for _ in range(replicates)]
    assert set(names) == set(ours) or len(y) >= 20_000
    for name in names:
        low, high = np.quantile([getattr(one, name) for one in drawn], [0.025, 0.975])
        assert ours[name] == pytest.approx((low, high), abs=0.25 * (high - low)), name
        assert ours[name][0] <= getattr(metrics, name) <= ours[name][1]


@pytest.mark.parametrize("weighted", [False, True])
def test_grouped_rows_vary_as_theory_says(weighted):
    z, y, weight = rows(60_000, weighted=weighted)
    ours, metrics = intervals(z, y, weight), metrics_of(z, y, weight)
    share = np.full(len(z), 1 / len(z)) if weight is None else weight / weight.sum()
    margin, p = np.where(y == 1, -z, z), expit(z)
    for name, values in (("log_loss", np.logaddexp(0, margin)), ("brier", (p - y) ** 2), ("accuracy", (p >= 0.5) == y)):
        deviation = np.sqrt(np.sum((share * (values - share @ values)) ** 2))
        assert np.ptp(ours[name]) == pytest.approx(2 * 1.96 * deviation, rel=0.1), name
    for name in MEANS + AREAS:
        assert np.mean(ours[name]) == pytest.approx(getattr(metrics, name), abs=0.1 * np.ptp(ours[name])), name


def test_the_seed_decides_and_a_scale_of_the_weights_and_rows_of_weight_0_change_nothing():
    z, y, weight = rows(300, weighted=True)
    first = intervals(z, y, weight)
    padded = intervals(np.append(z, 50.0), np.append(y, 0).astype(np.uint8), np.append(1e-20 * weight, 0.0))
    assert padded.keys() == first.keys()
    np.testing.assert_allclose(list(padded.values()), list(first.values()), rtol=1e-9)
    assert first == intervals(z, y, weight) != intervals(z, y, weight, seed=5)


@pytest.mark.parametrize("seed", range(8))
def test_every_interval_is_around_its_metric(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice([5, 40, 4500, 20_000]))
    y = (rng.random(n) < rng.choice([0.001, 0.03, 0.5, 0.97])).astype(np.uint8)
    y[:2] = 0, 1
    z = rng.normal(size=n) * rng.choice([0.1, 3]) + rng.choice([0, 2, 9]) * y - rng.choice([0, 4])
    z = z.round(1) if seed % 3 == 0 else z
    weight = None if seed % 2 else rng.lognormal(sigma=2, size=n)
    metrics = metrics_of(z, y, weight)
    for name, (low, high) in intervals(z, y, weight, replicates=100).items():
        assert low - 1e-12 <= getattr(metrics, name) <= high + 1e-12, name
        assert name in MEANS or 0 <= low <= high <= 1


def test_many_rows_are_drawn_in_few_cells(monkeypatch):
    n, rng = 300_000, Mock(wraps=np.random.default_rng(0))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: rng)
    intervals(np.linspace(-4, 4, n), (np.arange(n) % 3 == 0).astype(np.uint8), replicates=2)
    sizes = [call.args[0].size for call in rng.poisson.call_args_list]
    assert len(sizes) == 1
    assert sizes[0] <= 4 * CELLS


def test_metrics_and_intervals_take_one_sort_of_the_scores(monkeypatch):
    sort = Mock(wraps=np.argsort)
    monkeypatch.setattr(np, "argsort", sort)
    split = SplitScores(*rows(5000, weighted=True))
    evaluate(split, eps=0.1, threshold=0.5, bins=10)
    bootstrap(split, eps=0.1, threshold=0.5, seed=1, replicates=2)
    assert sort.call_count == 1


def test_no_interval_where_no_replicate_differs_or_none_is_defined():
    z = np.array([-3.0, -2.0, 2.0, 3.0])
    perfect = intervals(z, np.array([0, 0, 1, 1], np.uint8))
    assert not {"roc_auc", "average_precision", "f1"} & perfect.keys()
    assert {"log_loss", "brier"} <= perfect.keys()
    one_class = intervals(z, np.zeros(4, np.uint8))
    assert not {"roc_auc", "average_precision", "recall"} & one_class.keys()
    assert "accuracy" in one_class
    z, y, _ = rows(100, K=4)
    assert set(OF_CLASSES) - set(intervals(z, y % 3)) == {"macro_roc_auc"}


@pytest.mark.parametrize("scale", [None, 1e-9])
def test_rates_of_0_and_1_have_wilsons_interval(scale):
    z = np.array([-3.0] * 30 + [3.0] * 20)
    weight = None if scale is None else np.full(50, scale)
    right = intervals(z, (z > 0).astype(np.uint8), weight)
    for name, n in (("accuracy", 50), ("precision", 20), ("recall", 20), ("specificity", 30)):
        assert right[name] == pytest.approx((binomtest(n, n).proportion_ci(method="wilson").low, 1.0))
    wrong = intervals(z, (z < 0).astype(np.uint8), weight)
    assert wrong["precision"] == pytest.approx((0.0, binomtest(0, 20).proportion_ci(method="wilson").high))
    assert "precision" not in intervals(-np.abs(z), (z > 0).astype(np.uint8), weight)
