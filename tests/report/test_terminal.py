"""flashlogit.report.text: digits of the table, and its width."""

from __future__ import annotations

import pytest
from flashlogit.report.text import metrics_table

from flashlogit.metrics.evaluation import Metrics

GOOD = Metrics(398, 150, 0.02805123, 0.028051, 0.9949749, 0.99931, 0.9990, 0.00606849, 0.0100949)
TINY = Metrics(10**12, 5, 1.2345e-300, 1.2345e-11, 0.9999123, None, 0.99123, 1.2345e-17, 1.2345e-18)


def test_a_line_for_each_split_under_the_heading():
    heading, train = metrics_table({"train": GOOD}).splitlines()
    cells = dict(zip(heading.replace("ROC ", "ROC_").split(), train.split(), strict=True))
    assert cells == {
        "split": "train", "rows": "398", "log-loss": "0.02805", "clamped": "0.02805", "accuracy": "0.9950",
        "ROC_AUC": "0.9993", "AP": "0.9990", "Brier": "0.006068", "ECE": "0.01009",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("log_loss", "text"),
    [(0.0, "0.000"), (0.00099999, "1.000e-3"), (0.001, "0.001000"), (1234.4, "1234"), (9999.6, "1.000e4")],
)
def test_four_significant_digits(log_loss, text):
    metrics = Metrics(3, 1, log_loss, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert metrics_table({"train": metrics}).splitlines()[1].split()[2] == text


@pytest.mark.parametrize("splits", [{}, {"train": GOOD, "validation": GOOD}, {"validation": TINY, "test": GOOD}])
def test_digits_give_way_to_80_columns(splits):
    lines = metrics_table(splits).splitlines()
    assert len(lines) == 1 + len(splits)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    if splits and "test" in splits:
        assert lines[1].split()[2] == "1.2e-300"
        assert lines[1].split()[5] == "-"
