"""flashlogit.metrics.binary: values known by hand, scikit-learn as the twin, and what weights mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, f1_score, log_loss, precision_score, recall_score, roc_auc_score

from flashlogit.metrics import multiclass as metrics_multiclass
from flashlogit.metrics.binary import Metrics, calibration, evaluate, roc, sigmoid
from flashlogit.metrics.multiclass import AgainstTheRest, evaluate_classes

RANKING = ("roc_auc", "average_precision")
COUNTS = ("rows", "positives")


def scores(logits, y, sample_weight=None, *, eps=1e-8, threshold=0.5, bins=10) -> Metrics:
    return evaluate(
        np.asarray(logits, dtype=np.float64),
        np.asarray(y, dtype=np.uint8),
        sample_weight=None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64),
        eps=eps,
        threshold=threshold,
        bins=bins,
    )


def curve(logits, y, sample_weight=None, *, bins=10):
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return calibration(
        np.asarray(logits, dtype=np.float64), np.asarray(y, dtype=np.uint8), sample_weight=weight, bins=bins
    )


@pytest.fixture
def noisy():
    """Calibrated logits [500], labels drawn from them, and whole weights of which some are 0."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=500)
    y = (rng.random(500) < sigmoid(logits)).astype(np.uint8)
    return logits, y, rng.integers(0, 4, size=500)


@pytest.mark.parametrize(
    ("z", "y", "expected"),
    [
        (0.0, 0, math.log(2)),
        (6.7, 0, 6.701230154951714),
        (6.7, 1, 0.0012301549517136992),
        (37.0, 1, math.exp(-37)),
        (-37.0, 1, 37.0),
        (37.0, 0, 37.0),
        (-37.0, 0, math.exp(-37)),
        (1e3, 1, 0.0),
        (-1e3, 1, 1e3),
        (1e20, 0, 1e20),
        (-1e20, 0, 0.0),
        (1.7e308, 0, 1.7e308),
    ],
)
def test_log_loss_known_by_hand(z, y, expected):
    assert scores([z], [y]).log_loss == pytest.approx(expected, rel=1e-14, abs=0)


def test_log_loss_is_finite_where_the_sum_of_losses_is_not():
    metrics = scores([1.7e308, -1.7e308, 1.7e308], [0, 1, 0])
    assert metrics.log_loss == pytest.approx(1.7e308)
    assert metrics.roc_auc == 0.0
    assert roc(np.array([1.7e308, -1.7e308]), np.array([1, 0], np.uint8), sample_weight=None) is not None


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_agrees_with_sklearn(noisy, weighted):
    logits, y, weight = noisy
    weight = weight if weighted else None
    expected = log_loss(y, sigmoid(logits), sample_weight=weight)
    assert scores(logits, y, weight).log_loss == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("z", [-1e20, -1e3, 1e3, 1e20])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_clamped_loss_beyond_the_bound(z, eps):
    wrong, right = scores([z], [z < 0], eps=eps), scores([z], [z > 0], eps=eps)
    assert wrong.clamped_log_loss == pytest.approx(-math.log(eps), rel=1e-14)
    assert right.clamped_log_loss == pytest.approx(-math.log1p(-eps), rel=1e-9)


def test_clamp_leaves_what_is_within_its_bound():
    bound = math.log(0.999 / 0.001)
    metrics = scores([0.99 * bound, -0.99 * bound], [0, 0], eps=1e-3)
    assert metrics.clamped_log_loss == metrics.log_loss


def test_eps_zero_is_the_exact_loss():
    metrics = scores([1e20, -1e3, 3.0], [0, 1, 0], eps=0.0)
    assert metrics.clamped_log_loss == metrics.log_loss


def test_threshold_itself_is_positive():
    # Only 0.5 is exact in both; the other threshold is the very number that a logit of 1 gives.
    at_one = float(sigmoid(np.array([1.0]))[0])
    assert at_one == pytest.approx(0.7310585786300049, rel=1e-15)
    assert scores([0.0], [1], threshold=0.5).accuracy == 1.0
    assert scores([-1e-9], [1], threshold=0.5).accuracy == 0.0
    assert scores([1.0], [1], threshold=at_one).accuracy == 1.0
    assert scores([1.0], [1], threshold=np.nextafter(at_one, 1)).accuracy == 0.0


def test_accuracy_brier_and_counts_by_hand():
    metrics = scores([0.0, math.log(3), -math.log(3), math.log(3)], [1, 1, 1, 0])
    assert (metrics.rows, metrics.positives) == (4, 3)
    assert metrics.accuracy == 0.5
    assert metrics.brier == pytest.approx((0.25 + 0.0625 + 0.5625 + 0.5625) / 4)


@pytest.mark.parametrize("weighted", [False, True])
def test_rates_at_the_threshold_are_scikit_learns(noisy, weighted):
    logits, y, weight = noisy
    weight = weight if weighted else None
    got = scores(logits, y, weight, threshold=0.3)
    arguments = {"y_true": y, "y_pred": sigmoid(logits) >= 0.3, "sample_weight": weight}
    assert got.precision == pytest.approx(precision_score(**arguments))
    assert got.recall == pytest.approx(recall_score(**arguments))
    assert got.specificity == pytest.approx(recall_score(**arguments, pos_label=0))
    assert got.f1 == pytest.approx(f1_score(**arguments))


