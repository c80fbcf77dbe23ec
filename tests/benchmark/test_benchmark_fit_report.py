"""Tables, pictures and files of `fit`, from results made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fit_samples import make_contender, make_fit_report, make_rung

from flashlogit.benchmark.cli import main
from flashlogit.benchmark.fit_contender import Absent
from flashlogit.benchmark.fit_picture import draw_fit_report, frontier, plot_fit_report
from flashlogit.benchmark.fit_report import absent_record, write_fit_report
from flashlogit.benchmark.fit_table import fit_tables

OURS = make_contender("flashlogit", make_rung(ms=10.0, passes=12.3, solver="newton", variant=""))
LBFGS = make_contender("scikit-learn lbfgs", make_rung(ms=80.0), family="scikit-learn")
CHOLESKY = make_contender(
    "scikit-learn newton-cholesky",
    make_rung("tol 1e-02", 20.0, 1e-3),
    make_rung(ms=25.0),
    family="scikit-learn",
)
SHORT = make_contender("glum irls-ls", make_rung(ms=1.0, gap=1e-5), status="stopped short")
GONE = absent_record(Absent("JAX", "JAX", "cpu", "not installed", "no module named jax"))


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))


def test_table():
    text = fit_tables(make_fit_report(SHORT, GONE, LBFGS, CHOLESKY, OURS))
    lines = text.splitlines()
    order = [line.split("  ")[0] for line in lines[3:8]]
    assert order == [
        "flashlogit",
        "scikit-learn newton-cholesky",
        "scikit-learn lbfgs",
        "glum irls-ls",
        "JAX",
    ]
    assert "newton, tol 1e-08" in line_of(text, "flashlogit")
    assert "12.3" in line_of(text, "flashlogit")
    assert "8.00x" in line_of(text, "scikit-learn lbfgs")
    assert "stopped short" in line_of(text, "glum irls-ls")
    assert "1.0e-05" in line_of(text, "glum irls-ls")
    assert "not installed: no module named jax" in line_of(text, "JAX")


def test_verdict():
    text = fit_tables(make_fit_report(OURS, LBFGS, CHOLESKY))
    assert (
        "flashlogit is 2.50 x faster than the fastest scikit-learn solver (newton-cholesky, cpu, 25.00 ms against"
        " 10.00 ms)." in text
    )
    assert "other contender" not in text


def test_verdict_on_others():
    other = make_contender("glum irls-ls", make_rung(ms=5.0))
    text = fit_tables(make_fit_report(OURS, CHOLESKY, other))
    assert "2.00 x slower than the fastest other contender (glum irls-ls, cpu, 5.000 ms" in text


def test_nobody_to_compare_with():
    short = make_contender(
        "scikit-learn lbfgs", make_rung(gap=1e-3), family="scikit-learn", status="stopped short"
    )
    assert "No scikit-learn solver reached the gap" in fit_tables(make_fit_report(OURS, short))
    ours = make_contender("flashlogit", make_rung(gap=1e-3), status="stopped short")
    assert "flashlogit stopped short of the gap" in fit_tables(make_fit_report(ours, LBFGS))
    assert "flashlogit did not run" in fit_tables(make_fit_report(LBFGS))


def test_notes():
    noted = make_contender(
        "scikit-learn liblinear", make_rung(), note="penalises the intercept", cut=("float64",)
    )
    compiled = make_contender("JAX optax.lbfgs", make_rung(), compile_time="excluded", reason="float32: no")
    text = fit_tables(make_fit_report(noted, compiled, complete=False))
    assert "scikit-learn liblinear (cpu) penalises the intercept." in text
    assert "Compile time is excluded: JAX optax.lbfgs (cpu)." in text
    assert "more than 60 s: scikit-learn liblinear (cpu)." in text
    assert "JAX optax.lbfgs (cpu) failed in part: float32: no." in text
    assert "interrupted" in text


def test_json(tmp_path: Path):
    path = tmp_path / "fit.json"
    write_fit_report(make_fit_report(OURS, GONE), path)
    content = json.loads(path.read_text())
    assert content["format"] == "flashlogit-fit-benchmark"
    ours, gone = content["problems"][0]["contenders"]
    assert ours["rungs"][ours["chosen"]]["ms"] == 10.0
    assert (gone["status"], gone["rungs"]) == ("not installed", [])


def test_compare_refuses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "fit.json"
    write_fit_report(make_fit_report(OURS), path)
    assert main(["compare", str(path), str(path)]) == 2
    errors = capsys.readouterr().err
    assert "is a report of `fit`" in errors
    assert errors.count("\n") == 1


def test_picture(tmp_path: Path):
    report = make_fit_report(OURS, LBFGS, CHOLESKY, SHORT, GONE)
    path = tmp_path / "fit.png"
    plot_fit_report(report, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = draw_fit_report(report).axes
    # A curve for each of four, rings for the three that reached the gap, and the gap itself.
    assert len(axes.lines) == 4 + 3 + 1
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_picture_of_nothing():
    assert draw_fit_report(make_fit_report(GONE)).axes
    assert draw_fit_report(make_fit_report(problems=())).axes


def test_frontier():
    rungs = [
        make_rung(ms=1.0, gap=1e-2),
        make_rung(ms=2.0, gap=1e-1),
        make_rung(ms=3.0, gap=0.0),
        make_rung(ms=0.5, gap=None),
        make_rung(ms=4.0, gap=0.0),
    ]
    assert frontier(rungs) == [(1.0, 1e-2), (3.0, 1e-16)]
