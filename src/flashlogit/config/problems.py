"""What is wrong with a tree of settings, in sentences for the person who wrote it.

The keys, kinds and types in the messages are read off the models in `flashlogit.config.settings`, which alone says
what may stand in a file.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .settings import RunSettings, Settings

KeyPath = tuple[str | int, ...]
_SHOWN_DEPTH, _SHOWN_ITEMS = 2, 20
"""Items of a list or section that are shown: 60 characters hold no more."""


@dataclass(frozen=True)
class _Place:
    """A value in the file."""

    path: KeyPath
    """The keys that lead to it, as they stand in the file."""
    annotation: Any
    """The type that is wanted there; None for an unknown key."""
    member: Any
    """The same, or the one of its union that pydantic's location names."""
    section: Any
    """The model (or list type) that has the last key."""
    rivals: tuple[type[Settings], ...]
    """The models that could have stood in the section's stead, it among them."""


@lru_cache(maxsize=1024)
def _place(location: KeyPath) -> _Place:
    """The place of pydantic's ``location``, in which a union adds a part that names its member."""
    if not location:
        return _Place((), RunSettings, RunSettings, None, ())
    above, part = _place(location[:-1]), location[-1]
    if len(_alternatives(above.member)) > 1:
        return replace(above, member=_member_called(above.member, part))
    section = next(iter(_alternatives(above.member)), None)
    below = _below(section, part)
    return _Place((*above.path, part), below, below, section, _sections(above.annotation))


def _alternatives(annotation: Any) -> list[Any]:
    """The types in an annotation, besides None."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [] if annotation in (None, NoneType) else [annotation]


def _sections(annotation: Any) -> tuple[type[Settings], ...]:
    return tuple(
        one for one in _alternatives(annotation) if isinstance(one, type) and issubclass(one, Settings)
    )


def _member_called(annotation: Any, tag: str | int) -> Any:
    """The member of a union by pydantic's name for it; None for a member that has no keys to go on to."""
    if str(tag).startswith("list["):
        return next((one for one in _alternatives(annotation) if get_origin(one) is list), None)
    return next((one for one in _sections(annotation) if tag in (one.__name__, _kind(one)[1])), None)


def _below(section: Any, part: str | int) -> Any:
    """The type of a section's key or of a list's item; None for an unknown key."""
    if section in _sections(section):
        return section.model_fields[part].annotation if part in section.model_fields else None
    arguments = get_args(section)
    return arguments[part] if len(arguments) > 1 and isinstance(part, int) else next(iter(arguments), None)


def _kind(section: type[Settings]) -> tuple[str, str | None]:
    """The key that tells a section from its rivals, and its value: ("source", "file"), ("name", "adam")."""
    for key, field in section.model_fields.items():
        values = get_args(field.annotation)
        if get_origin(field.annotation) is Literal and len(values) == 1:
            return key, values[0]
    return "", None


@dataclass(frozen=True)
class Problem:
    """What is wrong at a path. It is worded only when it is asked for: a file may have thousands."""

    path: KeyPath
    _detail: ErrorDetails
    _place: _Place

    @cached_property
    def sentence(self) -> str:
        """What is wrong, and what to do about it."""
        return _sentence(self._detail, self._place)

    @property
    def wants_list(self) -> bool:
        """Whether a list may stand there."""
        return any(get_origin(one) is list for one in _alternatives(self._place.annotation))


def problems_of(tree: object) -> dict[KeyPath, Problem]:
    """The problems of a tree by path, as `problems` has them."""
    try:
        RunSettings.model_validate(tree)
    except ValidationError as error:
        return problems(error)
    return {}


def problems(error: ValidationError) -> dict[KeyPath, Problem]:
    """One problem per place; where every member of a union complains, the deepest was the one meant."""
    found: dict[KeyPath, Problem] = {}
    for detail in error.errors(include_url=False):
        problem = _problem(detail)
        found.setdefault(problem.path, problem)
    above = {path[:length] for path in found for length in range(len(path))}
    return {path: problem for path, problem in found.items() if path not in above}


def _problem(detail: ErrorDetails) -> Problem:
    place = _place(detail["loc"])
    path = place.path
    if detail["type"] in _WRONG_KIND:
        path = (*path, _kind(_sections(place.annotation)[0])[0])
    elif detail["type"] == "missing" and isinstance(path[-1], int):
        # An item that a list of fixed length lacks: the list is what the user can mend.
        place = _place(detail["loc"][:-1])
        path = place.path
    return Problem(path, detail, place)


def _sentence(detail: ErrorDetails, place: _Place) -> str:
    given, context = detail["input"], detail.get("ctx", {})
    name = dotted(place.path)
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(place)
        case "invalid_key":
            return f"key {shown(given)} is not text; {_known_keys(place)}"
        case "missing" if len(place.path) == len(_place(detail["loc"]).path):
            return f"missing required key {name}; it must be {_wanted(place.annotation)}"
        case kind if kind in _WRONG_KIND:
            return _wrong_kind(place, given)
        case "value_error":
            return f"{name}: {context['error']}" if name else str(context["error"])
        case "string_pattern_mismatch":
            return f"{name} is {shown(given)}; {_pattern_in_words(place)}"
        case "finite_number":
            return f"{name} is {shown(given)}; must be a finite number"
        case kind if kind in _BOUNDS:
            bound, words = _BOUNDS[kind]
            return f"{name} is {shown(given)}; must be {words} {context[bound]:.12g}"
    return f"{name} is {shown(given)}; must be {_wanted(place.annotation)}"


