"""A user's name where there is little room for it, and where no style sheet keeps it apart from the text around it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_FIRST_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_DIRECTIONS = frozenset(["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"])


def shortened(name: str, most: int) -> str:
    """At most so many characters, the middle left out: names of one table often begin alike, or end alike."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def joined(names: Sequence[str], most: int | None = None) -> str:
    """One or two names isolated from each other, of at most so many characters together with what joins two; what one
    leaves the other may have."""
    if most is not None and len(names) == 1:
        names = [shortened(plain(names[0]), most)]
    elif most is not None:
        first, second = map(plain, names)
        first = shortened(first, max((most - 1) // 2, most - 1 - len(second)))
        names = [first, shortened(second, most - 1 - len(first))]
    return " → ".join(map(isolated, names))


def plain(name: str) -> str:
    """The name in one line and without the characters that would turn the direction of what follows it."""
    return "".join(_harmless(character) for character in name)


def isolated(name: str) -> str:
    """A plain name for text of an SVG, of whose direction what stands around it knows nothing."""
    return f"{_FIRST_ISOLATE}{plain(name)}{_POP_ISOLATE}"


def _harmless(character: str) -> str:
    if unicodedata.bidirectional(character) in _DIRECTIONS:
        return "\ufffd"
    return " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character
