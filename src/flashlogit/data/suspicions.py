"""Columns that a user should know of before trusting a model: leaks of the label, copies of others, numbers of rows.

All of it is found on a sample of rows. Every column is looked at on few of them, all at once, and those that stand out
once more on up to `_CONFIRMED`. 1,000,000 x 28 take 0.03 s so; ranking all their values would take 3 s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from ..system.errors import listing
from .column_tests import (
    are_equal,
    are_whole,
    differs,
    is_copy,
    partition,
    roc_areas,
    roc_areas_of_categories,
)
from .files.tables import Mask
from .sampled_columns import FEW_CLASSES, Columns, Floats, Labels, Places, samples, scattered

_SCREENED_VALUES, _SCREENED = 1 << 18, (256, 2048)
"""Values that are looked at first, and the bounds of the number of rows that they are of."""
_CONFIRMED = 20_000
"""Rows on which a suspicion is confirmed, at most: the standard error of an area of 0.99 is at most 0.001 then."""
_MOST_COLUMNS = 32
"""Columns that are confirmed for a class, those that stand out most: where there are more, none stands out."""
_CHUNK = 4096
"""Columns that are looked at together: with 256 rows of each in float64, 8 MB."""
_MOST_PAIRS = 64
"""Pairs of columns that are told of as copies: a table that has more is made of them."""
_MOST_QUESTIONS = 64
"""Classes that are asked for against the rest, as of many targets."""
_LEAST = 10
"""Rows of either side without which nothing is said of a label."""
_LEAKS, _LOOKED_AT = ((0.99, 0.8), (0.97, 0.65)), 0.95
"""A ROC area that one column alone has in no honest table where no other column has the second; and the area from which
a column is looked at. Honest: 0.991, 0.990 and 0.887 (iris, virginica against the rest), 1, 1 and 0.959 (setosa),
0.994 and 0.982 (make_classification), 0.975 and 0.973 (breast_cancer)."""
_ERRORS, _ERRORS_ROWS = 20, 500
"""Beside strong columns one stands out from the first area on where the best of the others ranks so many times as many
pairs wrong, in so many rows of either class: in fewer rows one pixel does that for two kinds of digits."""
_RARE = 0.02
"""Share of one side's rate of rows filled that the other side's may have, for a column filled for one side only."""
_FILLED, _TRUE = 0.1, 0.5
"""Least rate of the side that it is filled for: for a value that is there, and for a column of two values, which may be
an honest sign that one class alone has. That a value is there at all tells how the table was made."""
_COLLISIONS = 20.0
"""Expected pairs of equal values, had the whole numbers been drawn from their range: none by chance once in e^20."""


@dataclass(frozen=True)
class Suspicion:
    """A sentence for the user on columns of the file, with the remedy; `kind` says of what they are suspected."""

    kind: Literal["label", "filled", "leak", "row number", "copy"]
    columns: tuple[str, ...]
    sentence: str
    tells: bool = True
    """Whether the label is told by them; of numbers of rows, whether these are in its order."""


@dataclass(frozen=True)
class _Question:
    """A class against the rest of a label's rows, and what both are called."""

    target: int
    k: int
    text: str
    rest: str


