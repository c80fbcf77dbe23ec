"""Calibration in groups of equal weight and as one regression, and what the null model reaches: against scikit-learn,
SciPy and the estimator, and by simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from flashlogit import LogisticRegression
from flashlogit.metrics.calibration import calibration_groups, recalibrate
from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.intervals import wilson
from flashlogit.metrics.null_model import class_shares, compare_with_null
from flashlogit.metrics.scores import SplitScores


def drawn(n=600, seed=0, *, slope=1.0, intercept=0.0):
    """Logits and labels whose probability is that of intercept + slope * logit."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.5, 2.0, size=n)
    return SplitScores(z, (rng.random(n) < expit(intercept + slope * z)).astype(np.uint8))


def test_wilsons_interval_is_scipys():
    for k, n in ((0, 12), (1, 3), (7, 40), (12, 12)):
        found = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        low, high = wilson(np.array(k / n), np.array(float(n)))
        assert (float(low), float(high)) == pytest.approx((found.low, found.high))


def test_groups_hold_equal_rows_and_their_own_means():
    split, groups = drawn(600), calibration_groups(drawn(600), 10)
    assert groups.rows.tolist() == [60] * 10
    order = np.argsort(split.logits).reshape(10, 60)
    p, y = expit(split.logits[order]), split.y[order]
    np.testing.assert_allclose(groups.mean_probability, p.mean(axis=1))
    np.testing.assert_allclose(groups.observed_rate, y.mean(axis=1))
    np.testing.assert_allclose([groups.least, groups.most], [p[:, 0], p[:, -1]])
    ends = [stats.binomtest(int(k), 60).proportion_ci(0.95, method="wilson") for k in y.sum(axis=1)]
    np.testing.assert_allclose([groups.low, groups.high], np.transpose(ends), atol=1e-12)
    assert len(calibration_groups(drawn(57), 10).rows) == 5, "at least ten rows each"
    assert len(calibration_groups(drawn(3), 10).rows) == 1


def test_groups_of_weights_and_of_equal_scores():
    split = drawn(300)
    doubled = SplitScores(np.repeat(split.logits, 2), np.repeat(split.y, 2))
    weighted = replace(split, sample_weight=np.full(300, 2e-7))
    a, b, c = (calibration_groups(one, 5) for one in (split, doubled, weighted))
    np.testing.assert_allclose(a.observed_rate, b.observed_rate)
    np.testing.assert_allclose([a.low, a.observed_rate], [c.low, c.observed_rate])  # weights have no unit
    assert (b.high - b.low < a.high - a.low).all()
    tied = SplitScores(np.repeat([-1.0, 1.0], [95, 5]), np.tile([0, 1], 50).astype(np.uint8))
    assert calibration_groups(tied, 10).rows.tolist() == [95, 5], "one score is in one group"
    without = replace(split, sample_weight=np.append(np.zeros(100), np.ones(200)))
    assert calibration_groups(without, 5).rows.sum() == 200


def test_recalibration_is_the_regression_on_the_logit():
    split = drawn(slope=0.6, intercept=-0.4)
    found = recalibrate(split)
    model = LogisticRegression(C=np.inf, tol=1e-13).fit(split.logits[:, None], split.y)
    of = model.inference_
    assert (found.slope, found.intercept) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), rel=1e-5)
    ends = [*found.slope_interval, *found.intercept_interval]
    np.testing.assert_allclose(ends, np.column_stack([of.ci_low, of.ci_high]).reshape(-1), rtol=1e-4)
    p, new = expit(split.logits), model.predict_proba(split.logits[:, None])[:, 1]
    ratio = 2 * len(p) * (sk.log_loss(split.y, p) - sk.log_loss(split.y, new))
    assert found.p_value == pytest.approx(stats.chi2.sf(ratio, 2), rel=1e-4)
    assert found.moved == pytest.approx(np.abs(new - p).mean(), rel=1e-4)
    weighted = recalibrate(replace(split, sample_weight=np.full(len(p), 1e9)))
    assert (weighted.slope, weighted.p_value) == pytest.approx((found.slope, found.p_value), rel=1e-6)


