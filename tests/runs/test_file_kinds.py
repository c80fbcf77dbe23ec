"""The same numbers in every kind of file give the same model, the same predictions and the same metrics."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flashlogit.commands.main import run_command
from flashlogit.models.model import Model

OPTIONS = ("data.source=file", "data.dtype=float64", "solver.name=auto", "solver.tolerance=1e-12", "report.html=false")
OPTIONS = (*OPTIONS, "loss.l2=1e-3", "loss.eps=0")


def test_file_kinds_agree(train, tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "d.npz", X=X, y=y)
    pd.DataFrame(X, columns=["x_0", "x_1", "x_2", "x_3"]).assign(y=y).to_csv(tmp_path / "d.csv", index=False)
    pq.write_table(pa.table({"x": pa.array(list(X), pa.list_(pa.float64(), 4)), "y": y}), tmp_path / "d.parquet")
    found = {}
    for kind, path in {"csv": "d.csv", "npy": "X.npy", "npz": "d.npz", "parquet": "d.parquet"}.items():
        labels = [f"data.labels={tmp_path}/y.npy"] if kind == "npy" else []
        train(f"name={kind}", f"data.path={tmp_path}/{path}", *labels)
        given = ["--model", str(tmp_path / kind), "--data", str(tmp_path / path)]
        assert run_command("predict", [*given, "--out", f"{tmp_path}/{kind}.p.csv"]) == 0
        capsys.readouterr()
        labels = ["--labels", f"{tmp_path}/y.npy"] if kind == "npy" else []
        assert run_command("evaluate", [*given, *labels, "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert run_command("inspect", [str(tmp_path / path), *labels, "--label", "y", "--json"]) == 0
        classes = json.loads(capsys.readouterr().out)["classes"]
        model, p = Model.load(tmp_path / kind), pd.read_csv(tmp_path / f"{kind}.p.csv").probability
        found[kind] = [
            *model.weight,
            *model.bias,
            metrics["log_loss"],
            metrics["roc_auc"],
            *p,
            *dict(sorted(classes)).values(),
        ]
    for kind, values in found.items():
        assert values == pytest.approx(found["csv"], abs=1e-10, rel=0), kind


def test_evaluation_asks_for_the_file_of_labels(train, tmp_path, capsys):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(80, 2)))
    np.save(tmp_path / "y.npy", np.arange(80) % 2)
    train("name=npy", f"data.path={tmp_path}/X.npy", f"data.labels={tmp_path}/y.npy")
    given = ["--model", str(tmp_path / "npy"), "--data", f"{tmp_path}/X.npy"]
    assert run_command("evaluate", given) == 2
    assert "--labels" in capsys.readouterr().err
    np.save(tmp_path / "short.npy", np.arange(79) % 2)
    assert run_command("evaluate", [*given, "--labels", f"{tmp_path}/short.npy"]) == 2
    assert "79 rows" in capsys.readouterr().err


def test_a_group_split_is_the_seeds_and_said(train, tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=300), "p": rng.integers(0, 40, 300), "y": np.arange(300) % 2})
    table.to_csv(tmp_path / "d.csv", index=False)
    given = [f"data.path={tmp_path}/d.csv", "data.group=p"]
    said = {name: train(f"name={name}", *given, f"seed={seed}") for name, seed in (("a", 1), ("b", 1), ("c", 2))}
    bias = {name: Model.load(tmp_path / name).bias[0] for name in said}
    assert "note: Split by whole groups of p" in said["a"]
    assert bias["a"] == bias["b"] != bias["c"]
    assert Model.load(tmp_path / "a").feature_names == ("a",)


def test_libsvm_indices_that_a_model_does_not_know(train, tmp_path, capsys):
    rows = "".join(f"{i % 2} 1:{i % 5} 3:{i % 3 + i % 2}\n" for i in range(80))
    (tmp_path / "d.svmlight").write_text(rows)
    (tmp_path / "new.svmlight").write_text(rows.replace("\n", " 7:1\n"))
    train("name=svm", f"data.path={tmp_path}/d.svmlight")
    told = []
    for name, more in (("d", []), ("new", ["--ignore-unknown-features"])):
        given = ["--model", str(tmp_path / "svm"), "--data", f"{tmp_path}/{name}.svmlight"]
        assert run_command("predict", [*given, *more, "--out", f"{tmp_path}/{name}.csv"]) == 0
        capsys.readouterr()
        assert run_command("evaluate", [*given, *more, "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        told.append((metrics["rows"], metrics["log_loss"], (tmp_path / f"{name}.csv").read_text()))
    assert told[0] == told[1]
    for command in (["predict", "--out", f"{tmp_path}/p.csv"], ["evaluate"]):
        assert run_command(command[0], [*given, *command[1:]]) == 2
        assert "--ignore-unknown-features" in capsys.readouterr().err
