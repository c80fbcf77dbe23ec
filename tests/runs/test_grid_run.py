"""Runs that choose their penalty from a grid: against scikit-learn, and what they leave, say and refuse."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from run_files import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from flashlogit.models.model import Model
from flashlogit.report import GRID_PICTURES
from flashlogit.runs import solving

PENALTIES = [0.001, 0.01, 0.1]
QUICK = ["grid={l2: [0.1, 0.001, 0.01], folds: 3}", "report.html=false", "solver.tolerance=1e-10"]
QUICK += ["report.pictures=false", "data.split={validation: 0, test: 0.2}"]


@pytest.fixture
def table(tmp_path):
    """A file of 240 rows in 24 groups and 40 times, and the rows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(240, 3)) * [1, 5, 0.2], columns=["a", "b", "c"])
    frame["y"] = (frame.a + 0.2 * frame.b + rng.logistic(size=240) > 0).astype(int)
    frame["who"], frame["day"] = rng.permutation(240) % 24, rng.permutation(240) % 40
    frame.to_csv(tmp_path / "table.csv", index=False)
    return frame


def of_file(tmp_path, *more, drop="[who, day]"):
    """Overrides of a run on the table that trains on all of its rows."""
    given = ["training=null", "solver={tolerance: 1e-10}", "grid={l2: [0.1, 0.001, 0.01], folds: 4}", "loss=null"]
    given = [*given[:3], f"data={{source: file, path: {tmp_path}/table.csv, drop: {drop}, dtype: float64,"]
    given[3] += " split: {validation: 0, test: 0}}"
    return [*given, "report.html=false", *more]


def test_the_model_is_the_chosen_penalty_on_all_training_rows(train, tmp_path):
    printed = train(*QUICK, config="cv")
    found = metrics(tmp_path / "cv")
    grid = found["grid"]
    losses = [row["held_out_loss"] for row in grid["penalties"]]
    assert [row["penalty"] for row in grid["penalties"]] == PENALTIES
    assert grid["chosen"] == PENALTIES[int(np.argmin(losses))] == grid["l2"]
    assert (grid["l1"], grid["folds"], grid["models"], grid["along"]) == (0, 3, 9, None)
    assert f"l2 = {grid['chosen']:g} has the least mean held-out loss" in printed
    train(*QUICK, "grid=null", f"loss.l2={grid['chosen']}", "name=alone", config="cv")
    one, other = Model.load(tmp_path / "cv"), Model.load(tmp_path / "alone")
    np.testing.assert_array_equal(one.weight, other.weight)
    alone = metrics(tmp_path / "alone")
    assert all(found[split] == alone[split] for split in ("train", "test"))
    assert not (tmp_path / "alone/grid.csv").exists()
    models = pd.read_csv(tmp_path / "cv/grid.csv")
    assert models[["penalty", "fold"]].values.tolist() == [[p, f] for p in PENALTIES for f in (1, 2, 3)]
    assert (models.ending == "tolerance").all()
    assert (models.relative_gap <= 1e-10).all()
    np.testing.assert_allclose(models.groupby("penalty").held_out_loss.mean(), losses)
    errors = models.groupby("penalty").held_out_loss.std() / np.sqrt(3)
    np.testing.assert_allclose(errors, [row["standard_error"] for row in grid["penalties"]])


def test_out_of_fold_probabilities_are_scikit_learns(train, tmp_path, table):
    train(*of_file(tmp_path), "name=a")
    found, grid = pd.read_csv(tmp_path / "a/out_of_fold.csv"), metrics(tmp_path / "a")["grid"]
    assert found.row.tolist() == list(range(1, 241))
    assert found.label.tolist() == table.y.tolist()
    X, y = table[["a", "b", "c"]].to_numpy(), table.y.to_numpy()
    expected = np.empty(240)
    folds = StratifiedKFold(4, shuffle=True, random_state=0).split(X, y)
    for number, (train_rows, test_rows) in enumerate(folds, 1):
        assert (found.fold[test_rows] == number).all()
        here = X[train_rows]
        units = [(each - here.mean(axis=0)) / here.std(axis=0) for each in (here, X[test_rows])]
        C = 1 / (grid["chosen"] * len(here))
        fitted = LogisticRegression(C=C, tol=1e-10).fit(units[0], y[train_rows])
        expected[test_rows] = fitted.predict_proba(units[1])[:, 1]
    np.testing.assert_allclose(found.probability, expected, rtol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.logit)), expected, rtol=1e-4)
    models = pd.read_csv(tmp_path / "a/grid.csv")
    chosen = models[models.penalty == grid["chosen"]].set_index("fold")
    for number, rows in found.groupby("fold"):
        loss = log_loss(table.y[rows.index], rows.probability)
        assert chosen.held_out_loss[number] == pytest.approx(loss)
        assert chosen.roc_auc[number] == pytest.approx(roc_auc_score(table.y[rows.index], rows.probability))


