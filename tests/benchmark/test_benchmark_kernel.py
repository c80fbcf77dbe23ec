"""The program `kernel` from end to end on the CPU, its table, its picture and its file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from samples import make_record, make_report

from flashlogit.benchmark import kernel, table
from flashlogit.benchmark.cli import main
from flashlogit.benchmark.machine import describe_machine, describe_software
from flashlogit.benchmark.picture import draw_report, plot_report
from flashlogit.benchmark.report import Report, read_report, write_report
from flashlogit.benchmark.table import aligned, number, tables, title_of
from flashlogit.system.errors import UserError

TINY = ["kernel", "--devices", "cpu", "--columns", "3", "130", "--gigabytes", "1e-4", "--repeats", "2"]
PNG = b"\x89PNG\r\n\x1a\n"


def test_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, picture = tmp_path / "results.json", tmp_path / "roofline.png"
    assert main([*TINY, "--out", str(out), "--picture", str(picture)]) == 0
    printed, progress = capsys.readouterr()
    assert printed.startswith("Random N(0, 1) data")
    assert "loss and gradient: flashlogit reference, float64" in printed
    assert "vs autograd" in printed
    assert "of X @ w's time" in printed
    assert str(out) in printed
    assert progress.count("of the ceiling") == 2
    assert picture.read_bytes().startswith(PNG)
    report = read_report(out)
    assert report.complete
    assert [c.d for c in report.ceilings] == [3, 130]
    assert {r.status for r in report.results} == {"ok"}
    assert {r.pass_name for r in report.results if r.d == 3} == {
        "onepass",
        "hessian_product",
        "hessian",
        "product",
    }
    for record in report.results:
        assert record.ms is not None
        assert record.fraction is not None
        assert record.calls == 2
        assert record.timing == "wall clock"
    reference = next(r for r in report.results if r.ours)
    assert reference.speedup_against == "torch autograd"
    assert reference.product_ratio is not None


def test_the_file_says_nothing_about_places(tmp_path: Path):
    import socket

    out = tmp_path / "results.json"
    assert main([*TINY, "--out", str(out)]) == 0
    text = out.read_text()
    assert str(tmp_path) not in text
    assert str(Path.cwd()) not in text
    assert socket.gethostname() not in text
    assert json.loads(text)["format"] == "flashlogit-benchmark"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise at the second shape."""
    real, calls = kernel.measure, []

    def measure(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(kernel, "measure", measure)


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    interrupt_at(monkeypatch, KeyboardInterrupt())
    out = tmp_path / "results.json"
    assert main([*TINY, "--out", str(out)]) == 130
    printed, errors = capsys.readouterr()
    assert f"interrupted; what was measured is in {out}" in errors
    assert "The run was interrupted" in printed
    report = read_report(out)
    assert not report.complete
    assert {r.d for r in report.results} == {3}


def test_a_crash_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    interrupt_at(monkeypatch, RuntimeError("device lost"))
    out = tmp_path / "results.json"
    with pytest.raises(RuntimeError, match="device lost"):
        main([*TINY, "--out", str(out)])
    assert {r.d for r in read_report(out).results} == {3}


def test_interrupted_before_anything_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(kernel, "measure", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main([*TINY, "--out", str(tmp_path / "results.json")]) == 130
    assert "nothing was measured" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_data_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def full(*args: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(kernel, "Numbers", full)
    assert main(TINY) == 2
    assert "--gigabytes is 0.0001, which does not fit" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path):
    out = tmp_path / "results.json"
    tiny = ["--devices", "cuda", "--columns", "28", "--gigabytes", "0.01", "--repeats", "2", "--quick"]
    assert main(["kernel", *tiny, "--out", str(out)]) == 0
    ours = [r for r in read_report(out).results if r.ours]
    assert ours
    assert all(r.correct for r in ours), ours


def test_round_trip(tmp_path: Path):
    report = make_report(
        make_record(),
        make_record(
            contender="torch eager", ours=False, status="failed", correct=None, ms=None, reason="why"
        ),
    )
    write_report(report, tmp_path / "a.json")
    assert read_report(tmp_path / "a.json") == report
    assert json.loads((tmp_path / "a.json").read_text())["results"][0]["pass"] == "onepass"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file"),
        ("{", "is not JSON"),
        ("[]", "is not a benchmark's report"),
        ('{"format": "other"}', "is not a benchmark's report"),
        ('{"format": "flashlogit-benchmark", "version": 99}', "version 99"),
        ('{"format": "flashlogit-benchmark", "version": 1}', "is damaged"),
    ],
)
def test_files_that_are_no_reports(text: str | None, said: str, tmp_path: Path):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_report(path)


