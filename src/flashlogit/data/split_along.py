"""Splits along a column: groups that stay whole, drawn at random, or times of which the latest are held out.

group: patient    train  p7 p7 p7 p2 p9 p9 | validation  p4 p4 | test  p1 p1
time: day         train  1 1 2 3 3 3 4     | validation  5 5   | test  6 6
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..system.errors import UserError, listing, row_text, rows_text
from .dataset import DROPPED, NAMES, TEST, TRAIN, VALIDATION, split_sizes
from .files.tables import Mask, Table, from_numpy, to_numpy
from .files.text import as_text, is_text, without_dictionary

ALONG: tuple[Literal["group", "time"], ...] = ("group", "time")
_ZONE = r":\d{2}(\.\d+)?(Z|[-+]\d{2}:?\d{2})$"
"""The end of a time of the day that says how far it is from UTC."""


@dataclass(frozen=True)
class Along:
    """A column and what it says of the rows: the setting `data.group` or `data.time`."""

    kind: Literal["group", "time"]
    column: str

    @property
    def remedy(self) -> str:
        """What to do where a split along the column lacks a class."""
        seed = ", or take another seed" if self.kind == "group" else ""
        return f"change data.split.validation and data.split.test (0 for none){seed}"


def split_along(
    along: Along, table: Table, kept: Mask, fractions: dict[int, float], classes: int, seed: int
) -> tuple[NDArray[np.uint8], str, NDArray[np.int64]]:
    """Return the split [N] of every row, a sentence on it for the user, and the rank of the value of each row that is
    kept among the distinct ones, from 0 on.

    All rows of one value of the column are in one split. Groups are drawn by `seed`, and those that would lead away
    from the fraction are passed over, so that a split's rows differ from it by at most half of one group, where there
    are small ones enough. The latest times are TEST, the latest of the others VALIDATION, each as many as come nearest
    to its fraction. Every split has at least one value. The same groups are drawn whichever order the rows have.
    Classes are not looked at: their shares differ between patients and change with time, as such a split is to show.

    Args:
        along: the column.
        table: with that column.
        kept: [N], false for rows to leave out, which are DROPPED, and whose value may be missing.
        fractions: the shares of VALIDATION and TEST among the rows that are kept.
        classes: how many rows a split must have at least.
        seed: of the drawing.

    Raises:
        UserError: a row without a value, a column without order, or fewer distinct values than splits.
    """
    place = f'{along.kind} column "{along.column}" of {table.file_of(along.column)}'
    column = without_dictionary(table.column(along.column))
    if is_text(column.type):
        column = column.cast(pa.large_string())  # of which, unlike string_view, Arrow can leave out rows
    column = column.filter(from_numpy(kept))
    values = _groups(column, place) if along.kind == "group" else _times(column, place)
    missing: Mask = to_numpy(pc.is_null(values, nan_is_null=True))
    if missing.any():
        row = int(np.flatnonzero(kept)[np.argmax(missing)])
        problem = f"has no value (empty or NaN) in {rows_text(missing.sum())}, the first of them {row_text(row)}"
        own = "give each such row a group of its own" if along.kind == "group" else "fill it in"
        raise UserError(problem, setting=place, remedy=f"{own}, or leave out the row")
    # Only distinct values are ranked: three million texts took 1.9 s to rank, and take 0.4 s so.
    encoded = values.combine_chunks().dictionary_encode()
    places = to_numpy(pc.rank(encoded.dictionary, sort_keys="ascending", tiebreaker="dense")).astype(np.int64) - 1
    ranks = places[to_numpy(encoded.indices)]
    rows = np.bincount(ranks)
    sizes = split_sizes(fractions, len(ranks), classes)
    if len(rows) <= len(sizes):
        wanted = listing(["train", *(NAMES[split] for split in sizes)])
        found = "one value" if len(rows) == 1 else f"{len(rows)} distinct values"
        problem = f"has {found}, too few for one in each of {wanted}"
        remedy = "name another column, or set data.split.validation or data.split.test to 0"
        raise UserError(problem, setting=place, remedy=remedy)
    grouped = along.kind == "group"
    order = np.random.default_rng(seed).permutation(len(rows)) if grouped else np.arange(len(rows))[::-1]
    of_value = np.full(len(rows), TRAIN, dtype=np.uint8)
    choose = _fitting if grouped else _nearest
    for still, split in enumerate(sorted(sizes, reverse=True), 1):
        taken = choose(rows[order], sizes[split], len(order) - 1 - (len(sizes) - still))
        of_value[order[taken]] = split
        order = order[~taken]
    splits = np.full(len(kept), DROPPED, dtype=np.uint8)
    splits[kept] = of_value[ranks]
    counts = {split: int((of_value == split).sum()) for split in (TRAIN, VALIDATION, TEST)}
    if grouped:
        held = ", ".join(f"{count:,} {NAMES[split]}" for split, count in counts.items() if count)
        return splits, f"Split by whole groups of {along.column}: {held} groups", ranks
    firsts = np.unique(ranks, return_index=True)[1]
    starts = {split: column[int(firsts[np.argmax(of_value == split)])] for split in sizes}
    since = ", ".join(f"{NAMES[split]} from {_shown(starts[split])}" for split in sorted(sizes))
    return splits, f"Split by time, {along.column}: {since or 'all rows train'}", ranks


def _shown(value: pa.Scalar) -> str:
    """Return a value as text; Arrow's own text, for Python has no nanoseconds."""
    return str(value.cast(pa.string()).as_py())[:40]


