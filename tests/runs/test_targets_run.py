"""Runs of several targets over one X: against runs of one, and what they leave, say and refuse."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import CONFIGS, metrics
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from flashlogit.commands.main import run_command
from flashlogit.config.load import load_settings
from flashlogit.data.columns.encoding import Codes
from flashlogit.data.loading import load
from flashlogit.models.model import Model
from flashlogit.runs import grid as runs_grid

N = 200
X_NAMES = ["x", "z", "w"]


@pytest.fixture
def table(tmp_path):
    """A file of 200 rows with the labels a, b/c with a name that no folder has, which 60 rows lack, and d of three
    classes; and the rows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N, 3)), columns=X_NAMES)
    frame["a"] = (frame.x + rng.logistic(size=N) > 0).astype(int)
    frame["b/c"] = (frame.z + 0.5 * frame.x + rng.logistic(size=N) > 0).astype(float)
    frame.loc[rng.permutation(N)[:60], "b/c"] = np.nan
    frame["d"] = (frame[X_NAMES] + rng.gumbel(size=(N, 3))).to_numpy().argmax(axis=1)
    frame.to_csv(tmp_path / "table.csv", index=False)
    return frame


def given(tmp_path, *more, targets="[a, b/c, d]"):
    """Overrides of a run on the table that trains on all of its rows, with its columns as they are."""
    data = f"data={{source: file, path: {tmp_path}/table.csv, targets: {targets}, dtype: float64, standardize: false,"
    data += " columns: [x, z, w],"
    data += " split: {validation: 0, test: 0}}"
    return [data, "training=null", "solver={tolerance: 1e-10}", "loss.l2=0.05", *more]


def test_every_target_has_the_model_of_its_own_rows(train, tmp_path, table):
    printed = train(*given(tmp_path), "name=many")
    found = pd.read_csv(tmp_path / "many/targets.csv").set_index("target")
    assert list(found.index) == ["a", "b/c", "d"]
    assert found.model.tolist() == ["targets/a", "targets/b_c", "targets/d"]
    assert found.rows.tolist() == [N, N - 60, N]
    assert found.classes.tolist() == [2, 2, 3]
    assert "3 targets, 10.0% of their labels missing" in printed
    assert "held_out_loss" not in found
    for name in ("a", "b/c"):
        known = table[table[name].notna()]
        X, y = known[X_NAMES].to_numpy(), known[name].to_numpy()
        fitted = LogisticRegression(C=1 / (0.05 * len(y)), tol=1e-10).fit(X, y)
        model = Model.load(tmp_path / "many" / found.model[name])
        np.testing.assert_allclose(model.weight, fitted.coef_[0], rtol=1e-4)
        np.testing.assert_allclose(model.bias, fitted.intercept_, atol=1e-4)
        p = fitted.predict_proba(X)[:, 1]
        expected = log_loss(y, p), (fitted.predict(X) == y).mean(), roc_auc_score(y, p)
        shown = found.loc[name, ["train_log_loss", "train_accuracy", "train_roc_auc"]].astype(float)
        np.testing.assert_allclose(shown, expected, rtol=1e-4)
    train(*given(tmp_path, "name=one", "data.targets=null", "data.label={column: d, multiclass: true}"))
    one, many = (Model.load(tmp_path / each) for each in ("one", "many/targets/d"))
    np.testing.assert_allclose(one.weight, many.weight, atol=1e-4)
    run = metrics(tmp_path / "many")["run"]
    assert (run["targets"], run["models"], run["converged"]) == (3, 3, True)
    assert metrics(tmp_path / "many")["targets"]["d"]["train_log_loss"] == found.train_log_loss["d"]


def test_a_targets_config_trains_its_model_alone(train, tmp_path, table):
    train(*given(tmp_path), "name=many", "report.html=false")
    train(config=tmp_path / "many/targets/b_c/config.yaml")
    one, many = (Model.load(tmp_path / each) for each in ("many-b_c", "many/targets/b_c"))
    np.testing.assert_allclose(one.weight, many.weight, atol=1e-5)


def test_probes(train, tmp_path):
    train("data.targets=[digit_0, digit_8]", "report.html=false", config="probes")
    found = pd.read_csv(tmp_path / "probes/targets.csv")
    assert (found.test_roc_auc > 0.98).all()
    assert metrics(tmp_path / "probes")["run"]["converged"]


