"""Every solver with every penalty, number of classes and width, through the command line: each ends in an answer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from flashlogit.commands.shell import train_main
from flashlogit.models.model import Model

ROWS = 200
PENALTIES = {"none": (0.0, 0.0), "l1": (1e-2, 0.0), "l2": (0.0, 1e-2), "both": (1e-2, 1e-3)}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of every width and number of classes; the wide ones are separable."""
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    for D in (5, 140):
        for K in (2, 3):
            X = generator.normal(size=(ROWS, D))
            z = X[:, :2] @ generator.normal(size=(2, K)) + generator.gumbel(size=(ROWS, K))
            columns = [*(f"x{j}" for j in range(D)), "y"]
            np.savetxt(
                folder / f"{D}_{K}.csv",
                np.column_stack([X, z.argmax(axis=1)]),
                delimiter=",",
                header=",".join(columns),
                comments="",
                fmt=["%.6g"] * D + ["%d"],
            )
    (folder / "config.yaml").write_text(
        "name: run\ndata: {source: file, label: {column: y}, split: {validation: 0, test: 0}}\n"
        "loss: {eps: 0}\nreport: {html: false}\n"
    )
    return folder


@pytest.mark.parametrize("D", [5, 140])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_solvers_agree(
    penalty: str, K: int, D: int, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    l1, l2 = PENALTIES[penalty]
    found = {}
    for solver in ("auto", "newton", "newton-cg", "lbfgs"):
        given = [
            f"name={solver}",
            f"output={tmp_path}",
            f"data.path={tables}/{D}_{K}.csv",
            f"data.label.multiclass={K > 2}",
        ]
        options = [
            f"solver.name={solver}",
            "solver.tolerance=1e-8",
            f"loss.l1={l1}",
            f"loss.l2={l2}",
            "--json",
        ]
        refused = solver == "newton-cg" and l1 > 0
        code = train_main(["--config", str(tables / "config.yaml"), *given, *options])
        printed = capsys.readouterr()
        assert code == (2 if refused else 0), printed.err
        if not refused:
            found[solver] = json.loads(printed.out)["run"]
            rows = [
                json.loads(line) for line in (tmp_path / solver / "history.jsonl").read_text().splitlines()
            ]
            assert all(math.isfinite(value) for row in rows for value in row.values())
            assert np.isfinite(Model.load(tmp_path / solver).weight).all()
    if penalty == "none" and D > 100:
        assert all(run["separation"] for run in found.values())
        return
    assert all(run["converged"] for run in found.values())
    objectives = [run["objective"] for run in found.values()]
    null = found["auto"]["null_objective"]
    assert max(objectives) - min(objectives) <= 1.01e-8 * null
