"""The command `fit`: what it refuses, who competes, and a run from end to end."""

from __future__ import annotations

import importlib
import importlib.util
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fit_samples import small_problem, truth_of

from flashlogit.benchmark import fit_entrants
from flashlogit.benchmark.cli import main
from flashlogit.benchmark.fit_contender import Absent, Contender, FitData, growing, ladder, tolerances
from flashlogit.benchmark.fit_entrants import entrants, matches
from flashlogit.benchmark.fit_options import FitOptions, fit_options
from flashlogit.benchmark.fit_problems import RECIPES, Recipe
from flashlogit.benchmark.fit_truth import reference_optimum


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem called tiny, beside the others."""
    recipe = Recipe(lambda name, N, D: small_problem(N, D), (200, 3), (200, 3), ())
    monkeypatch.setitem(RECIPES, "tiny", recipe)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problems", "1M x 29"], "--problems is '1M x 29'; must be some of '1M x 28'"),
        (["--gap", "0"], "--gap is 0"),
        (["--gap", "1"], "--gap is 1"),
        (["--gap", "nan"], "--gap is nan"),
        (["--C", "0"], "--C is 0"),
        (["--C", "inf"], "--C is inf"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--limit", "0"], "--limit is 0"),
        (["--limit", "nan"], "--limit is nan"),
        (["--devices", "tpu"], "--devices is 'tpu'"),
        (["--out", "missing/a.json"], "missing is not a folder"),
        (["--picture", "a.jpg"], "ends in .png"),
        (["--out", "a.png", "--picture", "a.png"], "name two files"),
        (
            ["--contenders", "scikit-lern*"],
            "--contenders is 'scikit-lern*', which matches none of 'flashlogit'",
        ),
    ],
)
def test_bad_values(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def work(*args: object) -> None:
        raise AssertionError("measured before the options were checked")

    monkeypatch.setattr("flashlogit.benchmark.fit.measure", work)
    assert main(["fit", "--devices", "cpu", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def options(**changes: object) -> FitOptions:
    given: dict[str, object] = dict.fromkeys(("problems", "repeats", "limit", "contenders", "out", "picture"))
    return fit_options(**{"devices": ["cpu"], "quick": False, "gap": 1e-8, "C": 1.0, **given, **changes})


def test_defaults(tmp_path: Path):
    full, quick = options(), options(quick=True)
    assert full.problems == quick.problems == ("1M x 28", "20k x 1024", "569 x 30")
    assert quick.limit < full.limit == 60
    assert quick.repeats < full.repeats
    assert options(repeats=9, limit=2.5).repeats == 9
    assert str(tmp_path) not in str(options(out=tmp_path / "a.json").to_json())


def test_all_problems_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert options(devices=None).devices == ("cuda", "cpu")
    assert options(devices=None).problems == tuple(RECIPES)
    assert len(options(devices=["cpu"]).problems) == 3


def test_ladders():
    assert tolerances(2, 4) == pytest.approx([1e-2, 1e-3, 1e-4])
    assert growing(2, 60) == [2, 5, 10, 20, 50]
    limits: list[int] = []
    found = ladder("x", tolerances(1, 12), lambda tolerance, most: limits.append(most))  # type: ignore[arg-type]
    assert [rung.setting for rung in found.rungs[:2]] == ["tol 1e-01", "tol 1e-02"]
    for rung in found.rungs:
        rung.run()
    assert limits[:3] == [100, 200, 500]
    assert limits[-1] == 10_000
    assert len(limits) == 12


def test_who_competes():
    data = FitData(small_problem(), 1.0)
    found = entrants(data, ["cpu"], 1e-8, None)
    names = [entrant.name for entrant in found]
    for solver in ("lbfgs", "newton-cg", "newton-cholesky", "liblinear", "sag", "saga"):
        assert f"scikit-learn {solver}" in names
    assert {"flashlogit", "flashlogit lbfgs", "flashlogit newton", "torch LBFGS"} <= set(names)
    ours = next(entrant for entrant in found if entrant.name == "flashlogit")
    headlines = [rung.setting for rung in ours.ladders[0].rungs if rung.headline]
    assert headlines == ["tol 1e-08"]
    for family in fit_entrants.FAMILIES:
        assert any(entrant.family == family for entrant in found) or family == "cuML"


def test_an_odd_gap_is_a_headline_of_its_own():
    data = FitData(small_problem(), 1.0)
    (ours,) = entrants(data, ["cpu"], 3e-7, ["flashlogit"])[:1]
    settings = [rung.setting for rung in ours.ladders[0].rungs]
    assert settings.index("tol 3e-07") == settings.index("tol 1e-06") + 1
    assert len(set(settings)) == len(settings)


def test_names():
    lbfgs = Absent("scikit-learn lbfgs", "scikit-learn", "cpu", "skipped", "")
    for pattern in ("scikit-learn lbfgs", "scikit-learn", "SCIKIT*", "*lbfgs", "scikit-learn lbfgs cpu"):
        assert matches(lbfgs, pattern)
    for pattern in ("lbfgs", "scikit-learn newton*", "scikit-learn lbfgs cuda"):
        assert not matches(lbfgs, pattern)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    known = importlib.import_module

    def missing(name: str, package: str | None = None):
        if name == "glum":
            raise ModuleNotFoundError("No module named 'glum'", name="glum")
        if name == "cyanure.estimators":
            raise OSError("a library of it is broken")
        return known(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    found = {e.family: e for e in entrants(FitData(small_problem(), 1.0), ["cpu"], 1e-8, ["glum", "cyanure"])}
    assert isinstance(found["glum"], Absent)
    assert (found["glum"].status, found["glum"].reason) == ("not installed", "no module named glum")
    assert (found["cyanure"].status, found["cyanure"].reason) == (
        "failed",
        "OSError: a library of it is broken",
    )


@pytest.mark.parametrize(
    "name", ["scikit-learn*", "torch LBFGS", "scikit-learn-intelex*", "glum*", "cyanure*", "JAX*"]
)
def test_contenders_solve_the_same_problem(name: str):
    """Their penalty, intercept and labels are ours: at their tightest they meet the optimum."""
    problem = small_problem(300, 4)
    data = FitData(problem, 0.5)
    truth = truth_of(problem, 0.5)
    optimum = reference_optimum(truth)
    found = [e for e in entrants(data, ["cpu"], 1e-8, [name]) if isinstance(e, Contender)]
    if not found:
        pytest.skip("not installed")
    for contender in found:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rungs = next(ladder for ladder in contender.ladders if "float64" in ladder.variant).rungs
            solution = rungs[-1].run()
        gap = (truth.objective(solution.weight, solution.bias) - optimum.value) / truth.null
        # acc-svrg and catalyst-svrg take larger steps than they should on few rows.
        assert gap < (1e-3 if "svrg" in contender.name else 1e-9), contender.name


def test_arrays_of_a_gpu_need_a_switch(monkeypatch: pytest.MonkeyPatch):
    from flashlogit.benchmark import fit_contenders_sklearn as module

    monkeypatch.delenv(module.SCIPY_SWITCH, raising=False)
    data = FitData(small_problem(), 1.0)
    (absent,) = module.contenders(data, "cuda", 1e-8)
    assert isinstance(absent, Absent)
    assert absent.status == "skipped"
    tags = SimpleNamespace(array_api_support=False)
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(LogisticRegression, "__sklearn_tags__", lambda self: tags)
    (absent,) = module.contenders(data, "cuda", 1e-8)
    assert "no arrays of a GPU" in absent.reason


def test_from_end_to_end(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, picture = tmp_path / "fit.json", tmp_path / "fit.png"
    arguments = ["fit", "--quick", "--devices", "cpu", "--problems", "tiny", "--repeats", "1"]
    arguments += ["--contenders", "scikit-learn newton-c*", "scikit-learn lbfgs"]
    assert main([*arguments, "--out", str(out), "--picture", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "tiny: 200 rows" not in text
    assert "small: 200 rows, 3 columns, C = 1" in text
    assert "flashlogit did not run" in text
    content = json.loads(out.read_text())
    assert content["complete"]
    assert content["settings"]["problems"] == ["tiny"]
    (problem,) = content["problems"]
    assert problem["reference"]["exact"]
    assert {c["name"]: c["status"] for c in problem["contenders"]} == {
        "scikit-learn lbfgs": "ok",
        "scikit-learn newton-cg": "ok",
        "scikit-learn newton-cholesky": "ok",
    }
    for contender in problem["contenders"]:
        best = contender["rungs"][contender["chosen"]]
        assert 0 <= best["gap"] <= 1e-8
        assert best["ms"] > 0
    assert str(tmp_path) not in out.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ours(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "fit.json"
    arguments = [
        "fit",
        "--quick",
        "--devices",
        "cpu",
        "--problems",
        "tiny",
        "--repeats",
        "1",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--contenders", "flashlogit", "scikit-learn newton-cholesky"]) == 0
    contenders = json.loads(out.read_text())["problems"][0]["contenders"]
    assert {c["name"]: c["status"] for c in contenders if c["ours"]} == {
        "flashlogit": "ok",
        "flashlogit lbfgs": "ok",
        "flashlogit newton": "ok",
        "flashlogit newton-cg": "ok",
    }
    assert "than the fastest scikit-learn solver (newton-cholesky" in capsys.readouterr().out


def test_what_was_measured_is_kept(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from flashlogit.benchmark import fit as module

    measure, out = module.measure, tmp_path / "fit.json"

    def once(problem, *rest):
        if out.parent.joinpath("seen").exists():
            raise KeyboardInterrupt
        out.parent.joinpath("seen").touch()
        return measure(problem, *rest)

    monkeypatch.setattr(module, "measure", once)
    arguments = ["fit", "--quick", "--devices", "cpu", "--problems", "tiny", "569 x 30", "--repeats", "1"]
    arguments += ["--contenders", "scikit-learn newton-cholesky", "--out", str(out)]
    assert main(arguments) == 130
    content = json.loads(out.read_text())
    assert not content["complete"]
    assert len(content["problems"]) == 1
    assert "interrupted" in capsys.readouterr().out
