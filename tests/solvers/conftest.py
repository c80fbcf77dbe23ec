"""Small operations on one thread, as within a fit, and no fit at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flashlogit.system.threads import threads_for_passes


@pytest.fixture(autouse=True)
def _one_thread(in_steps: None) -> Iterator[None]:
    with threads_for_passes():
        yield
