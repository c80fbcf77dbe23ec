"""Metrics of two classes and of more: values known by hand, scikit-learn as the twin, and what weights mean."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from flashlogit.metrics import scores as scores_module
from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.scores import AgainstTheRest, SplitScores, rank


def split(logits, y, sample_weight=None):
    logits, y = np.asarray(logits, dtype=np.float64), np.asarray(y, dtype=np.uint8)
    return SplitScores(logits, y, None if sample_weight is None else np.asarray(sample_weight))


def scores(logits, y, sample_weight=None, *, eps=1e-8, threshold=0.5, bins=10):
    return evaluate(split(logits, y, sample_weight), eps=eps, threshold=threshold, bins=bins)


@pytest.fixture
def noisy():
    """Calibrated logits [500] with ties, labels drawn from them, and whole weights of which some are 0."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=500).round(2)
    y = (rng.random(500) < expit(logits)).astype(np.uint8)
    return logits, y, rng.integers(0, 4, size=500)


@pytest.mark.parametrize(
    ("z", "y", "expected"),
    [
        (0.0, 0, math.log(2)),
        (6.7, 0, 6.701230154951714),
        (6.7, 1, 0.0012301549517136992),
        (37.0, 1, math.exp(-37)),
        (1.7e308, 0, 1.7e308),
        ([1.7e308] * 2, [0, 0], 1.7e308),
    ],
)
def test_log_loss_known_by_hand(z, y, expected):
    z, y = np.atleast_1d(z), np.atleast_1d(y)
    for found in (scores(z, y), scores(-z, 1 - y)):
        assert found.log_loss == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_clamped_loss(eps):
    bound = math.log((1 - eps) / eps)
    for z in (1e3, 1e20):
        wrong, right = (scores([z, -z], y, eps=eps).clamped_log_loss for y in ([0, 1], [1, 0]))
        assert (wrong, right) == pytest.approx((-math.log(eps), -math.log1p(-eps)), rel=1e-14)
    for same in (scores([0.99 * bound, -0.99 * bound], [0, 0], eps=eps), scores([1e20, -1e3], [0, 1], eps=0.0)):
        assert same.clamped_log_loss == same.log_loss


def test_threshold_itself_is_positive():
    # Only 0.5 is exact in both; the other threshold is the very number that a logit of 1 gives.
    at_one = float(expit(1.0))
    for z, threshold, right in ((0.0, 0.5, 1), (-1e-9, 0.5, 0), (1.0, at_one, 1), (1.0, np.nextafter(at_one, 1), 0)):
        assert scores([z], [1], threshold=threshold).accuracy == right


