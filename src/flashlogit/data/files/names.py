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
    names = list(header)
    left_out, notes = set(), []
    for j in unnamed:
        names[j] = _unused(f"column {j + 1}", names)
    also = {f"Unnamed: {j}": (names[j],) for j in unnamed} | ({"": tuple(names[j] for j in unnamed)} if unnamed else {})
    numbering = [j for j in range(index) if _numbers_rows(values[j])]
    empty = [j for j in unnamed if j not in numbering and _is_empty(values[j])]
    made = [j for j in unnamed if j not in numbering and j not in empty]
    for positions, have, note in (
        (numbering, "numbers", "the rows and {} left out (data.columns can name {})"),
        (empty, "has", "neither a name nor a value and {} left out"),
    ):
        if positions:
            left_out |= {names[j] for j in positions}
            single = len(positions) == 1
            verb = have if single else {"numbers": "number", "has": "have"}[have]
            said = note.format("is" if single else "are", listing(names[j] for j in positions))
            notes.append(f"{_places(positions)} {verb} {said}")
    if made:
        have = "has no name and is" if len(made) == 1 else "have no names and are"
        notes.append(f"{_places(made)} {have} called {listing(names[j] for j in made)}")
    for j in again:
        name, one = header[j], first[header[j]]
        names[j] = _unused(name, names, second=True)
        both = f"columns {one + 1} and {j + 1} have the name {listing([name])}"
        if _equal(values[one], values[j]):
            left_out.add(names[j])
            notes.append(f"{both} and the same values, and the second is left out")
        else:
            notes.append(f"{both}, and the second is called {listing([names[j]])}")
    return ColumnNames(tuple(names), frozenset(left_out), also, tuple(notes))


def _unused(name: str, names: Sequence[str], *, second: bool = False) -> str:
    """Return `name`, or where that is among the names or is a `second`, `name (2)`, `name (3)`, ..."""
    taken, count, tried = set(names), 1, name
    while tried in taken or (second and count == 1):
        count += 1
        tried = f"{name} ({count})"
    return tried


def _places(positions: Sequence[int]) -> str:
    """Return `column 4` or `columns 4, 5`."""
    shown = ", ".join(str(j + 1) for j in positions[:8]) + (" ..." if len(positions) > 8 else "")
    return f"column{'s' if len(positions) > 1 else ''} {shown}"


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
