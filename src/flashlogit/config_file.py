"""Reads a run's settings from a YAML file, and words whatever is wrong with them for the person who wrote it.

    file -> tree (YAML 1.2) -> overrides laid over it -> RunSettings, or one UserError with a line per problem

What may stand in the file, and within which bounds, is `flashlogit.config`'s business alone: the keys, kinds
and types in the messages are read off its models.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flashlogit.config import RunSettings, Settings
from flashlogit.errors import UserError

KeyPath = tuple[str | int, ...]


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings in the YAML file at ``path``, with ``overrides`` like ``training.epochs=100`` laid over.

    Of two overrides of one key the later one holds. ``training.early_stopping=null`` takes a section away,
    ``training.optimizer={name: sgd}`` gives one anew.

    Raises:
        UserError: the file cannot be read or is no YAML mapping, an override is malformed, or settings are
            unknown, missing or out of bounds; these with one line per problem.
    """
    parsed = [_parse_override(text) for text in overrides]
    file_tree = _read_tree(path)
    tree: object = file_tree
    for override in parsed:
        tree = _laid_over(tree, override)
    try:
        return RunSettings.model_validate(tree)
    except ValidationError as error:
        from_file = _problems_of(file_tree)
        lines = [
            f"{path if problem in from_file else _blamed(problem, parsed)}: {problem.sentence}"
            for problem in _problems(error)
        ]
        raise UserError("\n".join(lines)) from error


def dump_settings(settings: RunSettings) -> str:
    """All settings as YAML, defaults included, in the order of their declaration; it loads back equal."""
    return yaml.dump(settings.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


# --- YAML ---------------------------------------------------------------------------------------------------

# The plain words that are no text, from YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2). PyYAML
# itself goes by YAML 1.1, where `yes` is a boolean, 1e-8 a text, 12:30 a number and 2024-01-01 a date.
_CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _RefusedYamlError(yaml.MarkedYAMLError):
    """Valid YAML that no config file has a use for; its problem is a sentence for the user."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema and nothing beyond it: no merge keys, no other tags; keys may not repeat."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise self._duplicate_key(node)
        return mapping

    def _duplicate_key(self, node: yaml.MappingNode) -> _RefusedYamlError:
        first_line: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in first_line:
                text = f"key {key} is given twice in one section, first in line {first_line[key]}; remove one"
                return _RefusedYamlError(problem=text, problem_mark=key_node.start_mark)
            first_line[key] = key_node.start_mark.line + 1
        raise AssertionError("called for a mapping without duplicate keys")

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        # PyYAML's own reads 017 as octal, which YAML 1.2 writes as 0o17.
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        return int(node.value, base)

    def refuse_tag(self, node: yaml.Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _RefusedYamlError(
            problem=f"the tag {tag} has no meaning here; remove it", problem_mark=node.start_mark
        )


class _Dumper(yaml.SafeDumper):
    """Quotes what is no text in YAML 1.1 or in YAML 1.2, so that readers of either get the same settings."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML left to itself writes U+0085 and U+2028 so that they read back as spaces.
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def _teach_core_schema() -> None:
    _Loader.yaml_implicit_resolvers = {}
    _Loader.yaml_constructors = {}
    for name, (pattern, first_characters) in _CORE_SCHEMA.items():
        for dialect in (_Loader, _Dumper):
            dialect.add_implicit_resolver(
                f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), first_characters
            )
    for name in ("null", "bool", "float", "str", "seq", "map"):
        tag = f"tag:yaml.org,2002:{name}"
        _Loader.add_constructor(tag, yaml.SafeLoader.yaml_constructors[tag])
    _Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
    _Loader.add_constructor(None, _Loader.refuse_tag)
    _Dumper.add_representer(str, _Dumper.represent_text)


_teach_core_schema()