def test_folds_keep_groups_together_or_follow_time(train, tmp_path, table):
    for column, dropped in (("group", "[day]"), ("time", "[who]")):
        name = {"group": "who", "time": "day"}[column]
        train(*of_file(tmp_path, f"data.{column}={name}", "data.split.test=0.2", f"name={column}", drop=dropped))
        found = pd.read_csv(tmp_path / column / "out_of_fold.csv")
        values = table[name][found.row - 1].to_numpy()
        assert metrics(tmp_path / column)["grid"]["along"] == column
        if column == "group":
            assert found.groupby(values).fold.nunique().max() == 1
            assert len(found) == metrics(tmp_path / column)["train"]["rows"]
        else:
            spans = [values[found.fold == fold] for fold in (1, 2, 3, 4)]
            before = values[found.fold.isna()]
            assert found.probability[found.fold.isna()].isna().all()
            assert all(one.max() < other.min() for one, other in zip([before, *spans], spans, strict=False))


def test_softmax_and_one_standard_error_and_l1(train, tmp_path, table):
    table["kind"] = np.where(table.y == 0, "no", np.where(table.a > 1, "much", "some"))
    table.drop(columns="y").to_csv(tmp_path / "table.csv", index=False)
    given = of_file(tmp_path, "data.label={column: kind, multiclass: true}", "name=a")
    train(*given, "grid={l2: [0.001, 0.01, 0.1, 10], folds: 3, select: one_standard_error}")
    found, grid = pd.read_csv(tmp_path / "a/out_of_fold.csv"), metrics(tmp_path / "a")["grid"]
    classes = Model.load(tmp_path / "a").label_names
    p = found[[f"probability_{name}" for name in classes]].to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert found.label.tolist() == table.kind.tolist()
    of_own = p[np.arange(240), [classes.index(each) for each in found.label]]
    losses = pd.Series(-np.log(of_own)).groupby(found.fold).mean()
    rows = {row["penalty"]: row for row in grid["penalties"]}
    assert rows[grid["chosen"]]["held_out_loss"] == pytest.approx(losses.mean())
    assert rows[grid["chosen"]]["roc_auc"] is None
    least = min(rows.values(), key=lambda row: row["held_out_loss"])
    within = [p for p, row in rows.items() if row["held_out_loss"] <= least["held_out_loss"] + least["standard_error"]]
    assert grid["chosen"] == max(within)
    given = of_file(tmp_path, "data.label={column: kind, positive: no}", "name=b")
    train(*given, "grid={l2: [0.3], l1_ratio: 1, folds: 3}")
    grid = metrics(tmp_path / "b")["grid"]
    assert (grid["l1"], grid["l2"], grid["chosen"]) == (0.3, 0, 0.3)
    assert (Model.load(tmp_path / "b").weight == 0).any()


def test_the_page_shows_the_grid_and_a_run_without_one_removes_what_it_left(train, tmp_path):
    train(*QUICK, "report.html=true", config="cv")
    page = (tmp_path / "cv/report.html").read_text(encoding="utf-8")
    assert 'id="penalty-chart-t"' in page
    assert 'id="path-chart-t"' in page
    assert page.count('class="sortable"') == 2
    (tmp_path / "cv/pictures").mkdir()
    (tmp_path / "cv/pictures" / GRID_PICTURES[0]).touch()
    train(*QUICK, "grid=null", "--overwrite", config="cv")
    left = {file.name for file in (tmp_path / "cv").iterdir()}
    assert not {"grid.csv", "out_of_fold.csv", "report.html", "pictures"} & left


def test_a_stopped_grid_starts_again(train, tmp_path, monkeypatch):
    train(*QUICK, "name=whole", config="cv")
    from flashlogit.runs import grid

    solve = grid.fit_many

    def stopped(*args, on_done, **options):
        on_done(4, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "fit_many", stopped)
    said = train(*QUICK, config="cv", code=130)
    assert "4 of 9 models" in said
    monkeypatch.setattr(grid, "fit_many", solve)
    assert "grid.folds was 3" in train(*QUICK, "grid.folds=4", "--resume", config="cv", code=2)
    assert "starts again" in train(*QUICK, "--resume", config="cv")
    one, other = (metrics(tmp_path / name) for name in ("whole", "cv"))
    assert one["train"] == other["train"]
    # One that has its model goes on from there.
    assert "the grid is solved again" in train(*QUICK, "--resume", config="cv")
    assert metrics(tmp_path / "cv")["train"] == one["train"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["data.group=who", "grid.folds=25"],
            "grid.folds is 25; the training rows have 24 groups; set it to at most 24",
        ),
        (["data.time=day", "grid.folds=40"], "set it to at most 39"),
        (["grid.folds=241", "data.split.test=0.5"], "there are 120 rows to train on; set it to at most 120"),
        (["data.label={column: rare}"], 'of fold 4 have none of the class "1"'),
        (["data.label={column: rare}", "solver.name=newton-cg", "grid.l1_ratio=0.5"], "solver.name"),
    ],
)
def test_grids_that_are_refused_before_any_work(given, said, train, tmp_path, table, monkeypatch):
    table.assign(rare=(table.index == 7).astype(int)).to_csv(tmp_path / "table.csv", index=False)
    monkeypatch.setattr(solving, "fit", None)
    dropped = "[day]" if "data.group=who" in given else "[who]" if "data.time=day" in given else "[who, day]"
    if "rare" not in given[0]:
        dropped = dropped.replace("]", ", rare]")
    problem = train(*of_file(tmp_path, *given, "name=a", drop=dropped), code=2)
    assert said in problem
    assert json.dumps(problem).count("\\n") == 1
