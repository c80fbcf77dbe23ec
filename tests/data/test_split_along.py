"""Splits along a column: whole groups, and times of which the latest are held out."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from refused import NONE, refused

from flashlogit.data.dataset import TEST, TRAIN, VALIDATION
from flashlogit.data.files.arrow import ArrowTable
from flashlogit.data.split_along import Along, split_along

SHARES = {VALIDATION: 0.15, TEST: 0.2}


def split(kind, values, shares=SHARES, seed=0, kept=None):
    """The split of every row, and the note."""
    table = ArrowTable("d.csv", pa.table({"c": values}))
    kept = np.ones(table.rows, bool) if kept is None else np.array(kept)
    return split_along(Along(kind, "c"), table, kept, shares, 2, seed)[:2]


@pytest.mark.parametrize("largest", [1, 9, 60])
def test_groups_stay_whole_and_the_shares_are_kept(largest):
    rng = np.random.default_rng(largest)
    sizes = rng.integers(1, largest + 1, 120)
    groups = rng.permutation(np.repeat(rng.permutation(10**6)[:120], sizes))
    N, drawn = len(groups), set()
    for seed in range(5):
        splits, _ = split("group", groups, seed=seed)
        assert np.array_equal(splits, split("group", groups, seed=seed)[0])
        assert all(len(np.unique(splits[groups == group])) == 1 for group in groups)
        for which, share in SHARES.items():
            assert abs((splits == which).sum() - share * N) <= largest / 2 + 0.5
        drawn.add(tuple(splits))
    assert len(drawn) == 5


def test_groups_are_drawn_alike_whichever_order_and_type_they_have():
    groups = np.random.default_rng(0).integers(10, 60, 500)
    order = np.random.default_rng(1).permutation(500)
    splits, note = split("group", groups)
    assert np.array_equal(split("group", groups[order])[0], splits[order])
    for alike in (
        groups.astype(float),
        [f" {group} " for group in groups],
        pa.array(groups.astype(str)).dictionary_encode(),
    ):
        assert np.array_equal(split("group", alike)[0], splits)
    counts = [len(np.unique(groups[splits == which])) for which in (TRAIN, VALIDATION, TEST)]
    assert note == "Split by whole groups of c: {} train, {} validation, {} test groups".format(*counts)


def test_large_groups_are_passed_over_but_every_split_has_one():
    for seed in range(10):
        splits, _ = split("group", ["a"] * 900 + ["b"] * 40 + ["c"] * 60, {VALIDATION: 0.06}, seed)
        assert set(splits[:900]) == {TRAIN}
        splits, _ = split("group", ["a"] * 50 + ["b"] * 30 + ["c"] * 40, {VALIDATION: 0.05, TEST: 0.05}, seed)
        assert (set(splits[:50]), sorted([*splits[50:51], *splits[80:81]])) == ({TRAIN}, [VALIDATION, TEST])
        splits, _ = split("group", ["a", "b"] * 50 + ["c"], {VALIDATION: 0.9}, seed)
        assert len({*splits}) == 2


TIMES = {
    "int64": lambda day: 10**18 + day,  # beyond what a float64 tells apart
    "float": lambda day: np.array(day / 8, np.float16),
    "date": lambda day: pa.array([datetime.date(2024, 1, 31) + datetime.timedelta(int(d)) for d in day]),
    "timestamp": lambda day: pa.array(day * 10**9 + 1).cast(pa.timestamp("ns", "UTC")),
    "decimal": lambda day: pa.array(day).cast(pa.decimal128(21, 2)),
    "iso": lambda day: [str(datetime.date(2024, 1, 31) + datetime.timedelta(int(d))) for d in day],
    "months": lambda day: [f"{1990 + d // 12}-{d % 12 + 1:02}" for d in day],
    "view": lambda day: pa.array([f"{2000 + d}-01-01" for d in day]).cast(pa.string_view()),
    "spaces": lambda day: pa.array([f" 2024-01-01 {d:02}:00:00" + ".5" * (d % 2) for d in day]).dictionary_encode(),
    "nanoseconds": lambda day: [f"2024-01-01T{d:02}:30:00.123456789" for d in day],
    "zones": lambda day: [f"2024-01-02T{d % 24:02}:30:00{'Z' if d < 3 else '+00:00'}" for d in day],
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_latest_rows_are_held_out(kind):
    day = np.random.default_rng(0).integers(0, 20, 400)
    splits, _ = split("time", TIMES[kind](day))
    ends = [(day[splits == which].min(), day[splits == which].max()) for which in (TRAIN, VALIDATION, TEST)]
    assert [first for first, _ in ends] == [0, ends[0][1] + 1, ends[1][1] + 1]
    for which, share in SHARES.items():
        assert abs((splits == which).sum() - share * 400) <= np.bincount(day).max() / 2


def test_zones_are_heeded_and_rows_of_one_time_stay_together():
    times = ["2024-01-01T23:00:00-05:00", "2024-01-02T03:00:00Z", "2024-01-02T04:00:00+00:00", "2024-01-02T02:00:00Z"]
    splits, note = split("time", times, {TEST: 0.5})
    assert splits.tolist() == [TEST, TRAIN, TEST, TRAIN]
    assert note == "Split by time, c: test from 2024-01-01T23:00:00-05:00"
    for share, rows in ((0.2, 10), (0.4, 40), (0.6, 40), (0.9, 40)):  # one time is left for training
        assert (split("time", [1, 2, 2, 2, 1, 3, 1] * 10, {VALIDATION: share})[0] == VALIDATION).sum() == rows


def test_rows_that_are_left_out_need_no_value():
    kept = [True] * 10 + [False] * 2
    assert split("group", [*"abcdefghij", None, "a"], {VALIDATION: 0.2}, kept=kept)[0][10:].tolist() == [3, 3]
    splits, _ = split("time", [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, float("nan"), 99], {VALIDATION: 0.2}, kept=kept)
    assert splits.tolist() == [0] * 8 + [1, 1, 3, 3]


REFUSED = [
    (
        "group",
        ["a", "b", None, "", *"cdefgh"],
        ["group column", "in 2 rows, the first of them row 3", "a group of its own"],
    ),
    (
        "time",
        [1.0, 2.0, 3.0, float("nan"), *range(6)],
        ["time column", "in 1 row, the first of them row 4", "fill it in"],
    ),
    ("group", ["a"] * 9 + ["b"], ["has 2 distinct values", '"train", "validation" and "test"', "data.split.test to 0"]),
    ("time", [7] * 10, ["has one value, too few", "name another column"]),
    ("group", [[1]] * 10, ["list<"]),
    ("time", [[1]] * 10, ["list<", "numbers, dates or ISO 8601 text"]),
    ("time", [f"2024-02-{d}" for d in range(22, 32)], ['holds "2024-02-30"', "2024-12-31"]),
    ("time", [f"{d}.1.2024" for d in range(22, 32)], ['holds "22.1.2024"']),
    ("time", ["2024-01-01T10:00:00Z"] * 9 + ["2024-01-02"], ['holds "2024-01-02"', "with its zone"]),
]


@pytest.mark.parametrize(("kind", "values", "words"), REFUSED)
def test_columns_that_are_refused(kind, values, words):
    with refused(*words, setting='column "c" of d.csv'):
        split(kind, values)


def test_a_file_is_split_along_its_column(write, load_file):
    rng = np.random.default_rng(0)
    p, t, a = rng.integers(0, 40, 400), rng.integers(0, 100, 400), rng.normal(size=400)
    columns = {"a": a, "p": p, "t": t, "y": np.arange(400) % 2}
    path = write("d.csv", columns)
    for kind, name, key in (("group", "p", p), ("time", "t", t)):
        settings = {kind: name, "columns": ["a"], "standardize": False, "dtype": "float64"}
        data = load_file(path, **settings)
        keys = [set(key[np.isin(a, rows.X[:, 0])]) for rows in data.splits.values()]
        assert [len(rows) for rows in data.splits.values()] == pytest.approx([280, 60, 60], abs=10)
        assert sum(map(len, keys)) == len(set(key))
        assert any(note.startswith("Split by ") for note in data.notes)
    assert load_file(path, group="p", time=None).feature_names == ("a", "t")
    assert load_file(path, time="t", test_path=path).feature_names == ("a", "p")
    assert len(load_file(path, group="p", split=NONE).train) == 400


def test_other_files_need_no_such_column(write, load_file):
    columns = {"a": np.arange(40.0), "p": np.arange(40) // 4, "y": np.arange(40) % 2}
    other = write("t.csv", {"a": [1.0, 2.0], "y": [0, 1]})
    data = load_file(write("d.csv", columns), group="p", test_path=other)
    assert (data.feature_names, len(data.test), len(data.train) % 4) == (("a",), 2, 0)


SETTINGS = [
    ({"group": "pp"}, "data.group", ['no such column (did you mean "p"?)']),
    ({"time": "y"}, "data.time", ["data.label.column names it too"]),
    ({"group": "p", "weight": "p"}, "data.group", ["data.weight names it too"]),
    ({"group": "p", "columns": ["a", "p"]}, "data.columns", ['"p", the group column']),
    ({"time": "p", "drop": ["a"]}, "d.csv", ["no feature columns left", "the label and the time"]),
    ({"group": "p"}, "d.csv", ["validation rows have no rows of the class", "data.split", "another seed"]),
    ({"time": "p"}, "d.csv", ['validation rows have no rows of the class "0"', "data.split"]),
]


@pytest.mark.parametrize(("settings", "setting", "words"), SETTINGS)
def test_settings_that_are_refused(settings, setting, words, write, load_file):
    p = np.arange(40)
    path = write("d.csv", {"a": p / 7, "p": p // 8, "y": (p >= 20).astype(int)})
    with refused(*words, setting=setting):
        load_file(path, **{"split": {"validation": 0.2, "test": 0.2}} | settings)
