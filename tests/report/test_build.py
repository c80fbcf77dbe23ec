"""What a report says of decisions and of coefficients, against numpy and scikit-learn."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from reports import LOSSES, TRAINED, counts, model_of, one_class, report, scores
from scipy.special import expit
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from flashlogit import LogisticRegression
from flashlogit.commands.main import main
from flashlogit.data.columns.encoding import CategoryColumn, Encoding, NumberColumn
from flashlogit.fitting.inference import Inference
from flashlogit.metrics.evaluation import rates
from flashlogit.metrics.scores import SplitScores
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.charts import by_class, coefficients_chart
from flashlogit.report.coefficients import (
    LARGEST,
    OTHERS,
    Coefficient,
    Coefficients,
    coefficient_table,
    rank_coefficients,
)
from flashlogit.report.decisions import CURVE_POINTS, THRESHOLDS, decide, threshold_stops
from flashlogit.report.importance import contribution_deviation

STATISTICS = ["standard_error", "z", "p_value", "ci_low", "ci_high"]


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
    np.testing.assert_allclose(made.confusions[0].weight, expected)
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


def test_unpenalised_run_has_the_estimators_statistics(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    X = pd.DataFrame(X[:, [0, 1, 4]], columns=["radius", "texture", "smoothness"])
    X.assign(y=y).to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "config.yaml").write_text(
        f"name: a\noutput: {tmp_path}\ndata: {{source: file, path: {tmp_path}/data.csv, dtype: float64,"
        " split: {validation: 0, test: 0}}\nsolver: {name: newton, tolerance: 1e-12}\nreport: {html: false}\n"
    )
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--quiet"]) == 0
    found, model = pd.read_csv(tmp_path / "a/coefficients.csv"), LogisticRegression(C=np.inf, tol=1e-12).fit(X, y)
    assert list(found.column) == [*X.columns, "(intercept)"]
    np.testing.assert_allclose(found.coefficient, [*model.coef_[0], *model.intercept_], rtol=1e-6)
    np.testing.assert_allclose(found[STATISTICS].T, [getattr(model.inference_, name) for name in STATISTICS], rtol=1e-5)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A table in a file, and what a run of it writes: coefficients by column, the page, and the notes."""
    folder = tmp_path_factory.mktemp("survey")
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"region": rng.choice(["north", "south", "east"], 600), "age": rng.normal(45, 12, 600)})
    table["y"] = (rng.random(600) < expit(0.04 * table.age - 2 + 0.7 * (table.region == "south"))).astype(int)
    table.to_csv(folder / "t.csv", index=False)
    (folder / "c.yaml").write_text(
        f"name: a\noutput: {folder}\ndata: {{source: file, path: {folder}/t.csv, split: {{validation: 0, test: 0}}}}\n"
        "solver: {tolerance: 1e-12}\n"
    )

    def run(name, *overrides):
        assert main(["train", "--config", str(folder / "c.yaml"), "--quiet", f"name={name}", *overrides]) == 0
        notes = json.loads((folder / name / "metrics.json").read_text())["run"]["notes"]
        page = (folder / name / "report.html").read_text()
        return pd.read_csv(folder / name / "coefficients.csv").set_index("column"), page, " ".join(notes)

    return table, run


@pytest.mark.parametrize(("reference", "override"), [(None, []), ("east", ["data.categories.baseline.region=east"])])
def test_categories_of_an_unpenalised_run_are_against_a_reference_that_is_named(survey, reference, override):
    table, run = survey
    found, page, notes = run(f"against_{reference}", *override)
    reference = reference or table.region.value_counts().index[0]
    truth = smf.logit(f"y ~ C(region, Treatment('{reference}')) + age", table).fit(disp=0, tol=1e-14, method="newton")
    assert list(found) == ["coefficient", "odds_ratio", *STATISTICS, "note"]
    others = [f"region={value}" for value in sorted({*table.region} - {reference})]
    assert found.index.tolist() == [f"region={reference}", *others, "age", "(intercept)"]
    first = found.iloc[0]
    assert (first.coefficient, first.odds_ratio, first.note) == (0, 1, "reference")
    assert first[STATISTICS].isna().all()
    assert found.note[1:].isna().all()
    order = [*others, "age", "(intercept)"]
    np.testing.assert_allclose(found.loc[order, "coefficient"], truth.params.iloc[[1, 2, 3, 0]], rtol=1e-5)
    np.testing.assert_allclose(found.loc[order, "standard_error"], truth.bse.iloc[[1, 2, 3, 0]], rtol=1e-5)
    assert f'<span class="name">region={reference}</span> (reference)' in page
    assert notes == ""


def test_beside_all_categories_the_other_columns_keep_their_standard_errors(survey):
    table, run = survey
    found, _, notes = run("full", "data.categories.baseline=false")
    truth = smf.logit("y ~ C(region) + age", table).fit(disp=0, tol=1e-14, method="newton")
    np.testing.assert_allclose(found.loc["age", "standard_error"], truth.bse["age"], rtol=1e-5)
    free = [*(f"region={value}" for value in ("east", "north", "south")), "(intercept)"]
    assert found.index[found.standard_error.isna()].tolist() == found.index[found.note == "not identified"].tolist()
    assert found.index[found.standard_error.isna()].tolist() == free
    assert all(f'"{name}"' in notes for name in free)
    assert "set data.categories.baseline to true" in notes
    penalised, page, notes = run("penalised", "loss.l2=0.01")
    assert penalised.index.tolist() == found.index.tolist()
    assert penalised.note.isna().all()
    assert "(reference)" not in page


