"""Reads a run's settings from a YAML file, and words whatever is wrong with them for the person who wrote it.

    file -> tree (YAML 1.2) -> overrides laid over it -> RunSettings, or one UserError with a line per problem

What may stand in the file, and within which bounds, is `flashlogit.config.settings`'s business alone: the keys, kinds
and types in the messages are read off its models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..system.errors import UserError
from .problems import KeyPath, Problem, dotted, problems, problems_of, shown
from .settings import RunSettings
from .yaml_dialect import dump_yaml, is_text_of_files, parse_yaml

_MOST_PROBLEMS = 20
"""So many problems are told, each with what to do about it."""


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings in the YAML file at ``path``, with ``overrides`` like ``training.epochs=100`` laid over.

    Of two overrides of one key the later one holds. ``training.early_stopping=null`` takes a section away,
    ``training.optimizer={name: sgd}`` gives one anew.

    Raises:
        UserError: the file cannot be read or is no YAML mapping, an override is malformed, or settings are
            unknown, missing or out of bounds; these with one line per problem.
    """
    of_path: dict[KeyPath, _Override] = {}
    for override in map(_parse_override, overrides):
        of_path.pop(override.path, None)  # the last of each path holds, and has its place in the order
        of_path[override.path] = override
    parsed = list(of_path.values())
    file_tree = _read_tree(path)
    try:
        return RunSettings.model_validate(_overridden(file_tree, parsed))
    except ValidationError as error:
        from_file, found = problems_of(file_tree), problems(error)
        lines = []
        for problem in islice(found.values(), _MOST_PROBLEMS):
            in_file = from_file.get(problem.path)
            same = in_file is not None and in_file.sentence == problem.sentence
            lines.append(
                f"{path if same else _blamed(problem, parsed, file_tree)}: {problem.sentence}"
                f"{_list_of_one(problem, parsed, file_tree)}"
            )
        if len(found) > _MOST_PROBLEMS:
            lines.append(f"and {len(found) - _MOST_PROBLEMS:,} more problems like these")
        raise UserError("\n".join(lines)) from error


def dump_settings(settings: RunSettings) -> str:
    """All settings as YAML, defaults included, in the order of their declaration; it loads back equal.

    Of the two ways to learn, only the one that is taken is there.
    """
    return dump_yaml(settings.model_dump(exclude={"training"} if settings.solver else {"solver"}))


def _read_tree(path: Path) -> dict[Any, Any]:
    """The mapping in the file at ``path``.

    Raises:
        UserError: the file is missing, unreadable, not YAML, empty or not a mapping.
    """
    tree = parse_yaml(_read_text(path), str(path))
    if tree is None:
        raise UserError(f"{path}: is empty; it must hold at least the keys name and data")
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds {shown(tree)}; must hold keys with values, such as `name: my_run`")
    return tree