def find_suspicions(
    columns: Columns,
    Y: Labels,
    numbers: Places | None = None,
    *,
    targets: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> tuple[Suspicion, ...]:
    """Return what is suspicious of columns of N rows: of each label's classes first, then of the columns alone.

    Args:
        columns: C of them.
        Y: class numbers [N, T] of T labels; T may be 0.
        numbers: [N], which rows of their file they are, rising; None for all of it.
        targets: names of the labels; () for one label that needs none.
        classes: names of its classes; () where their numbers are their names.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        search = _Search(columns, Y, np.arange(len(Y)) if numbers is None else numbers, targets, classes)
        return (*search.leaks(), *search.row_numbers, *search.copies())


class _Search:
    """One search: its rows, and what the first of them say of every column."""

    def __init__(
        self, columns: Columns, Y: Labels, numbers: Places, targets: Sequence[str], classes: Sequence[str]
    ) -> None:
        self._columns, self._numbers = columns, numbers
        low, high = _SCREENED
        first, self._rows = samples(Y, min(max(_SCREENED_VALUES // max(columns.width, 1), low), high), _CONFIRMED)
        self._on = f" (on {len(self._rows):,} of the rows)" if len(self._rows) < len(Y) else ""
        self._Y = Y[self._rows]
        self._questions = _questions(Y[first], targets, classes)
        C, M = len(columns.names), len(self._questions)
        self._areas = np.full((C, M), 0.5)
        self._two_valued, self._whole = np.zeros(C, np.bool_), np.zeros(C, np.bool_)
        self._projections = np.full((C, 2), np.nan)
        """Sizes of two projections of each column of numbers, which copies have in common."""
        self._partitions: dict[bytes, list[int]] = {}
        """Columns of categories that divide the rows alike."""
        for start in range(0, C, _CHUNK):
            self._screen(first, np.arange(start, min(start + _CHUNK, C)), _sides(Y[first], self._questions))
        self.row_numbers = self._find_row_numbers()

    def _screen(self, rows: Places, chunk: Places, sides: tuple[Floats, Floats]) -> None:
        values = np.ascontiguousarray(self._columns.take(rows, chunk).T)
        categorical = self._columns.categorical[chunk]
        for j in np.flatnonzero(categorical):
            codes = partition(values[j])
            self._areas[chunk[j]] = roc_areas_of_categories(codes, *sides)
            if differs(codes, np.bincount(codes).argmax()):
                self._partitions.setdefault(codes.tobytes(), []).append(int(chunk[j]))
        numbers, values = chunk[~categorical], values[~categorical]
        self._areas[numbers], distinct = roc_areas(values, *sides)
        self._two_valued[numbers] = distinct == 2
        own = distinct == len(rows)
        self._whole[numbers[own]] = are_whole(values[own], self._columns.precision)
        values -= values.mean(axis=1, keepdims=True)
        values /= np.sqrt((values * values).sum(axis=1, keepdims=True))  # NaN for a constant
        directions = np.stack([scattered(len(rows)), scattered(len(rows), 2**0.5)], axis=1)
        self._projections[numbers] = np.abs(values @ (directions - 0.5))
        self._projections[self._columns.marker] = np.nan  # columns that lack the same rows are no copies

    def leaks(self) -> list[Suspicion]:
        """Return the columns that tell a label as no honest one does, each once for a label."""
        found: dict[tuple[int, str], Suspicion] = {}
        for q, question in enumerate(self._questions):
            for suspicion in self._leaks(q, question):
                found.setdefault((question.target, suspicion.columns[0]), suspicion)
        return [*found.values()]

    def _leaks(self, q: int, question: _Question) -> list[Suspicion]:
        first = np.abs(self._areas[:, q] - 0.5) + 0.5
        least = 0.5 + 0.4 * (1 - _RARE) * np.where(self._columns.marker, _FILLED, _TRUE)  # 0.5 less what chance may do
        looked_at = np.flatnonzero((first >= _LOOKED_AT) | (self._two_valued & (first >= least)))
        looked_at = np.sort(looked_at[np.argsort(-first[looked_at], kind="stable")[:_MOST_COLUMNS]])
        mine, rest = _sides(self._Y, [question])
        if not len(looked_at) or min(mine.sum(), rest.sum()) < _LEAST:
            return []
        y, labelled = self._Y[:, question.target], self._Y[:, question.target] >= 0
        numbering = {suspicion.columns[0] for suspicion in self.row_numbers}
        taken = self._columns.take(self._rows, looked_at).T
        exact, distinct = roc_areas(taken[:, labelled], mine[labelled], rest[labelled])
        exact, classes = np.abs(exact[:, 0] - 0.5) + 0.5, partition(y[labelled])
        found, areas = [], {}
        for i, (c, values) in enumerate(zip(map(int, looked_at), taken, strict=True)):
            name, area = self._columns.names[c], float(exact[i])
            if self._columns.categorical[c]:
                area = float(roc_areas_of_categories(partition(values), mine, rest)[0])
            filled = self._filled(c, values, question, mine[:, 0] > 0, rest[:, 0] > 0)
            if distinct[i] == classes.max() + 1 and np.array_equal(partition(values[labelled]), classes):
                what = f'"{name}" says {question.text} in every row{self._on}, as a copy of the label does'
                found.append(_known_late("label", name, what))
            elif filled:
                found.append(_known_late("filled", name, filled))
            elif name not in numbering:
                areas[c] = area
        said = {suspicion.columns[0] for suspicion in found} | numbering
        names = self._columns.names
        many = min(mine.sum(), rest.sum()) >= _ERRORS_ROWS
        for c, area in areas.items():
            for high, low in _LEAKS:
                strong = said | {names[each] for each, of in areas.items() if of >= high}
                best = max((a for a, name in zip(first, names, strict=True) if name not in strong), default=0.5)
                wrong = high == _LEAKS[0][0] and many and _ERRORS * (1 - area) <= 1 - best
                if area >= high and (best <= low or wrong):
                    what = f'"{names[c]}" alone ranks the rows by {question.text} with a ROC AUC of {area:.4f}'
                    what += f"{self._on}, and the best of the other columns with {best:.2f}"
                    found.append(_known_late("leak", names[c], what))
                    break
        return found

    def _filled(self, c: int, values: Floats, question: _Question, mine: Mask, rest: Mask) -> str:
        """Return what is said of a column that has one of its two values on one side only, or nothing."""
        low, high = values.min(), values.max()
        if not self._two_valued[c] or ((values != low) & (values != high)).any():
            return ""
        marker, sides = self._columns.marker[c], (question.text, question.rest)
        for value in (low, high):
            rates = [float((values[side] == value).mean()) for side in (mine, rest)]
            more = int(rates[1] > rates[0])
            expected = rates[more] * (rest if more == 0 else mine).sum()
            least = max(_FILLED if marker else _TRUE, rates[1 - more] / _RARE)
            if rates[more] >= least and expected >= 2 * _LEAST:
                is_so = ("filled" if value == low else "missing") if marker else f"{value:g}"
                what = f'"{self._columns.names[c]}" is {is_so} in {rates[more]:.1%} of the rows of {sides[more]}'
                return f"{what}{self._on} and in {rates[1 - more]:.1%} of those of {sides[1 - more]}"
        return ""

    def _find_row_numbers(self) -> list[Suspicion]:
        """Return the columns of whole numbers that number the rows, and whether these are in the order of a label."""
        candidates = np.flatnonzero(self._whole)[:_MOST_COLUMNS]
        if not len(candidates) or len(self._rows) < 2 * _LEAST:
            return []
        found, sides = [], _sides(self._Y, self._questions)
        for c, values in zip(candidates, self._columns.take(self._rows, candidates).T, strict=True):
            if not are_whole(values[None], self._columns.precision)[0]:
                continue
            whole = np.rint(values)
            n, span = len(whole), np.ptp(whole) + 1
            drawn = np.diff(np.sort(whole)).all() and n * n / (2 * span) >= _COLLISIONS
            if not drawn and not is_copy(self._numbers[self._rows].astype(np.float64), whole, 0.0):
                continue
            name, tells = self._columns.names[c], False
            what = f'"{name}" has a whole number of its own in every row{self._on}, as numbers of rows have'
            areas = np.abs(roc_areas(values[None], *sides)[0][0] - 0.5)
            for question, area, m, r in zip(self._questions, areas, *(side.sum(axis=0) for side in sides), strict=True):
                # Five standard errors of the area of a column that says nothing, as of Mann and Whitney 1947.
                chance = 5 * ((m + r + 1) / (12 * max(m * r, 1))) ** 0.5
                if tells := min(m, r) >= _LEAST and area > max(0.1, chance):
                    what += f", and ranks them by {question.text} with a ROC AUC of {0.5 + area:.4f}, as the file is in"
                    what += " the label's order"
                    break
            remedy = f"leave it out with data.drop: {_yaml([name])}, or if it is a time, split by it with data.time"
            found.append(Suspicion("row number", (name,), f"{what}; {remedy}", tells))
        return found

    def copies(self) -> list[Suspicion]:
        """Return the groups of columns that are equal, or equal but for sign, scale and offset."""
        columns = self._columns
        pairs = [pair for group in self._partitions.values() for pair in pairwise(group)]
        known = np.flatnonzero(np.isfinite(self._projections[:, 0]))
        order = known[np.argsort(self._projections[known, 0])]
        projections = self._projections[order]
        near = (np.abs(np.diff(projections, axis=0)) <= 1e-5 * (1 + projections[1:])).all(axis=1)
        pairs += [(int(order[i]), int(order[i + 1])) for i in np.flatnonzero(near)]
        groups: dict[int, list[int]] = {}
        equal: dict[int, bool] = {}
        """By a group's first column."""
        for a, b in pairs[:_MOST_PAIRS]:
            if columns.names[a] == columns.names[b]:  # parts of one date
                continue
            first, second = columns.take(self._rows, np.array([a, b])).T
            if columns.categorical[a]:
                alike = same = np.array_equal(partition(first), partition(second))
            else:
                alike = is_copy(first, second, columns.precision)
                same = alike and are_equal(first, second, columns.precision)
            if alike:
                groups[b] = groups.setdefault(a, [a])
                groups[b].append(b)
                equal[groups[b][0]] = equal.get(groups[b][0], True) and same
        found = []
        for group in groups.values():
            if group and group[0] in equal:
                how = "are equal" if equal.pop(group[0]) else "are equal but for scale, sign or offset"
                how = "divide the rows alike" if columns.categorical[group[0]] else how
                names = [columns.names[c] for c in sorted(group)]
                what = f"{listing(names)} {how} in every row{self._on}"
                remedy = f"keep one of them, with data.drop: {_yaml(names[1:])}"
                found.append(Suspicion("copy", tuple(names), f"{what}; {remedy}"))
        return found


def _known_late(kind: Literal["label", "filled", "leak"], name: str, what: str) -> Suspicion:
    remedy = f"if it becomes known only with the label, leave it out with data.drop: {_yaml([name])}"
    return Suspicion(kind, (name,), f"{what}; {remedy}")


def _yaml(names: Sequence[str]) -> str:
    return json.dumps(names, ensure_ascii=False)


def _questions(Y: Labels, targets: Sequence[str], classes: Sequence[str]) -> list[_Question]:
    """Return the classes to ask for against the rest, of two only the second."""
    found: list[_Question] = []
    for t in range(Y.shape[1]):
        if len(found) >= _MOST_QUESTIONS:
            break
        values = np.flatnonzero(np.bincount(Y[Y[:, t] >= 0, t])).tolist()  # np.unique imports numpy.ma
        if 1 < len(values) <= FEW_CLASSES:
            of = f' of "{targets[t]}"' if targets else ""
            names = {k: f'class "{classes[k] if classes else k}"{of}' for k in values}
            rest = names[values[0]] if len(values) == 2 else f"the others{of}"
            found += [_Question(t, k, names[k], rest) for k in values[len(values) == 2 :]]
    return found


def _sides(Y: Labels, questions: Sequence[_Question]) -> tuple[Floats, Floats]:
    """Return 1 for the rows of each question's class, and for those of its rest, [n, M] each, of labels [n, T]."""
    labels = Y[:, [question.target for question in questions]]
    mine = labels == np.array([question.k for question in questions], Y.dtype)
    return mine.astype(np.float64), (~mine & (labels >= 0)).astype(np.float64)
