"""Paired differences: against rows drawn again with replacement, by hand, and where both models are one."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from flashlogit.metrics import paired
from flashlogit.metrics.intervals import bootstrap
from flashlogit.metrics.paired import compare_paired
from flashlogit.metrics.scores import SplitScores, average_precision_pulls, roc_area_pulls

OF_TWO = ("log_loss", "accuracy", "brier", "roc_auc", "average_precision")
OF_CLASSES = ("log_loss", "accuracy", "brier", "macro_roc_auc")


def models(n, *, K=2, shift=0.0, noise=0.5, weighted=False):
    """The scores of two models that err on much the same rows."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=n if K == 2 else (n, K)) + shift
    y = (rng.random(n) < expit(z)).astype(np.uint8) if K == 2 else (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    weight = rng.lognormal(sigma=0.5, size=n) if weighted else None
    return tuple(SplitScores(z + scale * rng.normal(size=z.shape), y, weight) for scale in (noise, 1.5 * noise))


def by_definition(split, w):
    """The metrics [n] of rows of weights [n, N], each from its definition."""
    z, y = split.logits, split.y
    total, K = w.sum(axis=1), split.classes
    p = np.stack([1 - expit(z), expit(z)], axis=1) if K == 2 else softmax(z, axis=1)
    one_hot = np.eye(K)[y]
    squares = np.square(p - one_hot).sum(axis=1) / (2 if K == 2 else 1)
    rows = {"log_loss": -np.log(p[np.arange(len(y)), y]), "accuracy": p.argmax(axis=1) == y, "brier": squares}
    found = {name: w @ values / total for name, values in rows.items()}
    of_class = []
    for k in (1,) if K == 2 else range(K):
        above = np.greater(p[y == k, k][:, None], p[y != k, k]) * 1.0
        mine, rest = w[:, y == k], w[:, y != k]
        of_class.append(((mine @ above) * rest).sum(axis=1) / (mine.sum(axis=1) * rest.sum(axis=1)))
    if K > 2:
        return found | {"macro_roc_auc": np.mean(of_class, axis=0)}
    called = (p[:, 1] >= p[y == 1, 1][:, None]) * 1.0  # [positives, N], from each one's score up
    precision = w @ (called * (y == 1)).T / np.maximum(w @ called.T, 1e-300)
    mine = w[:, y == 1]
    return found | {"roc_auc": of_class[0], "average_precision": (mine * precision).sum(axis=1) / mine.sum(axis=1)}


@pytest.mark.parametrize(
    ("given", "names", "exact_rows"),
    [
        (models(400, weighted=True), OF_TWO, 400),
        (models(500, shift=-2.0), OF_TWO, 0),
        (models(500, noise=0.05, weighted=True), OF_TWO, 0),
        (models(500, K=3), OF_CLASSES, 0),
    ],
)
def test_agrees_with_rows_drawn_with_replacement(given, names, exact_rows, monkeypatch):
    monkeypatch.setattr(paired, "EXACT_ROWS", exact_rows)
    ours, rng = compare_paired(*given, seed=1, replicates=2000).differences, np.random.default_rng(9)
    assert set(ours) == set(names)
    N, s = len(given[0].y), given[0].sample_weight
    s = np.ones(N) if s is None else s
    value = [by_definition(each, s[None]) for each in given]
    draws = rng.multinomial(N, np.full(N, 1 / N), size=2000) * s
    drawn = [by_definition(each, draws) for each in given]
    for name in names:
        assert ours[name].value == pytest.approx((value[1][name] - value[0][name]).item(), abs=1e-12)
        # Of 2000 replicates on either side an end is known to 0.02 of the width (one standard deviation).
        low, high = np.quantile(drawn[1][name] - drawn[0][name], [0.025, 0.975])
        assert (ours[name].low, ours[name].high) == pytest.approx((low, high), abs=0.07 * (high - low)), name


def test_first_order_is_near_to_areas_of_every_replicate(monkeypatch):
    given = models(1000)
    exact = compare_paired(*given, seed=1).differences
    monkeypatch.setattr(paired, "EXACT_ROWS", 0)
    near = compare_paired(*given, seed=1).differences
    for name in OF_TWO:
        width = exact[name].high - exact[name].low
        assert near[name].value == exact[name].value
        assert (near[name].low, near[name].high) == pytest.approx((exact[name].low, exact[name].high), abs=0.1 * width)


def test_of_a_rare_class_few_rows_hold_the_variance(monkeypatch):
    monkeypatch.setattr(paired, "EXACT_ROWS", 0)
    given = models(20_000, shift=-8.0)
    assert 20 < given[0].y.sum() < 60
    p, q = (expit(each.logits) for each in given)
    y, found = given[0].y, compare_paired(*given, seed=1).differences
    losses = [-np.log(np.where(y == 1, each, 1 - each)) for each in (p, q)]
    for name, of in (("log_loss", losses[1] - losses[0]), ("brier", np.square(q - y) - np.square(p - y))):
        # Normal theory; a width of 1,000 replicates is known to 3 %.
        assert found[name].high - found[name].low == pytest.approx(2 * 1.96 * of.std() / np.sqrt(len(y)), rel=0.12)


@pytest.mark.parametrize("exact_rows", [300, 0])
def test_a_difference_may_be_sure_where_intervals_overlap(exact_rows, monkeypatch):
    monkeypatch.setattr(paired, "EXACT_ROWS", exact_rows)
    first, second = models(300, noise=0.4)
    (low, high), (other_low, other_high) = (
        bootstrap(each, eps=0.0, threshold=0.5, seed=1)["log_loss"] for each in (first, second)
    )
    assert max(low, other_low) < min(high, other_high)
    difference = compare_paired(first, second, seed=1).differences["log_loss"]
    assert 0 < difference.low < difference.value < difference.high
    assert difference.high - difference.low < 0.6 * (high - low)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("rows", [50, 2500])
def test_a_model_does_not_differ_from_itself(rows, K):
    model, _ = models(rows, K=K)
    found = compare_paired(model, model, seed=1)
    assert {(each.value, each.low, each.high) for each in found.differences.values()} == {(0.0, 0.0, 0.0)}
    assert (found.only_first, found.only_second) == (0, 0)


def test_rows_that_one_model_alone_calls_right_by_hand():
    y = np.array([1, 1, 1, 0, 0, 0, 1], np.uint8)
    first = np.array([2.0, 1.0, -1.0, -1.0, 1.0, 0.2, 3.0])  # right: 1 1 0 1 0 0 1
    second = np.array([2.0, -1.0, 1.0, -1.0, -1.0, -1.0, -3.0])  # right: 1 0 1 1 1 1 0
    found = compare_paired(SplitScores(first, y), SplitScores(second, y), seed=0)
    assert (found.rows, found.only_first, found.only_second) == (7, 2, 3)
    assert found.differences["accuracy"].value == pytest.approx(1 / 7)
    # From 0.6 on the first calls the row of 0.2 (p = 0.55) negative, and it is; a row of weight 0 does not count.
    weight = np.array([1, 1, 1, 1, 1, 1, 0.0])
    given = SplitScores(first, y, weight), SplitScores(second, y, weight)
    found = compare_paired(*given, thresholds=(0.6, 0.5), seed=0)
    assert (found.rows, found.only_first, found.only_second) == (6, 1, 2)


def test_of_one_class_there_is_no_area_and_other_rows_are_refused():
    z, y = np.linspace(-1, 1, 20), np.zeros(20, np.uint8)
    found = compare_paired(SplitScores(z, y), SplitScores(z + 1, y), seed=0)
    assert set(found.differences) == {"log_loss", "accuracy", "brier"}
    for other in (SplitScores(z, 1 - y), SplitScores(z, y, np.ones(20)), SplitScores(z[1:], y[1:])):
        with pytest.raises(ValueError, match="same rows"):
            compare_paired(SplitScores(z, y), other, seed=0)
    wide = SplitScores(z, y, np.linspace(0.1, 1, 20))
    assert wide.same_rows(SplitScores(z, y, np.linspace(0.1, 1, 20).astype(np.float32)))


@pytest.mark.parametrize(("pulls", "area"), [(roc_area_pulls, 0), (average_precision_pulls, 1)])
def test_pulls_are_derivatives_by_the_share_of_the_weight(pulls, area):
    split, _ = models(40, weighted=True)
    split = SplitScores(split.logits.round(1), split.y, split.sample_weight / split.sample_weight.sum())  # with ties
    found, step = [], 1e-6
    for row in np.eye(40):
        up, down = (SplitScores(split.logits, split.y, split.sample_weight + sign * step * row) for sign in (1, -1))
        found.append((up.ranking.areas[area] - down.ranking.areas[area]) / (2 * step))
    np.testing.assert_allclose(pulls(split), found, atol=1e-7)