def test_a_targets_model_predicts_and_is_evaluated(train, tmp_path, table, capsys):
    train(*given(tmp_path), "name=many", "report.html=false")
    out = tmp_path / "p.csv"
    shared = ["--data", str(tmp_path / "table.csv"), "--quiet"]
    assert run_command("predict", ["--model", str(tmp_path / "many/targets/b_c"), *shared, "--out", str(out)]) == 0
    model, predicted = Model.load(tmp_path / "many/targets/b_c"), pd.read_csv(out)
    np.testing.assert_allclose(
        predicted.probability, 1 / (1 + np.exp(-model.logits(Codes.of(table[X_NAMES].to_numpy())))), rtol=1e-9
    )
    asked = ["--model", str(tmp_path / "many/targets/b_c"), "--data", str(tmp_path / "table.csv")]
    capsys.readouterr()
    assert run_command("evaluate", [*asked, "--json"]) == 0  # the folder's config.yaml has the label
    found = pd.read_csv(tmp_path / "many/targets.csv").set_index("target")
    loss = json.loads(capsys.readouterr().out)["log_loss"]
    assert loss == pytest.approx(found.train_log_loss["b/c"])
    # All targets at once, in the columns of one file.
    asked = ["--model", str(tmp_path / "many"), *shared, "--id", "x", "--out", str(tmp_path / "q.csv")]
    assert run_command("predict", asked) == 0
    whole = pd.read_csv(tmp_path / "q.csv")
    of_classes = [f"probability_d_{k}" for k in range(3)]
    assert list(whole) == ["x", "probability_a", "probability_b/c", *of_classes]
    np.testing.assert_array_equal(whole["probability_b/c"], predicted.probability)
    np.testing.assert_allclose(whole[of_classes].sum(axis=1), 1)
    assert run_command("predict", [*asked, "--overwrite", "--threshold", "0.3"]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert run_command("evaluate", ["--model", str(tmp_path / "many"), *shared]) == 2
    assert "give one of them, such as" in capsys.readouterr().err


def test_a_grid_chooses_for_each_target_and_measures_held_out_rows(train, tmp_path, table):
    grid = "grid={l2: [0.001, 0.03, 1], folds: 4}"
    train(*given(tmp_path, grid, "loss.l2=0", "data.split.test=0.2", targets="[b/c, d]"), "name=many")
    found = pd.read_csv(tmp_path / "many/targets.csv").set_index("target")
    models = pd.read_csv(tmp_path / "many/grid.csv")
    assert len(models) == 2 * 3 * 4
    for name, folder in found.model.items():
        means = models[models.target == name].groupby("penalty").held_out_loss.mean()
        assert found.penalty[name] == means.idxmin()
        assert found.held_out_loss[name] == pytest.approx(means.min())
        rows = pd.read_csv(tmp_path / "many" / folder / "out_of_fold.csv")
        assert rows.label.tolist() == table[name][rows.row - 1].astype(int).tolist()
        if name == "d":
            p = rows[[f"probability_{k}" for k in range(3)]].to_numpy()[rows.index, rows.label]
        else:
            p = np.where(rows.label, rows.probability, 1 - rows.probability)
        losses = -np.log(p)
        by_fold = pd.Series(losses).groupby(rows.fold).mean()
        assert by_fold.mean() == pytest.approx(means.min())
        assert found["held-out_log_loss"][name] == pytest.approx(np.mean(losses))
    assert found["test_roc_auc"].notna().all()
    page = (tmp_path / "many/report.html").read_text(encoding="utf-8")
    assert page.count("<template ") == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {"roc0-t", "penalty0-t", "penalty1-t"} <= set(ids)
    assert "roc1-t" not in ids  # of three classes
    # Once more without a grid: what is of the grid does not stay.
    (tmp_path / "many/targets/d/own.txt").touch()
    train(*given(tmp_path, targets="[a]"), "name=many", "--overwrite", "report.html=false")
    left = {str(file.relative_to(tmp_path / "many")) for file in (tmp_path / "many/targets").rglob("*.*")}
    files = ("config.yaml", "model.safetensors", "coefficients.csv")
    assert left == {"targets/d/own.txt", *(f"targets/a/{name}" for name in files)}
    assert not (tmp_path / "many/grid.csv").exists()


def test_all_columns_of_a_file_of_labels_with_weights_and_groups(train, tmp_path, table):
    np.save(tmp_path / "X.npy", table[X_NAMES].to_numpy())
    rng = np.random.default_rng(1)
    labels = table[["a", "b/c"]].assign(who=np.arange(N) % 20, weight=rng.integers(1, 3, N))
    labels.to_csv(tmp_path / "labels.csv", index=False)
    data = f"path: {tmp_path}/X.npy, labels: {tmp_path}/labels.csv, weight: weight, group: who"
    data = f"data={{source: file, {data}, targets: all, split: {{validation: 0, test: 0.2}}}}"
    train(
        data,
        "training=null",
        "solver={name: auto}",
        "grid={l2: [0.01, 0.1], folds: 3}",
        "name=many",
        "report.html=false",
    )
    found = pd.read_csv(tmp_path / "many/targets.csv")
    assert found.target.tolist() == ["a", "b/c"]
    rows = pd.read_csv(tmp_path / "many/targets/a/out_of_fold.csv")
    assert rows.groupby((rows.row - 1) % 20).fold.nunique().max() == 1
    weight = labels.weight[rows.row - 1].to_numpy()
    assert found["held-out_log_loss"][0] == pytest.approx(log_loss(rows.label, rows.probability, sample_weight=weight))
    assert Model.load(tmp_path / "many/targets/a").array_widths == (3,)


def test_the_digits_have_ten_labels():
    settings = load_settings(CONFIGS / "probes.yaml")
    data = load(settings.data, seed=0, device=torch.device("cpu"), origins=True)
    known = load_digits()
    assert data.targets == tuple(f"digit_{k}" for k in range(10))
    rows = data.origins.number - 1
    np.testing.assert_array_equal(data.train.y.numpy().argmax(axis=1), known.target[rows])
    raw = data.train.X.double().numpy() * data.standardization.scale + data.standardization.mean
    np.testing.assert_allclose(raw, known.data[rows], atol=1e-4)
    one = load_settings(CONFIGS / "probes.yaml", ["data.targets=[digit_7]"]).data
    data = load(one, seed=0, device=torch.device("cpu"))
    assert (data.targets, data.train.X.shape[1]) == (("digit_7",), 64)


def test_a_stopped_run_starts_again(train, tmp_path, table, monkeypatch):
    solve, asked = runs_grid.fit_many, [*given(tmp_path), "report.html=false"]

    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs_grid, "fit_many", stopped)
    assert "before any model was done" in train(*asked, code=130)
    monkeypatch.setattr(runs_grid, "fit_many", solve)
    assert "loss.l2 was" in train(*asked, "loss.l2=0.1", "--resume", code=2)
    assert "solved again" in train(*asked, "--resume")
    assert len(pd.read_csv(tmp_path / "run/targets.csv")) == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.targets=[a, nothing]"], '"nothing"'),
        (["data.targets=[a, a]"], 'data.targets lists "a" more than once'),
        (["data.targets=[a, part]"], 'target "part" has the label'),
        (["data.targets=[never]"], 'target "never" has no training row of positive weight of the class 1'),
        (["data.weight=a"], "data.targets names it too"),
        (["data.columns=[x, d]"], "the targets column"),
    ],
)
def test_targets_that_are_refused(more, said, train, tmp_path, table):
    table.assign(never=0, part=0.5).to_csv(tmp_path / "table.csv", index=False)
    assert said in train(*given(tmp_path, *more), code=2)