def _groups(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """Return the groups as text: whatever is written alike for a reader is one group, so that none is divided."""
    return as_text(column, place, "name a column of text or numbers")


def _times(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """Return the times in a type that has their order; text as time stamps, in UTC where it says how far from it."""
    if is_text(column.type):
        return _time_stamps(as_text(column), place)
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32())
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        remedy = "name a column of numbers, dates or ISO 8601 text"
        raise UserError(f"holds {column.type}", setting=place, remedy=remedy)
    return column


def _time_stamps(text: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    # Months become their first day. Arrow refuses digits beyond the unit, and nanoseconds end in 2262.
    plain = pc.replace_substring_regex(text, r"^(\d{4}-\d{2})$", r"\1-01")
    plain = pc.replace_substring_regex(plain, r"(\.\d{6})\d+", r"\1")
    zoned = pc.any(pc.match_substring_regex(plain, _ZONE)).as_py()
    kind = pa.timestamp("us", "UTC" if zoned else None)
    try:
        return plain.cast(kind)
    except pa.ArrowException:
        first, end = 0, len(plain)  # of rows among which is the first that is no time
        while end - first > 1:
            middle = (first + end) // 2
            try:
                plain[first:middle].cast(kind)
                first = middle
            except pa.ArrowException:
                end = middle
        also = " with its zone, as other rows have it" if zoned else ""
        problem = f'holds "{text[first].as_py()[:40]}", which is no date or time of ISO 8601{also}'
        remedy = "write all as 2024-12-31 or as 2024-12-31T23:59:59, or name a column of numbers"
        raise UserError(problem, setting=place, remedy=remedy) from None


def _nearest(rows: NDArray[np.intp], size: int, most: int) -> Mask:
    """Return which of the first values, of so many rows each, hold together the number of rows nearest to `size`; at
    least one and at most `most`."""
    n = int(np.argmin(np.abs(np.cumsum(rows) - size))) + 1
    return np.arange(len(rows)) < min(n, most)


def _fitting(rows: NDArray[np.intp], size: int, most: int) -> Mask:
    """Return which values hold together about `size` rows: in order those that lead nearer to it; at least one, if need
    be the smallest, and at most `most`."""
    taken, gap = np.zeros(len(rows), np.bool_), size
    rest = np.flatnonzero(rows < 2 * gap)
    while len(rest) and (left := most - int(taken.sum())) > 0:
        ends = np.cumsum(rows[rest])
        n = min(max(int(np.searchsorted(ends, gap, side="right")), 1), left)
        taken[rest[:n]] = True
        gap -= int(ends[n - 1])
        rest = rest[n:][rows[rest[n:]] < 2 * gap]
    if not taken.any():
        taken[np.argmin(rows)] = True
    return taken