def _parse_yaml(text: str, origin: str) -> object:
    """The tree that ``text`` stands for.

    Raises:
        UserError: the text is not YAML; the message begins with ``origin`` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{origin}{_line_of(error)}: {_yaml_problem(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{origin}, line {line}: YAML takes no {text[error.position]!r}; remove it"
        ) from error
    except (ValueError, KeyError) as error:
        # A tag that its word belies (`!!float abc`), or more digits than Python takes for an int.
        raise UserError(f"{origin}: cannot read a number or a tagged value: {error}") from error
    except RecursionError as error:
        raise UserError(f"{origin}: not readable as YAML: too many brackets inside each other") from error


def _line_of(error: yaml.MarkedYAMLError) -> str:
    return f", line {error.problem_mark.line + 1}" if error.problem_mark else ""


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _RefusedYamlError):
        return str(error.problem)
    return "not valid YAML: " + ", ".join(part for part in (error.context, error.problem) if part)


# --- The file -----------------------------------------------------------------------------------------------


def _read_tree(path: Path) -> dict[Any, Any]:
    """The mapping in the file at ``path``.

    Raises:
        UserError: the file is missing, unreadable, not YAML, empty or not a mapping.
    """
    tree = _parse_yaml(_read_text(path), str(path))
    if tree is None:
        raise UserError(f"{path}: is empty; it must hold at least the keys name and data")
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds {_shown(tree)}; must hold keys with values, such as `name: my_run`")
    return tree


def _read_text(path: Path) -> str:
    """The text of the file at ``path``.

    Raises:
        UserError: there is no such file, it cannot be opened, or it is not UTF-8 text.
    """
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


# --- Overrides ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Override:
    text: str
    path: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return f"override {self.text}"


def _parse_override(text: str) -> _Override:
    """``section.key=value`` taken apart.

    Raises:
        UserError: there is no key, no ``=`` or no value, or the value is not YAML.
    """
    keys, _, value = (part.strip() for part in text.partition("="))
    if not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", keys) or not value:
        raise UserError(
            f"override {text}: must be section.key=value, such as training.epochs=100"
            " (or training.early_stopping=null for none)"
        )
    return _Override(text, tuple(keys.split(".")), _parse_yaml(value, f"override {text}"))


def _laid_over(section: object, override: _Override, depth: int = 0) -> dict[Any, Any]:
    """``section`` with the override's value in it; a copy, since a YAML anchor shares one section among keys.

    Raises:
        UserError: the override's path leads through something that has no keys.
    """
    section = {} if section is None else section
    if not isinstance(section, dict):
        name = _dotted(override.path[:depth])
        raise UserError(
            f"{override}: {name} is {_shown(section)}, not a section with keys; set the whole of it,"
            f" as in {name}=value"
        )
    key, last = override.path[depth], depth == len(override.path) - 1
    value = override.value if last else _laid_over(section.get(key), override, depth + 1)
    return {**section, key: value}


def _blamed(problem: _Problem, overrides: list[_Override]) -> str:
    """The overrides nearest to a problem that the file alone does not have."""
    shared = [_shared_length(problem.path, override.path) for override in overrides]
    nearest = [
        str(override) for override, length in zip(overrides, shared, strict=True) if length == max(shared)
    ]
    return ", ".join(nearest)


def _shared_length(one: KeyPath, other: KeyPath) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


# --- Where a problem is: pydantic's locations, freed of what the user never wrote ---------------------------


@dataclass(frozen=True)
class _Place:
    """A value in the file."""

    path: KeyPath
    """The keys that lead to it, as they stand in the file."""
    annotation: Any
    """The type that is wanted there; None for an unknown key."""
    section: Any
    """The model (or list type) that has the last key."""
    rivals: tuple[type[Settings], ...]
    """The models that could have stood in the section's stead, it among them."""


def _place(location: KeyPath) -> _Place:
    """The place of pydantic's ``location``, in which a union adds a part that names its member."""
    path: KeyPath = ()
    annotation: Any = RunSettings
    member: Any = RunSettings
    section: Any = None
    rivals: tuple[type[Settings], ...] = ()
    for part in location:
        if len(_alternatives(member)) > 1:
            member = _member_called(member, part)
            continue
        section = next(iter(_alternatives(member)), None)
        rivals = _sections(annotation)
        path = (*path, part)
        annotation = member = _below(section, part)
    return _Place(path, annotation, section, rivals)


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


# --- What is wrong there, in a sentence ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    path: KeyPath
    sentence: str


def _problems_of(tree: object) -> list[_Problem]:
    try:
        RunSettings.model_validate(tree)
    except ValidationError as error:
        return _problems(error)
    return []


def _problems(error: ValidationError) -> list[_Problem]:
    """One problem per place; where every member of a union complains, the deepest was the one meant."""
    found: dict[KeyPath, _Problem] = {}
    for detail in error.errors(include_url=False):
        problem = _problem(detail)
        found.setdefault(problem.path, problem)
    return [found[path] for path in found if not any(_lies_below(other, path) for other in found)]


def _lies_below(path: KeyPath, ancestor: KeyPath) -> bool:
    return len(path) > len(ancestor) and path[: len(ancestor)] == ancestor


