"""What a report says, against numpy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reports import LOSSES, SOLVED, TRAINED, counts, one_class, report, scores
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from flashlogit.metrics.evaluation import rates
from flashlogit.metrics.scores import SplitScores
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.charts import by_class
from flashlogit.report.decisions import CURVE_POINTS, THRESHOLDS, decide, threshold_stops


def decided(split, threshold=0.5, **options):
    return decide("test", split, threshold=threshold, bins=10, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threshold", [0.123456, 1e-6, 1 - 1e-6, 0.3])
def test_counts_at_every_threshold_are_scikit_learns(weighted, threshold):
    split = scores(weighted=weighted)
    decision = decided(split, threshold)
    assert (np.diff(decision.thresholds) > 0).all()
    assert decision.thresholds[[0, decision.at, -1]].tolist() == [0, threshold, 1]
    assert set(THRESHOLDS) <= set(decision.thresholds)
    for k in (0, 1, decision.at, 500, 999, 1000):
        expected = counts(split, decision.thresholds[k])
        np.testing.assert_allclose(replace(decision, at=k).counts(), expected, rtol=1e-9, atol=1e-9)


def test_stops_are_dense_where_the_rows_of_a_rare_class_are():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.001).astype(np.uint8)
    rare = SplitScores(rng.normal(size=20_000) - 9 + y, y)
    stops = threshold_stops([rare, scores(), one_class()])
    assert 150 < (stops < 0.001).sum() < 450
    np.testing.assert_array_equal(threshold_stops([scores()]), THRESHOLDS)
    assert np.unique(decided(rare, stops=stops).true_positive).size > 10


def test_rows_of_weight_0_are_in_no_bin():
    split = scores(weighted=True)
    split.sample_weight[:100] = 0
    decision = decided(split)
    assert decision.histogram.sum(axis=1).tolist() == [400 - split.y[100:].sum(), split.y[100:].sum()]
    assert not decision.whole


def test_a_probability_at_the_threshold_is_positive_and_one_class_has_no_curves():
    decision = decided(SplitScores(np.zeros(2), np.array([0, 1], np.uint8)))
    assert decision.counts().tolist() == [0, 0, 1, 1]
    assert np.isnan(rates(replace(decision, at=1000).counts())["precision"])
    decision = decided(one_class())
    assert decision.roc is decision.precision_recall is decision.roc_auc is decision.average_precision is None


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_are_thinned_and_keep_their_areas_and_ends(weighted):
    split = scores(20_000, weighted=weighted)
    decision, given = decided(split), (split.y, split.logits)
    area = roc_auc_score(*given, sample_weight=split.sample_weight)
    precision = average_precision_score(*given, sample_weight=split.sample_weight)
    assert (decision.roc_auc, decision.average_precision) == pytest.approx((area, precision))
    for curve in (decision.roc, decision.precision_recall):
        assert len(curve.x) <= CURVE_POINTS + 2
        assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert np.trapezoid(decision.roc.y, decision.roc.x) == pytest.approx(area, abs=1e-3)
    steps = decision.precision_recall
    assert np.sum(np.diff(steps.x) * steps.y[1:]) == pytest.approx(precision, abs=5e-3), "steps enclose it"


def test_a_curve_of_precision_begins_with_the_first_rows_and_not_at_1():
    curve = decided(SplitScores(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1], np.uint8))).precision_recall
    np.testing.assert_allclose([curve.x, curve.y], [[0, 0, 0, 0.5, 0.5, 1], [0, 0, 1 / 2, 1 / 2, 2 / 3, 2 / 3]])


@pytest.mark.parametrize(
    ("options", "proven", "legend"),
    [
        ({}, True, "estimated, tolerance"),
        ({"learned": replace(SOLVED, certificate="decrement")}, False, "estimated, tolerance"),
        ({"learned": replace(SOLVED, converged=False)}, False, "estimated, tolerance"),
        ({"history": LOSSES, "learned": TRAINED}, False, "train, validation, lowest validation loss"),
    ],
)
def test_what_a_run_proved_and_its_history(options, proven, legend):
    made = report(**options)
    assert made.headline == made.questions[0].headline("test").split == "test"
    assert made.learned.proven == proven
    assert ", ".join(one.name for one in made.history.legend) == legend
    assert ("weights of epoch 4 kept" in made.learned.statement) == (made.learned is TRAINED)


def test_classes_are_decided_against_the_rest_and_confused_with_each_other():
    splits = {"train": scores(K=4), "test": scores(K=4, seed=1, weighted=True)}
    made, test = report(4, splits=splits), splits["test"]
    expected = confusion_matrix(test.y, test.logits.argmax(axis=1), sample_weight=test.sample_weight)
    np.testing.assert_allclose(made.confusions[1].weight, expected)
    for k, (name, style, decision) in enumerate(by_class(made)):
        assert (name, style) == (f"class {k}", f"class {k}")
        area = roc_auc_score(test.y == k, test.rest.logits(k), sample_weight=test.sample_weight)
        assert decision.roc_auc == pytest.approx(area)
        assert np.trapezoid(decision.roc.y, decision.roc.x) == pytest.approx(area, abs=1e-2)


def test_of_many_classes_the_most_frequent_are_shown_and_the_others_counted_together():
    K = MAX_CLASSES + 5
    rng, rows = np.random.default_rng(0), 4 * np.arange(1, K + 1)
    y = rng.permutation(np.repeat(np.arange(K), rows))
    made = report(K, splits={"train": SplitScores(rng.normal(size=(len(y), K)), y)})
    assert [question.positive for question in made.questions] == [f"class {k}" for k in range(5, K)]
    assert made.confusions[0].labels[-1] == "5 other classes"
    assert made.confusions[0].weight.sum(axis=1).tolist() == [*rows[5:], rows[:5].sum()]
