"""Small tables are fitted as large ones are."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _in_steps(in_steps: None) -> None:
    pass
