"""Settings as text: YAML as version 1.2 has it, and overrides on the command line, such as ``training.epochs=100``.

PyYAML has version 1.1, which bites: here `yes` is text, `1e-8` a number, and a key stands once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..system.errors import UserError, shortened

KeyPath = tuple[str | int, ...]

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
_TAG = "tag:yaml.org,2002:"


def is_text_of_files(text: str) -> bool:
    """Return whether a text can be a file's name and stand in one: it has no NUL, and no half of a character, as
    arguments that are not UTF-8 and escapes such as \\ud800 have."""
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)


class _RefusedYamlError(yaml.MarkedYAMLError):
    """Valid YAML that no config file has a use for."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema and nothing beyond it: no merge keys, no other tags; keys may not repeat."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012
    yaml_constructors = {  # noqa: RUF012
        _TAG + name: yaml.SafeLoader.yaml_constructors[_TAG + name] for name in ("null", "bool", "float", "seq", "map")
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        first_line: dict[Any, int] = {}
        for key_node, _ in node.value if len(mapping) < len(node.value) else ():
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if key in first_line:
                first = first_line[key]
                raise _RefusedYamlError(
                    problem=f"key {key} is given twice in one section, first in line {first}; remove one",
                    problem_mark=mark,
                )
            first_line[key] = mark.line + 1
        return mapping

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        # PyYAML's own reads 017 as octal, which YAML 1.2 writes as 0o17.
        number = int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))
        str(number)  # ValueError where it has more digits than Python writes, as no error could show it
        return number

    def construct_text(self, node: yaml.ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if not is_text_of_files(text):
            problem = f"the text {shortened(text, 60)!r} has a NUL or half of a character; remove it"
            raise _RefusedYamlError(problem=problem, problem_mark=node.start_mark)
        return text

    def refuse_tag(self, node: yaml.Node) -> None:
        problem = f"the tag {node.tag.replace(_TAG, '!!')} has no meaning here; remove it"
        raise _RefusedYamlError(problem=problem, problem_mark=node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes what is no text in YAML 1.1 or in YAML 1.2, so that readers of either get the same settings."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML left to itself writes U+0085 and U+2028 so that they read back as spaces.
        return self.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


for _name, (_pattern, _first) in _CORE_SCHEMA.items():
    for _dialect in (_Loader, _Dumper):
        _dialect.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_whole_number)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)
_Loader.add_constructor(None, _Loader.refuse_tag)
_Dumper.add_representer(str, _Dumper.represent_text)


def parse_yaml(text: str, origin: str) -> object:
    """Return the tree that ``text`` stands for.

    Raises:
        UserError: the text is not YAML, or YAML that has no use here; it says that this is in ``origin``, and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        words = ", ".join(part for part in (error.context, error.problem) if part)
        problem = words if isinstance(error, _RefusedYamlError) else f"not valid YAML: {words}"
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(problem, origin=origin + line) from error
    except yaml.reader.ReaderError as error:
        line = f", line {text.count(chr(10), 0, error.position) + 1}"
        raise UserError(f"YAML takes no {text[error.position]!r}; remove it", origin=origin + line) from error
    except (ValueError, KeyError) as error:
        # A tag that its word belies (`!!float abc`), or more digits than Python takes for an int.
        raise UserError(f"cannot read a number or a tagged value: {error}", origin=origin) from error
    except RecursionError as error:
        raise UserError("not readable as YAML: too many brackets inside each other", origin=origin) from error


def dump_yaml(tree: object) -> str:
    """Return YAML text that `parse_yaml` reads back equal, keys in their order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def one_line(key: str, value: object) -> str:
    """Return `key: value` as one line of YAML that `parse_yaml` reads back equal, lists and sections in brackets."""
    text = yaml.dump(
        {key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf")
    )
    return text.strip()[1:-1]


_QUOTED_MARKS = re.compile(r"([\[,]\s*)([?-])(?=\s*[,\]])")
"""Spellings of a missing value in a list, which YAML takes for the beginning of a key or a list."""
_PATTERN = r"\[[^]]*\].*[^]}]"
"""A pattern of file names such as [ab]*.csv, which begins like a list and does not end like one."""
_NAMED = 3
"""So many overrides are named in one message."""


@dataclass(frozen=True)
class Override:
    """``section.key=value`` taken apart."""

    text: str
    path: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return f"override {shortened(self.text, 200)}"

    def concerns(self, key: KeyPath) -> bool:
        """Return whether the override sets a key, a section that it is in, or a part of it."""
        return all(one == other for one, other in zip(self.path, key, strict=False))


def parse_override(text: str) -> Override:
    """Return an override as it is written.

    Raises:
        UserError: there is no key, no ``=`` or no value, or the value is not YAML.
    """
    origin = f"override {shortened(text, 200)}"
    if not is_text_of_files(text):
        raise UserError("is not UTF-8 text; write it, or the file's name, in UTF-8", setting=origin)
    keys, _, value = (part.strip() for part in text.partition("="))
    if not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", keys) or not value:
        example = "training.epochs=100 (or training.early_stopping=null for none)"
        raise UserError(f"must be section.key=value, such as {example}", setting=origin)
    return Override(text, tuple(keys.split(".")), parse_value(value, origin))


def parse_value(text: str, origin: str) -> object:
    """Return an override's value: YAML, or the text itself where a shell's word such as `*.csv` or `> 50K` is none.

    Raises:
        UserError: a list, section or quotation that is no YAML.
    """
    # In a file these begin a comment, an alias, a block of text, a list and the like, some of them read as nothing.
    if text[0] in "#*|>%@`" or text in "?-":
        return text
    bracketed = text[0] in "[{\"'"
    try:
        value = parse_yaml(_QUOTED_MARKS.sub(r'\1"\2"', text) if bracketed else text, origin)
    except UserError:
        if bracketed and not re.fullmatch(_PATTERN, text):
            raise
        return text
    # A name with a # in it is no name with a comment behind it, as a number would be.
    return text if isinstance(value, str) and not bracketed else value


def laid_over(tree: dict[Any, Any], overrides: Iterable[Override]) -> dict[Any, Any]:
    """Return the tree with the overrides laid over it, in their order.

    The sections on their paths are copied: the tree is left as it is, and a YAML anchor shares a section among keys.

    Raises:
        UserError: an override's path leads through something that has no keys.
    """
    result = dict(tree)
    for override in overrides:
        section = result
        for depth, key in enumerate(override.path[:-1], start=1):
            below = section.get(key)
            if below is not None and not isinstance(below, dict):
                name = dotted(override.path[:depth])
                remedy = f"set the whole of it, as in {name}=value"
                raise UserError("not a section with keys", origin=override, setting=name, value=below, remedy=remedy)
            section[key] = dict(below or {})
            section = section[key]
        section[override.path[-1]] = override.value
    return result


def blamed(overrides: Sequence[Override], causes: Iterable[Iterable[KeyPath]]) -> str:
    """Return the overrides that concern the first group of keys that any of them concerns; "" where none does."""
    for group in causes:
        concerned = {each.path: each for each in overrides if any(map(each.concerns, group))}
        if concerned:
            more = len(concerned) - _NAMED
            named = ", ".join(map(str, list(concerned.values())[:_NAMED]))
            return named + (f" and {more:,} more overrides" if more > 0 else "")
    return ""


def dotted(path: KeyPath) -> str:
    """Return ``data.drop[0]`` for ("data", "drop", 0)."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shortened(part, 60)}" for part in path)
    return shortened("".join(parts).removeprefix("."), 200)