def _read_text(path: Path) -> str:
    """The text of the file at ``path``.

    Raises:
        UserError: there is no such file, it cannot be opened, or it is not UTF-8 text.
    """
    if "\0" in str(path):
        raise UserError(f"{path}: a file's name has no NUL; correct it")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file{_files_of(path.parent)}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder, not a file{_files_of(path)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error


def _files_of(folder: Path) -> str:
    names = sorted(file.name for file in folder.glob("*.yaml"))
    return f"; {folder} holds {', '.join(names)}" if names else ""


_BRACKETS = "[{\"'"
"""What begins a list, a section or a quotation."""
_PATTERN = r"\[[^]]*\].*[^]}]"
"""A pattern of file names such as [ab]*.csv, which begins like a list and does not end like one."""


_MARKS = ("?", "-")
"""Spellings of a missing value, which YAML takes for the beginning of a key or a list."""
_QUOTED_MARKS = re.compile(r"([\[,]\s*)([?-])(?=\s*[,\]])")


@dataclass(frozen=True)
class _Override:
    text: str
    path: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return f"override {self.text if len(self.text) <= 200 else self.text[:197] + '...'}"


def _parse_override(text: str) -> _Override:
    """``section.key=value`` taken apart.

    Raises:
        UserError: there is no key, no ``=`` or no value, or the value is not YAML.
    """
    if not is_text_of_files(text):
        raise UserError(f"override {text}: is not UTF-8 text; write it, or the file's name, in UTF-8")
    keys, _, value = (part.strip() for part in text.partition("="))
    if not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", keys) or not value:
        raise UserError(
            f"override {text}: must be section.key=value, such as training.epochs=100"
            " (or training.early_stopping=null for none)"
        )
    return _Override(text, tuple(keys.split(".")), _value(value, f"override {text}"))


def _value(text: str, origin: str) -> object:
    """An override's value: YAML, or the text itself where a shell's word such as `*.csv` or `> 50K` is none.

    Raises:
        UserError: a list, section or quotation that is no YAML.
    """
    # In a file these begin a comment, an alias, a block of text, a list and the like, some of them read as nothing.
    if text[0] in "#*|>%@`" or text in _MARKS:
        return text
    bracketed = text[0] in _BRACKETS
    try:
        value = parse_yaml(_QUOTED_MARKS.sub(r'\1"\2"', text) if bracketed else text, origin)
    except UserError:
        if bracketed and not re.fullmatch(_PATTERN, text):
            raise
        return text
    # A name with a # in it is no name with a comment behind it, as a number would be.
    return text if " #" in text and isinstance(value, str) and not bracketed else value


def _overridden(tree: dict[Any, Any], overrides: Sequence[_Override]) -> dict[Any, Any]:
    """The tree with the overrides laid over it, in their order. Sections on their paths are copied, and only once: the
    tree is left as it is, and a YAML anchor shares one section among keys.

    Raises:
        UserError: an override's path leads through something that has no keys.
    """
    result = dict(tree)
    copied = {id(result)}
    for override in overrides:
        section = result
        for depth, key in enumerate(override.path[:-1], start=1):
            below = section.get(key)
            if below is None:
                below = {}
            elif not isinstance(below, dict):
                name = dotted(override.path[:depth])
                raise UserError(
                    f"{override}: {name} is {shown(below)}, not a section with keys; set the whole of it,"
                    f" as in {name}=value"
                )
            elif id(below) not in copied:
                below = dict(below)
            copied.add(id(below))
            section[key] = below
            section = below
        section[override.path[-1]] = override.value
    return result


def _blamed(problem: Problem, overrides: list[_Override], file_tree: dict[Any, Any]) -> str:
    """The overrides nearest to a problem that the file alone does not have; of these, any without which it is gone."""
    shared = [_shared_length(problem.path, override.path) for override in overrides]
    most = max(shared)
    nearest = [override for override, length in zip(overrides, shared, strict=True) if length == most]
    if len(nearest) == 1:
        return str(nearest[0])
    if len(nearest) > _MOST_PROBLEMS:
        return f"{nearest[0]} and {len(nearest) - 1:,} more overrides"
    needed = [override for override in nearest if _vanishes(problem, override, overrides, file_tree)]
    return ", ".join(map(str, needed or nearest))


def _list_of_one(problem: Problem, overrides: list[_Override], file_tree: dict[Any, Any]) -> str:
    """How to write an override's value as the list that is wanted, where a list of it alone would do."""
    for override in overrides:
        if override.path == problem.path and problem.wants_list and isinstance(override.value, str | int):
            listed = [replace(o, value=[o.value]) if o is override else o for o in overrides]
            if problem.path not in problems_of(_overridden(file_tree, listed)):
                return f", as in {dotted(problem.path)}=[{override.value}]"
    return ""


def _vanishes(
    problem: Problem, override: _Override, overrides: list[_Override], file_tree: dict[Any, Any]
) -> bool:
    try:
        left = problems_of(_overridden(file_tree, [o for o in overrides if o is not override]))
    except UserError:  # Without it another override leads nowhere.
        return False
    return problem.path not in left or left[problem.path].sentence != problem.sentence


def _shared_length(one: KeyPath, other: KeyPath) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
