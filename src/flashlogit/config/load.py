"""Reads a run's settings from a YAML file, and words whatever is wrong with them for the person who wrote it.

    file -> tree (YAML 1.2) -> overrides laid over it -> RunSettings, or one UserError with a line per problem

What may stand in the file, and within which bounds, is the business of `flashlogit.config.settings` alone: pydantic's
findings become errors that name the setting, its bound and the remedy, with keys and kinds read off the models there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..system.errors import UserError
from .data import Conflict, Settings
from .settings import RunSettings
from .yaml_text import KeyPath, Override, blamed, dotted, dump_yaml, laid_over, parse_override, parse_yaml

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
        UserError: the file is missing, cannot be opened, is not UTF-8, not YAML, empty or not a mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        folder = path if path.is_dir() else path.parent
        names = sorted(file.name for file in folder.glob("*.yaml"))
        remedy = f"{folder} holds {', '.join(names)}" if names else "choose another file"
        raise UserError(f"cannot be read: {error.strerror}", setting=path, remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 at byte {error.start}; save it as UTF-8 text", setting=path) from error
    except ValueError as error:  # a NUL in the file's name
        raise UserError(f"cannot be read: {error}", setting=path, remedy="correct the file's name") from error
    if tree is None:
        raise UserError("is empty; it must hold at least the keys name and data", setting=path)
    if not isinstance(tree, dict):
        raise UserError("must hold keys with values, such as `name: my_run`", setting=path, value=tree)
    return tree


# --- What is wrong with a tree of settings -----------------------------------------------------------------

Sections = list[type[Settings]]

_WANTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "too_long": "a list of {max_length}",
    "too_short": "a list of at least {min_length}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "invalid_key": "text, as every key",
    "missing": "text",  # as all keys without a default that are no sections
}
"""What each kind of error wants; pydantic's own words are plain enough for the others."""


@dataclass(frozen=True)
class Place:
    """A value in the tree."""

    path: KeyPath
    """The keys that lead to it, as they stand in the file."""
    sections: Sections
    """The sections that may stand there."""
    owner: type[Settings]
    """The section that has the last key."""
    rivals: Sections
    """The sections that could have stood where the owner does, it among them."""


def found_by(error: ValidationError) -> dict[KeyPath, tuple[Place, list[ErrorDetails]]]:
    """Return pydantic's findings by place; where every member of a union complains, the deepest was the one meant."""
    found: dict[KeyPath, tuple[Place, list[ErrorDetails]]] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail["loc"])
        found.setdefault(place.path, (place, []))[1].append(detail)
    above = {path[:length] for path in found for length in range(len(path))}
    return {path: each for path, each in found.items() if path not in above}


def _place(location: KeyPath) -> Place:
    """Return the place of pydantic's location, in which every union adds a part that names one of its members."""
    path: KeyPath = ()
    here: list[Any] = [RunSettings]
    owner: type[Settings] = RunSettings
    rivals = sections = _sections(here)
    for part in location:
        if len(here) > 1:
            here = [each for each in _sections(here) if part in (each.__name__, _kind(each)[1])]
        elif _sections(here):
            path, owner, rivals = (*path, part), here[0], sections
            field = owner.model_fields.get(str(part))
            here = _members(field.annotation) if field else []
            sections = _sections(here)
        elif here and get_origin(here[0]) is dict:
            path, here = (*path, part), _members(get_args(here[0])[1])
            sections = _sections(here)
        elif isinstance(part, int):
            path = (*path, part)
    return Place(path, sections, owner, rivals)


