"""Numbers, names and metrics as text: digits, room, and what turns the direction of text."""

from __future__ import annotations

import pytest

from flashlogit.metrics.evaluation import Metrics
from flashlogit.report.page import interval, odds
from flashlogit.report.text import amount, isolated, joined, metrics_table, number, plain, shortened

GOOD = Metrics(398, 150, 0.02805123, 0.028051, 0.9949749, 0.99931, 0.9990, 0.00606849, 0.0100949)
TINY = Metrics(10**12, 5, 1.2345e-300, 1.2345e-11, 0.9999123, None, 0.99123, 1.2345e-17, 1.2345e-18)


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (number, {-0.0: "0", 0.2: "0.2", 1000: "1,000", 1e6: "1e6", -2.5: "−2.5", 1e-9: "1e−9", 0.001: "0.001"}),
        (lambda v: amount(v, whole=True), {0.0: "0", 899_999_999.0: "899,999,999", 1e12: "1.0000e12"}),
        (lambda v: amount(v, whole=False), {12344.5: "12,345", 1234.5678: "1,234.6", 9.99999e-5: "0.00010000"}),
        (lambda v: amount(v, whole=False), {1.23456789e-6: "1.2346e−6"}),
        (lambda v: interval(*v), {(0.0130, (7.75e-4, 0.0384)): "0.0008–0.0384", (None, None): ""}),
        (lambda v: interval(*v), {(0.0012, (7.75e-4, 0.0384)): "7.75e−4–0.0384", (0.9, (0.8, 1.0)): "0.8000–1.0000"}),
        (lambda v: interval(*v), {(0.999999, (0.999998, 1.0)): "0.999998–1.000000"}),
        (odds, {0.0: "1", 800.0: "> 1e300", -800.0: "< 1e−300", None: "–"}),
    ],
)
def test_numbers(function, cases):
    assert {value: function(value) for value in cases} == cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (shortened("carrier=EV", 10), "carrier=EV"),
        (shortened("the temperature of the engine, front", 20), "the temperatu… front"),
        (joined(["x3", "class 17 of a table"]), "\u2068x3\u2069 → \u2068class 17 of a table\u2069"),
        (joined(["the temperature of the engine, front"], 20), "\u2068the temperatu… front\u2069"),
        (joined(["x3", "class 17 of a table"], 21), "\u2068x3\u2069 → \u2068class 17 of… table\u2069"),
        (joined(["class 17 of a table", "x3"], 21), "\u2068class 17 of… table\u2069 → \u2068x3\u2069"),
        (joined(["abc", "def"], 21), "\u2068abc\u2069 → \u2068def\u2069"),
        (str(len(joined(["a" * 30, "b" * 30], 21))), str(20 + len("\u2068\u2069 → \u2068\u2069"))),
        (plain("a\u202eb\u2067c\nd"), "a\ufffdb\ufffdc d"),
        (plain("\u05d0\u05d1"), "\u05d0\u05d1"),
        (isolated("\u2069x"), "\u2068\ufffdx\u2069"),
    ],
)
def test_names_keep_their_head_and_tail_and_turn_no_text_around(text, expected):
    assert text == expected


def test_the_terminal_has_a_line_for_each_split_under_the_heading():
    heading, train = metrics_table({"train": GOOD}).splitlines()
    assert heading.split() == ["split", "rows", "log-loss", "clamped", "accuracy", "ROC", "AUC", "AP", "Brier", "ECE"]
    assert train.split() == ["train", "398", "0.02805", "0.02805", "0.9950", "0.9993", "0.9990", "0.006068", "0.01009"]


@pytest.mark.parametrize(
    ("log_loss", "text"),
    [(0.0, "0.000"), (0.00099999, "1.000e-3"), (0.001, "0.001000"), (1234.4, "1234"), (9999.6, "1.000e4")],
)
def test_four_significant_digits_on_the_terminal(log_loss, text):
    metrics = Metrics(3, 1, log_loss, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert metrics_table({"train": metrics}).splitlines()[1].split()[2] == text


@pytest.mark.parametrize("splits", [{}, {"train": GOOD, "validation": GOOD}, {"validation": TINY, "test": GOOD}])
def test_digits_give_way_to_80_columns(splits):
    lines = metrics_table(splits).splitlines()
    assert len(lines) == 1 + len(splits)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    if "test" in splits:
        assert (lines[1].split()[2], lines[1].split()[5]) == ("1.2e-300", "-")
