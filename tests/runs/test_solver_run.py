"""Runs to the optimum: what they say, leave, and go on from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import history, metrics
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from flashlogit.config.load import load_settings
from flashlogit.fitting.fit import FitPoint
from flashlogit.models.model import Model
from flashlogit.runs import by_solver, results
from flashlogit.runs.results import HistoryRow
from flashlogit.runs.solver_progress import SolverProgress

CONFIGS = Path(__file__).parents[2] / "configs"
Train = Callable[..., str]


@pytest.fixture
def train(train: Train) -> Train:
    """Train newton.yaml without a report, unless another config is named."""
    return lambda *arguments, config="newton", code=0: train("report.html=false", *arguments, config=config, code=code)


@pytest.mark.parametrize("config", [file.stem for file in sorted(CONFIGS.glob("*.yaml")) if load_settings(file).solver])
def test_every_solver_config_reaches_its_tolerance(config: str, train: Train, tmp_path: Path) -> None:
    small = ["data.rows=20000"] if config == "million" else []
    printed = train(*small, config=config)
    folder = tmp_path / config
    run, rows = metrics(folder)["run"], history(folder)
    assert run["converged"]
    assert run["ending"] == "tolerance"
    assert 0 <= run["relative_gap"] <= run["tolerance"]
    assert re.search(r"iterations?, [\d.]+ passes over X in [\d.e-]+ s, [\d.e-]+ TB/s", printed)
    assert run["statement"] in printed
    assert rows[-1]["relative_gap"] == run["relative_gap"]
    assert rows[-1]["iteration"] == run["iterations"]
    assert all(row["gap"] >= 0 for row in rows)
    objectives = [row["objective"] for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    if config == "elastic_net":  # l1 gives exact zeros
        assert 0 < int((load_file(folder / "model.safetensors")["weight"] == 0).sum()) < 30
    keys = (
        "device backend solver ending converged objective null_objective certificate gap relative_gap tolerance"
        " statement notes separation iterations passes terabytes_per_second seconds compile_seconds flashlogit torch"
        " gpu threads"
    )
    assert list(run) == keys.split()


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
    assert not run["converged"]
    assert run["ending"] == "limit"
    assert run["relative_gap"] > run["tolerance"]
    assert f"note: stopped at the limit of 4 iterations: the gap is {run['relative_gap']:.1e}" in printed
    assert "raise max_iterations" in printed
    assert "resuming after iteration 4" in train("--resume", "solver.name=lbfgs")
    iterations = [row["iteration"] for row in history(folder)]
    assert iterations[:5] == [0, 1, 2, 3, 4]
    assert iterations == sorted(iterations)
    assert metrics(folder)["run"]["converged"]
    train("name=again", config=folder / "config.yaml")
    one, other = (Model.load(tmp_path / name).weight for name in ("newton", "again"))
    assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(other)
    assert "loss.l2 was 0.01 and is 0.5" in train("--resume", "loss.l2=0.5", code=2)


def test_ctrl_c_keeps_the_best_point(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = SolverProgress.add

    def interrupted(progress: SolverProgress, row: HistoryRow, point: FitPoint) -> None:
        add(progress, row, point)
        if row["iteration"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SolverProgress, "add", interrupted)
        message = train(code=130)
    assert "holds the state after iteration 3; go on with --resume" in message
    train("--resume")
    assert metrics(tmp_path / "newton")["run"]["converged"]


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
    assert "add a penalty (loss.l2)" in printed
    run = metrics(tmp_path / "newton")["run"]
    assert (run["separation"], run["converged"], run["certificate"]) == ("complete", False, "decrement")
    page = (tmp_path / "newton" / "report.html").read_text(encoding="utf-8")
    reason = "There are no standard errors: no finite optimum exists: the classes are completely separated"
    assert reason in page
    assert "classes are separated</span>" in page


def test_standard_errors_or_the_reason_why_there_are_none(train: Train, tmp_path: Path) -> None:
    data = ["data={source: synthetic, rows: 500, columns: 3}", "loss.l2=0"]
    reasons = {
        "none": [],
        "the fit is penalised": ["loss.l2=0.5"],
        "the fit did not reach an optimum": ["solver.max_iterations=1", "solver.name=lbfgs"],
    }
    for number, (reason, options) in enumerate(reasons.items()):
        train(*data, *options, f"name=run{number}", "report.html=true")
        folder = tmp_path / f"run{number}"
        table = pd.read_csv(folder / "coefficients.csv")
        model = Model.load(folder)
        raw = np.append(*(part[0] for part in model.raw()))
        np.testing.assert_allclose(table["coefficient"], raw, rtol=1e-5)
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert (f"There are no standard errors: {reason}" in page) == (reason != "none")
        assert table["standard_error"].notna().all() == (reason == "none")


def test_data_that_no_fit_can_take_end_in_a_sentence(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **options: object) -> None:
        raise ValueError("X is odd")

    train("solver.max_iterations=2")
    monkeypatch.setattr(by_solver, "fit", refused)
    assert train("name=other", code=2) == "error: X is odd\n"
    assert "X is odd" in train("--resume", code=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_of_classes_are_one_product_of_row_blocks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "cast_rows", lambda X: 16)
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 3, generator=generator).to(dtype)
    weight, bias = torch.randn(4, 3, dtype=torch.float64, generator=generator), torch.arange(4.0).double()
    reads = []
    split = torch.split
    monkeypatch.setattr(torch, "split", lambda X, n: [reads.append(len(b)) or b for b in split(X, n)])
    found = results._logits(X, weight, bias)
    torch.testing.assert_close(found, X.double() @ weight.t() + bias)
    assert reads == [16, 16, 16, 2]


def test_no_intercept(train: Train, tmp_path: Path) -> None:
    train("solver.intercept=false")
    assert load_file(tmp_path / "newton" / "model.safetensors")["bias"].item() == 0
    assert metrics(tmp_path / "newton")["run"]["null_objective"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (1e-2, 0.0), (0.0, 1e-2), (1e-2, 1e-3)])
def test_solvers_agree(l1: float, l2: float, K: int, train: Train, tmp_path: Path) -> None:
    """Every solver with every penalty and number of classes; wide tables, whose rows are separable, are another choice
    of `auto` without l1."""
    generator = np.random.default_rng(0)
    for D in (5,) if l1 > 0 else (5, 130):
        X = generator.normal(size=(100, D))
        z = X[:, :2] @ generator.normal(size=(2, K)) + generator.gumbel(size=(100, K))
        table = tmp_path / f"{D}.csv"
        names = ",".join([*(f"x{j}" for j in range(D)), "y"])
        np.savetxt(table, np.column_stack([X, z.argmax(axis=1)]), delimiter=",", header=names, comments="")
        config = tmp_path / "file.yaml"
        config.write_text("data: {source: file, label: {column: y}, split: {validation: 0, test: 0}}\n")
        found = {}
        for solver in ("auto", "newton", "newton-cg", "lbfgs"):
            name = f"{solver}{D}"
            options = [f"name={name}", f"data.path={table}", f"data.label.multiclass={K > 2}", "loss.eps=0"]
            options += [f"solver.name={solver}", "solver.tolerance=1e-8", f"loss.l1={l1}", f"loss.l2={l2}"]
            if solver == "newton-cg" and l1 > 0:
                assert "newton-cg" in train(*options, config=config, code=2)
                continue
            found[solver] = json.loads(train(*options, "--json", config=config))["run"]
            assert all(math.isfinite(value) for row in history(tmp_path / name) for value in row.values())
            assert np.isfinite(Model.load(tmp_path / name).weight).all()
        if l1 == l2 == 0 and D > 100:
            assert all(run["separation"] for run in found.values())
            continue
        assert all(run["converged"] for run in found.values())
        objectives = [run["objective"] for run in found.values()]
        assert max(objectives) - min(objectives) <= 1.01e-8 * found["auto"]["null_objective"]
