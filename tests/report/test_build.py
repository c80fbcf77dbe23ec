"""What a report says, against numpy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reports import LOSSES, SOLVED, TRAINED, one_class, report, scores
from scipy.special import expit as sigmoid
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from flashlogit.metrics.evaluation import rates
from flashlogit.metrics.scores import SplitScores
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.coefficients import LARGEST, OTHERS
from flashlogit.report.decisions import CURVE_POINTS, THRESHOLDS, decide, threshold_stops


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_at_every_threshold_are_numpys(weighted):
    split = scores(weighted=weighted)
    decision = decide("test", split, threshold=0.123456, bins=10)
    p, y = sigmoid(split.logits), split.y == 1
    s = np.ones(len(y)) if split.sample_weight is None else split.sample_weight
    assert decision.thresholds[decision.at] == 0.123456
    for k in (0, 1, decision.at, 500, 999, 1000):
        called = p >= decision.thresholds[k]
        expected = [s[c & of].sum() for c in (~called, called) for of in (~y, y)]
        np.testing.assert_allclose(decision.counts(k), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(decision.counts(), decision.counts(decision.at))


@pytest.mark.parametrize("threshold", [1e-6, 1 - 1e-6, 0.12345, 0.3])
def test_the_runs_threshold_is_a_stop_beside_every_thousandth(threshold):
    decision = decide("test", scores(), threshold=threshold, bins=10)
    assert (np.diff(decision.thresholds) > 0).all()
    assert decision.thresholds[[0, -1]].tolist() == [0, 1]
    assert decision.thresholds[decision.at] == threshold
    assert set(THRESHOLDS) <= set(decision.thresholds)


def test_stops_are_dense_where_the_rows_of_a_rare_class_are():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.001).astype(np.uint8)
    rare = SplitScores(rng.normal(size=20_000) - 9 + y, y)
    stops = threshold_stops([rare, scores(), one_class()])
    assert (np.diff(stops) > 0).all()
    assert set(THRESHOLDS) <= set(stops)
    assert 150 < (stops < 0.001).sum() < 450
    np.testing.assert_array_equal(threshold_stops([scores()]), THRESHOLDS)
    decision = decide("test", rare, threshold=0.5, bins=10, stops=stops)
    assert np.unique(decision.true_positive).size > 10


def test_rows_of_weight_0_are_in_no_bin():
    split = scores(weighted=True)
    split.sample_weight[:100] = 0
    decision = decide("test", split, threshold=0.5, bins=10)
    assert decision.histogram.sum() == 400
    assert decision.histogram[1].sum() == split.y[100:].sum()
    assert not decision.whole


def test_a_probability_at_the_threshold_is_positive():
    split = SplitScores(np.zeros(2), np.array([0, 1], np.uint8))
    decision = decide("test", split, threshold=0.5, bins=10)
    assert decision.counts().tolist() == [0, 0, 1, 1]
    assert np.isnan(rates(decision.counts(1000))["precision"])


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_are_thinned_and_keep_their_areas_and_ends(weighted):
    split = scores(20_000, weighted=weighted)
    decision = decide("test", split, threshold=0.5, bins=10)
    given = split.y, split.logits
    area = roc_auc_score(*given, sample_weight=split.sample_weight)
    precision = average_precision_score(*given, sample_weight=split.sample_weight)
    assert decision.roc_auc == pytest.approx(area)
    assert decision.average_precision == pytest.approx(precision)
    for curve in (decision.roc, decision.precision_recall):
        assert len(curve.x) <= CURVE_POINTS + 2
        assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert np.trapezoid(decision.roc.y, decision.roc.x) == pytest.approx(area, abs=1e-3)
    steps = decision.precision_recall
    assert np.sum(np.diff(steps.x) * steps.y[1:]) == pytest.approx(precision, abs=5e-3), "steps enclose it"


def test_a_curve_of_precision_begins_with_the_first_rows_and_not_at_1():
    split = SplitScores(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1], np.uint8))
    curve = decide("test", split, threshold=0.5, bins=10).precision_recall
    np.testing.assert_allclose(curve.x, [0, 0, 0, 0.5, 0.5, 1])
    np.testing.assert_allclose(curve.y, [0, 0, 1 / 2, 1 / 2, 2 / 3, 2 / 3])


def test_one_class_has_no_curves():
    decision = decide("test", one_class(), threshold=0.5, bins=10)
    assert decision.roc is decision.precision_recall is decision.roc_auc is decision.average_precision is None


def test_the_whole_report_of_two_classes():
    made = report()
    assert made.headline == "test"
    assert made.learned.proven
    assert "f1" in made.intervals["test"]
    assert "calibration_error" not in made.intervals["test"]
    assert [one.name for one in made.history.legend] == ["estimated", "tolerance"]
    assert made.questions[0].headline("test").split == "test"
    other = report(history=LOSSES, learned=TRAINED)
    assert not other.learned.proven
    assert "weights of epoch 4 kept" in other.learned.statement
    assert [one.name for one in other.history.legend] == ["train", "validation", "lowest validation loss"]
    assert report(history=[], learned=TRAINED).history is None
    assert not report(learned=replace(SOLVED, certificate="decrement")).learned.proven
    assert not report(learned=replace(SOLVED, converged=False)).learned.proven


@pytest.mark.parametrize("K", [2, 4])
def test_coefficients_are_in_the_users_units_and_ordered_by_standard_deviations(K):
    columns = LARGEST + OTHERS + 7 if K == 2 else 5
    made = report(K, columns=columns).coefficients
    weights = np.random.default_rng(7).normal(size=columns if K == 2 else (K, columns)).reshape(-1, columns) / 2
    less = weights.mean(axis=0) if K > 2 else np.zeros(columns)
    rows = made.largest + made.others
    assert (np.diff(np.abs([row.per_deviation for row in rows])) <= 0).all()
    for row in made.largest:
        k, j = int(row.label.split()[1]) if K > 2 else 0, int(row.column.split()[1])
        assert row.coefficient == pytest.approx(weights[k, j])
        assert row.per_deviation == pytest.approx(2 * weights[k, j])
        assert row.log_odds == pytest.approx(weights[k, j] - less[j])
        assert row.log_odds_per_deviation == pytest.approx(2 * row.log_odds)
    if K == 2:
        assert (len(made.largest), len(made.others), made.left_out) == (LARGEST, OTHERS, 7)
    else:
        assert {row.label for row in made.intercepts} == {f"class {k}" for k in range(4)}
        assert sum(row.log_odds for row in made.intercepts) == pytest.approx(0)


def test_standard_errors_go_with_their_columns():
    made = report(inferred=True).coefficients
    assert made.inferred
    for row in made.largest:
        assert row.z == pytest.approx(2 * int(row.column.split()[1]))
    assert made.intercepts[0].z == pytest.approx(10)
    penalised = report().coefficients
    assert "penalised" in penalised.why_no_inference
    assert penalised.largest[0].standard_error is None


def test_classes_are_decided_against_the_rest_and_confused_with_each_other():
    splits = {"train": scores(K=4), "test": scores(K=4, seed=1, weighted=True)}
    made = report(4, splits=splits)
    test = splits["test"]
    expected = confusion_matrix(test.y, test.logits.argmax(axis=1), sample_weight=test.sample_weight)
    np.testing.assert_allclose(made.confusions[1].weight, expected)
    assert [question.positive for question in made.questions] == [f"class {k}" for k in range(4)]
    area = roc_auc_score(test.y == 2, test.rest.logits(2), sample_weight=test.sample_weight)
    assert made.questions[2].decisions[1].roc_auc == pytest.approx(area)
    assert "macro_f1" in made.intervals["test"]


def test_of_many_classes_the_most_frequent_are_shown_and_the_others_counted_together():
    K = MAX_CLASSES + 5
    rng = np.random.default_rng(0)
    split = SplitScores(rng.normal(size=(3000, K)), np.minimum(rng.geometric(0.15, 3000) - 1, K - 1))
    made = report(K, splits={"train": split})
    assert len(made.questions) == MAX_CLASSES
    assert made.confusions[0].labels[-1] == "5 other classes"
    assert made.confusions[0].weight.shape == (MAX_CLASSES + 1, MAX_CLASSES + 1)
    assert made.confusions[0].weight.sum() == 3000
