"""Whether the file that --out names can be written, and may be: asked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import UserError
from .files import probe


def require_output(path: Path, endings: Sequence[str], overwrite: bool) -> None:
    """Raise UserError where `path` has none of the endings, must not be replaced or cannot be written."""
    if path.suffix.lower() not in endings:
        raise UserError(f"--out is {path}; must end in {', '.join(endings[:-1])} or {endings[-1]}")
    if path.is_dir():
        raise UserError(
            f"--out {path} is a folder; give the name of a file, such as {path / f'out{endings[0]}'}"
        )
    if path.exists() and not path.is_file():
        raise UserError(f"--out {path} is a device or a pipe, which is not written; choose another file")
    if path.exists() and not overwrite:
        raise UserError(f"--out {path} exists; choose another file, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"--out {path} lies in a folder that does not exist; make it first")
    try:
        probe(path)
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({error.strerror}); choose another file") from error