def test_rates_of_nothing_are_none():
    nothing = scores([-3.0, -2.0], [0, 0])
    assert (nothing.precision, nothing.recall, nothing.specificity, nothing.f1) == (None, None, 1, None)
    assert scores([-3.0, -2.0], [0, 1]).f1 == 0


def test_areas_do_not_exceed_1():
    rng = np.random.default_rng(0)
    for n in range(20, 60):
        y = np.arange(n) % 2
        got = scores(y * 5.0 + rng.random(n), y, rng.random(n) + 1e-3)
        assert got.roc_auc <= 1
        assert got.average_precision <= 1


def test_ranking_uses_logits_where_probabilities_tie():
    # Every probability is exactly 1.
    metrics = scores([40.0, 50.0, 60.0, 70.0], [0, 0, 1, 1])
    assert (metrics.roc_auc, metrics.average_precision) == (1.0, 1.0)


def test_ranking_by_hand():
    metrics = scores([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1])
    assert metrics.roc_auc == 0.75
    assert metrics.average_precision == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("n", [1, 3])
def test_one_class_has_no_ranking(label, n):
    metrics = scores(np.linspace(-1, 2, n), [label] * n)
    assert metrics.roc_auc is None
    assert metrics.average_precision is None
    assert metrics.brier >= 0
    assert roc(np.zeros(n), np.full(n, label, np.uint8), sample_weight=None) is None


def test_class_of_weight_zero_is_no_class():
    metrics = scores([1.0, 2.0, -1.0], [1, 1, 0], [1.0, 2.0, 0.0])
    assert metrics.roc_auc is None
    assert (metrics.rows, metrics.positives) == (3, 2)


def test_weight_is_row_duplication(noisy):
    logits, y, weight = noisy
    weighted = scores(logits, y, weight).to_json()
    repeated = scores(np.repeat(logits, weight), np.repeat(y, weight)).to_json()
    for name in COUNTS:
        weighted.pop(name), repeated.pop(name)
    assert weighted == pytest.approx(repeated, rel=1e-12)
    assert weighted != pytest.approx(scores(logits, y).to_json(), rel=1e-3)


def test_only_ratios_of_weights_matter(noisy):
    logits, y, weight = noisy
    small = scores(logits, y, weight * 1e-30).to_json()
    assert small == pytest.approx(scores(logits, y, weight).to_json(), rel=1e-12)


def test_a_weight_too_small_to_count_is_left_out():
    metrics = scores([3.0, -2.0, 1.0], [1, 0, 1], [1e10, 1e10, 5e-324])
    assert metrics.calibration_error == pytest.approx(scores([3.0, -2.0], [1, 0]).calibration_error)


def test_float32_weights_are_summed_in_float64():
    n = 1 << 16
    weight = np.full(n, np.float32(0.1))
    metrics = evaluate(np.zeros(n), np.ones(n, np.uint8), sample_weight=weight, eps=0, threshold=0.5, bins=2)
    assert metrics.log_loss == pytest.approx(math.log(2), rel=1e-14)


def test_calibration_error_by_hand():
    # Bin (0.2, 0.3]: p = 0.25 twice, one positive. Bin (0.7, 0.8]: p = 0.75 twice, both positive.
    a = math.log(3)
    error = scores([-a, -a, a, a], [0, 1, 1, 1]).calibration_error
    assert error == pytest.approx(0.5 * abs(0.25 - 0.5) + 0.5 * abs(0.75 - 1.0))
    weighted = scores([-a, -a, a, a], [0, 1, 1, 1], [3.0, 1.0, 2.0, 0.0]).calibration_error
    assert weighted == pytest.approx(2 / 3 * abs(0.25 - 0.25) + 1 / 3 * abs(0.75 - 1.0))


def test_calibration_curve_by_hand():
    a = math.log(3)
    got = curve([-a, -a, a, a], [0, 1, 1, 1], [3.0, 1.0, 2.0, 0.0])
    np.testing.assert_array_equal(got.bin, [2, 7])
    np.testing.assert_array_equal(got.rows, [2, 1])
    np.testing.assert_allclose(got.share, [2 / 3, 1 / 3])
    np.testing.assert_allclose(got.mean_probability, [0.25, 0.75])
    np.testing.assert_allclose(got.observed_rate, [0.25, 1.0])


def test_bins_hold_their_upper_edge_and_the_first_holds_zero():
    got = curve([-1e3, 0.0, 1e3], [0, 1, 1], bins=2)
    np.testing.assert_array_equal(got.bin, [0, 1])
    np.testing.assert_array_equal(got.rows, [2, 1])


