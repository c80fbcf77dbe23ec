"""coefficients.csv of a run: raw columns, with statistics where the fit is unpenalised."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from flashlogit import LogisticRegression
from flashlogit.commands.main import main

NEWTON = str(Path(__file__).parents[2] / "configs" / "newton.yaml")
STATISTICS = ["standard_error", "z", "p_value", "ci_low", "ci_high"]


@pytest.fixture
def table(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    frame = pd.DataFrame(X[:, [0, 1, 4]], columns=["radius", "texture", "smoothness"]).assign(y=y)
    frame.to_csv(tmp_path / "data.csv", index=False)
    return frame


def train(tmp_path, *settings):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: a\noutput: {tmp_path}\ndata: {{source: file, path: {tmp_path}/data.csv, dtype: float64,"
        " split: {validation: 0, test: 0}}\nsolver: {name: newton, tolerance: 1e-12}\n"
    )
    assert main(["train", "--config", str(config), "--quiet", *settings]) == 0
    return pd.read_csv(tmp_path / "a" / "coefficients.csv")


def test_unpenalised_run_has_the_estimators_statistics(table, tmp_path):
    found = train(tmp_path)
    X, y = table.drop(columns="y"), table.y
    model = LogisticRegression(C=np.inf, tol=1e-12).fit(X, y)
    assert list(found.column) == [*X.columns, "(intercept)"]
    np.testing.assert_allclose(found.coefficient, [*model.coef_[0], *model.intercept_], rtol=1e-6)
    np.testing.assert_allclose(found.odds_ratio, np.exp(found.coefficient))
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], getattr(model.inference_, name), rtol=1e-5)


def test_without_intercept_it_has_no_statistics(table, tmp_path):
    found = train(tmp_path, "solver.intercept=false", "data.standardize=false")
    assert found[STATISTICS].notna().sum().tolist() == [3] * 5
    assert found.coefficient.iloc[-1] == 0


def test_odds_ratios_of_classes_multiply_to_1_with_l1_too(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = (X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1)
    pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y).to_csv(tmp_path / "data.csv", index=False)
    found = train(tmp_path, "data.label.multiclass=true", "loss.l1=0.05", "loss.l2=0", "solver.name=lbfgs")
    by_column = found.groupby("column")
    assert by_column.coefficient.sum().abs().max() > 0.01
    np.testing.assert_allclose(np.log(found.odds_ratio).groupby(found.column).sum(), 0, atol=1e-12)
    less = found.coefficient - by_column.coefficient.transform("mean")
    np.testing.assert_allclose(found.odds_ratio, np.exp(less))


def test_penalised_run_has_none(table, tmp_path):
    found = train(tmp_path, "loss.l2=0.1")
    assert found[STATISTICS].isna().all(axis=None)
    assert found.coefficient.notna().all()