def _members(annotation: Any) -> list[Any]:
    """Return the types in an annotation, besides None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _members(part)]
    return [] if annotation is NoneType else [annotation]


def _sections(members: list[Any]) -> Sections:
    return [each for each in members if isinstance(each, type) and issubclass(each, Settings)]


def _kind(section: type[Settings]) -> tuple[str, str | None]:
    """Return the key that tells a section from its rivals, and its value: ("source", "file"), ("name", "adam")."""
    for key, field in section.model_fields.items():
        values = get_args(field.annotation)
        if get_origin(field.annotation) is Literal and len(values) == 1:
            return key, values[0]
    return "", None


def worded(place: Place, details: list[ErrorDetails]) -> tuple[UserError, list[list[KeyPath]]]:
    """Return what is wrong at a place, and the keys whose values can be the cause: groups, the likeliest first."""
    detail, path = details[-1], place.path
    value, context = detail["input"], detail.get("ctx", {})
    causes = [[path], [(*path[:-1], _kind(place.owner)[0])]]
    if detail["type"] == "value_error":
        conflict: Conflict = context["error"]
        keys: list[KeyPath] = [(*path, *key.split(".")) for key in conflict.keys]
        about = (*path, *filter(None, conflict.about.split(".")))
        return UserError(conflict.problem, setting=dotted(about), remedy=conflict.remedy), [keys]
    if detail["type"] == "extra_forbidden":
        return _unknown_key(place), causes
    wanted = " or ".join(dict.fromkeys([*(_wanted(each, place) for each in details), *_or_null(place)]))
    missing = detail["type"] == "missing"
    if detail["type"] in _WRONG_KIND:
        key = _kind(place.sections[0])[0]
        path, missing, value = (*path, key), key not in value, value.get(key)
        wanted = _kinds(place.sections)
    if missing:
        return UserError(f"required key; it must be {wanted}", setting=dotted(path)), causes
    listed = isinstance(value, str) and any(each["type"] == "list_type" for each in details)
    remedy = f"write [{value}]" if listed else ""
    return UserError(f"must be {wanted}", setting=dotted(path), value=value, remedy=remedy), causes


_WRONG_KIND = ("union_tag_not_found", "union_tag_invalid")
"""A section whose `source` or `name` is absent or is none of those there are."""


def _wanted(detail: ErrorDetails, place: Place) -> str:
    """Return what must stand there."""
    kind = detail["type"]
    if kind in ("model_type", "model_attributes_type") or (kind == "missing" and place.sections):
        first, *others = place.sections
        return f"a section with {_kind(first)[0]} {_kinds(place.sections)}" if others else f"a section ({_keys(first)})"
    if kind == "string_pattern_mismatch":
        extra: Any = place.owner.model_fields[str(place.path[-1])].json_schema_extra
        return str(extra["patternErrorMessage"]).removeprefix("must be ")
    words = _WANTED.get(kind)
    return words.format_map(detail.get("ctx", {})) if words else detail["msg"].removeprefix("Input should be ")


def _or_null(place: Place) -> list[str]:
    """Return "null" where the key may have it, of which pydantic says nothing."""
    field = place.owner.model_fields.get(str(place.path[-1])) if place.path else None
    return ["null"] if field and NoneType in get_args(field.annotation) else []


def _unknown_key(place: Place) -> UserError:
    key, name = str(place.path[-1]), dotted(place.path)
    owners = [str(_kind(rival)[1]) for rival in place.rivals if key in rival.model_fields]
    if owners:
        chooser, kind = _kind(place.owner)
        section = dotted(place.path[:-1])
        problem = f"belongs to {section}.{chooser} {' or '.join(owners)}, not {kind}"
        remedy = f"remove it, or replace the whole section, as in {section}={{{chooser}: {kind}}}"
        return UserError(problem, setting=name, remedy=remedy)
    near = [(*place.path[:-1], one) for one in difflib.get_close_matches(key, _names(place.owner), n=1)]
    elsewhere = [path for path in _all_paths([RunSettings]) if path[-1] == key]
    likely = " or ".join(dict.fromkeys(map(dotted, [*near, *elsewhere])))
    known = f"{dotted(place.path[:-1]) or 'the file'} takes {_keys(place.owner)}"
    return UserError("unknown key", setting=name, remedy=f"did you mean {likely}?" if likely else known)


def _all_paths(members: list[Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    for section in _sections(members):
        for key, field in zip(_names(section), section.model_fields.values(), strict=True):
            yield (*above, key)
            yield from _all_paths(_members(field.annotation), (*above, key))


def _keys(section: type[Settings]) -> str:
    return ", ".join(_names(section))


def _names(section: type[Settings]) -> list[str]:
    """Return the keys of a section as they stand in a file: `from` is a keyword of Python, and its field has another
    name."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _kinds(sections: Sections) -> str:
    return "one of " + ", ".join(str(_kind(section)[1]) for section in sections)
