"""Writing files so that a reader never finds half of one."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

PLAIN_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
"""What is read as a number in a file of text."""
FORMULA = "^'*[=+@\\-\\t\\r\\n＝＋－＠]"
"""Beginnings of text that spreadsheets take for a formula, and those that already have an apostrophe before them."""


def safe_cell(text: str) -> str:
    """Return a text of a CSV file with an apostrophe before it where a spreadsheet would run it; taking one away from
    each that begins so gives the text back."""
    runs = re.match(FORMULA, text) is not None and re.match(PLAIN_NUMBER, text, re.ASCII) is None
    return f"'{text}" if runs else text


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place of `path` in one step.

    The file is on the disk before it takes the name: after a crash `path` is the old file or the new one, whole. An
    OSError names `path`.
    """
    with naming(path):
        temporary = _temporary(path)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name the file, which a full disk's does not, nor one of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # the system's, not a library's own words
            error.filename = str(path)
        raise


def remove_unfinished(path: Path) -> None:
    """Remove what `write_atomically` of processes that were killed left beside `path`; for the only writer of it."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        file.unlink(missing_ok=True)


def require_output(path: Path, endings: Sequence[str], overwrite: bool) -> None:
    """Raise UserError where --out is `path` and this has none of the endings, must not be replaced or cannot be
    written."""
    example = path / f"out{endings[0]}" if path.is_dir() else path.with_suffix(endings[0])
    problem = remedy = ""
    if path.suffix.lower() not in endings:
        problem, remedy = f"must end in {', '.join(endings[:-1])} or {endings[-1]}", f"give a name such as {example}"
    elif path.is_dir():
        problem, remedy = "is a folder", f"give the name of a file, such as {example}"
    elif path.exists() and not path.is_file():
        problem, remedy = "is a device or a pipe, which is not written", "choose another file"
    elif path.exists() and not overwrite:
        problem, remedy = "exists", "choose another file, or replace it with --overwrite"
    elif not path.parent.is_dir():
        problem, remedy = "lies in a folder that does not exist", "make it first"
    else:
        try:
            probe(path)
        except OSError as error:
            problem, remedy = f"cannot be written ({error.strerror})", "choose another file"
    if problem:
        raise UserError(problem, setting="--out", value=path, remedy=remedy)


def probe(path: Path) -> None:
    """Raise OSError where `write_atomically` could make no file beside `path`; nothing is left behind."""
    _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    return Path(name)


def _umask() -> int:
    """Return the process's mask of permissions, which only setting it can read; mkstemp's own files are private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
