"""What columns of the file contribute, which rows are predicted worst, and what a report warns of: against numpy."""

import re

import numpy as np
import pytest
import torch
from reports import model_of, report, scores
from scipy.special import expit
from test_page import Page

from flashlogit.data.columns.encoding import CategoryColumn, Encoding, NumberColumn, Standardization
from flashlogit.metrics.scores import SplitScores
from flashlogit.models.model import Model
from flashlogit.report.charts import coefficients_chart
from flashlogit.report.coefficients import rank_coefficients
from flashlogit.report.importance import contribution_deviation
from flashlogit.report.page import render

CITIES = tuple(f"c{k}" for k in range(30))


def mixed(K=2, *, standardized=True, N=500):
    """A model of a number with a marker, 30 cities and a number; its rows as stored; and the coefficients [K, D] and
    rows in the user's units."""
    rng = np.random.default_rng(3)
    columns = (NumberColumn("fee", fill=5.0, marked=True), CategoryColumn("city", CITIES), NumberColumn("age"))
    D, classes = 33, 1 if K == 2 else K
    raw = np.zeros((N, D))
    raw[:, 0], raw[:, 1] = rng.normal(1e6, 3, N), rng.random(N) < 0.1
    raw[np.arange(N), 2 + rng.integers(0, 30, N)] = 1
    raw[:, 32] = rng.normal(50, 10, N)
    units = Standardization(raw.mean(axis=0), raw.std(axis=0)) if standardized else Standardization.identity(D)
    stored = (raw - units.mean) / units.scale
    weight = rng.normal(size=(classes, D)) / (1 if standardized else raw.std(axis=0))
    encoding = Encoding(columns)
    labels = tuple(f"class {k}" for k in range(K))
    model = Model(
        weight[0] if K == 2 else weight, rng.normal(size=classes), encoding.features, labels, units, eps=0.0,
        threshold=0.5, encoding=encoding,
    )  # fmt: skip
    return model, torch.from_numpy(stored), weight / units.scale, raw


@pytest.mark.parametrize(("K", "standardized"), [(2, True), (2, False), (3, True)])
def test_a_column_contributes_what_all_of_its_features_add_to_the_logit(K, standardized):
    model, X, coefficients, raw = mixed(K, standardized=standardized)
    found = contribution_deviation(model, X, raw.std(axis=0))
    less = coefficients - coefficients.mean(axis=0) if K > 2 else coefficients
    for value, span in zip(found, (slice(0, 2), slice(2, 32), slice(32, 33)), strict=True):
        added = raw[:, span] @ less[:, span].T
        assert value == pytest.approx(np.sqrt(added.var(axis=0).mean()), rel=1e-6)
    # In float32, as rows may be stored, and in blocks of rows it is the same.
    np.testing.assert_allclose(contribution_deviation(model, X.float(), raw.std(axis=0)), found, rtol=1e-4)


def test_another_coding_of_the_same_effect_contributes_the_same():
    model, X, _, raw = mixed()
    shifted = model.weight.copy()
    shifted[2:32] += 2.5 * model.standardization.scale[2:32]  # of all cities: it only moves the intercept
    other = Model(
        shifted, model.bias, model.feature_names, model.label_names, model.standardization, 0.0, 0.5,
        encoding=model.encoding,
    )  # fmt: skip
    deviation = raw.std(axis=0)
    found = [contribution_deviation(each, X, deviation) for each in (model, other)]
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_a_line_a_column_with_its_coefficients_inside():
    model, X, coefficients, raw = mixed()
    deviation = raw.std(axis=0)
    contribution = contribution_deviation(model, X, deviation)
    made = rank_coefficients(model, deviation, contribution, None, "penalised")
    assert [column.name for column in made.columns] == [("fee", "city", "age")[c] for c in np.argsort(-contribution)]
    inside = {column.name: column.coefficients for column in made.columns}
    assert [row.column for row in inside["fee"]] == ["fee", "fee (missing)"]
    cities = [row.coefficient for row in inside["city"]]
    np.testing.assert_allclose(cities, np.sort(coefficients[0, 2:32])[::-1])
    (panel,) = coefficients_chart(made).panels
    assert [bar.value for bar in panel.bars] == np.sort(contribution)[::-1].tolist()
    assert not any(bar.signed for bar in panel.bars)
    shown = Page(render(report(model=model, X=X)))
    lines = [attributes for attributes in shown.all("details") if attributes.get("class") == "column"]
    assert len(lines) == 3
    assert "29 coefficients" not in "".join(shown.text)
    assert "30 coefficients" in "".join(shown.text)
    # With standard errors all coefficients are in one table as well.
    for inferred in (False, True):
        text = render(report(model=model, X=X, inferred=inferred, columns=33))
        assert text.count('<th scope="row"><span class="name">age</span></th>') == 1 + inferred


def test_columns_beyond_the_pages_room_are_counted():
    made = report(4, columns=400).coefficients
    assert sum(len(column.coefficients) for column in made.columns) == 1020
    assert len(made.columns) + made.columns_left_out == 400
    assert made.columns[0].contribution >= made.columns[-1].contribution
    weights = model_of(4, columns=400).weight
    largest = np.sqrt(np.square(weights - weights.mean(axis=0)).mean(axis=0)).max()
    assert made.columns[0].contribution == pytest.approx(largest)
    assert report(columns=400).coefficients.columns == (), "each column has one coefficient"


