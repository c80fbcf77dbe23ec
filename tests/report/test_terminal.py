"""flashlogit.report.terminal: the exact text of the table, and its width."""

from __future__ import annotations

import pytest

from flashlogit.metrics.binary import Metrics
from flashlogit.report.terminal import metrics_table

GOOD = Metrics(398, 150, 0.02805123, 0.028051, 0.9949749, 0.99931, 0.9990, 0.00606849, 0.0100949)
ONE_CLASS = Metrics(86, 86, 0.5, 0.5, 1.0, None, None, 0.25, 0.0)
TINY = Metrics(10**12, 5, 1.2345e-300, 1.2345e-11, 0.9999123, 0.012345, 0.99123, 1.2345e-17, 1.2345e-18)


def test_exact_text():
    assert metrics_table({"train": GOOD, "test": ONE_CLASS}) == "\n".join(
        [
            "split  rows  log-loss  clamped  accuracy  ROC AUC      AP     Brier      ECE",
            "train   398   0.02805  0.02805    0.9950   0.9993  0.9990  0.006068  0.01009",
            "test     86    0.5000   0.5000     1.000        -       -    0.2500    0.000",
        ]
    )


def test_without_splits_it_is_its_heading():
    assert metrics_table({}) == "split  rows  log-loss  clamped  accuracy  ROC AUC  AP  Brier  ECE"


@pytest.mark.parametrize(
    ("log_loss", "text"),
    [
        (0.0, "0.000"),
        (1.23456e-5, "1.235e-5"),
        (0.00099999, "1.000e-3"),
        (0.001, "0.001000"),
        (12.3456, "12.35"),
        (1234.4, "1234"),
        (9999.6, "1.000e4"),
        (1e20, "1.000e20"),
    ],
)
def test_four_significant_digits(log_loss, text):
    metrics = Metrics(3, 1, log_loss, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert metrics_table({"train": metrics}).splitlines()[1].split()[2] == text


@pytest.mark.parametrize("splits", [{"train": GOOD, "validation": GOOD}, {"validation": TINY, "test": GOOD}])
def test_at_most_80_columns_and_all_lines_alike(splits):
    lines = metrics_table(splits).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80


def test_digits_give_way_to_width():
    assert "1.2e-300" in metrics_table({"validation": TINY})
    assert "0.02805" in metrics_table({"validation": GOOD})
