"""Runs through the command line's entry point, without pictures unless a test asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import DRAWING, blank

from flashlogit.commands.main import run_command
from flashlogit.runs import results

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def pictures() -> None:
    """A test that takes this has its runs draw."""


@pytest.fixture(autouse=True)
def _without_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.fixturenames:
        for name in DRAWING:
            monkeypatch.setattr(results, name, blank, raising=False)


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train into tmp_path by one of configs/, or by a file that says `name: run`; gives what was printed.

    `code` is the exit code, None for any; the errors are what was printed where it is not 0.
    """
    (tmp_path / "config.yaml").write_text("name: run\n")

    def run(*arguments: str, config: str | Path = "", code: int | None = 0) -> str:
        path = CONFIGS / f"{config}.yaml" if isinstance(config, str) and config else config
        given = ["--config", str(path or tmp_path / "config.yaml"), f"output={tmp_path}", *arguments]
        found = run_command("train", given)
        captured = capsys.readouterr()
        assert code is None or found == code, captured.err
        return captured.out if code == 0 else captured.err

    return run
