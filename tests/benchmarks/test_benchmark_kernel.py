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


def test_a_quick_run_is_read_back(tmp_path, capsys):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    options = ["--quick", "--gigabytes", "0.0001", "--columns", "3", "--repeats", "2"]
    assert kernel.main([*options, "--out", str(files[0]), "--picture", str(tmp_path / "a.png")]) == 0
    assert "bce_onepass: torch eager" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    content = json.loads(files[0].read_text())
    assert content["complete"]
    names = [record["name"] for record in content["results"]]
    assert len(set(names)) == len(names)
    record = next(r for r in content["results"] if r["line"] == "bce_onepass: flashlogit")
    assert record["fraction"] > 0
    assert record["error"] <= record["allowed"]
    record.update(q25_ms=record["ms"], q75_ms=record["ms"])
    files[0].write_text(json.dumps(content))
    assert report.main([str(files[0])] * 2) == 0

    record.update({key: 2 * record[key] for key in ("ms", "q25_ms", "q75_ms")})
    files[1].write_text(json.dumps(content))
    capsys.readouterr()
    assert report.main([str(file) for file in files]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith("slower")]
    assert record["name"] in line
    assert " 2.000 " in line
    assert report.main([str(file) for file in files[::-1]]) == 0
    assert report.main([*(str(file) for file in files), "--threshold", "1.5"]) == 0
    record |= {"status": "wrong", "reason": "off by 1"}
    files[1].write_text(json.dumps(content))
    assert report.main([str(file) for file in files]) == 1
    assert "wrong now: wrong: off by 1" in capsys.readouterr().out


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