@pytest.mark.parametrize("bins", [1, 7, 10, 1000])
def test_calibration_agrees_with_sklearn(noisy, bins):
    logits, y, _ = noisy
    rate, mean = calibration_curve(y, sigmoid(logits), n_bins=bins)
    got = curve(logits, y, bins=bins)
    np.testing.assert_allclose(got.observed_rate, rate, rtol=1e-12)
    np.testing.assert_allclose(got.mean_probability, mean, rtol=1e-12)
    assert got.rows.sum() == 500
    assert got.share.sum() == pytest.approx(1.0)


def test_roc_encloses_the_area_that_is_reported(noisy):
    logits, y, weight = noisy
    got = roc(logits, y, sample_weight=weight.astype(np.float64))
    x, height = got.false_positive_rate, got.true_positive_rate
    assert auc(x, height) == pytest.approx(scores(logits, y, weight).roc_auc, rel=1e-12)
    assert (x[0], height[0], x[-1], height[-1]) == (0, 0, 1, 1)


def test_sigmoid_keeps_its_precision_in_both_tails():
    z = np.array([-700.0, -37.0, 0.0, 37.0, 1e20, -1e20])
    np.testing.assert_allclose(sigmoid(z), [math.exp(-700), math.exp(-37), 0.5, 1.0, 1.0, 0.0], rtol=1e-15)
    assert all(low <= high for low, high in pairwise(sigmoid(np.linspace(-40, 40, 1001))))


def test_json_is_strict():
    metrics = scores([1.0, 2.0], [1, 1])
    text = json.dumps(metrics.to_json(), allow_nan=False)
    assert json.loads(text) == metrics.to_json()
    assert [name for name, value in metrics.to_json().items() if value is None] == [*RANKING, "specificity"]
    broken = replace(metrics, log_loss=math.nan, brier=math.inf).to_json()
    assert (broken["log_loss"], broken["brier"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": [0.0, math.nan]}, "logits has 1 values of 2 that are not finite"),
        ({"logits": [math.inf, -math.inf]}, "2 values of 2"),
        ({"logits": [1.0]}, r"shapes \(1,\) and \(2,\)"),
        ({"logits": [], "y": []}, "at least 1 row"),
        ({"y": [0, 2]}, "y holds 2"),
        ({"sample_weight": [1.0]}, r"sample_weight has shape \(1,\); must be \(2,\)"),
        ({"sample_weight": [0.0, 0.0]}, "not all 0"),
        ({"sample_weight": [2.0, -1.0]}, "least value -1"),
        ({"sample_weight": [2.0, math.nan]}, "must be finite"),
        ({"sample_weight": [2.0, math.inf]}, "must be finite"),
        ({"eps": 0.5}, "eps is 0.5"),
        ({"eps": -1e-8}, "eps is -1e-08"),
        ({"bins": 0}, "bins is 0; must be at least 1"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        scores(**{"logits": [0.0, 1.0], "y": [0, 1], **change})


def test_a_class_against_the_rest_is_exact_for_sure_and_hopeless_classes(monkeypatch):
    monkeypatch.setattr(metrics_multiclass, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 4)) * np.geomspace(0.1, 1e3, 60)[:, None]
    z[:4] = [0, 0, 0, 0], [800, 0, 0, 0], [1e20, 0, 0, 0], [50, 50, -50, -50]
    rest = AgainstTheRest(z)
    for k in range(4):
        expected = z[:, k] - logsumexp(np.delete(z, k, axis=1), axis=1)
        np.testing.assert_allclose(rest.logits(k), expected, rtol=1e-12, atol=1e-12)


def test_all_classes_together_take_one_logsumexp_over_them(monkeypatch):
    """For each class anew the results of 20,000 rows and 300 classes took minutes."""
    wide = []

    def counted(a, axis):
        wide.append(a.shape)
        return logsumexp(a, axis=axis)

    monkeypatch.setattr(metrics_multiclass, "logsumexp", counted)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 30))
    evaluate_classes(z, np.arange(400) % 30, sample_weight=None)
    assert wide == [(400, 30)] * 2


@pytest.mark.parametrize("weighted", [False, True])
def test_the_macro_area_is_scikit_learns_ties_included(weighted):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4)).round(1)
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    weight = rng.integers(0, 3, 300).astype(np.float64) if weighted else None
    rest = AgainstTheRest(z)
    areas = [roc_auc_score(y == k, rest.logits(k), sample_weight=weight) for k in range(4)]
    got = evaluate_classes(z, y, sample_weight=weight).macro_roc_auc
    assert got == pytest.approx(np.mean(areas), rel=1e-12)


def test_arguments_stay_as_they_are(noisy):
    logits, y, weight = noisy
    before = logits.copy(), y.copy(), weight.copy()
    scores(logits, y, weight)
    for array, copy in zip((logits, y, weight), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("weight", [1e-170, 1e-300, 1e160, 1e300])
def test_areas_do_not_hang_on_the_units_of_the_weights(weight):
    z, y = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1], dtype=np.uint8)
    options = {"eps": 0.0, "threshold": 0.5, "bins": 5}
    metrics = evaluate(z, y, sample_weight=np.full(4, weight), **options)
    assert metrics.roc_auc == pytest.approx(0.75)
    assert metrics.average_precision == pytest.approx(5 / 6)
