"""Settings on the command line, such as ``training.epochs=100``, and a tree with them laid over it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..system.errors import UserError, shortened
from .problems import KeyPath, dotted
from .yaml_dialect import is_text_of_files, parse_yaml

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
        remedy = "such as training.epochs=100 (or training.early_stopping=null for none)"
        raise UserError("must be section.key=value", setting=origin, remedy=remedy)
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
