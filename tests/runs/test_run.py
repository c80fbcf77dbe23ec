"""Whole runs, by mini-batches and to the optimum: what they say and leave, and that stopped ones go on unharmed."""

from __future__ import annotations

import json
import re
from functools import partial
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import CONFIGS, history, metrics
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import expit
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from flashlogit.config.load import load_settings
from flashlogit.data.columns.encoding import Codes
from flashlogit.data.loading import load
from flashlogit.models.model import Model
from flashlogit.report import PICTURES
from flashlogit.runs import results, solving
from flashlogit.training.checkpoint import Checkpoint

CONFIG = "bce"
SMALL = ["training.epochs=6", "training.checkpoint_every=2", "report.html=false"]
SMALL += ["training.early_stopping.patience=100"]


def test_the_default_run_is_good_and_leaves_everything(train, tmp_path):
    printed = train("report.pictures=true")
    folder = tmp_path / "bce"
    files = (
        "config.yaml provenance.json history.jsonl model.safetensors metrics.json coefficients.csv report.html pictures"
    )
    kept = {"checkpoint.safetensors", "predictions.safetensors", ".lock"}
    assert {file.name for file in folder.iterdir()} == {*files.split(), *kept}
    found = metrics(folder)
    assert found["test"]["roc_auc"] >= 0.99
    assert list(found) == ["train", "validation", "test", "intervals", "reference", "run"]
    assert len(history(folder)) == found["run"]["epochs"] >= found["run"]["kept_epoch"]
    assert list(found["run"]) == ["device", "backend", "epochs", "kept_epoch", "flashlogit", "torch", "gpu", "threads"]
    low, high = found["intervals"]["splits"]["validation"]["log_loss"]
    assert low < found["validation"]["log_loss"] < high
    assert "training by mini-batches ends near the optimum" in (folder / "report.html").read_text(encoding="utf-8")
    assert {file.name for file in (folder / "pictures").iterdir()} == set(PICTURES)
    assert "data: 399 train, 85 validation, 85 test rows, 30 columns; 37.1%" in printed
    assert printed.endswith(f"results: {folder}\n")
    # Without a report an earlier one does not stay; what the user keeps there does.
    own = folder / "pictures" / "mine.png"
    own.write_bytes(b"the user's")
    train(*SMALL, "--overwrite")
    assert not (folder / "report.html").exists()
    assert list((folder / "pictures").iterdir()) == [own]
    own.unlink()
    train(*SMALL, "--overwrite")
    assert not (folder / "pictures").exists()


def test_the_model_file_is_a_linear_layer_with_its_context_and_the_config_trains_it_again(train, tmp_path):
    printed = json.loads(train(*SMALL, "report.threshold=0.3", "loss.eps=1e-6", "--json"))
    folder = tmp_path / "bce"
    path = folder / "model.safetensors"
    torch.nn.Linear(30, 1).load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        (value,) = file.metadata().values()
    about = json.loads(value)["content"]
    assert (about["feature_names"][0], about["label_names"]) == ("mean radius", ["benign", "malignant"])
    assert (len(about["standardization"]["mean"]), about["eps"], about["threshold"]) == (30, 1e-6, 0.3)
    # The metrics are those of the model on the raw rows.
    found = metrics(folder)
    assert printed == {"directory": str(folder), **found}
    data = load_breast_cancer()
    right = (expit(Model.load(folder).logits(Codes.of(data.data))) >= 0.3) == (data.target == 0)
    splits = [found[split] for split in ("train", "validation", "test")]
    assert sum(split["rows"] for split in splits) == 569
    assert sum(split["accuracy"] * split["rows"] for split in splits) / 569 == pytest.approx(right.mean())
    train("name=again", config=folder / "config.yaml")
    assert history(tmp_path / "again") == history(folder)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_configs_run_small_in_every_storage_dtype(dtype, train, tmp_path):
    small = ["training.epochs=2", f"data.dtype={dtype}", "report.html=false", "--overwrite"]
    for config, rows in (("bce", []), ("synthetic", ["data.rows=2000"])):
        train(*small, *rows, "name=small", config=config)
        assert metrics(tmp_path / "small")["test"]["roc_auc"] > 0.6


def test_own_file_config_runs_on_a_table_of_its_kind(train, tmp_path):
    """own_file.yaml names a file and columns that only its reader has; here a table with those names stands in."""
    settings = load_settings(CONFIGS / "own_file.yaml").data
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(300, 3)), columns=["a", "b", "c"])
    table[settings.label.column] = (table["a"] + generator.normal(size=300) > 0).astype(int)
    table[[*settings.drop, *([settings.weight] if settings.weight else [])]] = 1.0
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    given = [f"data.path={path}", "name=own", "report.html=false"]
    train(*given, config="own_file")
    assert metrics(tmp_path / "own")["train"]["roc_auc"] > 0.6
    # A checkpoint of other data is refused.
    table.assign(a=1.5 * table["a"]).to_csv(path, index=False)
    assert "the data's fingerprint was" in train(*given, "--resume", config="own_file", code=2)
    trained = {file.stem for file in CONFIGS.glob("*.yaml") if load_settings(file).solver is None}
    assert trained == {"bce", "synthetic"}  # each is run by a test here


