"""The one exception that means "the user can mend this", and how its sentences word lists, near misses and rows."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePath
from typing import Any, Final

_VERBS = {"is", "was", "has", "lacks", "holds", "lists", "cannot", "lies", "exists", "needs", "belongs", "leaves"}
"""With which a problem begins whose subject is the setting."""
UNSAID: Final = object()
"""The value of an error that is about no value."""


@dataclass(eq=False)
class UserError(Exception):
    """A setting, file or value that cannot be used.

    Its fields say what is wrong; its text is one sentence made from them. The command line prints it without a
    traceback (unless asked with ``--debug``) and exits with code 2.

    Attributes:
        problem: what is wrong or the bound, such as "must be at least 0"; a whole sentence where nothing is named.
        setting: the setting, option, column or file at fault, such as "loss.l2"; "" where the problem names it.
        value: what it is, as it was given (text appears in quotes); `UNSAID` where there is no one value.
        remedy: what to do, such as "choose another file"; "" where the problem says it.
        origin: the file or override in which the setting stands; "" where the setting says it.
        others: further errors that were found at the same time; each has a line of its own.
        mends: settings that mend it, key and value, where there are some.
        told_after: what is told after all of them, such as lines for a config file.
    """

    problem: str
    _: KW_ONLY
    setting: Any = ""
    value: Any = UNSAID
    remedy: str = ""
    origin: Any = ""
    others: tuple[UserError, ...] = ()
    mends: Mapping[str, Any] = field(default_factory=dict)
    told_after: str = ""

    def __post_init__(self) -> None:
        self.setting, self.origin = str(self.setting), str(self.origin)

    def __str__(self) -> str:
        """Return `SETTING is VALUE; PROBLEM; REMEDY`, or without a value `SETTING: PROBLEM; REMEDY`.

        A problem that begins with a verb has the setting for its subject: `d.csv has no column "y"; ...`.
        """
        head, told = f"{self.origin}: " if self.origin else "", self.problem.partition(" ")[0] in _VERBS
        if self.value is not UNSAID:
            head += f"{self.setting} is {shortened(_VALUES.repr(self.value), 200)}; {'it ' if told else ''}"
        elif self.setting:
            head += self.setting + (" " if told or self.problem.startswith("must ") else ": ")
        sentence = head + self.problem + (f"; {self.remedy}" if self.remedy else "")
        after = [f"\n{self.told_after}"] if self.told_after else []
        return "\n".join([sentence, *map(str, self.others), *after])


def shortened(text: str, most: int) -> str:
    """Return a text of which no more than `most` characters are left."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Values(reprlib.Repr):
    """Values as they could stand in a config file, cut where they are long or lie deep."""

    def repr_str(self, value: str, level: int) -> str:
        return f'"{shortened(value, 100)}"'

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: N802
        return "null"

    def repr_instance(self, value: Any, level: int) -> str:
        return self.repr_str(str(value), level) if isinstance(value, PurePath) else str(value)


_VALUES = _Values()
_VALUES.maxlevel = 2


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
    """Return `a, b, c`; beyond `limit` parts the rest is only counted."""
    more = f" and {len(parts) - limit} more" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more