def _problem(detail: ErrorDetails) -> _Problem:
    location, given, context = detail["loc"], detail["input"], detail.get("ctx", {})
    place = _place(location)
    name = _dotted(place.path)
    match detail["type"]:
        case "extra_forbidden":
            sentence = _unknown_key(place)
        case "invalid_key":
            sentence = f"key {_shown(given)} is not text; {_known_keys(place)}"
        case "missing" if isinstance(location[-1], int):
            # An item that a list of fixed length lacks: the list is what the user can mend.
            return _out_of_type(_place(location[:-1]), given)
        case "missing":
            sentence = f"missing required key {name}; it must be {_wanted(place.annotation)}"
        case "union_tag_not_found" | "union_tag_invalid":
            return _wrong_kind(place, given)
        case "value_error":
            sentence = f"{name}: {context['error']}" if name else str(context["error"])
        case "string_pattern_mismatch":
            sentence = f"{name} is {_shown(given)}; {_pattern_in_words(place)}"
        case "finite_number":
            sentence = f"{name} is {_shown(given)}; must be a finite number"
        case kind if kind in _BOUNDS:
            bound, words = _BOUNDS[kind]
            sentence = f"{name} is {_shown(given)}; must be {words} {context[bound]:.12g}"
        case _:
            return _out_of_type(place, given)
    return _Problem(place.path, sentence)


_BOUNDS = {
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
}


def _out_of_type(place: _Place, given: object) -> _Problem:
    sentence = f"{_dotted(place.path)} is {_shown(given)}; must be {_wanted(place.annotation)}"
    return _Problem(place.path, sentence)


def _wrong_kind(place: _Place, given: dict[Any, Any]) -> _Problem:
    """A section whose `source` or `name` is absent or is none of those there are."""
    sections = _sections(place.annotation)
    key, _ = _kind(sections[0])
    name, kinds = _dotted((*place.path, key)), _kinds(sections)
    sentence = (
        f"{name} is {_shown(given[key])}; must be one of {kinds}"
        if key in given
        else f"missing required key {name}; it must be one of {kinds}"
    )
    return _Problem((*place.path, key), sentence)


def _pattern_in_words(place: _Place) -> str:
    extra = place.section.model_fields[place.path[-1]].json_schema_extra
    return str(extra["patternErrorMessage"])


# --- Keys that do not exist ---------------------------------------------------------------------------------


def _unknown_key(place: _Place) -> str:
    name = _dotted(place.path)
    owners = [rival for rival in place.rivals if place.path[-1] in rival.model_fields]
    if owners:
        return _key_of_a_rival(place, owners)
    likely = _likely_keys(place)
    remedy = f"did you mean {_listed(likely, 'or')}?" if likely else _known_keys(place)
    return f"unknown key {name}; {remedy}"


def _key_of_a_rival(place: _Place, owners: list[type[Settings]]) -> str:
    key, kind = _kind(place.section)
    section = _dotted(place.path[:-1])
    owner_kinds = _listed([str(_kind(owner)[1]) for owner in owners], "or")
    return (
        f"{_dotted(place.path)} belongs to {section}.{key} {owner_kinds}, not {kind};"
        f" remove it, or replace the whole section, as in {section}={{{key}: {kind}}}"
    )


def _likely_keys(place: _Place) -> list[str]:
    """Keys of the same section spelled like the unknown one, and keys of other sections spelled just so."""
    *above, key = place.path
    near = difflib.get_close_matches(str(key), place.section.model_fields, n=1)
    elsewhere = [path for path in dict.fromkeys(_all_paths(RunSettings)) if path[-1] == key]
    return list(dict.fromkeys(_dotted(path) for path in [*((*above, one) for one in near), *elsewhere]))


def _all_paths(annotation: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for section in _sections(annotation):
        for key, field in section.model_fields.items():
            yield (*above, key)
            yield from _all_paths(field.annotation, (*above, key))


def _known_keys(place: _Place) -> str:
    where = _dotted(place.path[:-1]) or "the file"
    return f"{where} takes {_listed(list(place.section.model_fields), 'and')}"


# --- Words --------------------------------------------------------------------------------------------------

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _wanted(annotation: Any) -> str:
    """A type in the user's words: "a whole number or null"."""
    parts = [_TYPE_NAMES[one] for one in _alternatives(annotation) if one in _TYPE_NAMES]
    for one in _alternatives(annotation):
        if get_origin(one) is Literal:
            values = [str(value) for value in get_args(one)]
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


def _section_in_words(sections: tuple[type[Settings], ...]) -> str:
    if len(sections) == 1:
        return f"a section with {_listed(list(sections[0].model_fields), 'and')}"
    return f"a section with {_kind(sections[0])[0]} one of {_kinds(sections)}"


def _kinds(sections: tuple[type[Settings], ...]) -> str:
    return ", ".join(str(_kind(section)[1]) for section in sections)


def _listed(words: list[str], joint: str) -> str:
    return f" {joint} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _dotted(path: KeyPath) -> str:
    """``data.drop[0]`` for ("data", "drop", 0)."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _shown(value: object) -> str:
    """A value as it could stand in the file, cut where it is long."""
    if isinstance(value, str | float):
        text = repr(value)  # YAML would write 1e-08 as 1.0e-08, and most text without quotes.
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return text if len(text) <= 60 else f"{text[:57]}..."
