"""How contenders of `fit` are run, and which setting they are judged by."""

from __future__ import annotations

import pytest
from fit_samples import FakeRace, failing

from flashlogit.benchmark.fit_contender import Ladder, Rung
from flashlogit.benchmark.fit_report import contender_record


def climbed(race: FakeRace, *rungs: Rung, **changes: object):
    climb = race.climb(race.contender("some", *rungs, **changes))
    race.take_turns()
    return climb, race.chosen(climb)


def test_the_quickest_setting_that_reaches_the_gap():
    race = FakeRace()
    rungs = [race.rung(f"tol {k}", ms=100.0 * k, gap=10.0 ** (-2 * k)) for k in range(1, 7)]
    climb, chosen = climbed(race, *rungs)
    assert chosen is not None
    assert chosen.rung.setting == "tol 4"
    assert chosen.median == pytest.approx(400)
    record = contender_record(race, climb)
    assert record.status == "ok"
    assert record.best is not None
    assert record.best.gap == pytest.approx(1e-8, rel=1e-3)
    assert record.best.in_turn
    assert record.best.calls == 3


def test_the_quicker_of_two_variants():
    race = FakeRace()
    slow = Ladder("float64", [race.rung("a", 500, 1e-3), race.rung("b", 900, 1e-10)])
    fast = Ladder("float32", [race.rung("c", 100, 1e-3), race.rung("d", 200, 1e-9)])
    chosen = climbed(race, ladders=[slow, fast])[1]
    assert (chosen.variant, chosen.rung.setting) == ("float32", "d")


def test_stopped_short():
    race = FakeRace()
    climb, chosen = climbed(
        race, race.rung("a", 100, 1e-3), race.rung("b", 300, 1e-6), race.rung("c", 600, 1e-5)
    )
    assert chosen.rung.setting == "b"
    record = contender_record(race, climb)
    assert record.status == "stopped short"
    assert record.best.gap == pytest.approx(1e-6, rel=1e-3)
    assert record.best.ms == pytest.approx(300)


def test_a_headline_is_what_counts():
    race = FakeRace()
    rungs = [race.rung("a", 100, 1e-9), race.rung("b", 300, 1e-10, headline=True), race.rung("c", 400, 1e-11)]
    climb, chosen = climbed(race, *rungs)
    assert chosen.rung.setting == "b"
    assert chosen.turns_ms
    assert contender_record(race, climb).best.ms == pytest.approx(300)


def test_a_headline_is_run_when_the_ladder_is_left():
    race = FakeRace(limit=0.05)
    rungs = [race.rung("a", 100, 1e-3), race.rung("b", 200, 1e-5), race.rung("c", 300, 1e-9, headline=True)]
    climb, chosen = climbed(race, *rungs)
    assert [attempt.rung.setting for attempt in climb.attempts] == ["a", "c"]
    assert chosen.rung.setting == "c"


def test_a_headline_that_fails_is_a_failure():
    race = FakeRace()
    broken = Rung("b", failing(ValueError("no")), headline=True)
    climb, chosen = climbed(race, race.rung("a", 100, 1e-9), broken)
    assert chosen is None
    record = contender_record(race, climb)
    assert (record.status, record.reason) == ("failed", "float64: ValueError: no")


def test_tighter_settings_are_left_out_after_the_limit():
    race = FakeRace(limit=1.0)
    rungs = [race.rung("a", 500, 1e-3), race.rung("b", 1500, 1e-6), race.rung("c", 4000, 1e-9)]
    climb, chosen = climbed(race, *rungs)
    assert "c" not in race.calls
    assert climb.cut == ["float64"]
    assert chosen.rung.setting == "b"
    # Once in the climb, and never again.
    assert race.calls.count("b") == 1


def test_a_ladder_ends_where_float64_does():
    race = FakeRace()
    climb, _ = climbed(race, *(race.rung(str(k), 500, 10.0 ** -(2 * k)) for k in range(1, 9)))
    assert [attempt.rung.setting for attempt in climb.attempts][-1] == "6"


def test_a_ladder_ends_at_the_gap_where_that_is_enough():
    race = FakeRace(thorough=False)
    climb, _ = climbed(race, *(race.rung(str(k), 500, 0.5 * 10.0 ** -(2 * k)) for k in range(1, 9)))
    assert [attempt.rung.setting for attempt in climb.attempts][-1] == "4"


def test_a_tolerance_without_effect():
    race = FakeRace()
    climb, _ = climbed(race, *(race.rung(str(k), 500, 1e-5) for k in range(20)))
    assert len(climb.attempts) == 6


def test_turns():
    race = FakeRace(repeats=2)
    for name in ("x", "y"):
        race.climb(race.contender(name, race.rung(name, 1000, 1e-10)))
    race.calls.clear()
    race.take_turns()
    assert race.calls == ["x", "y", "x", "y"]


def test_short_calls_follow_some_that_are_not_timed():
    race = FakeRace(repeats=1)
    climb = race.climb(race.contender("x", race.rung("x", 5, 1e-10)))
    race.calls.clear()
    race.take_turns()
    assert len(race.calls) == 60 + 5
    assert len(climb.attempts[0].turns_ms) == 5


def test_one_thread_is_tried():
    race = FakeRace()
    climb = race.climb(race.contender("x", race.rung("a", 500, 1e-10), blas=True))
    assert [attempt.variant for attempt in climb.attempts] == ["float64", "float64, one BLAS thread"]


def test_failures():
    race = FakeRace()
    broken = Ladder("float32", [Rung("a", failing(RuntimeError("no such thing")))])
    good = Ladder("float64", [race.rung("b", 100, 1e-10)])
    climb, chosen = climbed(race, ladders=[broken, good])
    assert chosen.rung.setting == "b"
    assert contender_record(race, climb).reason == "float32: RuntimeError: no such thing"
    climb, chosen = climbed(race, ladders=[broken])
    assert chosen is None
    assert contender_record(race, climb).status == "failed"


def test_an_answer_that_is_not_finite():
    race = FakeRace()
    rung = race.rung("a", 100, 1e-10)
    solution = rung.run()
    solution.weight[0] = float("nan")
    broken = Rung("nan", lambda: solution)
    climb, chosen = climbed(race, broken)
    assert chosen is None
    record = contender_record(race, climb)
    assert record.status == "failed"
    assert record.rungs[0].gap is None


def test_a_contender_may_know_better_than_the_reference():
    race = FakeRace()
    exact = race.best
    race.best, race.best_from = exact + 1e-6, "reference"
    _, chosen = climbed(race, race.rung("a", 100, 0.0))
    assert race.best == pytest.approx(exact, rel=1e-14)
    assert race.best_from == "some"
    assert race.gap(chosen.objective) == 0.0