@pytest.mark.parametrize("K", [2, 3])
def test_references_stand_before_their_columns_and_last_in_the_report(K):
    values = CategoryColumn("c", ("v", "w"), baseline="u"), CategoryColumn("d", (), baseline="x")
    encoding = Encoding((NumberColumn("a"), *values, NumberColumn("b")))
    model = replace(model_of(K, columns=4, names=encoding.features), encoding=encoding)
    names = ["a", "c=u", "c=v", "c=w", "d=x", "b", "(intercept)"]
    table = coefficient_table(model, None).to_pandas()
    assert table.column.tolist() == names * (1 if K == 2 else K)
    without = coefficient_table(replace(model, encoding=None), None).to_pandas()
    pd.testing.assert_frame_equal(table[table.note == ""].reset_index(drop=True), without)
    assert (table[table.note == "reference"][["coefficient", "odds_ratio"]] == [0, 1]).all(axis=None)
    contribution = contribution_deviation(model, torch.eye(4), np.full(4, 2.0))
    assert contribution[2] == 0, "a column that is its reference alone"
    found = rank_coefficients(model, np.full(4, 2.0), contribution, None, "none")
    lines = {column.name: column.coefficients for column in found.columns}
    assert {name: len(rows) for name, rows in lines.items()} == {
        k: n * (K if K > 2 else 1) for k, n in {"a": 1, "c": 3, "d": 1, "b": 1}.items()
    }
    assert {row.column for row in lines["c"] if row.reference} == {"c=u"}
    assert found.references == ("c=u", "d=x")
    count = 2 if K == 2 else 2 * K
    assert [row.reference for row in found.largest] == [False] * (2 * count) + [True] * count
    assert {row.column for row in found.intercepts} == {"(intercept)"}
    assert len(coefficients_chart(found).panels[0].bars) == 4
    assert len(coefficients_chart(replace(found, columns=())).panels[0].bars) == 2 * count


def test_without_intercept_it_has_no_statistics():
    inference = Inference.of(np.arange(3.0), np.full(3, 0.5), 0.95)
    found = coefficient_table(model_of(columns=3), inference).to_pandas()
    assert found[STATISTICS].notna().sum().tolist() == [3] * 5
    assert found.coefficient.tolist()[:3] == [0, 1, 2]
    assert found.column.iloc[-1] == "(intercept)"


@pytest.mark.parametrize("K", [2, 3])
def test_raw_coefficients_have_odds_ratios_that_multiply_to_1_over_classes(K):
    model = model_of(K, columns=3)
    found = coefficient_table(model, None).to_pandas()
    weight, bias = np.atleast_2d(model.weight) / 2.0, model.bias
    raw = np.column_stack([weight, bias - weight.sum(axis=1) * 3.0])
    np.testing.assert_allclose(found.coefficient, raw.reshape(-1))
    less = raw.mean(axis=0) if K > 2 else 0.0
    np.testing.assert_allclose(found.odds_ratio, np.exp(raw - less).reshape(-1))
    assert list(found.get("class", [])) == ([f"class {k}" for k in range(3) for _ in range(4)] if K > 2 else [])
    assert found[STATISTICS].isna().all(axis=None)


@pytest.mark.parametrize("K", [2, 4])
def test_the_report_orders_them_by_standard_deviations(K):
    columns = LARGEST + OTHERS + 7 if K == 2 else 5
    made = report(K, columns=columns).coefficients
    weights = np.atleast_2d(model_of(K, columns=columns).weight) / 2
    less = weights.mean(axis=0) if K > 2 else np.zeros(columns)
    assert (np.diff(np.abs([row.per_deviation for row in made.largest + made.others])) <= 0).all()
    for row in made.largest:
        k, j = int(row.label.split()[1]) if K > 2 else 0, int(row.column.split()[1])
        found = row.coefficient, row.per_deviation, row.log_odds, row.log_odds_per_deviation
        log_odds = weights[k, j] - less[j]
        assert found == pytest.approx((weights[k, j], 2 * weights[k, j], log_odds, 2 * log_odds))
        assert row.standard_error is None
    if K == 2:
        assert (len(made.largest), len(made.others), made.left_out) == (LARGEST, OTHERS, 7)
    else:
        assert {row.label for row in made.intercepts} == {f"class {k}" for k in range(4)}
        assert sum(row.log_odds for row in made.intercepts) == pytest.approx(0)
    assert all(row.per_deviation is row.log_odds_per_deviation is None for row in made.intercepts)


def test_standard_errors_go_with_their_columns():
    made = report(inferred=True).coefficients
    for row in made.largest:
        assert row.z == pytest.approx(2 * int(row.column.split()[1]))
    assert made.intercepts[0].z == pytest.approx(10)


@pytest.mark.parametrize(
    ("strongest", "ticks"), [(4.3, [-4, -2, 0, 2, 4]), (0.99, [-1, -0.5, 0, 0.5, 1]), (-7e-6, [-5e-6, 0, 5e-6])]
)
def test_bars_have_numbers_on_both_sides(strongest, ticks):
    rows = tuple(Coefficient(name, None, v, v, v, v) for name, v in (("a", strongest), ("b", strongest / 9)))
    (panel,) = coefficients_chart(Coefficients(rows, (), 0, (), "")).panels
    np.testing.assert_allclose(panel.x.ticks, ticks)
    assert [bar.value for bar in panel.bars] == [strongest, strongest / 9]
