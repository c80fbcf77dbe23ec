"""What an error says: its fields, and words of its sentence; and the splits of data that are all for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flashlogit.system.errors import UserError

NONE = {"validation": 0, "test": 0}


@contextmanager
def refused(*words: str, setting: str = "") -> Iterator[None]:
    """A UserError within, whose setting ends so and whose one sentence has all of the words."""
    with pytest.raises(UserError) as caught:
        yield
    error, sentence = caught.value, str(caught.value)
    assert error.setting.endswith(setting), sentence
    assert [word for word in words if word not in sentence] == [], sentence
    assert "\n" not in sentence
    assert not sentence.endswith(".")
