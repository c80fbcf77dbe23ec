"""`kernel` and `fit`: what is wrong gets no time, the quickest that is right counts, and `compare` reads it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from benchmarks import contenders, device, fit, kernel, report, spectra, start
from benchmarks.clock import Timing
from benchmarks.contenders import Contender, Data, Solution
from benchmarks.problems import Call, Objective, Table, make_problem, packed, truth

import flashlogit
from flashlogit import reference

TABLE = Table(400, 4, "correlated")


def written(command, options, tmp_path):
    """The records that a quick run of a command writes, by their lines, each of which is there once."""
    out, picture = tmp_path / "a.json", tmp_path / "a.png"
    assert command.main(["--quick", *options, "--out", str(out), "--picture", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert report.main([str(out)] * 2) == 0
    content = json.loads(out.read_text())
    assert content["complete"]
    found = {record["line"]: record for record in content["results"]}
    assert len({record["name"] for record in content["results"]}) == len(found)
    return found


def instant(calls, rounds):
    """A clock for which the n-th call takes n ms."""
    return {name: Timing(float(n), n * 0.99, n * 1.01, rounds, "none") for n, name in enumerate(calls, 1)}


def test_processes_are_compared_with_the_first_of_their_table(tmp_path, monkeypatch):
    assert 0 < start.cpu_ms(["-c", "1"], ".") < 60_000
    monkeypatch.setattr(start, "cpu_ms", mock.Mock(side_effect=[100.0, 250.0, 120.0, 50.0, 400.0, 600.0]))
    assert start.main(["--quick", "--out", str(tmp_path / "a.json")]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["complete"]
    assert [record["ratio"] for record in content["results"]] == [1, 2.5, 1.2, 0.5, 1, 1.5]
    assert content["results"][1]["beyond_ms"] == 150


@pytest.mark.parametrize(("dtype", "D"), [("float32", 1), ("float32", 130), ("bfloat16", 28), ("float64", 28)])
def test_every_way_is_right(dtype, D):
    X = torch.randn(300, D, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    found = list(kernel.measure(X, list(kernel.ways(X, reference)), instant, 3))
    assert not [record["reason"] for record in found if "reason" in record]
    names = {record["line"] for record in found}
    assert "bce_onepass: torch autograd" in names
    assert ("bce_hessian: torch eager" in names) == (D <= 128)
    assert ("bce_onepass: flashlogit, float64" in names) == (dtype != "float64")
    eager = next(record for record in found if record["line"] == "bce_onepass: torch autograd")
    assert eager["speedup"] == 1.0


def test_wrong_and_failing_ways_get_no_time():
    X = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    first, *rest = kernel.ways(X, reference)
    failing = mock.Mock(side_effect=MemoryError("out of memory"))
    runs = {"a": lambda: first.run() * (1 + 1e-5), "b": lambda: first.run() * torch.nan, "c": failing}
    bad = [replace(first, contender=name, run=run) for name, run in runs.items()]
    clock = mock.Mock(side_effect=instant)
    records = {record["line"]: record for record in kernel.measure(X, [*bad, *rest], clock, 2)}
    found = [records[f"bce_onepass: {name}"] for name in runs]
    assert [record["status"] for record in found] == ["wrong", "wrong", "skipped"]
    assert not any("ms" in record for record in found)
    assert "off by" in found[0]["reason"]
    assert not set(bad) & set(clock.call_args.args[0])


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


def test_a_quick_run_of_kernel(tmp_path, capsys):
    found = written(kernel, ["--gigabytes", "0.0001", "--columns", "3", "--repeats", "2"], tmp_path)
    assert "bce_onepass: torch eager" in capsys.readouterr().out
    record = found["bce_onepass: flashlogit"]
    assert record["fraction"] > 0
    assert record["error"] <= record["allowed"]


@pytest.fixture
def objective():
    X, y = TABLE.make(torch.device("cpu"))
    return Objective(X, y, 1 / len(X))


@pytest.fixture
def race(objective, monkeypatch):
    """A race in which a setting takes the milliseconds, and ends with the gap, that its solver names."""
    best = flashlogit.fit(objective.X, objective.y, l2=objective.l2, tolerance=1e-14)
    objective.best = objective(best.weight, best.bias)
    monkeypatch.setattr(fit, "_SETTLING_MS", 0.0)

    def wall(work, device):
        ms, gap = work()
        # The objective is quadratic in a step from the optimum; b is free, and its second derivative is mean p (1 - p).
        p = torch.sigmoid(objective.X @ best.weight + best.bias)
        step = math.sqrt(2 * gap * objective.null / float((p * (1 - p)).mean()))
        return ms, Solution(best.weight, best.bias + step)

    monkeypatch.setattr(fit, "wall", wall)
    return fit.Race(objective, 1e-8, 2, 60.0)


def contender(*settings, speed=None):
    """A solver whose setting k takes settings[k] = (milliseconds, gap), in each variant by its factor."""
    speed = speed or {"float64": 1.0}

    def run(variant, value):
        ms, gap = settings[int(value)]
        return ms * speed[variant], gap

    return Contender("some", "cpu", run, range(len(settings)), tuple(speed), knob="rung")


RUNGS = [(10.0, 1e-3), (20.0, 1e-6), (40.0, 5e-9), (80.0, 1e-11)]


@pytest.mark.parametrize("speed", [{"float64": 1}, {"float64": 4, "float32": 1}, {"float64": 1, "float32": 3}])
def test_the_quickest_setting_that_proves_the_gap(race, speed):
    some = contender(*RUNGS, speed=speed)
    assert "ms" in race.climb(some)
    race.take_turns()
    record = race.record(some)
    assert (record["ms"], record["setting"]) == (40.0, f"{min(speed, key=speed.get)}, rung 2")
    assert record["gap"] == pytest.approx(5e-9, rel=0.1)
    assert len(record["tried"]) == 3 * len(speed)  # a tighter one than needed is not run


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ([(10.0, 1e-3), (20.0, 1e-6), (30.0, 1e-5)], "stopped short", "at a gap of 1.0e-06 after 20 ms"),
        # Beyond the limit of time.
        ([(10.0, 1e-3), (7e4, 1e-4), (1.0, 1e-10)], "stopped short", "at a gap of 1.0e-04 after 7e+04 ms"),
        ([(1.0, math.nan)], "failed", "no setting gave a finite answer"),
        (["a text"], "failed", "float64: ValueError: too many values"),  # whose run raises
    ],
)
def test_what_stops_short_or_fails_gets_no_time(race, settings, status, said):
    record = race.climb(contender(*settings))
    assert "ms" not in record
    assert record["status"] == status
    assert record["reason"].startswith(said)


def test_the_optimum(objective):
    objective.minimize()
    result = flashlogit.fit(objective.X, objective.y, l2=objective.l2, tolerance=1e-12)
    assert math.isclose(result.objective, objective.best, rel_tol=1e-12)
    assert math.isclose(result.certificate.null_objective, objective.null, rel_tol=1e-12)
    assert math.isclose(objective(result.weight, result.bias), result.objective, rel_tol=1e-12)


def test_missing_packages_are_skipped_with_a_note(monkeypatch):
    missing = mock.Mock(side_effect=ModuleNotFoundError("no module named elsewhere"))
    monkeypatch.setitem(contenders.LIBRARIES, "glum", (missing, ("cpu",)))
    data = Data(torch.zeros(2, 1), torch.tensor([0, 1]))
    (record,) = contenders.contenders(data, "cpu", 1e-8, ["GLUM*"])
    assert (record["name"], record["status"]) == ("glum", "skipped")
    assert "no module named elsewhere" in record["reason"]
    assert contenders.contenders(data, "cpu", 1e-8, ["cuml"]) == []  # which is for GPUs


def test_a_quick_run_of_fit(tmp_path, monkeypatch):
    """All contenders that are installed reach the gap on a small table, but for those that are known not to."""
    monkeypatch.setitem(fit.TABLES, "569 x 30", TABLE)
    monkeypatch.setattr(fit, "_SETTLING_MS", 0.0)
    found = written(fit, ["--problems", "569 x 30"], tmp_path)
    exact = ("flashlogit", "flashlogit newton-cg", "scikit-learn lbfgs", "scikit-learn newton-cholesky")
    for name in (*exact, "torch.optim.LBFGS"):
        assert found[name]["ms"] > 0
        assert found[name]["gap"] <= 1e-8
    assert found["flashlogit"]["speedup"] == 1.0
    assert found["flashlogit"]["setting"] == "float32, tol 1e-08"


EMPTY = {"kind": "kernel", "machine": {"device": {"name": "some"}}}
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
    files = [str(tmp_path / name) for name in ("before", "after")]
    for path, record in zip(files, (before, after), strict=True):
        Path(path).write_text(json.dumps(EMPTY | {"results": [record]}))
    assert report.main(files) == code
    assert said in capsys.readouterr().out
    if code and "ms" in after:
        assert report.main([*files, "--threshold", "1.5"]) == (after.get("right") is False)


FILES = {"kernel.json": json.dumps(EMPTY), "fit.json": json.dumps(EMPTY | {"kind": "fit"})}
FILES |= {"other.json": '{"kind": "kernel"}', "cut.json": "[1,"}
MISTAKES = """
device --out missing/a.json: missing/a.json is no file that can be written
device --out . : . is no file that can be written
device --out a.json --columns 28 999: --columns is [28, 999]
device --out a.json --tuning-seconds 0: --tuning-seconds: 0 is out of bounds
device --out a.json --update-table: needs a GPU
kernel --gigabytes nan: nan is out of bounds
kernel --devices tpu: invalid choice: 'tpu'
fit --gap 0: 0 is out of bounds; must be from 1e-13
fit --problems 28: invalid choice: '28'
compare kernel.json fit.json: of the commands kernel and fit
compare kernel.json other.json: KeyError
compare kernel.json cut.json: JSONDecodeError
compare kernel.json missing.json: FileNotFound
fit --contenders scikit-lern*: which matches no solver of flashlogit, scikit-learn
"""


@pytest.mark.parametrize("line", MISTAKES.split("\n")[1:-1])
def test_what_the_user_can_mend(line, monkeypatch, tmp_path, capsys):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    arguments, _, said = line.partition(": ")
    command, *options = arguments.split()
    with pytest.raises(SystemExit) as done:
        {"device": device, "kernel": kernel, "fit": fit, "compare": report}[command].main(options)
    assert done.value.code == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_commands(capsys):
    import benchmark

    for arguments, code in ((["--help"], 0), (["kernels"], 2), (["tune", "--help"], 0), (["compare", "--help"], 0)):
        with pytest.raises(SystemExit) as done:
            benchmark.main(arguments)
        assert done.value.code == code
    assert all(f"  {name} " in benchmark.__doc__ for name in benchmark.COMMANDS)


def test_a_quick_run_of_spectra(tmp_path):
    found = written(spectra, ["--only", "2,000 x 400"], tmp_path)
    tables = {line.rpartition(": ")[0] for line in found}
    solvers = {line.rpartition(": ")[2] for line in found}
    assert solvers == {"newton", "newton-cg", "lbfgs", "auto"}
    ours = [record for line, record in found.items() if line.endswith(("auto", "lbfgs", "newton-cg"))]
    assert all(record["gap"] <= 1e-8 and record["cpu_ms"] > 0 for record in ours)
    assert all(any(found[f"{table}: {name}"]["speedup"] == 1 for name in solvers) for table in tables)


def test_a_race_on_a_table_of_spectra(tmp_path):
    found = written(spectra, ["--only", "2,000 x 400", "--peers", "torch"], tmp_path)
    assert {line.rpartition(": ")[2] for line in found} == {"flashlogit", "torch.optim.LBFGS"}
    assert all(record["speedup"] > 0 for record in found.values() if "ms" in record)
    assert any(record.get("speedup") == 1 for record in found.values())


def test_sixty_tables_of_all_kinds():
    """Each is made anew from its name, and no larger than memory allows."""
    names = {table.name for table in spectra.TABLES}
    assert len(names) == len(spectra.TABLES) >= 58
    assert max(4 * table.N * table.D for table in spectra.TABLES) <= 200 << 20
    for kind in ("mixed", "correlated", "one-hot", "heavy-tailed"):
        X, y = spectra.Spectrum(300, 70, kind, decades=1.0, outlying=3.0).make()
        again = spectra.Spectrum(300, 70, kind, decades=1.0, outlying=3.0).make()
        assert torch.equal(X, again[0])
        assert torch.equal(y, again[1])
        assert X.isfinite().all()
        assert 30 < int(y.sum()) < 270