def test_metrics_by_hand():
    metrics = scores([0.0, math.log(3), -math.log(3), math.log(3)], [1, 1, 1, 0])
    assert (metrics.rows, metrics.positives, metrics.accuracy) == (4, 3, 0.5)
    assert metrics.brier == pytest.approx((0.25 + 0.0625 + 0.5625 + 0.5625) / 4)
    ranked = scores([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1])
    assert ranked.roc_auc == 0.75
    assert ranked.average_precision == pytest.approx((1 + 2 / 3) / 2)
    # Every probability is exactly 1, and the logits are not.
    sure = scores([40.0, 50.0, 60.0, 70.0], [0, 0, 1, 1])
    assert (sure.roc_auc, sure.average_precision) == (1.0, 1.0)
    nothing = scores([-3.0, -2.0], [0, 0])
    assert (nothing.precision, nothing.recall, nothing.specificity, nothing.f1) == (None, None, 1, None)
    assert scores([-3.0, -2.0], [0, 1]).f1 == 0


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_and_curves_are_scikit_learns(noisy, weighted):
    logits, y, weight = noisy
    of, p = {"sample_weight": weight if weighted else None}, expit(logits)
    before, got = [array.copy() for array in noisy], scores(logits, y, of["sample_weight"], threshold=0.3)
    called = {"y_true": y, "y_pred": p >= 0.3, **of}
    expected = {
        "log_loss": sk.log_loss(y, p, **of),
        "roc_auc": sk.roc_auc_score(y, logits, **of),
        "average_precision": sk.average_precision_score(y, logits, **of),
        "accuracy": sk.accuracy_score(**called),
        "specificity": sk.recall_score(**called, pos_label=0),
    }
    three = sk.precision_recall_fscore_support(**called, average="binary")[:3]
    expected |= dict(zip(("precision", "recall", "f1"), three, strict=True))
    assert {name: getattr(got, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    for array, copy in zip(noisy, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    ranking = split(logits, y, of["sample_weight"]).ranking
    theirs = sk.roc_curve(y, logits, **of, drop_intermediate=False)[:2]
    # Rows of weight 0 repeat points of theirs.
    np.testing.assert_array_equal(*(np.unique(np.round(of, 9), axis=1) for of in (ranking.roc(), theirs)))
    precision, recall, _ = sk.precision_recall_curve(y, logits, **of)
    found = dict(zip(*(of.round(9) for of in ranking.precision_recall()), strict=True))
    assert set(recall[:-1].round(9)) <= set(found) | {0.0}
    assert found[1.0] == pytest.approx(precision[0], abs=1e-9)


def test_cells_of_a_ranking_are_alike_in_both_classes_and_keep_the_rare_rows_alone():
    y = np.arange(50_000) < 20
    ranking = rank(np.random.default_rng(0).normal(size=50_000) + y, y, None)
    ends = ranking.cells(1000, 0.5)
    positives, negatives = (np.diff(of[ends], prepend=0) for of in (ranking.positive, ranking.negative))
    assert len(ends) < 1100
    assert (ends[-1], set(positives)) == (49_999, {0, 1})
    assert negatives[positives == 1].sum() == 0
    assert negatives.max() <= 101
    np.testing.assert_array_equal(rank(np.arange(5.0), np.arange(5) > 2, None).cells(10, 0.5), range(5))


def test_areas_do_not_exceed_1():
    rng = np.random.default_rng(0)
    for n in range(20, 60):
        got = scores(5.0 * (np.arange(n) % 2) + rng.random(n), np.arange(n) % 2, rng.random(n) + 1e-3)
        assert max(got.roc_auc, got.average_precision, got.accuracy) <= 1


@pytest.mark.parametrize(("y", "weight"), [([0, 0, 0], None), ([1, 1, 1], None), ([1, 1, 0], [1.0, 2.0, 0.0])])
def test_one_class_has_no_ranking_and_json_is_strict(y, weight):
    metrics = scores([1.0, 2.0, -1.0], y, weight)
    assert metrics.roc_auc is metrics.average_precision is None
    assert (metrics.rows, metrics.positives) == (3, sum(y))
    broken = replace(metrics, log_loss=math.nan, brier=math.inf).to_json()
    assert (broken["log_loss"], broken["brier"], broken["roc_auc"]) == (None, None, None)
    json.dumps(broken, allow_nan=False)


def test_weight_is_row_duplication_and_only_ratios_of_weights_matter(noisy):
    logits, y, weight = noisy
    weighted = scores(logits, y, weight).to_json()
    for unit in (1e-300, 1e-30, 1e300):
        assert scores(logits, y, weight * unit).to_json() == pytest.approx(weighted, rel=1e-12)
    assert weighted != pytest.approx(scores(logits, y).to_json(), rel=1e-3)
    repeated = scores(np.repeat(logits, weight), np.repeat(y, weight)).to_json()
    assert weighted | {name: repeated[name] for name in ("rows", "positives")} == pytest.approx(repeated, rel=1e-12)


def test_tiny_weights_are_left_out_and_float32_ones_summed_in_float64():
    metrics = scores([3.0, -2.0, 1.0], [1, 0, 1], [1e10, 1e10, 5e-324])
    assert metrics.calibration_error == pytest.approx(scores([3.0, -2.0], [1, 0]).calibration_error)
    n = 1 << 16
    metrics = scores(np.zeros(n), np.ones(n), np.full(n, np.float32(0.1)))
    assert metrics.log_loss == pytest.approx(math.log(2), rel=1e-14)


def test_calibration_by_hand_and_scikit_learns(noisy):
    logits, y, _ = noisy
    for bins in (1, 7, 1000):
        got = split(logits, y).calibration(bins)
        expected = calibration_curve(y, expit(logits), n_bins=bins)
        np.testing.assert_allclose([got.observed_rate, got.mean_probability], expected, rtol=1e-12)
    # Bin (0.2, 0.3]: p = 0.25 twice, one positive. Bin (0.7, 0.8]: p = 0.75 twice, both positive.
    a = math.log(3)
    rows = [-a, -a, a, a], [0, 1, 1, 1]
    assert scores(*rows).calibration_error == pytest.approx(0.5 * abs(0.25 - 0.5) + 0.5 * abs(0.75 - 1.0))
    got = split(*rows, [3.0, 1.0, 2.0, 0.0]).calibration(10)
    np.testing.assert_array_equal([got.bin, got.rows], [[2, 7], [2, 1]])
    np.testing.assert_allclose([got.share, got.observed_rate], [[2 / 3, 1 / 3], [0.25, 1]])
    assert got.error == pytest.approx(1 / 3 * 0.25)
    edges = split([-1e3, 0.0, 1e3], [0, 1, 1]).calibration(2)
    np.testing.assert_array_equal(edges.rows, [2, 1])  # a bin holds its upper edge, and the first holds 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": [0.0, math.nan]}, "1 values of 2"),
        ({"logits": [1.0]}, "shapes"),
        ({"logits": [], "y": []}, "at least 1 row"),
        ({"y": [0, 2]}, "y holds 0 to 2"),
        ({"logits": np.zeros((2, 3)), "y": [0, 3]}, "must be from 0 to 2"),
        ({"sample_weight": [1.0]}, "one weight per row"),
        ({"sample_weight": [0.0, 0.0]}, "not all 0"),
        ({"sample_weight": [2.0, -1.0]}, "least value -1"),
        ({"sample_weight": [2.0, math.inf]}, "must be finite"),
        ({"eps": 0.5}, "eps is 0.5"),
        ({"bins": 0}, "bins is 0"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        scores(**{"logits": [0.0, 1.0], "y": [0, 1], **change})


def test_probabilities_are_scipys_at_any_logit():
    z = np.append(np.random.default_rng(0).normal(size=294) * 30, [0.0, 37.0, -37.0, 710.0, -745.0, 1e300]).reshape(
        60, 5
    )
    np.testing.assert_allclose(scores_module.expit(z), expit(z), rtol=1e-15, atol=1e-307)
    np.testing.assert_allclose(scores_module.softmax(z), softmax(z, axis=1), rtol=1e-14, atol=1e-307)
    z[:, 2] = -np.inf
    np.testing.assert_allclose(scores_module.logsumexp(z), logsumexp(z, axis=1), rtol=1e-15)


def test_a_class_against_the_rest_is_exact_for_sure_and_hopeless_classes(monkeypatch):
    monkeypatch.setattr(scores_module, "_BLOCK", 7)
    z = np.random.default_rng(0).normal(size=(60, 4)) * np.geomspace(0.1, 1e3, 60)[:, None]
    z[:4] = [0, 0, 0, 0], [800, 0, 0, 0], [1e20, 0, 0, 0], [50, 50, -50, -50]
    rest = AgainstTheRest(z)
    for k in range(4):
        expected = z[:, k] - logsumexp(np.delete(z, k, axis=1), axis=1)
        np.testing.assert_allclose(rest.logits(k), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_classes_are_scikit_learns_ties_included(weighted):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4)).round(1)
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    of = {"sample_weight": rng.integers(0, 3, 300).astype(np.float64) if weighted else None}
    p, called, rest = np.exp(log_softmax(z, axis=1)), z.argmax(axis=1), AgainstTheRest(z)
    got = scores(z, y, of["sample_weight"])
    expected = {
        "log_loss": sk.log_loss(y, p, **of),
        "accuracy": sk.accuracy_score(y, called, **of),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called, **of),
        "macro_f1": sk.f1_score(y, called, average="macro", **of),
        "macro_roc_auc": np.mean([sk.roc_auc_score(y == k, rest.logits(k), **of) for k in range(4)]),
        "brier": np.average(((p - np.eye(4)[y]) ** 2).sum(axis=1), weights=of["sample_weight"]),
    }
    assert {name: getattr(got, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert scores(z, y % 3, of["sample_weight"]).macro_roc_auc is None