_WRONG_KIND = ("union_tag_not_found", "union_tag_invalid")
_BOUNDS = {
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
}


def _wrong_kind(place: _Place, given: dict[Any, Any]) -> str:
    """A section whose `source` or `name` is absent or is none of those there are."""
    sections = _sections(place.annotation)
    key, _ = _kind(sections[0])
    name, kinds = dotted((*place.path, key)), _kinds(sections)
    if key in given:
        return f"{name} is {shown(given[key])}; must be one of {kinds}"
    return f"missing required key {name}; it must be one of {kinds}"


def _pattern_in_words(place: _Place) -> str:
    extra = place.section.model_fields[place.path[-1]].json_schema_extra
    return str(extra["patternErrorMessage"])


def _unknown_key(place: _Place) -> str:
    name = dotted(place.path)
    owners = [rival for rival in place.rivals if place.path[-1] in rival.model_fields]
    if owners:
        return _key_of_a_rival(place, owners)
    likely = _likely_keys(place)
    remedy = f"did you mean {_listed(likely, 'or')}?" if likely else _known_keys(place)
    return f"unknown key {name}; {remedy}"


def _key_of_a_rival(place: _Place, owners: list[type[Settings]]) -> str:
    key, kind = _kind(place.section)
    section = dotted(place.path[:-1])
    owner_kinds = _listed([str(_kind(owner)[1]) for owner in owners], "or")
    return (
        f"{dotted(place.path)} belongs to {section}.{key} {owner_kinds}, not {kind};"
        f" remove it, or replace the whole section, as in {section}={{{key}: {kind}}}"
    )


def _likely_keys(place: _Place) -> list[str]:
    """Keys of the same section spelled like the unknown one, and keys of other sections spelled just so."""
    *above, key = place.path
    near = difflib.get_close_matches(str(key), place.section.model_fields, n=1)
    elsewhere = [path for path in dict.fromkeys(_all_paths(RunSettings)) if path[-1] == key]
    return list(dict.fromkeys(dotted(path) for path in [*((*above, one) for one in near), *elsewhere]))


def _all_paths(annotation: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for section in _sections(annotation):
        for key, field in section.model_fields.items():
            yield (*above, key)
            yield from _all_paths(field.annotation, (*above, key))


def _known_keys(place: _Place) -> str:
    where = dotted(place.path[:-1]) or "the file"
    return f"{where} takes {_listed(list(place.section.model_fields), 'and')}"


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _wanted(annotation: Any) -> str:
    """A type in the user's words: "a whole number or null"."""
    parts = [_TYPE_NAMES[one] for one in _alternatives(annotation) if one in _TYPE_NAMES]
    for one in _alternatives(annotation):
        if get_origin(one) is Literal:
            values = [_spelled(str(value)) for value in get_args(one)]
            parts.append(values[0] if len(values) == 1 else f"one of {', '.join(values)}")
        elif get_origin(one) is list:
            parts.append(f"a list (each item {_wanted(get_args(one)[0])})")
        elif get_origin(one) is tuple:
            parts.append(f"a list of {len(get_args(one))} numbers")
    if NoneType in get_args(annotation):
        parts.append("null")
    if sections := _sections(annotation):
        parts.append(_section_in_words(sections))
    return _listed(parts, "or")


def _spelled(value: str) -> str:
    """A word as it is; a mark such as a tab as YAML takes it."""
    return value if re.fullmatch(r"[\w-]+", value) else json.dumps(value)


def _section_in_words(sections: tuple[type[Settings], ...]) -> str:
    if len(sections) == 1:
        return f"a section with {_listed(list(sections[0].model_fields), 'and')}"
    return f"a section with {_kind(sections[0])[0]} one of {_kinds(sections)}"


def _kinds(sections: tuple[type[Settings], ...]) -> str:
    return ", ".join(str(_kind(section)[1]) for section in sections)


def _listed(words: list[str], joint: str) -> str:
    return f" {joint} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def dotted(path: KeyPath) -> str:
    """``data.drop[0]`` for ("data", "drop", 0)."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_short(part)}" for part in path)
    return _short("".join(parts).removeprefix("."), 200)


def shown(value: object) -> str:
    """A value as it could stand in the file, cut where it is long."""
    value = _few(value)
    if isinstance(value, str | float):
        text = repr(value)  # YAML would write 1e-08 as 1.0e-08, and most text without quotes.
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return _short(text)


def _few(value: object, depth: int = 0) -> object:
    """As much of a value as is shown: nests, long lists and one list in many places may stand in a file."""
    if isinstance(value, list | dict) and depth == _SHOWN_DEPTH:
        return "..."
    if isinstance(value, list):
        return [_few(each, depth + 1) for each in value[:_SHOWN_ITEMS]]
    if isinstance(value, dict):
        items = islice(value.items(), _SHOWN_ITEMS)
        return {_few(key, depth + 1): _few(each, depth + 1) for key, each in items}
    return value


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
