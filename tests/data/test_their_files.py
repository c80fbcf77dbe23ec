"""A table with categories, missing values and text labels from the command line, with no code."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest

from flashlogit.commands.main import main

N = 1200
CONFIG = """\
name: run
output: .
data: {source: file, path: train.csv, drop: [id, kind], label: {column: churned}, missing: impute}
loss: {l2: 1e-3}
solver: {name: auto}
report: {html: false}
"""
EVALUATE = "evaluate --model run --data new.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files, and a run on them."""
    folder = tmp_path_factory.mktemp("their")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"row{i}" for i in range(N)],
            "city": generator.choice(["Ulm", "Köln", "Rome", None], N, p=[0.4, 0.3, 0.2, 0.1]),
            "age": np.where(generator.random(N) < 0.1, np.nan, generator.normal(50, 10, N).round(1)),
            "member": generator.choice([True, False], N),
        }
    )
    z = (frame.city == "Ulm") * 2.0 + frame.member - 1.5 + (frame.age.fillna(30) - 50) / 10
    frame["churned"] = np.where(z + generator.logistic(size=N) > 0, "yes", "No")
    kinds = np.clip(np.round(z + generator.normal(size=N)), -1, 1).astype(int) + 1
    frame["kind"] = np.array(["a", "b", "c"])[kinds]
    frame[:1000].to_csv(folder / "train.csv", index=False)
    frame[1000:].to_csv(folder / "new.csv", index=False)
    frame[1000:].drop(columns="churned").to_csv(folder / "unlabelled.csv", index=False)
    (folder / "c.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--config", "c.yaml", "--quiet"]) == 0
    return folder


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """Runs a command in the folder: what it says on stdout (as JSON with --json), or the one line of its error."""
    monkeypatch.chdir(folder)

    def run_line(line, *more, code=0):
        assert main([*shlex.split(line), *more]) == code
        said = capsys.readouterr()
        if code:
            assert said.err.startswith("error: ")
            assert said.err.partition("\n\n")[0].strip().count("\n") == 0
        return json.loads(said.out) if "--json" in line else said.err if code else said.out

    return run_line


def train(run, name, *settings, **more):
    return run(f"train --config c.yaml name={name}", *settings, **more)


def test_inspection(run):
    seen = run("inspect train.csv --label churned --json")
    numbers = {column["name"] for column in seen["columns"] if column["use"] == "number"}
    assert numbers == {"age", "member"}
    assert sum(count for _, count in seen["classes"]) == 1000
    text = run("inspect train.csv --label age")
    for word in ("1,000 rows, 6 columns", "lack values, city:", "value of its own in id", "--above"):
        assert word in text
    assert "--above" not in run("inspect train.csv --label id")