@pytest.mark.parametrize("K", [2, 3])
def test_the_worst_rows_are_those_of_the_greatest_loss(K):
    splits = {"train": scores(K=K), "test": scores(60, K, 1, weighted=True)}
    test = splits["test"]
    test.sample_weight[:20] = 0
    number = np.random.default_rng(0).permutation(1000)[:60] + 1
    worst = report(K, splits=splits, told={"numbers": {"test": number}}).worst
    P = np.column_stack([1 - expit(test.logits), expit(test.logits)])
    if K > 2:
        P = np.exp(test.logits) / np.exp(test.logits).sum(axis=1, keepdims=True)
    loss = -np.log(P[np.arange(60), test.y])
    order = 20 + np.argsort(-loss[20:])[:12]
    assert [row.number for row in worst.rows] == number[order].tolist()
    np.testing.assert_allclose([row.loss for row in worst.rows], loss[order])
    assert [row.label for row in worst.rows] == [f"class {k}" for k in test.y[order]]
    assert [row.called for row in worst.rows] == [f"class {k}" for k in P[order].argmax(axis=1)]
    shown = P[order, 1] if K == 2 else P[order, test.y[order]]
    np.testing.assert_allclose([row.probability for row in worst.rows], shown)
    share = test.sample_weight / test.sample_weight.sum()
    assert worst.share == pytest.approx((share * loss)[order].sum() / (share * loss).sum())


def test_without_numbers_there_is_no_list_and_the_page_says_why():
    made = report(told={"numbers": {"train": np.arange(500)}})
    assert made.worst is None
    assert "are not kept" in "".join(Page(render(made)).text)


def rows(n=4000, seed=5, *, slope=1.0, shift=0.0, rare=0.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(rare, 1.5, n)
    return SplitScores(z, (rng.random(n) < expit(shift + slope * z)).astype(np.uint8))


def warned(splits, **options):
    return report(splits=splits, **options).warnings


def test_right_probabilities_of_enough_rows_are_no_reason_for_a_warning():
    for seed in range(5):
        assert warned({"train": scores(), "test": rows(seed=seed)}) == ()
    # Off, but by less than matters, of rows enough to be sure of it.
    assert warned({"train": scores(), "test": rows(60_000, shift=0.06)}) == ()
    # Of 60 rows even much more could be chance.
    assert warned({"train": scores(), "test": rows(90, slope=0.8)}) == ()


@pytest.mark.parametrize(
    ("off", "how"),
    [
        ({"slope": 0.5}, "too near 0 and 1"),
        ({"slope": 2.0}, "too far from 0 and 1"),
        ({"shift": -0.5}, "too high"),
        ({"shift": 0.5}, "too low"),
    ],
)
def test_probabilities_that_are_off_are_told(off, how):
    made = report(splits={"train": scores(), "test": rows(**off)})
    (sentence,) = made.warnings
    assert how in sentence
    found = made.questions[0].headline("test").recalibration
    assert f"{found.slope:.2f}" in sentence
    assert f"{found.moved:.4f}" in sentence
    assert found.slope == pytest.approx(off.get("slope", 1.0), rel=0.15)
    (sentence,) = warned({"train": scores(), "test": rows(**off)}, class_weight="balanced")
    assert "loss.class_weight" in sentence


def test_of_several_classes_the_one_that_is_the_most_surely_off_is_told():
    right = {"train": scores(K=3), "test": scores(3000, 3, 1)}
    assert report(3, splits=right).warnings == ()
    wrong = SplitScores(right["test"].logits + np.array([0.0, 0.0, 1.5]), right["test"].y)
    (sentence,) = report(3, splits={**right, "test": wrong}).warnings
    assert "class 2" in sentence
    assert "too high" in sentence


def test_no_held_out_rows_and_few_of_a_class_are_told():
    (sentence,) = warned({"train": scores()})
    assert "data.split.test" in sentence
    few = rows(400, rare=-4.5)
    assert 0 < few.y.sum() < 30
    made = report(splits={"train": scores(), "test": few})
    low, high = made.intervals["test"]["roc_auc"]
    sentence = made.warnings[0]
    for part in (f"Only {few.y.sum()} test rows", f"{low:.4f}", f"{high:.4f}"):
        assert part in sentence


def test_what_others_say_is_shown_with_it():
    told = {"warnings": ["the column <b> tells the label"], "provenance": [("Data", "a.csv, SHA-256 1f3a")]}
    made = report(splits={"train": scores()}, told=told)
    assert made.warnings[0] == "the column <b> tells the label"
    assert len(made.warnings) == 2
    text = render(made)
    first, second = re.search('<ul class="notes warnings"><li>(.*?)</li><li>(.*?)</li></ul>', text).groups()
    assert first == "The column &lt;b&gt; tells the label"
    assert second.startswith("No rows were held out")
    card = dict(re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd>", text.split('id="card"')[1].split("</section>")[0]))
    assert card["Data"] == "a.csv, SHA-256 1f3a"
    assert card["Positive class"] == "\u2068class 1\u2069, against \u2068class 0\u2069"
    assert card["Base rate"] == f"{scores().y.mean():.4f} train"
    assert card["Rows"] == "500 train"
    assert card["Versions"] == "flashlogit 1.2.3, torch 2.0"
    assert card["Penalty"] == "l1 = 0, l2 = 0.1"


def test_each_metric_has_its_reference_on_the_page():
    made = report()
    text = render(made)
    for split, of in made.references.items():
        for name in ("log_loss", "brier", "accuracy", "roc_auc", "average_precision"):
            cells = f"<td>{of.values[name]:.4f}</td><td>{of.better_by[name]:.4f}</td>"
            assert cells.replace("-", "−") in text, (split, name)
    of = made.references["test"]
    assert f"null model: {of.values['log_loss']:.4f}" in text
    assert f"better by {of.better_by['log_loss']:.4f}" in text
