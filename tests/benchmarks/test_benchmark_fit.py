"""`fit`: the ladder keeps the quickest setting that proves the gap, and every library gets to the same optimum."""

import json
import math

import pytest
import torch
from benchmarks import contenders, fit, report
from benchmarks.contenders import Contender, Data, Solution
from benchmarks.problems import Objective, Table

import flashlogit

TABLE = Table(400, 4, "correlated")


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


@pytest.mark.parametrize(
    "speed", [{"float64": 1.0}, {"float64": 4.0, "float32": 1.0}, {"float64": 1.0, "float32": 3.0}]
)
def test_the_quickest_setting_that_proves_the_gap(race, speed):
    some = contender(*RUNGS, speed=speed)
    assert "ms" in race.climb(some)
    race.take_turns()
    record = race.record(some)
    assert (record["ms"], record["setting"]) == (40.0, f"{min(speed, key=speed.get)}, rung 2")
    assert record["gap"] == pytest.approx(5e-9, rel=0.1)
    assert len(record["tried"]) == 3 * len(speed)  # a tighter one than needed is not run


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([(10.0, 1e-3), (20.0, 1e-6), (30.0, 1e-5)], "at a gap of 1.0e-06 after 20 ms"),
        ([(10.0, 1e-3), (7e4, 1e-4), (1.0, 1e-10)], "at a gap of 1.0e-04 after 7e+04 ms"),  # beyond the limit of time
    ],
)
def test_what_stops_short_gets_no_time(race, settings, said):
    record = race.climb(contender(*settings))
    assert "ms" not in record
    assert record["status"] == "stopped short"
    assert record["reason"].startswith(said)


def fails(work, device):
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("wall", "said"),
    [
        (lambda work, device: (1.0, Solution([math.nan] * 4, 0.0)), "no setting gave a finite answer"),
        (fails, "float64: ValueError: no such thing"),
    ],
)
def test_a_solution_that_is_not_finite_or_raises(wall, said, race, monkeypatch):
    monkeypatch.setattr(fit, "wall", wall)
    record = race.climb(contender((1.0, 0.0)))
    assert record["status"] == "failed"
    assert record["reason"].startswith(said)


def test_the_optimum(objective):
    objective.minimize()
    result = flashlogit.fit(objective.X, objective.y, l2=objective.l2, tolerance=1e-12)
    assert math.isclose(result.objective, objective.best, rel_tol=1e-12)
    assert math.isclose(result.certificate.null_objective, objective.null, rel_tol=1e-12)
    assert math.isclose(objective(result.weight, result.bias), result.objective, rel_tol=1e-12)


def test_missing_packages_are_skipped_with_a_note(monkeypatch):
    def missing(data, device, gap):
        raise ModuleNotFoundError("no module named elsewhere")

    monkeypatch.setitem(contenders.LIBRARIES, "glum", (missing, ("cpu",)))
    data = Data(torch.zeros(2, 1), torch.tensor([0, 1]))
    (record,) = contenders.contenders(data, "cpu", 1e-8, ["GLUM*"])
    assert (record["name"], record["status"]) == ("glum", "skipped")
    assert "no module named elsewhere" in record["reason"]
    assert contenders.contenders(data, "cpu", 1e-8, ["cuml"]) == []  # which is for GPUs


def test_a_quick_run_is_read_back(tmp_path, monkeypatch):
    """All contenders that are installed reach the gap on a small table, but for those that are known not to."""
    monkeypatch.setitem(fit.TABLES, "569 x 30", TABLE)
    monkeypatch.setattr(fit, "_SETTLING_MS", 0.0)
    out = tmp_path / "fit.json"
    options = ["--quick", "--problems", "569 x 30", "--out", str(out), "--picture", str(tmp_path / "fit.png")]
    assert fit.main(options) == 0
    content = json.loads(out.read_text())
    found = {record["line"]: record for record in content["results"]}
    exact = ("flashlogit", "flashlogit newton-cg", "scikit-learn lbfgs", "scikit-learn newton-cholesky")
    for name in (*exact, "torch.optim.LBFGS"):
        assert found[name]["ms"] > 0
        assert found[name]["gap"] <= 1e-8
    assert found["flashlogit"]["speedup"] == 1.0
    assert found["flashlogit"]["setting"] == "float32, tol 1e-08"
    assert report.main([str(out)] * 2) == 0
    assert (tmp_path / "fit.png").stat().st_size > 1000
