"""Runs to the optimum through the command line's entry point: what they say, leave, and go on from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from flashlogit.commands.shell import train_main
from flashlogit.config.load import load_settings
from flashlogit.models.model import Model
from flashlogit.runs import results
from flashlogit.solvers.search import Search

CONFIGS = Path(__file__).parents[2] / "configs"
NEWTON = str(CONFIGS / "newton.yaml")

Train = Callable[..., str]


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run newton.yaml into tmp_path; gives what was printed."""

    def run(*arguments: str, config: str = NEWTON, code: int = 0) -> str:
        assert train_main(["--config", config, f"output={tmp_path}", *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def report(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["run"]
    return about


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "config", [file.stem for file in sorted(CONFIGS.glob("*.yaml")) if load_settings(file).solver]
)
def test_every_solver_config_reaches_its_tolerance(config: str, train: Train, tmp_path: Path) -> None:
    small = ["data.rows=40000"] if config == "million" else []
    printed = train(*small, config=str(CONFIGS / f"{config}.yaml"))
    folder = tmp_path / config
    about = report(folder)
    assert about["converged"]
    assert about["ending"] == "tolerance"
    assert 0 <= about["relative_gap"] <= about["tolerance"]
    assert re.search(r"iterations?, [\d.]+ passes over X in [\d.e-]+ s, [\d.e-]+ TB/s", printed)
    assert about["statement"] in printed
    rows = history(folder)
    assert rows[-1]["relative_gap"] == about["relative_gap"]
    assert rows[-1]["iteration"] == about["iterations"]
    assert all(row["gap"] >= 0 for row in rows)
    objectives = [row["objective"] for row in rows]
    assert objectives == sorted(objectives, reverse=True)
    assert matplotlib.image.imread(folder / "curves.png").ndim == 3
    assert not list(folder.glob("*.tmp"))


def test_the_coefficients_are_scikit_learns(train: Train, tmp_path: Path) -> None:
    train("solver.tolerance=1e-13", "data.dtype=float64", "data.split.validation=0", "data.split.test=0")
    model = Model.load(tmp_path / "newton")
    data = load_breast_cancer()
    X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    theirs = LogisticRegression(C=1 / (0.01 * 569), solver="newton-cholesky", tol=1e-12).fit(
        X, data.target == 0
    )
    assert model.weight.dtype == np.float64
    assert np.linalg.norm(model.weight - theirs.coef_[0]) < 1e-6 * np.linalg.norm(theirs.coef_)


def test_l1_gives_exact_zeros_in_the_model_file(train: Train, tmp_path: Path) -> None:
    train(config=str(CONFIGS / "elastic_net.yaml"))
    weight = load_file(tmp_path / "elastic_net" / "model.safetensors")["weight"]
    assert 0 < int((weight == 0).sum()) < 30


def test_a_run_at_its_limit_says_what_the_gap_was_and_what_to_do(train: Train, tmp_path: Path) -> None:
    printed = train("solver.name=lbfgs", "solver.max_iterations=3")
    about = report(tmp_path / "newton")
    assert not about["converged"]
    assert about["ending"] == "limit"
    assert about["relative_gap"] > about["tolerance"]
    gap = f"{about['relative_gap']:.1e}"
    assert (
        f"note: stopped at the limit of 3 iterations: the gap is {gap} of the null model's objective"
        in printed
    )
    assert "raise solver.max_iterations" in printed


def test_the_resolved_config_and_a_resumed_run_go_on(train: Train, tmp_path: Path) -> None:
    train("solver.max_iterations=4", "solver.name=lbfgs")
    printed = train("--resume", "solver.name=lbfgs")
    assert "resuming after iteration 4" in printed
    iterations = [row["iteration"] for row in history(tmp_path / "newton")]
    assert iterations[:5] == [0, 1, 2, 3, 4][: len(iterations[:5])]
    assert iterations == sorted(iterations)
    assert report(tmp_path / "newton")["converged"]
    train("name=again", config=str(tmp_path / "newton" / "config.yaml"))
    one, other = (Model.load(tmp_path / name).weight for name in ("newton", "again"))
    assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(other)
    message = train("--resume", "loss.l2=0.5", code=2)
    assert "loss.l2 was 0.01 and is 0.5" in message


def test_ctrl_c_keeps_the_best_point(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, calls = Search.judge, []

    def interrupted(search: Search, new: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return judge(search, new)

    with monkeypatch.context() as patch:
        patch.setattr(Search, "judge", interrupted)
        message = train(code=130)
    assert "holds the state after iteration 3; go on with --resume" in message
    train("--resume")
    assert report(tmp_path / "newton")["converged"]


def test_another_run_as_the_start(train: Train, tmp_path: Path) -> None:
    train("name=first", "solver.tolerance=1e-12")
    cold = report(tmp_path / "first")
    start = f"solver.start={tmp_path / 'first'}"
    train("name=second", "loss.l2=0.011", "solver.tolerance=1e-12", start)
    warm = report(tmp_path / "second")
    assert warm["converged"]
    assert warm["iterations"] < cold["iterations"]
    # The same columns in other units: the start is the same model.
    train("name=third", "data.standardize=false", "loss.l2=0", "solver.max_iterations=1", start)
    assert history(tmp_path / "third")[0]["objective"] == pytest.approx(
        cold["objective"] - 0.005 * float(np.square(Model.load(tmp_path / "first").weight).sum()), rel=1e-5
    )
    assert "there is no such run or model" in train("name=x", "solver.start=nowhere", code=2)


def test_separated_classes_are_named(train: Train, tmp_path: Path) -> None:
    printed = train("loss.l2=0")
    assert "note: the classes are completely separated by" in printed
    assert "add a penalty (loss.l2)" in printed
    about = report(tmp_path / "newton")
    assert about["separation"] == "complete"
    assert not about["converged"]
    assert about["certificate"] == "decrement"
    page = (tmp_path / "newton" / "report.html").read_text(encoding="utf-8")
    assert (
        "There are no standard errors: no finite optimum exists: the classes are completely separated by"
        in page
    )
    assert "classes are separated</span>" in page


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_of_classes_are_one_product_of_row_blocks(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_solver_that_cannot_take_the_problem(train: Train) -> None:
    message = train("solver.name=newton-cg", "loss.l1=0.1", code=2)
    assert 'solver is "newton-cg"; it takes no l1' in message


def test_no_intercept(train: Train, tmp_path: Path) -> None:
    train("solver.intercept=false")
    tensors = load_file(tmp_path / "newton" / "model.safetensors")
    assert tensors["bias"].item() == 0
    assert report(tmp_path / "newton")["null_objective"] == pytest.approx(np.log(2))
