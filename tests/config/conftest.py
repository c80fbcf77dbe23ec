"""A config file in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write run.yaml into the working folder, so that messages begin with a short, known name."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str) -> Path:
        path = Path("run.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
