"""Runs to the optimum: what they say, leave, and go on from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import CONFIGS, history, metrics
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from flashlogit.config.load import load_settings
from flashlogit.models.model import Model
from flashlogit.runs import learning, results

CONFIG, OPTIONS = "newton", ["report.html=false"]
Train = Callable[..., str]


@pytest.mark.parametrize("config", [file.stem for file in sorted(CONFIGS.glob("*.yaml")) if load_settings(file).solver])
def test_every_solver_config_reaches_its_tolerance(config: str, train: Train, tmp_path: Path) -> None:
    small = ["data.rows=20000"] if config == "million" else []
    printed = train(*small, config=config)
    folder = tmp_path / config
    run, rows = metrics(folder)["run"], history(folder)
    assert (run["converged"], run["ending"]) == (True, "tolerance")
    assert 0 <= run["relative_gap"] <= run["tolerance"]
    assert re.search(r"iterations?, [\d.]+ passes over X in [\d.e-]+ s, [\d.e-]+ TB/s", printed)
    assert run["statement"] in printed
    assert (rows[-1]["relative_gap"], rows[-1]["iteration"]) == (run["relative_gap"], run["iterations"])
    assert all(row["gap"] >= 0 for row in rows)
    objectives = [row["objective"] for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    if config == "elastic_net":  # l1 gives exact zeros
        assert 0 < int((load_file(folder / "model.safetensors")["weight"] == 0).sum()) < 30
    keys = "solver ending converged objective null_objective certificate gap relative_gap tolerance statement notes"
    keys += " separation iterations passes terabytes_per_second seconds compile_seconds flashlogit torch gpu threads"
    assert list(run) == ["device", "backend", *keys.split()]


def test_the_coefficients_are_scikit_learns(train: Train, tmp_path: Path) -> None:
    train("solver.tolerance=1e-13", "data.dtype=float64", "data.split.validation=0", "data.split.test=0")
    model = Model.load(tmp_path / "newton")
    data = load_breast_cancer()
    X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    theirs = LogisticRegression(C=1 / (0.01 * 569), solver="newton-cholesky", tol=1e-12)
    theirs.fit(X, data.target == 0)
    assert model.weight.dtype == np.float64
    size = np.linalg.norm(theirs.coef_)
    assert np.linalg.norm(model.weight - theirs.coef_[0]) < 1e-6 * size
    weight, intercept = model.raw()
    z = data.data @ weight[0] + intercept[0]
    np.testing.assert_allclose(z, theirs.decision_function(X), atol=1e-5)
    np.testing.assert_allclose(model.logits(data.data), z, rtol=1e-9, atol=1e-9)


def test_a_run_at_its_limit_says_so_and_goes_on_when_resumed(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "newton"
    printed = train("solver.name=lbfgs", "solver.max_iterations=4")
    run = metrics(folder)["run"]
    assert (run["converged"], run["ending"]) == (False, "limit")
    assert run["relative_gap"] > run["tolerance"]
    assert f"note: stopped at the limit of 4 iterations: the gap is {run['relative_gap']:.1e}" in printed
    assert "raise solver.max_iterations" in printed
    assert "resuming after iteration 4" in train("--resume", "solver.name=lbfgs")
    iterations = [row["iteration"] for row in history(folder)]
    assert iterations[:5] == [0, 1, 2, 3, 4]
    assert iterations == sorted(iterations)
    assert metrics(folder)["run"]["converged"]
    assert "loss.l2 was 0.01 and is 0.5" in train("--resume", "loss.l2=0.5", code=2)


def test_another_run_as_the_start(train: Train, tmp_path: Path) -> None:
    train("name=first", "solver.tolerance=1e-12")
    cold = metrics(tmp_path / "first")["run"]
    start = f"solver.start={tmp_path / 'first'}"
    train("name=second", "loss.l2=0.011", "solver.tolerance=1e-12", start)
    warm = metrics(tmp_path / "second")["run"]
    assert warm["converged"]
    assert warm["iterations"] < cold["iterations"]
    # The same columns in other units: the start is the same model.
    train("name=third", "data.standardize=false", "loss.l2=0", "solver.max_iterations=1", start)
    squares = float(np.square(Model.load(tmp_path / "first").weight).sum())
    assert history(tmp_path / "third")[0]["objective"] == pytest.approx(cold["objective"] - 0.005 * squares, rel=1e-5)


def test_separated_classes_are_named(train: Train, tmp_path: Path) -> None:
    printed = train("loss.l2=0", "report.html=true")
    assert "note: the classes are completely separated by" in printed
    assert "penalty (loss.l2)" in " ".join(printed.split())
    run = metrics(tmp_path / "newton")["run"]
    assert (run["separation"], run["converged"], run["certificate"]) == ("complete", False, "decrement")
    page = (tmp_path / "newton" / "report.html").read_text(encoding="utf-8")
    assert "There are no standard errors: no finite optimum exists: the classes are completely separated" in page


def test_standard_errors_or_the_reason_why_there_are_none(train: Train, tmp_path: Path) -> None:
    data = ["data={source: synthetic, rows: 500, columns: 3}", "loss.l2=0"]
    reasons = {
        "none": [],
        "the fit is penalised": ["loss.l2=0.5"],
        "the fit did not reach an optimum": ["solver.max_iterations=1", "solver.name=lbfgs"],
    }
    for reason, options in reasons.items():
        train(*data, *options, "name=run", "report.html=true", "--overwrite")
        table = pd.read_csv(tmp_path / "run" / "coefficients.csv")
        raw = np.append(*(part[0] for part in Model.load(tmp_path / "run").raw()))
        np.testing.assert_allclose(table["coefficient"], raw, rtol=1e-5)
        page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert (f"There are no standard errors: {reason}" in page) == (reason != "none")
        assert table["standard_error"].notna().all() == (reason == "none")


def test_data_that_no_fit_can_take_end_in_a_sentence(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **options: object) -> None:
        raise ValueError("X is odd")

    train("solver.max_iterations=2")
    monkeypatch.setattr(learning, "fit", refused)
    assert train("name=other", code=2) == "error: X is odd\n"
    assert "X is odd" in train("--resume", code=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_of_classes_are_those_of_all_row_blocks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "cast_rows", lambda X: 16)
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 3, generator=generator).to(dtype)
    weight, bias = torch.randn(4, 3, dtype=torch.float64, generator=generator), torch.arange(4.0).double()
    torch.testing.assert_close(results._logits(X, weight, bias), X.double() @ weight.t() + bias)


def test_no_intercept(train: Train, tmp_path: Path) -> None:
    train("solver.intercept=false")
    assert load_file(tmp_path / "newton" / "model.safetensors")["bias"].item() == 0
    assert metrics(tmp_path / "newton")["run"]["null_objective"] == pytest.approx(np.log(2))
