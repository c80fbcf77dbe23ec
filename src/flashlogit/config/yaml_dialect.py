"""YAML as version 1.2 has it, where PyYAML's version 1.1 bites: `yes` is text, `1e-8` a number, keys stand once."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ..system.errors import UserError

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


def is_text_of_files(text: str) -> bool:
    """Whether a text can be a file's name and stand in one: it has no NUL, and no half of a character, as arguments
    that are not UTF-8 and escapes such as \\ud800 have."""
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)


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
        number = int(node.value, base)
        str(number)  # ValueError where it has more digits than Python writes, as no error could show it
        return number

    def construct_text(self, node: yaml.ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if not is_text_of_files(text):
            raise _RefusedYamlError(
                problem=f"the text {text[:60]!r} has a NUL or half of a character, which nothing here can be called;"
                " remove it",
                problem_mark=node.start_mark,
            )
        return text

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
    for name in ("null", "bool", "float", "seq", "map"):
        tag = f"tag:yaml.org,2002:{name}"
        _Loader.add_constructor(tag, yaml.SafeLoader.yaml_constructors[tag])
    _Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
    _Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)
    _Loader.add_constructor(None, _Loader.refuse_tag)
    _Dumper.add_representer(str, _Dumper.represent_text)


_teach_core_schema()


def parse_yaml(text: str, origin: str) -> object:
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


def dump_yaml(tree: object) -> str:
    """YAML text that `parse_yaml` reads back equal, keys in their order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