def test_class_weights_move_the_decision(train, tmp_path):
    common = ["data.intercept=-2.0", "data.rows=2000", "training.epochs=15", "training.batch_size=128"]
    bias = {}
    for name, weight in (("plain", "null"), ("even", "balanced"), ("own", "{negative: 1.0, positive: 3.0}")):
        train(f"name={name}", f"loss.class_weight={weight}", "report.html=false", *common, config="synthetic")
        bias[name] = Model.load(tmp_path / name).bias[0]
    assert min(bias["even"], bias["own"]) > bias["plain"] + 0.5


def test_columns_as_they_are_have_deviations_too():
    settings = load_settings(CONFIGS / "bce.yaml", ["data.standardize=false", "data.dtype=float64"])
    dataset = load(settings.data, seed=0, device=torch.device("cpu"))
    np.testing.assert_allclose(results.column_deviation(dataset), dataset.train.X.numpy().std(axis=0), rtol=1e-9)


def test_resuming_a_finished_run_with_more_epochs_equals_one_long_run(train, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    train(*SMALL, "name=short", "training.epochs=4")
    before = (short / "model.safetensors").read_bytes()
    assert "nothing was left to train" in train(*SMALL, "name=short", "training.epochs=4", "--resume")
    assert (short / "model.safetensors").read_bytes() == before
    message = train(*SMALL, "name=short", "training.optimizer.lr=0.5", "--resume", code=2)
    assert "training.optimizer.lr was 0.02 and is 0.5" in message
    assert "resuming after epoch 4" in train(*SMALL, "name=short", "training.epochs=9", "--resume")
    train(*SMALL, "name=long", "training.epochs=9")
    assert history(short) == history(long)
    assert (short / "model.safetensors").read_bytes() == (long / "model.safetensors").read_bytes()


@pytest.mark.parametrize("epochs_before", [0, 2])
def test_ctrl_c_within_an_epoch_keeps_the_last_boundary(epochs_before, train, tmp_path, monkeypatch):
    given = [*SMALL, "training.batch_size=100"]  # four batches an epoch
    train(*given, "name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(results.ProgressBar, "update", Mock(side_effect=[None] * 4 * epochs_before + [KeyboardInterrupt]))
        message = train(*given, "name=stopped", code=130)
    assert f"holds the state after epoch {epochs_before}; go on with --resume" in message
    saved = Checkpoint.load(tmp_path / "stopped" / "checkpoint.safetensors")
    assert saved.progress["history_length"] == epochs_before
    train(*given, "name=stopped", "--resume")
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")


# --- Runs to the optimum ------------------------------------------------------------------------------------


@pytest.fixture
def solve(train):
    """Train by newton.yaml unless another config is named."""
    return partial(train, "report.html=false", config="newton")


SOLVED = [path.stem for path in sorted(CONFIGS.glob("*.yaml")) if load_settings(path).solver]


# probes has many models, and own_file has its test above.
@pytest.mark.parametrize("config", [name for name in SOLVED if name not in ("probes", "own_file")])
def test_every_solver_config_reaches_its_tolerance(config, solve, tmp_path):
    small = ["data.rows=20000"] if config == "million" else []
    printed = solve(*small, config=config)
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


def test_the_coefficients_are_scikit_learns(solve, tmp_path):
    solve("solver.tolerance=1e-13", "data.dtype=float64", "data.split.validation=0", "data.split.test=0")
    model = Model.load(tmp_path / "newton")
    data = load_breast_cancer()
    X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    theirs = LogisticRegression(C=1 / (0.01 * 569), solver="newton-cholesky", tol=1e-12).fit(X, data.target == 0)
    assert model.weight.dtype == np.float64
    assert np.linalg.norm(model.weight - theirs.coef_[0]) < 1e-6 * np.linalg.norm(theirs.coef_)
    weight, intercept = model.raw()
    z = data.data @ weight[0] + intercept[0]
    np.testing.assert_allclose(z, theirs.decision_function(X), atol=1e-5)
    np.testing.assert_allclose(model.logits(Codes.of(data.data)), z, rtol=1e-9, atol=1e-9)


def test_a_run_at_its_limit_says_so_and_goes_on_when_resumed(solve, tmp_path):
    folder = tmp_path / "newton"
    printed = solve("solver.name=lbfgs", "solver.max_iterations=4")
    run = metrics(folder)["run"]
    assert (run["converged"], run["ending"]) == (False, "limit")
    assert run["relative_gap"] > run["tolerance"]
    assert f"note: stopped at the limit of 4 iterations: the gap is {run['relative_gap']:.1e}" in printed
    assert "raise solver.max_iterations" in printed
    assert "resuming after iteration 4" in solve("--resume", "solver.name=lbfgs")
    iterations = [row["iteration"] for row in history(folder)]
    assert iterations[:5] == [0, 1, 2, 3, 4]
    assert iterations == sorted(iterations)
    assert metrics(folder)["run"]["converged"]
    assert "loss.l2 was 0.01 and is 0.5" in solve("--resume", "loss.l2=0.5", code=2)


def test_another_run_as_the_start(solve, tmp_path):
    solve("name=first", "solver.tolerance=1e-12")
    cold = metrics(tmp_path / "first")["run"]
    start = f"solver.start={tmp_path / 'first'}"
    solve("name=second", "loss.l2=0.011", "solver.tolerance=1e-12", start)
    warm = metrics(tmp_path / "second")["run"]
    assert warm["converged"]
    assert warm["iterations"] < cold["iterations"]
    # The same columns in other units: the start is the same model.
    solve("name=third", "data.standardize=false", "loss.l2=0", "solver.max_iterations=1", start)
    squares = float(np.square(Model.load(tmp_path / "first").weight).sum())
    assert history(tmp_path / "third")[0]["objective"] == pytest.approx(cold["objective"] - 0.005 * squares, rel=1e-5)


def test_separated_classes_are_named(solve, tmp_path):
    printed = solve("loss.l2=0", "report.html=true")
    assert "note: the classes are completely separated by" in printed
    assert "penalty (loss.l2)" in " ".join(printed.split())
    run = metrics(tmp_path / "newton")["run"]
    assert (run["separation"], run["converged"], run["certificate"]) == ("complete", False, "decrement")
    page = (tmp_path / "newton" / "report.html").read_text(encoding="utf-8")
    assert "There are no standard errors: no finite optimum exists: the classes are completely separated" in page


def test_standard_errors_or_the_reason_why_there_are_none(solve, tmp_path):
    data = ["data={source: synthetic, rows: 500, columns: 3}", "loss.l2=0"]
    reasons = {
        "none": [],
        "the fit is penalised": ["loss.l2=0.5"],
        "the fit did not reach an optimum": ["solver.max_iterations=1", "solver.name=lbfgs"],
    }
    for reason, options in reasons.items():
        solve(*data, *options, "name=run", "report.html=true", "--overwrite")
        table = pd.read_csv(tmp_path / "run" / "coefficients.csv")
        raw = np.append(*(part[0] for part in Model.load(tmp_path / "run").raw()))
        np.testing.assert_allclose(table["coefficient"], raw, rtol=1e-5)
        page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert (f"There are no standard errors: {reason}" in page) == (reason != "none")
        assert table["standard_error"].notna().all() == (reason == "none")


def test_data_that_no_fit_can_take_end_in_a_sentence(solve, monkeypatch):
    solve("solver.max_iterations=2")
    for name in ("fit", "fit_at_once"):
        monkeypatch.setattr(solving, name, Mock(side_effect=ValueError("X is odd")))
    assert solve("name=other", code=2) == "error: X is odd\n"
    assert "X is odd" in solve("--resume", code=2)


def test_a_small_run_of_three_classes_is_fitted_at_once(solve, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    frame["kind"] = rng.integers(3, size=200)
    frame.to_csv(tmp_path / "three.csv", index=False)
    data = [f"data={{source: file, path: {tmp_path}/three.csv, label: {{column: kind, multiclass: true}}}}"]
    data += ["backend=torch", "loss.l2=0.01", "solver.tolerance=1e-12"]
    with monkeypatch.context() as patched:
        patched.setattr(solving, "fit_softmax", Mock(side_effect=AssertionError))
        solve(*data, "name=at_once")
    monkeypatch.setattr(solving, "fit_at_once", Mock(return_value=None))
    solve(*data, "name=in_steps")
    found, expected = (metrics(tmp_path / name)["run"] for name in ("at_once", "in_steps"))
    assert found["objective"] == pytest.approx(expected["objective"], abs=1e-12)
    assert found["gap"] <= 1e-12 * found["null_objective"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_of_classes_are_those_of_all_row_blocks(dtype, monkeypatch):
    monkeypatch.setattr(results, "cast_rows", lambda X: 16)
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 3, generator=generator).to(dtype)
    weight, bias = torch.randn(4, 3, dtype=torch.float64, generator=generator), torch.arange(4.0).double()
    torch.testing.assert_close(results._logits(X, weight, bias), X.double() @ weight.t() + bias)


def test_no_intercept(solve, tmp_path):
    solve("solver.intercept=false")
    assert load_file(tmp_path / "newton" / "model.safetensors")["bias"].item() == 0
    assert metrics(tmp_path / "newton")["run"]["null_objective"] == pytest.approx(np.log(2))
