"""Numbers, names and metrics as text: digits, room, and what turns the direction of text."""

from dataclasses import replace

import pytest

from flashlogit.metrics.evaluation import Metrics
from flashlogit.report.page import interval, odds
from flashlogit.report.text import amount, joined, metrics_table, number

GOOD = Metrics(398, 150, 0.02805123, 0.028051, 0.9949749, 0.99931, 0.9990, 0.00606849, 0.0100949)
TINY = Metrics(10**12, 5, 1.2345e-300, 1.2345e-11, 0.9999123, None, 0.99123, 1.2345e-17, 1.2345e-18)


def in_the_table(log_loss):
    return metrics_table({"train": replace(GOOD, log_loss=log_loss)}).splitlines()[1].split()[2]


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
        (in_the_table, {0.0: "0.000", 0.00099999: "1.000e-3", 0.001: "0.001000", 1234.4: "1234", 9999.6: "1.000e4"}),
        (odds, {0.0: "1", 800.0: "> 1e300", -800.0: "< 1e−300", None: "–"}),
    ],
)
def test_numbers(function, cases):
    assert {value: function(value) for value in cases} == cases


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        (["x3", "class 17 of a table"], None, "\u2068x3\u2069 → \u2068class 17 of a table\u2069"),
        (["carrier=EV"], 10, "\u2068carrier=EV\u2069"),
        (["the temperature of the engine, front"], 20, "\u2068the temperatu… front\u2069"),
        (["x3", "class 17 of a table"], 21, "\u2068x3\u2069 → \u2068class 17 of… table\u2069"),
        (["class 17 of a table", "x3"], 21, "\u2068class 17 of… table\u2069 → \u2068x3\u2069"),
        (["a" * 30, "b" * 30], 21, f"\u2068{'a' * 6}…{'a' * 3}\u2069 → \u2068{'b' * 6}…{'b' * 3}\u2069"),
        (["a\u202eb\u2067c\nd", "\u05d0\u05d1"], None, "\u2068a\ufffdb\ufffdc d\u2069 → \u2068\u05d0\u05d1\u2069"),
        (["\u2069x"], None, "\u2068\ufffdx\u2069"),
    ],
)
def test_names_keep_their_head_and_tail_and_turn_no_text_around(names, most, text):
    assert joined(names, most) == text


def test_the_terminal_has_a_line_for_each_split_under_the_heading():
    heading, train = metrics_table({"train": GOOD}).splitlines()
    assert heading.split() == ["split", "rows", "log-loss", "clamped", "accuracy", "ROC", "AUC", "AP", "Brier", "ECE"]
    assert train.split() == ["train", "398", "0.02805", "0.02805", "0.9950", "0.9993", "0.9990", "0.006068", "0.01009"]


@pytest.mark.parametrize("splits", [{}, {"train": GOOD, "validation": GOOD}, {"validation": TINY, "test": GOOD}])
def test_digits_give_way_to_80_columns(splits):
    lines = metrics_table(splits).splitlines()
    assert len(lines) == 1 + len(splits)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    if "test" in splits:
        assert (lines[1].split()[2], lines[1].split()[5]) == ("1.2e-300", "-")
