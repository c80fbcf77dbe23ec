"""A table with categories, missing values and text labels from the command line, with no code."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashlogit.commands.main import main

N = 1200


@pytest.fixture
def folder(tmp_path):
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
    frame["kind"] = np.array(["a", "b", "c"])[
        np.clip(np.round(z + generator.normal(size=N)), -1, 1).astype(int) + 1
    ]
    frame[:1000].to_csv(tmp_path / "train.csv", index=False)
    frame[1000:].to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "config.yaml").write_text(
        f"name: run\noutput: {tmp_path}\ndata:\n  source: file\n  path: {tmp_path}/train.csv\n  drop: [id, kind]\n"
        "  label: {column: churned}\n  missing: impute\nloss: {l2: 1e-3}\nsolver: {name: auto}\n"
    )
    return tmp_path


def run(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def test_from_inspection_to_probabilities(folder, capsys):
    config = folder / "config.yaml"
    seen = json.loads(run(capsys, "inspect", folder / "train.csv", "--label", "churned", "--json").out)
    assert {column["name"]: column["use"] for column in seen["columns"]} == {
        "id": "category",
        "city": "category",
        "age": "number",
        "member": "number",
        "churned": "category",
        "kind": "category",
    }
    assert sum(count for _, count in seen["classes"]) == 1000
    text = run(capsys, "inspect", folder / "train.csv", "--label", "churned").out
    assert "1,000 rows, 6 columns" in text
    assert "some features lack values" in text

    trained = json.loads(run(capsys, "train", "--config", config, "--json").out)
    assert trained["test"]["roc_auc"] > 0.75
    names = pd.read_csv(folder / "run" / "coefficients.csv").column.tolist()
    assert names == [
        "city=Köln", "city=Rome", "city=Ulm", "city=(missing)", "age", "age (missing)", "member", "(intercept)",
    ]  # fmt: skip

    told = json.loads(
        run(capsys, "evaluate", "--model", folder / "run", "--data", folder / "new.csv", "--json").out
    )
    assert told["rows"] == 200
    assert told["roc_auc"] > 0.75
    out = folder / "p.csv"
    run(
        capsys, "predict", "--model", folder / "run", "--data", folder / "new.csv", "--out", out, "--id", "id"
    )
    predicted = pd.read_csv(out)
    new = pd.read_csv(folder / "new.csv")
    assert set(predicted.prediction) == {"yes", "No"}
    assert (predicted.prediction == new.churned).mean() == pytest.approx(told["accuracy"])
    positive = new.churned == "yes"
    assert predicted.probability[positive].mean() > predicted.probability[~positive].mean()


def test_unknown_category_and_other_order_of_columns(folder, capsys):
    run(capsys, "train", "--config", folder / "config.yaml", "--quiet")
    new = pd.read_csv(folder / "new.csv").drop(columns=["churned", "kind"])
    new.loc[0, "city"] = "Atlantis"
    new[new.columns[::-1]].to_csv(folder / "other.csv", index=False)
    out = folder / "p.csv"
    run(capsys, "predict", "--model", folder / "run", "--data", folder / "other.csv", "--out", out)
    assert pd.read_csv(out).probability.notna().all()
    new.drop(columns="city").to_csv(folder / "other.csv", index=False)
    arguments = [
        "predict",
        "--model",
        folder / "run",
        "--data",
        folder / "other.csv",
        "--out",
        folder / "q.csv",
    ]
    assert 'lacks "city"' in run(capsys, *arguments, code=2).err


def test_missing_values_are_an_error_by_default(folder, capsys):
    told = run(capsys, "train", "--config", folder / "config.yaml", "data.missing=error", code=2).err
    assert told.startswith("error: ")
    assert '"city" (' in told
    assert '"age" (' in told
    assert "set data.missing to impute" in told
    assert told.count("\n") == 1


def test_three_classes(folder, capsys):
    settings = ["data.label={column: kind, multiclass: true}", "data.drop=[id, churned]"]
    config = folder / "config.yaml"
    trained = run(capsys, "train", "--config", config, *settings)
    assert "3 classes: a " in trained.out
    assert "macro F1" in trained.out
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["run"]["relative_gap"] <= 1e-6
    assert metrics["test"]["accuracy"] > 0.5
    told = json.loads(
        run(capsys, "evaluate", "--model", folder / "run", "--data", folder / "new.csv", "--json").out
    )
    out = folder / "p.csv"
    run(capsys, "predict", "--model", folder / "run", "--data", folder / "new.csv", "--out", out)
    predicted = pd.read_csv(out)
    assert list(predicted.columns) == ["probability_a", "probability_b", "probability_c", "prediction"]
    np.testing.assert_allclose(predicted.iloc[:, :3].sum(axis=1), 1.0)
    assert (predicted.prediction == pd.read_csv(folder / "new.csv").kind).mean() == pytest.approx(
        told["accuracy"]
    )
    coefficients = pd.read_csv(folder / "run" / "coefficients.csv")
    assert coefficients["class"].unique().tolist() == ["a", "b", "c"]
    told = run(
        capsys, "predict", "--model", folder / "run", "--data", folder / "new.csv", "--out", folder / "q.csv",
        "--threshold", 0.3, code=2,
    )  # fmt: skip
    assert "has 3 classes" in told.err
    for more, message in (
        ("loss.class_weight={positive: 2}", "there are 3 classes"),
        ("solver=null", "mini-batches do not train"),
    ):
        assert message in run(capsys, "train", "--config", config, *settings, "name=b", more, code=2).err
    again = run(
        capsys, "train", "--config", config, *settings, "name=c", f"solver.start={folder}/run", "--json"
    )
    assert json.loads(again.out)["run"]["iterations"] <= 1
    balanced = run(
        capsys, "train", "--config", config, *settings, "name=d", "loss.class_weight=balanced", "--json"
    )
    assert (
        json.loads(balanced.out)["test"]["balanced_accuracy"] >= metrics["test"]["balanced_accuracy"] - 0.02
    )


def test_three_values_without_a_choice(folder, capsys):
    told = run(capsys, "train", "--config", folder / "config.yaml", "data.label.column=kind", code=2).err
    assert "data.label.multiclass" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "RUN", "--data", "NEW", "--label", "gone"], '--label is "gone"'),
        (
            ["--model", "RUN", "--data", "NEW", "--label", "member", "--weight", "member"],
            "named more than once",
        ),
        (["--model", "RUN", "--data", "UNLABELLED"], 'the run\'s label column is "churned"'),
        (["--model", "RUN", "--data", "NEW", "--label", "kind"], "which the training file does not have"),
        (["--model", "RUN", "--data", "NEW", "--threshold", "2"], "--threshold is 2"),
        (["--model", "RUN", "--data", "gone.csv"], "no such file"),
        (["--model", "gone", "--data", "NEW"], "there is no model"),
    ],
)
def test_evaluate_refuses(folder, capsys, arguments, message):
    run(capsys, "train", "--config", folder / "config.yaml", "--quiet")
    places = {"RUN": folder / "run", "NEW": folder / "new.csv", "UNLABELLED": folder / "unlabelled.csv"}
    pd.read_csv(places["NEW"]).drop(columns="churned").to_csv(places["UNLABELLED"], index=False)
    told = run(capsys, "evaluate", *(places.get(argument, argument) for argument in arguments), code=2).err
    assert message in told
    assert told.count("\n") == 1


def test_inspect_hints(folder, capsys):
    told = run(capsys, "inspect", folder / "train.csv", "--label", "age").out
    assert "nearly every row has a value of its own in id: leave it out" in told
    assert "--above" in told
    assert "--above" not in run(capsys, "inspect", folder / "train.csv", "--label", "id").out


def test_probabilities_of_several_files(folder, capsys):
    run(capsys, "train", "--config", folder / "config.yaml", "--quiet")
    data, out = [folder / "new.csv", folder / "train.csv"], folder / "p.csv"
    run(capsys, "predict", "--model", folder / "run", "--data", *data, "--out", out, "--id", "id")
    assert pd.read_csv(out).id.tolist() == [f"row{i}" for i in (*range(1000, N), *range(1000))]
    told = run(capsys, "predict", "--model", folder / "run", "--data", *data, "--out", data[1], code=2).err
    assert "is the data file itself" in told


def test_inspect_refuses(folder, capsys):
    for arguments, message in (
        (["gone.csv"], "no such file"),
        ([folder / "new.csv", "--label", "chured"], 'did you mean "churned"?'),
        ([folder / "new.csv", "--label", "churned", "--above", "3"], "holds string"),
        ([folder / "new.csv", "--above", "3"], "no --label"),
        ([folder / "new.csv", "--label", "age", "--above", "nan"], "--above is nan; must be a finite number"),
    ):
        told = run(capsys, "inspect", *arguments, code=2).err
        assert message in told
        assert told.count("\n") == 1


def test_labels_by_a_threshold_are_evaluated_alike(folder, capsys):
    settings = ["data.label={column: age, above: 50, missing: drop}", "data.drop=[id, kind]"]
    run(capsys, "train", "--config", folder / "config.yaml", *settings, "--quiet")
    told = json.loads(
        run(capsys, "evaluate", "--model", folder / "run", "--data", folder / "new.csv", "--json").out
    )
    new = pd.read_csv(folder / "new.csv")
    assert told["unlabelled"] == new.age.isna().sum()
    assert told["positives"] == (new.age > 50).sum()


def test_one_value_against_the_rest(folder, capsys):
    settings = ["data.label={column: kind, positive: b}", "data.drop=[id, churned]"]
    run(capsys, "train", "--config", folder / "config.yaml", *settings, "--quiet")
    told = json.loads(
        run(capsys, "evaluate", "--model", folder / "run", "--data", folder / "new.csv", "--json").out
    )
    assert told["positives"] == (pd.read_csv(folder / "new.csv").kind == "b").sum()


def test_a_file_as_spreadsheets_leave_it(tmp_path, capsys):
    """Semicolons, decimal commas, marks of missing values and ids with zeros, from training to probabilities."""
    rows = "".join(f"{i:05d};{i % 7},5;{'Ulm' if i % 3 else '-'};{int(i % 7 > 2)}\n" for i in range(300))
    (tmp_path / "d.csv").write_text("id;dose; city;y\n" + rows + "00300;?;Rome;1\n")
    settings = [
        *(
            "name=run",
            f"output={tmp_path}",
            f"data.path={tmp_path}/d.csv",
            "data.drop=[id]",
            "data.missing=impute",
        ),
        *("data.separator=;", "data.decimal=','", "data.missing_values=['?', '-']", "training=null"),
        *("solver={name: auto}", "report.html=false"),
    ]
    config = Path(__file__).parents[2] / "configs" / "own_file.yaml"
    told = run(capsys, "train", "--config", config, *settings).out
    assert "Categories: city (2 values)" in told
    names = pd.read_csv(tmp_path / "run" / "coefficients.csv").column.tolist()
    assert names == [
        "dose", "dose (missing)", "city=Ulm", "city=(other)", "city=(missing)", "(intercept)"
    ]  # fmt: skip
    told = json.loads(
        run(capsys, "evaluate", "--model", tmp_path / "run", "--data", tmp_path / "d.csv", "--json").out
    )
    assert told["rows"] == 301
    assert told["accuracy"] > 0.99
    out = tmp_path / "p.csv"
    run(
        capsys,
        "predict",
        "--model",
        tmp_path / "run",
        "--data",
        tmp_path / "d.csv",
        "--out",
        out,
        "--id",
        "id",
    )
    assert pd.read_csv(out, dtype=str).id.tolist() == [f"{i:05d}" for i in range(301)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_missing_labels_are_spelled_alike_in_training_and_evaluation(ending, tmp_path, capsys):
    """Also where there is nothing else that the model must know of files of text."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    y = np.where(x + generator.logistic(size=300) > 0, "1", "0").astype(object)
    y[::10] = "?"
    frame, path = pd.DataFrame({"x": x, "y": y}), tmp_path / f"d.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: run\noutput: {tmp_path}\ndata:\n  source: file\n  path: {path}\n  missing_values: ['?']\n"
        "  label: {column: y, missing: drop}\nloss: {l2: 1e-3}\nsolver: {name: auto}\n"
    )
    run(capsys, "train", "--config", config, "--quiet")
    told = run(capsys, "evaluate", "--model", tmp_path / "run", "--data", path, "--json").out
    assert json.loads(told)["unlabelled"] == 30
    assert json.loads(told)["positives"] == (y == "1").sum()


