"""Runs through the command line's entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import CONFIGS

from flashlogit.commands.main import run_command


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[..., str]:
    """Train into tmp_path by one of configs/, or by a file that says `name: run`; gives what was printed.

    The test module's CONFIG is the config unless another is named, and its OPTIONS come first. `code` is the exit code,
    None for any; the errors are what was printed where it is not 0.
    """
    (tmp_path / "config.yaml").write_text("name: run\n")
    usual, first = getattr(request.module, "CONFIG", ""), getattr(request.module, "OPTIONS", ())

    def run(*arguments: str, config: str | Path = usual, code: int | None = 0) -> str:
        path = CONFIGS / f"{config}.yaml" if isinstance(config, str) and config else config
        given = ["--config", str(path or tmp_path / "config.yaml"), f"output={tmp_path}", *first, *arguments]
        found = run_command("train", given)
        captured = capsys.readouterr()
        assert code is None or found == code, captured.err
        return captured.out if code == 0 else captured.err

    return run