def test_a_number_that_is_none(tmp_path: Path):
    content = make_report(make_record()).to_json()
    content["results"][0]["ms"] = "fast"
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is damaged"):
        read_report(tmp_path / "a.json")


def mixed() -> Report:
    return make_report(
        make_record(speedup=2.0, speedup_against="torch autograd", product_ratio=1.5),
        make_record(
            contender="wrong", status="incorrect", correct=False, reason="off", error=None, fraction=3.0
        ),
        make_record(
            contender="broken", status="failed", correct=None, reason="ValueError: no", ms=None, fraction=None
        ),
    )


def test_table_text():
    lines = tables(mixed()).splitlines()
    assert lines[0] == "Some CPU, 2 threads, float32"
    assert lines[2].split("  ")[-1].strip() == "gradient error"
    right, wrong, broken, ceiling, copy = lines[3:8]
    assert re.search(
        r"^28 +1,000 +loss and gradient: flashlogit reference +2\.000 +1\.0 % +58\.0 +0\.800", right
    )
    assert right.split()[-3:] == ["2.00x", "1.50x", "1.0e-08"]
    assert "INCORRECT" in wrong
    assert wrong.endswith("not finite")
    assert "2.00x" not in wrong
    assert broken.endswith("failed: ValueError: no")
    assert re.search(r"\(ceiling: sum, read\) +70\.0$", ceiling)
    assert re.search(r"written\) +60\.0$", copy)
    assert "Incorrect, and therefore not ranked:" in lines


def test_table_columns_line_up():
    table_lines = tables(mixed()).splitlines()[2:5]
    assert len({len(line) for line in table_lines}) == 1


def test_a_busy_machine_is_mentioned():
    calm, busy = make_record(), make_record(q25_ms=1.0, q75_ms=3.0)
    assert "busy" not in tables(make_report(calm))
    assert "busy" in tables(make_report(busy))


def test_the_step_is_told_in_microseconds():
    step = make_record(
        device="cuda", pass_name="step", contender="flashlogit, CUDA graph", ms=0.0081, fraction=None
    )
    gpu = {"name": "Some GPU", "multiprocessors": 132, "l2_bytes": 50 << 20, "memory_bytes": 80 << 30}
    gpu |= {"cuda": "13.0", "driver": None}
    report = make_report(step)
    report = replace(report, machine=report.machine | {"gpu": gpu}, settings={"devices": {"cuda": {}}})
    text = tables(report)
    assert "flashlogit, CUDA graph: 8.1 microseconds" in text
    assert "TB/s" in text
    assert "Some GPU, 132 multiprocessors, 50 MiB of L2, 80 GiB" in kernel.heading(report)


def test_the_heading_says_that_there_is_no_gpu():
    assert "no CUDA device here" in kernel.heading(make_report())


def test_numbers():
    assert [number(v) for v in (None, 0.0012345, 12.345678, 1234.4)] == ["-", "0.001234", "12.35", "1234"]
    assert aligned([["a", "b", "c"], ["1", "a long reason"]]) == ["a  b  c", "1  a long reason"]


def test_titles():
    assert title_of(make_record(arithmetic="float64")).endswith("flashlogit reference, float64")
    assert title_of(make_record(arithmetic="float64", dtype="float64")).endswith("flashlogit reference")


def test_picture_is_a_png(tmp_path: Path):
    plot_report(mixed(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    plot_report(make_report(), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(PNG)


def test_wrong_answers_are_crosses():
    figure = draw_report(mixed())
    (panel,) = figure.axes
    crosses = [line for line in panel.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert len(crosses) == 1
    curves = [y for line in panel.lines if line.get_marker() == "o" for y in line.get_ydata() if y == y]
    assert curves == [0.8]
    assert "wrong answer" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_for_each_dtype():
    records = [
        make_record(dtype=dtype, d=d) for dtype in ("float32", "bfloat16", "float64") for d in (1, 4096)
    ]
    titles = [axes.get_title() for axes in draw_report(make_report(*records)).axes]
    assert titles[:3] == ["cpu, float32", "cpu, bfloat16", "cpu, float64"]


def test_machine_and_software_are_plain_json():
    machine, software = describe_machine(), describe_software()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["threads"] >= 1
    assert machine["ram_bytes"] > 1 << 28
    assert software["torch"]
    assert software["flashlogit"]


def test_width_of_the_method():
    assert max(map(len, table.wrapped(kernel.METHOD).splitlines())) <= table.WIDTH
