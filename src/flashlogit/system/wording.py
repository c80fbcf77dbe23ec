"""How error messages of this package word lists, near misses and rows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Return `"a", "b" and "c"`; beyond `limit` names the rest is only counted."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) > limit:
        return ", ".join(quoted[:limit]) + f" and {len(quoted) - limit} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)


def did_you_mean(name: object, names: Sequence[str]) -> str:
    """Return ` (did you mean "label"?)` where one of `names` is close to `name`, otherwise nothing."""
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    return f' (did you mean "{folded[near[0]]}"?)' if near else ""


def row_text(row: int) -> str:
    """Return a row's number as a reader of the file counts it."""
    return f"row {row + 1} (the first is 1)"


def rows_text(count: int) -> str:
    """Return `1 row` or `12 rows`."""
    return "1 row" if count == 1 else f"{count} rows"


def column_word(names: Sequence[str]) -> str:
    """Return `column "a"` or `columns "a" and "b"`."""
    return ("column " if len(names) == 1 else "columns ") + listing(names)


def number_text(value: float) -> str:
    """Return a number without the decimals it does not need: 15.0 is `15`."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(value)


def some_of(parts: Sequence[str], limit: int = 8) -> str:
    """`a, b, c`; beyond `limit` parts the rest is only counted."""
    more = f" and {len(parts) - limit} more" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more
