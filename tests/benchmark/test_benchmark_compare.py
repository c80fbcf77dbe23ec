"""The program `compare`."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import make_record, make_report

from flashlogit.benchmark.cli import main
from flashlogit.benchmark.compare import compare
from flashlogit.benchmark.report import Report, write_report


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(before: Report, after: Report, *options: str) -> tuple[int, str]:
        paths = [tmp_path / "a.json", tmp_path / "b.json"]
        for report, path in zip((before, after), paths, strict=True):
            write_report(report, path)
        code = main(["compare", *map(str, paths), *options])
        return code, capsys.readouterr().out

    return run


def timed(fraction: float | None, *, spread: float = 0.01, ms: float = 2.0, **changes: object):
    return make_record(
        fraction=fraction, ms=ms, q25_ms=ms * (1 - spread / 2), q75_ms=ms * (1 + spread / 2), **changes
    )


def test_the_same(run):
    code, text = run(make_report(timed(0.8)), make_report(timed(0.8)))
    assert code == 0
    assert "No result became slower" in text
    assert "1.00" in text


def test_regression(run):
    code, text = run(make_report(timed(0.8)), make_report(timed(0.7)))
    assert code == 1
    assert "SLOWER" in text
    assert "1 of 1 results became slower" in text


def test_improvement(run):
    code, text = run(make_report(timed(0.7)), make_report(timed(0.8)))
    assert code == 0
    assert "faster" in text


def test_threshold(run):
    reports = make_report(timed(0.8)), make_report(timed(0.7))
    assert run(*reports, "--threshold", "0.2")[0] == 0
    assert run(*reports, "--threshold", "0")[0] == 1


def test_noise_is_no_regression(run):
    code, text = run(make_report(timed(0.8, spread=0.3)), make_report(timed(0.7, spread=0.3)))
    assert code == 0
    assert "SLOWER" not in text


def test_other_ceilings_do_not_matter():
    (change,) = compare(make_report(timed(0.8, ms=1.0)), make_report(timed(0.8, ms=3.0)), 0.05)
    assert change.ratio == 1.0
    assert not change.regression


def test_time_counts_where_there_is_no_ceiling(run):
    (change,) = compare(make_report(timed(None, ms=1.0)), make_report(timed(0.8, ms=2.0)), 0.05)
    assert change.ratio == 0.5
    assert change.regression
    assert "2.000 ms" in run(make_report(timed(None, ms=1.0)), make_report(timed(0.8, ms=2.0)))[1]


def test_correctness(run):
    right, wrong = timed(0.8), timed(0.9, status="incorrect", correct=False)
    code, text = run(make_report(right), make_report(wrong))
    assert code == 1
    assert "NOW INCORRECT" in text
    code, text = run(make_report(wrong), make_report(right))
    assert "now correct" in text


def test_what_failed_since(run):
    broken = timed(None, status="failed", correct=None, reason="ValueError: no")
    broken = make_record(**{**vars(broken), "ms": None, "q25_ms": None, "q75_ms": None})
    code, text = run(make_report(timed(0.8)), make_report(broken))
    assert code == 1
    assert "now failed: ValueError: no" in text
    assert run(make_report(broken), make_report(broken))[0] == 0


def test_missing_rows(run):
    both, first, second = timed(0.8), timed(0.8, d=50), timed(0.8, arithmetic="float64")
    code, text = run(make_report(both, first), make_report(both, second))
    assert code == 0
    assert text.count("only in A") == 1
    assert text.count("only in B") == 1


def test_other_machines_and_versions_are_mentioned(run):
    other = make_report(timed(0.8)).machine | {"cpu": "Other CPU"}
    software = make_report(timed(0.8)).software | {"torch": "2.13.0"}
    code, text = run(make_report(timed(0.8)), make_report(timed(0.8), machine=other, software=software))
    assert code == 0
    assert "WARNING: the machines differ (cpu): A is Some CPU, 2 threads, B is Other CPU" in text
    assert "A has torch 2.11.0, B 2.13.0" in text
    assert "WARNING" not in run(make_report(timed(0.8)), make_report(timed(0.8)))[1]


def test_a_run_cut_short_is_mentioned(run):
    assert "B was interrupted" in run(make_report(timed(0.8)), make_report(timed(0.8), complete=False))[1]


@pytest.mark.parametrize("threshold", ["-0.1", "1", "nan"])
def test_bad_threshold(threshold: str, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", "a", "b", f"--threshold={threshold}"]) == 2
    assert "--threshold is" in capsys.readouterr().err


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err
