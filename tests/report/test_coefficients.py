"""coefficients.csv of a run: raw columns, with statistics where the fit is unpenalised."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from flashlogit import LogisticRegression
from flashlogit.commands.main import main
from flashlogit.data import Standardization
from flashlogit.fitting.inference import Inference
from flashlogit.models.model import Model
from flashlogit.report.coefficients import coefficient_table

STATISTICS = ["standard_error", "z", "p_value", "ci_low", "ci_high"]


def table(K, inference=None):
    rng = np.random.default_rng(0)
    model = Model(
        weight=rng.normal(size=(K, 3)) if K > 2 else rng.normal(size=3),
        bias=rng.normal(size=K if K > 2 else 1),
        feature_names=("a", "b", "c"),
        label_names=tuple("xyz"[:K]),
        standardization=Standardization(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])),
        eps=0.0,
        threshold=0.5,
    )
    return model, coefficient_table(model, inference).to_pandas()


def test_unpenalised_run_has_the_estimators_statistics(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    X = pd.DataFrame(X[:, [0, 1, 4]], columns=["radius", "texture", "smoothness"])
    X.assign(y=y).to_csv(tmp_path / "data.csv", index=False)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: a\noutput: {tmp_path}\ndata: {{source: file, path: {tmp_path}/data.csv, dtype: float64,"
        " split: {validation: 0, test: 0}}\nsolver: {name: newton, tolerance: 1e-12}\n"
    )
    assert main(["train", "--config", str(config), "--quiet"]) == 0
    found = pd.read_csv(tmp_path / "a" / "coefficients.csv")
    model = LogisticRegression(C=np.inf, tol=1e-12).fit(X, y)
    assert list(found.column) == [*X.columns, "(intercept)"]
    np.testing.assert_allclose(found.coefficient, [*model.coef_[0], *model.intercept_], rtol=1e-6)
    np.testing.assert_allclose(found.odds_ratio, np.exp(found.coefficient))
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], getattr(model.inference_, name), rtol=1e-5)


def test_without_intercept_it_has_no_statistics():
    _, found = table(2, Inference.of(np.arange(3.0), np.full(3, 0.5), 0.95))
    assert found[STATISTICS].notna().sum().tolist() == [3] * 5
    assert found.coefficient.tolist()[:3] == [0, 1, 2]
    assert found.column.iloc[-1] == "(intercept)"


@pytest.mark.parametrize("K", [2, 3])
def test_raw_coefficients_have_odds_ratios_that_multiply_to_1_over_classes(K):
    model, found = table(K)
    weight, bias = np.atleast_2d(model.weight) / [4.0, 5.0, 6.0], model.bias
    raw = np.column_stack([weight, bias - weight @ [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(found.coefficient, raw.reshape(-1))
    less = raw.mean(axis=0) if K > 2 else 0.0
    np.testing.assert_allclose(found.odds_ratio, np.exp(raw - less).reshape(-1))
    assert list(found.get("class", [])) == ([c for c in "xyz" for _ in range(4)] if K > 2 else [])
    assert found[STATISTICS].isna().all(axis=None)
