"""`kernel`: every way is right, one that is wrong gets no time, and what is measured is read back by `compare`."""

import json

import pytest
import torch
from benchmarks import kernel, report
from benchmarks.clock import Timing
from benchmarks.problems import Call, make_problem, packed, truth

from flashlogit import reference


def instant(calls, rounds):
    """A clock for which the n-th call takes n ms."""
    return {name: Timing(float(n), n * 0.99, n * 1.01, rounds, "none") for n, name in enumerate(calls, 1)}


@pytest.mark.parametrize(
    ("dtype", "D"), [(torch.float32, 1), (torch.float32, 130), (torch.bfloat16, 28), (torch.float64, 28)]
)
def test_every_way_is_right(dtype, D):
    X = torch.randn(300, D, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = list(kernel.measure(X, list(kernel.ways(X, reference)), instant, 3))
    assert not [record["reason"] for record in found if "reason" in record]
    names = {record["line"] for record in found}
    assert "bce_onepass: torch autograd" in names
    assert ("bce_hessian: torch eager" in names) == (D <= 128)
    assert ("bce_onepass: flashlogit, float64" in names) == (dtype != torch.float64)
    eager = next(record for record in found if record["line"] == "bce_onepass: torch autograd")
    assert eager["speedup"] == 1.0


def test_wrong_and_failing_ways_get_no_time():
    X = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    first, second, third, *rest = kernel.ways(X, reference)
    ran = []

    def clock(calls, rounds):
        ran.extend(calls)
        return instant(calls, rounds)

    def raises():
        raise MemoryError("out of memory")

    wrong = kernel.Way("a", first.call, lambda: first.run() * (1 + 1e-5), first.truth, first.bound)
    nan = kernel.Way("b", first.call, lambda: first.run() * torch.nan, first.truth, first.bound)
    absent = kernel.Way("c", first.call, raises, first.truth, first.bound)
    found = {r["line"]: r for r in kernel.measure(X, [wrong, nan, absent, second, third, *rest], clock, 2)}
    assert [found[f"bce_onepass: {name}"]["status"] for name in "abc"] == ["wrong", "wrong", "skipped"]
    assert not any("ms" in found[f"bce_onepass: {name}"] for name in "abc")
    assert "off by" in found["bce_onepass: a"]["reason"]
    assert not {wrong, nan, absent} & {way for way in ran if not isinstance(way, str)}


@pytest.mark.parametrize("compute", ["float32", "float64"])
@pytest.mark.parametrize("options", [(), ("weights", "rows"), ("center", "pos_weight"), ("exact",), ("outputs",)])
@pytest.mark.parametrize("function", ["bce_onepass", "bce_hessian", "bce_rows", "hessian_product", "column_sums"])
def test_truth(function, options, compute):
    """Against the reference, whose sums are float64 for float64 arithmetic."""
    call = Call(function, 5, compute=compute, options=options, odd=True)
    problem = make_problem(call, 65, torch.device("cpu"))
    known, given = truth(call, problem), packed(call, problem, reference)()
    assert given.shape == known.value.shape
    assert known.error(given) < (1e-6 if compute == "float32" else 1e-14)


def test_a_quick_run(tmp_path, capsys):
    out, picture = tmp_path / "a.json", tmp_path / "a.png"
    options = ["--quick", "--gigabytes", "0.0001", "--columns", "3", "--repeats", "2"]
    assert kernel.main([*options, "--out", str(out), "--picture", str(picture)]) == 0
    assert "bce_onepass: torch eager" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"
    content = json.loads(out.read_text())
    assert content["complete"]
    found = {record["line"]: record for record in content["results"]}
    assert len({record["name"] for record in content["results"]}) == len(found)
    record = found["bce_onepass: flashlogit"]
    assert record["fraction"] > 0
    assert record["error"] <= record["allowed"]
    assert report.main([str(out)] * 2) == 0


OLD = {"name": "a", "ms": 1.0, "q25_ms": 0.99, "q75_ms": 1.01}
NOISY = OLD | {"q25_ms": 0.5, "q75_ms": 1.9}
WRONG = {"name": "a", "status": "wrong", "reason": "off by 1"}


@pytest.mark.parametrize(
    ("before", "after", "code", "said"),
    [
        (OLD, OLD | {"ms": 1.04}, 0, "1.040"),
        (OLD, OLD | {"ms": 2.0}, 1, "2.000  slower"),
        (OLD | {"ms": 2.0}, OLD, 0, "0.500  faster"),
        (NOISY, OLD | {"ms": 2.0}, 0, "2.000"),
        (OLD, NOISY | {"ms": 2.0, "q75_ms": 4.0}, 0, "2.000"),
        (OLD | {"launches": 2}, OLD | {"launches": 3}, 1, "1.500  slower"),
        (OLD, WRONG, 1, "wrong now: wrong: off by 1"),
        (WRONG, OLD, 0, "right now"),
        (WRONG, WRONG, 0, "nothing became"),
        (OLD | {"right": True}, OLD | {"right": False}, 1, "wrong now: off by"),
        (OLD, OLD | {"name": "b", "ms": 9.0}, 0, "nothing became"),
    ],
)
def test_compare(before, after, code, said, tmp_path, capsys):
    files = [tmp_path / name for name in ("before", "after")]
    for path, record in zip(files, (before, after), strict=True):
        path.write_text(json.dumps({"kind": "kernel", "machine": {"device": {"name": "some"}}, "results": [record]}))
    assert report.main([str(path) for path in files]) == code
    assert said in capsys.readouterr().out
    if code and "ms" in after:
        assert report.main([*map(str, files), "--threshold", "1.5"]) == (after.get("right") is False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"kind": "fit", "machine": {"device": {"name": "some"}}}', "of the commands kernel and fit"),
        ('{"kind": "kernel"}', "KeyError"),
        ("[1,", "JSONDecodeError"),
        (None, "FileNotFound"),
    ],
)
def test_compare_takes_two_files_of_a_kind(text, said, tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text('{"kind": "kernel", "machine": {"device": {"name": "some"}}}')
    if text is not None:
        b.write_text(text)
    with pytest.raises(SystemExit) as done:
        report.main([str(a), str(b)])
    assert done.value.code == 2
    assert said in capsys.readouterr().err
