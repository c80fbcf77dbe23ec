"""A model file's labels as an estimator has them."""

import pytest

from flashlogit.models.model import _labels


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("0", "1"), [0, 1]),
        (("-1", "1"), [-1, 1]),
        (("01", "1"), ["01", "1"]),
        (("1_0", "10"), ["1_0", "10"]),
        (("1" * 30, "2"), ["1" * 30, "2"]),
    ],
)
def test_label_names_that_are_written_as_whole_numbers_become_numbers(names, expected):
    assert _labels(names).tolist() == expected
