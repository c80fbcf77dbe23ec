"""JSON as frozen dataclasses, strictly: what a stranger's file says is taken only where it is of the declared types.

pydantic does the same and more, and reads settings and checkpoints. A model is loaded where a request waits for it, and
pydantic's import alone takes as long as all the rest of that.
"""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_LARGEST = 2**63
"""Bound of whole numbers."""


def parsed(text: str | bytes) -> Any:
    """Return the JSON value of a text; ValueError for one that is none, or nested beyond what Python reads."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def decoded(kind: Any, value: Any, place: str = "") -> Any:
    """Return a JSON value as an instance of a type.

    Args:
        kind: str, bool, int, float, None, a Literal, tuple[kind, ...] or tuple[kind, kind] for a list, one dataclass,
            or a union of these, of which a field `kind` with a default tells dataclasses apart. A whole number is a
            float too.
        value: what `json.loads` gives.
        place: how errors call the value.

    Raises:
        ValueError: the value is of another type, not finite, or an object with a key too many or too few.
    """
    if kind is Any:
        return value
    origin, within = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _of_union(within, value, place)
    if is_dataclass(kind):
        return _of_object(kind, value, place)
    if origin is tuple and isinstance(value, list):
        kinds = [within[0]] * len(value) if within[-1] is ... else within
        if len(kinds) == len(value):
            return tuple(decoded(kinds[i], each, f"{place}[{i}]") for i, each in enumerate(value))
    if origin is Literal and any(type(value) is type(each) and value == each for each in within):
        return value
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is kind and (kind in (str, bool, NoneType) or (kind is int and -_LARGEST <= value < _LARGEST)):
        return value
    raise ValueError(f"{place or 'it'} is {str(value)[:40]!r}")


def _of_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if isinstance(value, dict):
        by_kind = {_tag(each): each for each in kinds if is_dataclass(each)}
        known = by_kind.get(value.get("kind") if isinstance(value.get("kind"), str) else None)
        if known is None:
            raise ValueError(f"{place} is of no kind that there is")
        return decoded(known, value, place)
    for kind in kinds:
        if not is_dataclass(kind):
            try:
                return decoded(kind, value, place)
            except ValueError:
                continue
    raise ValueError(f"{place or 'it'} is {str(value)[:40]!r}")


def _of_object(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place or 'it'} is no object")
    types, required = _declared(kind)
    if unknown := [key for key in value if key not in types]:
        raise ValueError(f"{place}.{unknown[0][:40]} is not known")
    if lacking := [key for key in required if key not in value]:
        raise ValueError(f"{place}.{lacking[0]} is missing")
    return kind(**{key: decoded(types[key], each, f"{place}.{key}".lstrip(".")) for key, each in value.items()})


@cache
def _declared(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the types of a dataclass's fields by name, and the names of those without a default."""
    hints = get_type_hints(kind)
    given = fields(kind)
    return {each.name: hints[each.name] for each in given}, tuple(
        each.name for each in given if each.default is MISSING and each.default_factory is MISSING
    )


def _tag(kind: Any) -> Any:
    """Return the default of a dataclass's field `kind`; None without one."""
    return next((each.default for each in fields(kind) if each.name == "kind"), None)
