"""What the columns of a file are called: names are made where it has none or one twice, and a column that says nothing
more than the others is left out, each with a sentence that says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...system.errors import listing
from .tables import to_numpy

_UNNAMED = re.compile(r"(Unnamed: \d+(\.\d+)*)?")
"""A name that is none, and what pandas makes of it and writes again."""
_SHUFFLED_ROWS = 20
"""Rows from which different whole numbers in any order, as a file has them that was divided at random, are row numbers;
in fewer they must follow each other."""
_SHOWN = 8
"""So many positions are told in one sentence."""


@dataclass(frozen=True)
class ColumnNames:
    """The names of a file's columns.

    names: one for each column of the file, all different; left_out: those of columns that are no features unless they
    are asked for; also: what else a column without a name may be called by; notes: sentences on what was done, whose
    subject is in the file.
    """

    names: tuple[str, ...]
    left_out: frozenset[str] = frozenset()
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the columns that are there for all to see."""
        return tuple(name for name in self.names if name not in self.left_out)


NOTHING_MENDED = ColumnNames(())


def name_columns(header: Sequence[str], read: Callable[[list[int]], Sequence[pa.ChunkedArray]]) -> ColumnNames:
    """Return what the columns under a header are called.

    `read` returns the columns of some positions as text, "" or null where there is no value. It is called only where a
    name is absent or there twice, since it takes as long as reading the file.
    """
    first = {name: j for j, name in reversed(list(enumerate(header)))}
    unnamed = [j for j, name in enumerate(header) if not name]
    index = next((j for j, name in enumerate(header) if not _UNNAMED.fullmatch(name)), len(header))
    again = [j for j, name in enumerate(header) if name and first[name] != j]
    wanted = sorted({*unnamed, *range(index), *again, *(first[header[j]] for j in again)})
    if not wanted:
        return ColumnNames(tuple(header))
    values = dict(zip(wanted, read(wanted), strict=True))
    unused, names = _Unused(header), list(header)
    for j in unnamed:
        names[j] = unused.like(f"column {j + 1}")
    for j in again:
        names[j] = unused.like(names[j], number=2)
    also = {f"Unnamed: {j}": (names[j],) for j in unnamed} | ({"": tuple(names[j] for j in unnamed)} if unnamed else {})
    numbering = [j for j in range(index) if _numbers_rows(values[j])]
    without_name = [j for j in unnamed if j not in set(numbering)]
    empty = [j for j in without_name if _is_empty(values[j])]
    copies = [j for j in again if _equal(values[first[header[j]]], values[j])]
    left_out = {*numbering, *empty, *copies}
    made, apart = ([j for j in some if j not in left_out] for some in (without_name, again))
    notes = [
        _note(numbering, "number{s} the rows and {is} left out (data.columns can name {it})", names),
        _note(empty, "{has} neither a name nor a value and {is} left out", names),
        _note(made, "{has} no name and {is} called {it}", names),
        _note(copies, "{has} the name and the values of an earlier column and {is} left out", names),
        _note(apart, "{has} the name of an earlier column and {is} called {it}", names),
    ]
    return ColumnNames(tuple(names), frozenset(names[j] for j in left_out), also, tuple(filter(None, notes)))


class _Unused:
    """Names that no column has yet."""

    def __init__(self, header: Sequence[str]) -> None:
        self._taken = set(header)
        self._last: dict[str, int] = {}

    def like(self, name: str, *, number: int = 1) -> str:
        """Return `name`, which becomes taken, or from `number` 2 on `name (2)`, `name (3)`, ..., the first that is
        none."""
        number = max(number, self._last.get(name, 0) + 1)
        while (tried := name if number == 1 else f"{name} ({number})") in self._taken:
            number += 1
        self._taken.add(tried)
        self._last[name] = number
        return tried


def _note(positions: Sequence[int], text: str, names: Sequence[str]) -> str:
    """Return a sentence on the columns at some positions; nothing where there are none."""
    if not positions:
        return ""
    words = ("", "have", "are") if len(positions) > 1 else ("s", "has", "is")
    said = text.format(**dict(zip(("s", "has", "is"), words, strict=True)), it=listing(names[j] for j in positions))
    shown = ", ".join(str(j + 1) for j in positions[:_SHOWN]) + (" ..." if len(positions) > _SHOWN else "")
    return f"column{'s' if len(positions) > 1 else ''} {shown} {said}"


def _numbers_rows(column: pa.ChunkedArray) -> bool:
    """Return whether a column counts the rows: whole numbers from 0 on that follow each other, or, of many rows, that
    are all different."""
    if not len(column) or column.null_count:
        return False
    try:
        numbers = to_numpy(column.cast(pa.int64()))
    except pa.ArrowException:
        return False
    follow = bool((np.diff(numbers) == 1).all())
    many = len(numbers) >= _SHUFFLED_ROWS
    return bool(numbers.min() >= 0) and (follow or (many and len(np.unique(numbers)) == len(numbers)))


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column as text, "" where there is no value; None for lists and other types that have no text."""
    try:
        return pc.fill_null(column.cast(pa.large_string()), "")
    except pa.ArrowException:
        return None


def _is_empty(column: pa.ChunkedArray) -> bool:
    text = _text(column)
    return text is not None and not pc.any(pc.binary_length(pc.utf8_trim_whitespace(text)).cast(pa.bool_())).as_py()


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Return whether two columns have the same values; as text, since NaN is not equal to itself."""
    text, others = _text(one), _text(other)
    return bool(one.equals(other) if text is None or others is None else text.equals(others))