def test_a_model_of_semicolons_is_used_on_other_files(tmp_path, capsys):
    """The separator and the decimal point of a comma-separated file are its own, in predict as in evaluate."""
    rows = [(i % 7 + 0.5, f"{i:03d}", int(i % 7 > 2)) for i in range(200)]
    text = "dose;id;y\n" + "".join(f"{str(a).replace('.', ',')};{b};{c}\n" for a, b, c in rows)
    (tmp_path / "d.csv").write_text(text)
    (tmp_path / "new.csv").write_text("id,dose,y\n" + "".join(f"{b},{a},{c}\n" for a, b, c in rows))
    pd.DataFrame({"id": [998, 999], "dose": [0.5, 6.5]}).to_parquet(tmp_path / "more.parquet")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: run\noutput: {tmp_path}\ndata:\n  source: file\n  path: {tmp_path}/d.csv\n  separator: ';'\n"
        "  decimal: ','\n  drop: [id]\n  label: {column: y}\nloss: {l2: 1e-3}\nsolver: {name: auto}\n"
    )
    run(capsys, "train", "--config", config, "--quiet")
    told = [
        json.loads(
            run(capsys, "evaluate", "--model", tmp_path / "run", "--data", tmp_path / name, "--json").out
        )
        for name in ("d.csv", "new.csv")
    ]
    assert told[0]["accuracy"] == told[1]["accuracy"] == 1
    out, data = tmp_path / "p.csv", [tmp_path / "new.csv", tmp_path / "more.parquet"]
    run(capsys, "predict", "--model", tmp_path / "run", "--data", *data, "--out", out, "--id", "id")
    predicted = pd.read_csv(out, dtype=str)
    assert predicted.id.tolist() == [b for _, b, _ in rows] + ["998", "999"]
    assert predicted.prediction.tolist() == [str(c) for *_, c in rows] + ["0", "1"]