def test_right_probabilities_are_called_wrong_as_often_as_the_level_says():
    found = np.array([recalibrate(drawn(400, seed)).p_value for seed in range(200)])
    assert 0.01 < (found < 0.05).mean() < 0.1
    assert (found < 0.5).mean() == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("logits", "y"),
    [
        ([-1.0, 1.0, 2.0], [0, 1, 1]),
        ([-1.0, 1.0, 1.0], [1, 0, 0]),
        ([0.5, 0.5, 0.5], [0, 1, 1]),
        ([1.0, 2.0], [1, 1]),
        ([-1.0, 0.0, 0.0, 2.0], [0, 0, 1, 1]),
    ],
)
def test_there_is_none_where_it_has_no_finite_optimum(logits, y):
    assert recalibrate(SplitScores(np.array(logits), np.array(y, np.uint8))) is None


def test_huge_logits_have_one():
    logits = np.array([1e300, -1e300, 1e300, -1e300, 3.0, -3.0, 0.0, 0.0])
    found = recalibrate(SplitScores(logits, np.array([1, 0, 0, 1, 1, 0, 0, 1], np.uint8)))
    assert found is None or abs(found.slope) < 0.1


def test_the_error_by_chance_is_the_mean_error_of_right_probabilities():
    found = np.array([(c.error, c.error_by_chance) for c in (drawn(500, seed).calibration(10) for seed in range(200))])
    error, by_chance = found.mean(axis=0)
    assert by_chance == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("K", [2, 4])
def test_the_null_model_is_scikit_learns_dummy(K, weighted):
    rng = np.random.default_rng(K)
    N, p = 400, np.array([0.6, 0.4]) if K == 2 else np.array([0.1, 0.2, 0.4, 0.3])
    y_train, y = rng.choice(K, 1000, p=p), rng.choice(K, N, p=p)
    weight = rng.integers(0, 4, N).astype(float) if weighted else None
    z = rng.normal(size=(N, K)) + np.eye(K)[y]
    split = SplitScores(z[:, 1] - z[:, 0] if K == 2 else z, y.astype(np.uint8), weight)
    metrics = evaluate(split, eps=0, threshold=0.3, bins=10)
    train = SplitScores(np.zeros(1000) if K == 2 else np.zeros((1000, K)), y_train.astype(np.uint8))
    found = compare_with_null(split, metrics, class_shares(train), eps=0, threshold=0.3, bins=10)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((1000, 1)), y_train)
    P, called = dummy.predict_proba(np.zeros((N, 1))), dummy.predict(np.zeros((N, 1)))
    of, shares = {"sample_weight": weight}, np.bincount(y, weight, K) / (N if weight is None else weight.sum())
    expected = {"log_loss": sk.log_loss(y, P, **of), "accuracy": sk.accuracy_score(y, called, **of)}
    expected["brier"] = np.average(np.square(P - np.eye(K)[y]).sum(axis=1), weights=weight) / (2 if K == 2 else 1)
    if K == 2:
        share = np.average(expit(split.logits) >= 0.3, weights=weight)
        expected |= {"roc_auc": 0.5, "average_precision": shares[1], "precision": shares[1]}
        expected |= {"recall": share, "specificity": 1 - share, "f1": 2 / (1 / share + 1 / shares[1])}
        expected |= {"clamped_log_loss": expected["log_loss"]}
        expected["calibration_error"] = split.calibration(10).error_by_chance
    else:
        expected |= {"balanced_accuracy": 1 / K, "macro_roc_auc": 0.5}
        expected["macro_f1"] = sk.f1_score(y, called, average="macro", zero_division=0, **of)
    assert found.values == pytest.approx(expected)
    np.testing.assert_allclose(found.shares, shares)
    said = found.to_json()
    assert said.get("base_rate", said.get("class_shares")) == pytest.approx(shares[1] if K == 2 else shares.tolist())
    for name, value in found.values.items():
        sign = -1 if name in ("log_loss", "clamped_log_loss", "brier", "calibration_error") else 1
        assert found.better_by[name] == pytest.approx(sign * (getattr(metrics, name) - value))


def test_a_split_of_one_class_has_no_areas_to_compare():
    split = SplitScores(np.array([-1.0, 0.5]), np.zeros(2, np.uint8))
    metrics = evaluate(split, eps=0, threshold=0.5, bins=10)
    found = compare_with_null(split, metrics, np.array([0.75, 0.25]), eps=0, threshold=0.5, bins=10)
    assert not {"roc_auc", "average_precision", "recall"} & set(found.values)
    assert found.values["log_loss"] == pytest.approx(-math.log(0.75))
    # A class that no training row has is told nothing finite about, and the metrics stay numbers.
    found = compare_with_null(split, metrics, np.array([0.0, 1.0]), eps=0, threshold=0.5, bins=10)
    assert found.values["log_loss"] == pytest.approx(300 * math.log(10))
