"""A model's coefficients on raw columns: coefficients.csv with statistics, and the report's ranking of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reports import model_of, report
from sklearn.datasets import load_breast_cancer

from flashlogit import LogisticRegression
from flashlogit.commands.main import main
from flashlogit.fitting.inference import Inference
from flashlogit.report.charts import coefficients_chart
from flashlogit.report.coefficients import LARGEST, OTHERS, Coefficient, Coefficients, coefficient_table

STATISTICS = ["standard_error", "z", "p_value", "ci_low", "ci_high"]


def test_unpenalised_run_has_the_estimators_statistics(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    X = pd.DataFrame(X[:, [0, 1, 4]], columns=["radius", "texture", "smoothness"])
    X.assign(y=y).to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "config.yaml").write_text(
        f"name: a\noutput: {tmp_path}\ndata: {{source: file, path: {tmp_path}/data.csv, dtype: float64,"
        " split: {validation: 0, test: 0}}\nsolver: {name: newton, tolerance: 1e-12}\nreport: {html: false}\n"
    )
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--quiet"]) == 0
    found = pd.read_csv(tmp_path / "a" / "coefficients.csv")
    model = LogisticRegression(C=np.inf, tol=1e-12).fit(X, y)
    assert list(found.column) == [*X.columns, "(intercept)"]
    np.testing.assert_allclose(found.coefficient, [*model.coef_[0], *model.intercept_], rtol=1e-6)
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], getattr(model.inference_, name), rtol=1e-5)


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
