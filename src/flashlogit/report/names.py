"""A user's name where there is little room for it, and where no style sheet keeps it apart from the text around it."""

from __future__ import annotations

import unicodedata

_FIRST_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_DIRECTIONS = frozenset(["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"])


def shortened(name: str, most: int) -> str:
    """At most so many characters, the middle left out: names of one table often begin alike, or end alike."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def shortened_pair(first: str, second: str, most: int) -> tuple[str, str]:
    """Two names of at most so many characters together; what one leaves the other may have."""
    first_short = shortened(first, max(most // 2, most - len(second)))
    return first_short, shortened(second, most - len(first_short))


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
