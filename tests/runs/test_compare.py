"""Runs beside each other: differences on the same rows, on a file's rows, settings, files, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_files import made, metrics

from flashlogit.commands.main import run_command
from flashlogit.data.columns.encoding import Codes
from flashlogit.metrics.scores import SplitScores
from flashlogit.models.model import Model
from flashlogit.runs.predictions import Predictions, read_predictions, write_predictions

N = 400


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs of one table: `all` of its columns, `few` of them, and others."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    X = rng.normal(size=(N, 4))
    z = X @ [1.5, 1.0, 0.5, 0.4]
    table = pd.DataFrame(X, columns=list("abcd"))
    table["y"] = (rng.random(N) < 1 / (1 + np.exp(-z))).astype(int)
    table["kind"] = np.digitize(z + rng.normal(size=N), [-1, 1])
    table["weight"] = rng.integers(1, 4, N)
    table.to_csv(folder / "table.csv", index=False)
    (folder / "config.yaml").write_text(
        f"name: all\noutput: {folder}\ndata: {{source: file, path: {folder}/table.csv, columns: [a, b, c, d],"
        " label: {column: y}, split: {validation: 0, test: 0.4}}\n"
        "loss: {l2: 0.01}\nsolver: {name: auto}\nreport: {html: false}\n"
    )
    softmax = "data.label={column: kind, multiclass: true}"
    for given in (
        ["name=all"],
        ["name=few", "data.columns=[a, b]", "loss.l2=0.02"],
        ["name=other_seed", "seed=1"],
        ["name=weighted", "data.weight=weight"],
        ["name=three", softmax],
        ["name=three_few", softmax, "data.columns=[a, b]", "report.threshold=0.4"],
        ["name=grid", "loss.l2=0", "grid={l2: [0.02, 1], folds: 2}"],
        ["name=targets", "data.label={}", "data.targets=[y, kind]"],
    ):
        assert run_command("train", ["--config", f"{folder}/config.yaml", "--quiet", *given]) == 0
    for name in ("twin", "copy", "damaged", "four", "unfinished"):
        shutil.copytree(folder / "all", folder / name)
    config = (folder / "all/config.yaml").read_text()
    (folder / "copy/config.yaml").write_text(config.replace("table.csv", "copy.csv"))
    (folder / "damaged/metrics.json").write_text('{"train": 1}')
    made(np.ones((4, 2)), "ab", "0123").save(folder / "four/model.safetensors")
    (folder / "unfinished/metrics.json").unlink()
    (folder / "unfinished/model.safetensors").unlink()
    return folder


@pytest.fixture
def compare(runs, capsys):
    """Compares runs by their names; gives what was printed, as JSON unless it is refused."""

    def run(*arguments, code=0):
        given = [str(runs / each) if (runs / each).exists() else each for each in arguments]
        assert run_command("compare", given if code else [*given, "--json"]) == code
        captured = capsys.readouterr()
        return captured.err if code else json.loads(captured.out)

    return run


def test_twins_do_not_differ(compare):
    found = compare("all", "twin")
    different = found["differences"]["twin"]
    assert different["rows"] == 160
    assert set(different["metrics"]) == {"log_loss", "accuracy", "brier", "roc_auc", "average_precision"}
    assert all(each == {"value": 0, "low": 0, "high": 0} for each in different["metrics"].values())
    assert different["right_alone"] == {"baseline": 0, "run": 0}
    assert found["settings"] == {}
    assert found["best"]["brier"] == ["all", "twin"]


def test_differences_are_those_of_the_metrics_on_the_same_rows(compare, runs):
    found = compare("all", "few", "grid")
    test, few = metrics(runs / "all")["test"], metrics(runs / "few")["test"]
    assert found["runs"]["few"] == {**few, "intervals": found["runs"]["few"]["intervals"]}
    assert found["runs"]["few"]["intervals"] == metrics(runs / "few")["intervals"]["splits"]["test"]
    for name, each in found["differences"]["few"]["metrics"].items():
        assert each["value"] == pytest.approx(few[name] - test[name], abs=1e-9)
        assert each["low"] <= each["value"] <= each["high"]
    losses = {name: metrics(runs / name)["test"]["log_loss"] for name in ("all", "few", "grid")}
    assert found["best"]["log_loss"] == [min(losses, key=losses.get)]
    table, model = pd.read_csv(runs / "table.csv"), Model.load(runs / "few")
    kept = read_predictions(runs / "few/predictions.safetensors", "test", 2)
    rows = table.iloc[kept.number - 1]
    np.testing.assert_array_equal(rows.y, kept.scores.y)
    np.testing.assert_allclose(model.logits(Codes.of(rows[["a", "b"]].to_numpy())), kept.scores.logits, atol=1e-5)
    right = [
        (Model.load(runs / name).logits(Codes.of(rows[list(columns)].to_numpy())) > 0) == rows.y
        for name, columns in (("all", "abcd"), ("few", "ab"))
    ]
    alone = {"baseline": int((right[0] & ~right[1]).sum()), "run": int((right[1] & ~right[0]).sum())}
    assert found["differences"]["few"]["right_alone"] == alone
    assert alone["baseline"] > 0 < alone["run"]
    swapped = compare("all", "few", "--baseline", "few")["differences"]["all"]
    assert swapped["metrics"]["brier"]["value"] == -found["differences"]["few"]["metrics"]["brier"]["value"]


def test_settings_that_differ(compare):
    assert compare("all", "few", "other_seed")["settings"] == {
        "seed": {"all": 0, "few": 0, "other_seed": 1},
        "data.columns": {"all": [*"abcd"], "few": ["a", "b"], "other_seed": [*"abcd"]},
        "loss.l2": {"all": 0.01, "few": 0.02, "other_seed": 0.01},
    }
    grid = {"l2": [0.02, 1.0], "l1_ratio": 0.0, "folds": 2, "select": "best"}
    found = compare("all", "grid")["settings"]
    assert found == {"loss.l2": {"all": 0.01, "grid": 0.02}, "grid": {"all": None, "grid": grid}}


def test_softmaxes(compare, runs):
    found = compare("three", "three_few")
    first, second = (metrics(runs / name)["test"] for name in ("three", "three_few"))
    of = found["differences"]["three_few"]["metrics"]
    assert set(of) == {"log_loss", "accuracy", "brier", "macro_roc_auc"}
    for name, each in of.items():
        assert each["value"] == pytest.approx(second[name] - first[name], abs=1e-9)
    assert of["log_loss"]["low"] > 0
    assert found["settings"]["report.threshold"] == {"three": 0.5, "three_few": 0.4}


def test_other_rows_have_no_difference_but_on_a_file(compare, runs):
    for other in ("other_seed", "weighted"):
        found = compare("all", other)
        assert "--data FILE" in found["differences"][other]["why_not"]
        assert found["runs"][other]["log_loss"] == metrics(runs / other)["test"]["log_loss"]
    asked = ["--data", f"{runs}/table.csv", "--label", "y"]
    found = compare("all", "other_seed", "few/model.safetensors", *asked)
    few = f"{runs}/few/model.safetensors"
    assert found["differences"][few]["rows"] == N
    table = pd.read_csv(runs / "table.csv")
    logits = Model.load(runs / "few").logits(Codes.of(table[["a", "b"]].to_numpy()))
    loss = np.logaddexp(0, np.where(table.y, -logits, logits)).mean()
    assert found["runs"][few]["log_loss"] == pytest.approx(loss)
    difference = loss - found["runs"][f"{runs}/all"]["log_loss"]
    assert found["differences"][few]["metrics"]["log_loss"]["value"] == pytest.approx(difference)
    found = compare("targets/targets/y", "all", "--data", f"{runs}/table.csv")
    assert found["differences"]["all"]["rows"] == N


def test_rows_of_files_of_other_names_are_taken_for_the_same_with_a_note(compare):
    found = compare("all", "copy")
    assert found["differences"]["copy"]["metrics"]["log_loss"]["value"] == 0
    assert "copy and all were trained on other files" in found["notes"][0]


def test_of_earlier_versions_and_training_rows_there_is_the_table_alone(compare, runs, tmp_path):
    old = shutil.copytree(runs / "few", tmp_path / "old")
    (old / "predictions.safetensors").unlink()
    found = compare("all", str(old))
    assert "old has no predictions.safetensors" in found["differences"]["old"]["why_not"]
    kept = read_predictions(runs / "few/predictions.safetensors", "test", 2)
    write_predictions(old / "predictions.safetensors", {"test": replace(kept, number=kept.number + 1)})
    assert "on other rows" in compare("all", str(old))["differences"]["old"]["why_not"]
    found = compare("all", "few", "--split", "train")
    assert "training rows" in found["differences"]["few"]["why_not"]
    assert found["runs"]["all"]["rows"] == N - 160
    (old / "predictions.safetensors").write_bytes((runs / "three/predictions.safetensors").read_bytes())
    assert "holds no predictions of the run" in compare("all", str(old), code=2)


def test_predictions_lose_no_digit(tmp_path):
    rng = np.random.default_rng(0)
    for logits in (rng.normal(size=9), rng.normal(size=(9, 3)).astype(np.float32).astype(np.float64)):
        y, weight = np.arange(9) % 2, rng.random(9) if logits.ndim == 1 else None
        written = Predictions(np.arange(9) + 2**32 * (logits.ndim == 1), SplitScores(logits, y, weight))
        write_predictions(tmp_path / "p", {"test": written, "validation": written})
        found = read_predictions(tmp_path / "p", "test", logits.ndim + 1)
        assert found.number.tolist() == written.number.tolist()
        assert found.scores.logits.tolist() == logits.tolist()
        assert (found.scores.sample_weight is None) == (weight is None)
        assert found.scores.same_rows(written.scores)
        assert read_predictions(tmp_path / "p", "train", 2) is None


def test_text_and_files(runs, tmp_path, capsys):
    asked = ["compare", [*(f"{runs}/{name}" for name in ("three", "three_few")), "--out", f"{tmp_path}/out"]]
    assert run_command(*asked) == 0
    text = capsys.readouterr().out
    assert "three_few less three, on the same 160 rows" in text
    assert "  worse\n" in text
    assert "settings that differ: three | three_few\n  data.columns: " in text
    assert max(map(len, text.partition("\n\n")[0].splitlines())) <= 80
    assert "\x1b" not in text
    whole = json.loads((tmp_path / "out/comparison.json").read_text())
    of_runs, differences, settings = (
        pd.read_csv(tmp_path / f"out/{name}.csv", index_col=0) for name in ("runs", "differences", "settings")
    )
    assert of_runs.brier["three"] == whole["runs"]["three"]["brier"]
    assert of_runs.brier_high["three"] == whole["runs"]["three"]["intervals"]["brier"][1]
    row = differences[differences.metric == "accuracy"].loc["three_few"]
    assert row.difference == whole["differences"]["three_few"]["metrics"]["accuracy"]["value"]
    assert row.right_only_run == whole["differences"]["three_few"]["right_alone"]["run"]
    assert (
        settings.loc["report.threshold", "three_few"] == 0.4 or settings.loc["report.threshold", "three_few"] == "0.4"
    )
    assert run_command(*asked) == 2
    assert "--overwrite" in capsys.readouterr().err
    # Without any difference the tables have headings only.
    assert run_command("compare", [f"{runs}/all", f"{runs}/twin", "--out", f"{tmp_path}/out", "--overwrite"]) == 0
    assert pd.read_csv(tmp_path / "out/settings.csv").columns.tolist() == ["setting", "all", "twin"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all"], "two or more runs"),
        (["all", "all/"], "is given twice"),
        (["all", "nothing"], "nothing: there is no such run directory"),
        (["all", "config.yaml"], "config.yaml is a file"),
        (["all", "targets/targets"], "is no run directory"),
        (["all", "unfinished"], "has not finished"),
        (["all", "few", "--split", "tests"], '--split is "tests"; the run'),
        (["all", "few", "--split", "validation"], "it has test, train"),
        (["all", "few", "--split", "test", "--data", "table.csv"], "leave out one of them"),
        (["all", "few", "--label", "y"], "it belongs to --data"),
        (["all", "few", "--baseline", "twin"], "must be one of the runs"),
        (["all", "targets"], "is a run of 2 targets"),
        (["all", "three"], 'three has the classes "0", "1" and "2", and'),
        (["three", "four"], 'has the classes "0", "1", "2" and "3"'),
        (["all", "damaged"], "metrics.json is damaged"),
        (["all", "few", "--out", "table.csv"], "is a file"),
        (["all", "few", "--out", "/nowhere/out"], "make it first"),
    ],
)
def test_what_is_refused(arguments, said, compare):
    told = compare(*arguments, code=2)
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told


def test_comparing_imports_no_torch(runs):
    code = "import sys; from flashlogit.commands.main import main\n"
    code += f"main(['compare', '{runs}/all', '{runs}/few', '--quiet']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == "False\n"