REFUSED = [
    (f"{EVALUATE} --label gone", '--label is "gone"'),
    (f"{EVALUATE} --label member --weight member", "named more than once"),
    (f"{EVALUATE} --label kind", "which the training file does not have"),
    ("evaluate --model run --data unlabelled.csv", 'the run\'s label column is "churned"'),
    ("evaluate --model gone --data new.csv", "there is no model"),
    ("predict --model run --data new.csv train.csv --out train.csv", "is the data file itself"),
    ("train --config c.yaml name=x data.missing=error", '"city" ('),
    ("train --config c.yaml name=x data.label.column=kind", "data.label.multiclass"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused(arguments, message, run):
    assert message in run(arguments, code=2)


def test_from_training_to_probabilities(folder, run):
    names = pd.read_csv(folder / "run/coefficients.csv").column.tolist()
    cities = ["city=Köln", "city=Rome", "city=Ulm", "city=(missing)"]
    assert names == [*cities, "age", "age (missing)", "member", "(intercept)"]
    told = run(f"{EVALUATE} --json")
    assert told["rows"] == 200
    assert told["roc_auc"] > 0.75
    run("predict --model run --data new.csv train.csv --out p.csv --id id")
    predicted, new = pd.read_csv(folder / "p.csv"), pd.read_csv(folder / "new.csv")
    assert predicted.id.tolist() == [f"row{i}" for i in (*range(1000, N), *range(1000))]
    assert set(predicted.prediction) == {"yes", "No"}
    assert (predicted.prediction[:200] == new.churned).mean() == pytest.approx(told["accuracy"])
    positive = new.churned == "yes"
    assert predicted.probability[:200][positive].mean() > predicted.probability[:200][~positive].mean()


def test_three_classes(folder, run):
    settings = ["data.label={column: kind, multiclass: true}", "data.drop=[id, churned]"]
    trained = train(run, "classes", *settings)
    assert "3 classes: a " in trained
    assert "macro F1" in trained
    told = run("evaluate --model classes --data new.csv --json")
    assert told["accuracy"] > 0.5
    run("predict --model classes --data new.csv --out k.csv")
    predicted = pd.read_csv(folder / "k.csv")
    assert list(predicted.columns) == ["probability_a", "probability_b", "probability_c", "prediction"]
    np.testing.assert_allclose(predicted.iloc[:, :3].sum(axis=1), 1.0)
    assert (predicted.prediction == pd.read_csv("new.csv").kind).mean() == pytest.approx(told["accuracy"])
    assert pd.read_csv(folder / "classes" / "coefficients.csv")["class"].unique().tolist() == ["a", "b", "c"]
    assert "there are 3 classes" in train(run, "b", *settings, "loss.class_weight={positive: 2}", code=2)
    assert "mini-batches do not train" in train(run, "b", *settings, "solver=null", code=2)
    train(run, "balanced", *settings, "loss.class_weight=balanced", "solver.start=classes")
    balanced = run("evaluate --model balanced --data new.csv --json")
    assert balanced["balanced_accuracy"] >= told["balanced_accuracy"] - 0.02


def test_missing_labels_are_spelled_alike_in_training_and_evaluation(folder, run):
    """Also where there is nothing else that the model must know of files of text."""
    y = np.array(["0", "1"] * 100, dtype=object)
    frame = pd.DataFrame({"x": np.arange(200) % 7 + (y == "1"), "y": np.where(np.arange(200) % 10, y, "?")})
    frame.to_csv(folder / "m.csv", index=False)
    frame.to_parquet(folder / "m.parquet")
    settings = ["data.missing=error", "data.missing_values=['?']", "data.label={column: y, missing: drop}"]
    train(run, "m", *settings, "data.drop=[]", "data.path=m.parquet")
    for ending in ("csv", "parquet"):
        told = run(f"evaluate --model m --data m.{ending} --json")
        assert (told["unlabelled"], told["positives"]) == (20, 100)


def test_a_file_as_spreadsheets_leave_it(folder, run):
    """Semicolons, decimal commas, marks of missing values and ids with zeros, from training to probabilities; the
    separator and the decimal point of other files are their own."""
    rows = [(f"{i:05d}", i % 7 + 0.5, "Ulm" if i % 3 else "-", int(i % 7 > 2)) for i in range(300)]
    text = "".join(";".join(map(str, row)).replace(".", ",") + "\n" for row in rows)
    (folder / "s.csv").write_text("id;dose; city;y\n" + text + "00300;?;Rome;1\n")
    (folder / "commas.csv").write_text("city,id,dose,y\n" + "".join(f"{c},{a},{b},{y}\n" for a, b, c, y in rows))
    settings = ["data.path=s.csv", "data.separator=;", "data.decimal=','", "data.missing_values=['?', '-']"]
    assert "Categories: city (2 values)" in train(run, "sheet", *settings, "data.label.column=y", "data.drop=[id]")
    names = pd.read_csv(folder / "sheet" / "coefficients.csv").column.tolist()
    assert names == ["dose", "dose (missing)", "city=Ulm", "city=(other)", "city=(missing)", "(intercept)"]
    for name, size in (("s.csv", 301), ("commas.csv", 300)):
        told = run(f"evaluate --model sheet --data {name} --json")
        assert told["rows"] == size
        assert told["accuracy"] > 0.99
    run("predict --model sheet --data commas.csv --out s_p.csv --id id")
    predicted = pd.read_csv(folder / "s_p.csv", dtype=str)
    assert predicted.id.tolist() == [f"{i:05d}" for i in range(300)]
    assert predicted.prediction.tolist() == [str(row[-1]) for row in rows]
