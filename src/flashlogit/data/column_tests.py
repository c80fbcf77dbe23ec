"""What values alone say of a column: how it ranks the classes, whether another is its copy, whether it is whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files.tables import Mask
from .sampled_columns import Floats, Places

_MINORITY = 10
"""Rows in which a column must differ from its middle value to be called a copy of another: columns of 0 and 1 are equal
by chance in few rows."""
_ROUNDING = 8
"""How many times the rounding of one value a difference may be that is none."""
_FEW = 32
"""Values that tell nearly all columns of numbers from those of whole numbers."""


def roc_areas(values: Floats, mine: Floats, rest: Floats) -> tuple[Floats, Places]:
    """Return the ROC area [c, M] of each column [c, n] for each of M questions, and how many values it has.

    `mine` [n, M] is 1 for the rows of a question's class, and `rest` for those that it is told from. The area is
    1/2 + (the mean rank of the class less that of the rest) / n, equal values having their mean rank, as in the test of
    Mann and Whitney 1947. Where rows are in neither it is near that, as they are ranked too.
    """
    n = values.shape[1]
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones((len(values), n + 1), np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:-1])
    places = np.arange(n)
    first = np.maximum.accumulate(np.where(new[:, :-1], places, 0), axis=1)
    last = np.minimum.accumulate(np.where(new[:, 1:], places, n)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=1)
    of_class, of_rest = (ranks @ side / np.maximum(side.sum(axis=0), 1) for side in (mine, rest))
    return 0.5 + (of_class - of_rest) / n, new[:, :-1].sum(axis=1)


def roc_areas_of_categories(codes: Places, mine: Floats, rest: Floats) -> Floats:
    """Return the ROC area [M] of categories [n] that are ranked by their share of the class on the other half of rows.

    On their own rows, categories of one row each would rank perfectly.
    """
    areas, odd = np.zeros(mine.shape[1]), np.arange(len(codes)) % 2 == 1
    for learn in (odd, ~odd):
        for m, (of_class, of_rest) in enumerate(zip(mine.T, rest.T, strict=True)):
            a, b = (np.bincount(codes[learn], side[learn], codes.max() + 1) for side in (of_class, of_rest))
            base = a.sum() / max(a.sum() + b.sum(), 1.0)
            score = (a + base) / (a + b + 1)
            here = ~learn & (of_class + of_rest > 0)
            sides = of_class[here, None], of_rest[here, None]
            areas[m] += roc_areas(score[codes[here]][None], *sides)[0][0, 0] / 2
    return areas


def partition(values: NDArray[Any]) -> Places:
    """Return a number for each of the different values [n], counted as they come up: equal for columns that divide the
    rows alike."""
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def differs(values: NDArray[Any], middle: Any) -> bool:
    """Return whether a column [n] differs from its middle or most frequent value in enough rows to be told of."""
    return int((values != middle).sum()) >= _MINORITY


def is_copy(first: Floats, second: Floats, precision: float) -> bool:
    """Return whether second = slope * first + offset in all rows [n], within what rounding leaves of values whose
    distance from the mean has this relative precision."""
    low, high = int(first.argmin()), int(first.argmax())
    middle = int(np.argsort(first)[len(first) // 2])
    if first[low] == first[high] or not all(differs(each, each[middle]) for each in (first, second)):
        return False
    slope = (second[high] - second[low]) / (first[high] - first[low])
    a, b = slope * (first - first[middle]), second - second[middle]
    spread = np.abs(slope * (first - first.mean())) + np.abs(second - second.mean())
    bound = precision * (spread + spread[middle])
    bound += 2.0**-52 * (np.abs(slope * first) + np.abs(second) + np.abs(second[middle]))
    return bool((np.abs(a - b) <= _ROUNDING * bound).all())


def are_equal(first: Floats, second: Floats, precision: float) -> bool:
    """Return whether copies have the same values, within what rounding leaves."""
    spread = max(float(np.ptp(first)), float(np.abs(first).max()) * 2.0**-20)
    return bool(np.abs(first - second).max() <= _ROUNDING * precision * spread)


def are_whole(values: Floats, precision: float) -> Mask:
    """Return which columns [c, n] are whole numbers, as far as rounding lets it be known."""
    rounding = _ROUNDING * (precision * np.ptp(values, axis=1) + 2.0**-52 * np.abs(values).max(axis=1))
    are: Mask = rounding <= 0.25
    for block in (slice(None, _FEW), slice(_FEW, None)):
        some = values[are, block]
        are[are] = np.abs(some - np.rint(some)).max(axis=1, initial=0.0) <= rounding[are]
    return are
