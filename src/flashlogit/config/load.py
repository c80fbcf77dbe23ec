"""Reads a run's settings from a YAML file, and words whatever is wrong with them for the person who wrote it.

    file -> tree (YAML 1.2) -> overrides laid over it -> RunSettings, or one UserError with a line per problem

What may stand in the file, and within which bounds, is the business of `flashlogit.config.settings` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..system.errors import UserError
from .overrides import Override, blamed, laid_over, parse_override
from .problems import found_by, worded
from .settings import RunSettings
from .yaml_dialect import dump_yaml, parse_yaml

_MOST_PROBLEMS = 20
"""So many problems are told, each with what to do about it."""


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Return the settings in the YAML file at ``path``, with ``overrides`` like ``training.epochs=100`` laid over.

    Where two overrides set one key, the later one holds. ``training.early_stopping=null`` takes a section away,
    ``training.optimizer={name: sgd}`` gives one anew.

    Raises:
        UserError: the file cannot be read or is no YAML mapping, an override is malformed, or settings are
            unknown, missing or out of bounds; these with one line per problem.
    """
    parsed = [parse_override(each) for each in overrides]
    try:
        return RunSettings.model_validate(laid_over(_read_tree(path), parsed))
    except ValidationError as error:
        raise _refusal(error, path, parsed) from error


def dump_settings(settings: RunSettings) -> str:
    """Return all settings as YAML, defaults included, in the order of their declaration; it loads back equal.

    Only the way to learn that is taken is there, of the two.
    """
    return dump_yaml(settings.model_dump(exclude={"training"} if settings.solver else {"solver"}))


def _refusal(error: ValidationError, path: Path, overrides: Sequence[Override]) -> UserError:
    """Return what pydantic found as one error, each problem with the file or the overrides that it comes from."""
    found = list(found_by(error).values())
    problems = []
    for place, details in found[:_MOST_PROBLEMS]:
        problem, causes = worded(place, details)
        problem.origin = blamed(overrides, causes) or str(path)
        problems.append(problem)
    if len(found) > _MOST_PROBLEMS:
        problems.append(UserError(f"and {len(found) - _MOST_PROBLEMS:,} more problems like these"))
    first, *others = problems
    first.others = tuple(others)
    return first


def _read_tree(path: Path) -> dict[Any, Any]:
    """Return the mapping in the file at ``path``.

    Raises:
        UserError: the file is missing, unreadable, not YAML, empty or not a mapping.
    """
    tree = parse_yaml(_read_text(path), str(path))
    if tree is None:
        raise UserError("empty; it must hold at least the keys name and data", setting=path)
    if not isinstance(tree, dict):
        raise UserError("must hold keys with values", setting=path, value=tree, remedy="such as `name: my_run`")
    return tree


def _read_text(path: Path) -> str:
    """Return the text of the file at ``path``.

    Raises:
        UserError: there is no such file, it cannot be opened, or it is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        folder = path if path.is_dir() else path.parent
        names = sorted(file.name for file in folder.glob("*.yaml"))
        remedy = f"{folder} holds {', '.join(names)}" if names else "choose another file"
        raise UserError(f"cannot be read: {error.strerror}", setting=path, remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start} is not UTF-8; save the file as UTF-8 text", setting=path) from error
    except ValueError as error:  # a NUL in the file's name
        raise UserError(f"cannot be read: {error}", setting=path, remedy="correct the file's name") from error
