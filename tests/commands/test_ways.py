"""Three ways through the whole program, by the command line in one folder: an analyst's, with a messy file; an
engineer's, with embeddings; and that of whoever serves the model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flashlogit import Predictor
from flashlogit.commands.main import main

Command = Callable[..., str]


@pytest.fixture
def flashlogit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in tmp_path; gives what it printed, the errors where the exit code is not 0."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        found = main(list(words))
        captured = capsys.readouterr()
        assert found == code, captured.err
        return captured.err if code else captured.out

    return run


def churn(rows: int = 1500) -> pd.DataFrame:
    """Customers, of whom some have left, as an export has them."""
    rng = np.random.default_rng(7)
    plan = rng.choice(["free", "basic", "plus"], rows, p=[0.5, 0.3, 0.2])
    fee = rng.gamma(3, 400, rows)
    joined = pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 1500, rows), "D")
    left = rng.random(rows) < 1 / (1 + np.exp(1.5 - 1.5 * (plan == "free") - (joined.year.to_numpy() - 2021) / 2))
    table = pd.DataFrame(
        {
            "customer": [f"C{number:05d}" for number in rng.permutation(rows)],
            "plan": plan,
            "joined": joined.strftime("%d.%m.%Y"),
            "fee": [f"$ {each:,.2f}" for each in fee],
            "fee_eur": (fee * 0.92).round(6),
            "fee_cents": (fee * 92).round(4),
            "age": rng.normal(45, 12, rows).round(1),
            "refund": np.where(left & (rng.random(rows) < 0.9), rng.gamma(2, 20, rows).round(2), np.nan),
            "churned": np.where(left, "Yes", "No"),
        }
    )
    table["age"] = table.age.astype(object).where(rng.random(rows) > 0.05, "?")
    return table


def test_the_analyst(flashlogit: Command, tmp_path: Path) -> None:
    """From a file that nothing has been done to, to a model without its leaks, in two runs."""
    table = churn()
    table.to_csv("churn.csv")  # with the index in front
    seen = flashlogit("inspect", "churn.csv", "--label", "churned")
    assert "refund" in next(line for line in seen.splitlines() if line.startswith("warning"))
    flashlogit("init", "churn.csv")
    doubtful = [line for line in Path("churn.yaml").read_text().splitlines() if line.startswith("    # - ")]
    assert [line.split()[2] for line in doubtful] == ["refund", "fee_cents"]
    first = flashlogit("train", "--config", "churn.yaml")
    warnings = [line for line in first.splitlines() if line.startswith("warning")]
    assert any('"refund"' in line for line in warnings)
    assert any('"fee_eur"' in line and '"fee_cents"' in line for line in warnings)
    drop = "data.drop=[customer, refund, fee_cents]"
    honest = flashlogit("train", "--config", "churn.yaml", "name=honest", drop)
    assert not any("refund" in line for line in honest.splitlines() if line.startswith("warning"))
    compared = flashlogit("compare", "runs/churn", "runs/honest")
    assert "refund" in compared  # the settings that differ
    metrics = [json.loads(Path(f"runs/{name}/metrics.json").read_text()) for name in ("churn", "honest")]
    found = [each["test"]["roc_auc"] for each in metrics]
    assert found[0] > 0.95 > found[1] > 0.65
    page = (tmp_path / "runs/honest/report.html").read_text()
    assert all(words in page for words in ("null model", "Model card", "Worst-predicted rows"))
    unpenalised = flashlogit("train", "--config", "churn.yaml", "name=plain", drop, "loss.l2=0")
    assert "reference free" in unpenalised
    coefficients = pd.read_csv("runs/plain/coefficients.csv").set_index("column")
    assert coefficients.loc["plan=free", "note"] == "reference"
    assert coefficients.loc[["plan=basic", "plan=plus"], "standard_error"].gt(0).all()
    assert coefficients.loc["plan=basic", "ci_high"] < 0  # who pays stays
    flashlogit("predict", "--model", "runs/honest", "--data", "churn.csv", "--out", "p.csv", "--id", "customer")
    told = flashlogit("evaluate", "--model", "runs/honest", "--data", "churn.csv")
    assert "1,200 of the 1,500 rows are training rows" in told
    assert pd.read_csv("p.csv").customer.tolist() == table.customer.tolist()


def test_a_messy_file_takes_two_rounds(flashlogit: Command, tmp_path: Path) -> None:
    """What the first one says is pasted into the config."""
    churn().to_csv("churn.csv")
    config = "name: messy\ndata:\n  source: file\n  path: churn.csv\n  label: {column: churned}\nsolver: {name: auto}\n"
    (tmp_path / "c.yaml").write_text(config)
    told = flashlogit("train", "--config", "c.yaml", code=2)
    assert {"joined", "fee", "age", "customer"} <= {*re.findall(r"joined|fee|age|customer", told)}
    lines = told[told.index("data:\n") :].splitlines()[1:]
    pasted = "\n".join(line for line in lines if line.startswith("  "))
    (tmp_path / "c.yaml").write_text(config.replace("solver:", f"{pasted}\nsolver:"))
    flashlogit("train", "--config", "c.yaml")


def test_the_engineer(flashlogit: Command, tmp_path: Path) -> None:
    """Embeddings in a column of lists, from a file to another program's runtime."""
    rng = np.random.default_rng(1)
    E = rng.normal(size=(800, 16)).astype(np.float32)
    y = (E[:, 0] - E[:, 1] + rng.logistic(size=800) > 0).astype(int)
    for name, rows in (("old", slice(0, 600)), ("new", slice(600, 800))):
        table = {"embedding": list(E[rows]), "id": np.arange(800)[rows], "clicked": y[rows]}
        pq.write_table(pa.table(table), f"{name}.parquet")
    (tmp_path / "c.yaml").write_text(
        "name: probe\ndata: {source: file, path: old.parquet, label: {column: clicked}, drop: [id]}\n"
        "solver: {name: auto}\ngrid: {l2: {from: 1e-5, to: 1, num: 6}}\n"
    )
    assert "warning" not in flashlogit("train", "--config", "c.yaml")
    measured = json.loads(flashlogit("evaluate", "--model", "runs/probe", "--data", "new.parquet", "--json"))
    assert measured["roc_auc"] > 0.7
    assert measured["warnings"] == []
    flashlogit("predict", "--model", "runs/probe", "--data", "new.parquet", "--out", "p.parquet", "--id", "id")
    predicted = pq.read_table("p.parquet")
    assert predicted["id"].to_pylist() == list(range(600, 800))
    flashlogit("export", "--model", "runs/probe", "--out", "probe.onnx")
    session = onnxruntime.InferenceSession("probe.onnx")
    (given,) = session.get_inputs()
    found = session.run(["probabilities"], {given.name: E[600:].astype(np.float64)})[0][:, 1]
    np.testing.assert_allclose(found, predicted["probability"].to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(Predictor.load("runs/probe").probability(E[600:]), found, rtol=1e-6)


def test_who_serves(flashlogit: Command, tmp_path: Path) -> None:
    """A model in a process of its own, a pipe, and an ONNX graph: they say the same of the same records."""
    churn().to_csv("churn.csv", index=False)
    flashlogit("init", "churn.csv")
    flashlogit("train", "--config", "churn.yaml", "--quiet", "data.drop=[customer, refund]")
    model = Predictor.load("runs/churn")
    records = pd.read_csv("churn.csv", dtype=str, keep_default_na=False).head(20).to_dict("records")
    alone = [model.probability(record) for record in records]
    lines = "\n".join(json.dumps(record) for record in [*records, {**records[0], "fee": "3 kg"}])
    command = [sys.executable, "-m", "flashlogit", "predict", "--model", "runs/churn", "--data", "-"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=tmp_path)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose([answer["probability"] for answer in answers[:20]], alone, rtol=1e-12)
    assert ("fee" in answers[20]["error"], done.returncode) == (True, 2)
    flashlogit("export", "--model", "runs/churn", "--out", "m.onnx")
    session = onnxruntime.InferenceSession("m.onnx")
    dates = pd.to_datetime([record["joined"] for record in records], format="%d.%m.%Y")
    columns = {
        "plan": np.array([record["plan"] for record in records], object),
        "joined": dates.to_numpy().astype("datetime64[s]").astype(np.int64),
        "fee": np.array([float(record["fee"].removeprefix("$ ").replace(",", "")) for record in records]),
        **{name: np.array([float(record[name]) for record in records]) for name in ("fee_eur", "fee_cents")},
        "age": np.array([np.nan if record["age"] == "?" else float(record["age"]) for record in records]),
    }
    assert {each.name for each in session.get_inputs()} == {*columns} == {*model.columns}
    found = session.run(["probabilities"], {name: values[:, None] for name, values in columns.items()})[0][:, 1]
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    provenance = json.loads((tmp_path / "runs/churn/provenance.json").read_text())
    assert provenance["files"][0]["bytes"] == (tmp_path / "churn.csv").stat().st_size