def test_folds_without_a_label_are_refused_before_any_work(train, tmp_path, table, monkeypatch):
    monkeypatch.setattr(runs_grid, "fit_many", None)
    asked = [*given(tmp_path, targets="[a, b/c]"), "report.html=false"]
    said = train(*asked, "loss.l2=0", "grid={l2: [0.1], folds: 150}", code=2)
    assert "grid.folds is 150" in said
    assert "holds out no row with a label of b/c" in said
    assert f"there are {N - 60} rows" in said
    weighted = table.assign(s=np.where(table.index == 3, 0, 1))
    weighted.to_csv(tmp_path / "table.csv", index=False)
    said = train(*asked, "data.weight=s", "name=weighted", "loss.l2=0", f"grid={{l2: [0.1], folds: {N}}}", code=2)
    assert "holds out no row with a label of" in said


def test_words_are_labels(train, tmp_path, table, capsys):
    train(*given(tmp_path), "name=numbers", "report.html=false")
    words = table.assign(a=table.a.map({0: "no", 1: "yes"}), **{"b/c": table["b/c"].map({0.0: "off", 1.0: "On"})})
    words.to_csv(tmp_path / "table.csv", index=False)
    train(*given(tmp_path), "name=words", "report.html=false")
    found = [pd.read_csv(tmp_path / name / "targets.csv") for name in ("numbers", "words")]
    pd.testing.assert_frame_equal(*found)
    asked = ["--model", str(tmp_path / "words/targets/b_c"), "--data", str(tmp_path / "table.csv"), "--json"]
    capsys.readouterr()
    assert run_command("evaluate", asked) == 0
    assert json.loads(capsys.readouterr().out)["log_loss"] == pytest.approx(found[1].train_log_loss[1])


def test_what_is_not_proven_is_noted(train, tmp_path, table):
    asked = [*given(tmp_path, targets="[d]"), "loss.l2=1e-6", "solver={tolerance: 1e-10, max_iterations: 2}"]
    said = train(*asked, "name=few")
    run = metrics(tmp_path / "few")["run"]
    assert not run["converged"]
    (note,) = run["notes"]
    assert "raise solver.max_iterations" in note
    assert f"note: {note}" in said
    assert note.partition(",")[0] in (tmp_path / "few/report.html").read_text()
    assert "; 1 target\n" in said
    assert "1 of 1 target has" in said


def test_separated_targets_are_named_and_proven_ones_counted(train, tmp_path, table):
    table["a"] = (table.x > 0).astype(int)
    table.to_csv(tmp_path / "table.csv", index=False)
    printed = train(*given(tmp_path, targets="[a, d]"), "loss.l2=0", "name=free")
    run = json.loads((tmp_path / "free/metrics.json").read_text())["run"]
    assert not run["converged"]
    assert "a: separated" in printed
    assert run["largest_relative_gap"] <= 1e-10
