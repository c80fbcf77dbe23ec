"""What the project promises of its size: lines of code, files, and frames from an entry to the launch of a kernel."""

from __future__ import annotations

import ast
import io
import runpy
import statistics
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
import torch

from flashlogit import LogisticRegression, fit

ROOT = Path(__file__).parents[1]
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(path: Path) -> int:
    """Lines of a module without blanks, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    strings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(getattr(value, "value", None), str):
                strings |= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


@pytest.mark.parametrize(
    ("folders", "most_lines", "most_files"),
    [(("kernels", "src"), 26_600, 230), (("scripts",), 2_270, 24), (("tests",), 18_400, 126)],
)
def test_lines_of_code(folders: tuple[str, ...], most_lines: int, most_files: int) -> None:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) <= most_files
    assert sum(map(code_lines, files)) <= most_lines


class _Recorded:
    """A kernel that notes who called it: the frames of the project's files, itself included."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.depths: list[int] = []

    def __getitem__(self, grid: object) -> Callable[..., Any]:
        def launch(*arguments: Any, **options: Any) -> Any:
            frame: FrameType | None = sys._getframe(1)
            names = []
            while frame is not None:
                own = Path(frame.f_code.co_filename)
                if any(own.is_relative_to(ROOT / folder) for folder in ("src", "kernels", "scripts")):
                    names.append(f"{own.name}:{frame.f_code.co_name}")
                frame = frame.f_back
            self.depths.append(len(names) + 1)
            self.names = names
            return self.kernel[grid](*arguments, **options)

        return launch


@pytest.fixture
def recorded(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> _Recorded:
    """The kernel of loss and gradient, as every fit and training launches it."""
    from flashlogit_kernels.gpu import _bce

    recorded = _Recorded(_bce.onepass_kernel)
    monkeypatch.setattr(_bce, "onepass_kernel", recorded)
    return recorded


def test_frames_of_the_command(recorded: _Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A step of training, from scripts/train.py as the user runs it; the validation loss is computed a frame deeper."""
    script = ROOT / "scripts/train.py"
    options = ["backend=triton", f"output={tmp_path}", "training.epochs=1"]
    monkeypatch.setattr(sys, "argv", [str(script), "--config", str(ROOT / "configs/bce.yaml"), "--quiet", *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert min(recorded.depths) <= 10, recorded.names


def test_frames_of_a_fit(recorded: _Recorded) -> None:
    """The evaluation of a step. The first one, which makes the start, lies deeper. A fit that tells of its points makes
    them in launches of their own."""
    X = torch.randn(200, 4)
    fit(X, X[:, 0] > 0.3 * X[:, 1], l2=0.1, backend="triton", solver="newton", on_point=lambda *_: None)
    assert statistics.median(recorded.depths) <= 8, recorded.names


def test_frames_of_the_estimator(recorded: _Recorded) -> None:
    X = torch.randn(200, 64)  # more columns than a fit in one launch takes
    LogisticRegression(backend="triton").fit(X, X[:, 0] > 0.3 * X[:, 1])
    assert statistics.median(recorded.depths) <= 12, recorded.names
