"""Columns of which a few rows are looked at: rows of X on any device, or those of a table, and which rows to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .files.tables import Mask, Table, from_numpy, to_numpy
from .files.text import as_text, is_text

if TYPE_CHECKING:  # `inspect` does without what these import
    from torch import Tensor

    from .columns.encoding import Encoding, Standardization

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Labels = NDArray[np.int16]
"""Class numbers, -1 where a label is missing."""
FEW_CLASSES = 10
"""Classes of a label of which each has its share of a sample."""


@dataclass(frozen=True)
class Columns:
    """C columns of N rows.

    Attributes:
        names: of the file's columns, [C]. A column of numbers of which some are missing is there twice: with these
            filled in, and as a marker.
        categorical, marker: [C], which columns are codes of categories, and which are 1 where a value is missing.
        take: gives rows [n] of columns [c] as float64 [n, c], in the file's units, categories as codes of any kind.
        precision: relative rounding of a number's distance from its column's mean.
        width: values of a row that `take` reads for all columns.
    """

    names: tuple[str, ...]
    categorical: Mask
    marker: Mask
    take: Callable[[Places, Places], Floats]
    precision: float
    width: int


def stored_columns(
    X: Tensor, features: Sequence[str], encoding: Encoding | None, standardization: Standardization
) -> Columns:
    """Return the file's columns of rows X [N, D] as they are stored. Only rows that are taken leave the device."""
    import torch

    names, widths, categorical = list(features), [1] * len(features), [False] * len(features)
    marker = categorical
    if encoding is not None:
        names, widths, categorical, marker = [], [], [], []
        for column in encoding.columns:
            runs = column.runs
            marks = [False] * (len(runs) - 1) + [column.kind != "category" and column.marked]
            names += [column.name] * len(runs)
            widths += map(abs, runs)
            categorical += [run >= 0 and not mark for run, mark in zip(runs, marks, strict=True)]
            marker += marks
    starts = np.cumsum([0, *widths])

    def take(rows: Places, columns: Places) -> Floats:
        place = columns
        if encoding is not None:
            place = np.concatenate([np.arange(starts[c], starts[c + 1]) for c in columns])
        here, there = (torch.from_numpy(each).to(X.device) for each in (rows, place))
        values: Floats = X[here[:, None], there].double().cpu().numpy()
        values *= standardization.scale[place]
        values += standardization.mean[place]
        if encoding is None:
            return values
        found, first = np.full((len(rows), len(columns)), -1.0), 0
        for j, c in enumerate(columns):
            of_column = values[:, first : first + widths[c]]
            first += widths[c]
            if not categorical[c]:
                found[:, j] = of_column[:, 0]
            elif widths[c]:
                on = of_column > 0.5
                found[:, j] = np.where(on.any(axis=1), on.argmax(axis=1), -1)
        return found

    precision = 2.0**-52 if X.dtype == torch.float64 else 2.0**-23
    of_category, of_missing = (np.array(each, np.bool_) for each in (categorical, marker))
    return Columns(tuple(names), of_category, of_missing, take, precision, len(features))


def read_columns(table: Table, names: Sequence[str], missing: Mask) -> Columns:
    """Return columns of a file that hold finite numbers or text; `missing` [C] says which lack values.

    Rows are converted when they are taken: numbers that are missing get the mean of the others.
    """
    text = np.array([is_text(table.column(name).type) for name in names], np.bool_)
    parts = 1 + (missing & ~text)
    place = np.repeat(np.arange(len(names)), parts)
    of_column = [names[i] for i in place.tolist()]
    marker = np.zeros(len(place), np.bool_)
    marker[np.cumsum(parts)[parts == 2] - 1] = True

    def take(rows: Places, columns: Places) -> Floats:
        found = np.empty((len(rows), len(columns)))
        for j, c in enumerate(columns):
            column = table.column(of_column[c])
            if pa.types.is_string_view(column.type):  # of which Arrow takes no rows
                column = column.cast(pa.large_string())
            column = column.take(from_numpy(rows))
            if text[place[c]]:
                codes = as_text(column).combine_chunks().dictionary_encode().indices
                found[:, j] = np.nan_to_num(to_numpy(codes.cast(pa.float64())), nan=-1.0)
                continue
            values = to_numpy(column.cast(pa.float64(), safe=False))
            lacking = np.isnan(values)
            fill = 0.0 if lacking.all() else float(values[~lacking].mean())
            found[:, j] = lacking if marker[c] else np.where(lacking, fill, values)
        return found

    return Columns(tuple(of_column), text[place], marker, take, 2.0**-52, len(place))


def class_numbers(y: NDArray[np.generic]) -> Labels:
    """Return labels [N] or [N, T], NaN where one is missing, as class numbers [N, T]."""
    Y, most = y if y.ndim == 2 else y[:, None], np.iinfo(np.int16).max
    if Y.dtype.kind != "f":
        return Y.astype(np.int16)
    numbers = np.empty(Y.shape, np.int16, order="F")
    for t, labels in enumerate(Y.T):
        numbers[:, t] = np.clip(np.where(np.isnan(labels), -1, labels), -1, most)
    return numbers


def samples(Y: Labels, *sizes: int) -> list[Places]:
    """Return samples of rows of labels [N, T], each with the rising places of at most so many.

    Of one label they have as many rows of each class as there are, so that a rare class is measured as well as may be.
    """
    N, T = Y.shape
    counts = np.bincount(Y[:, 0] + 1)[1:] if T == 1 and min(sizes) < N else np.zeros(0)
    classes = np.argsort(counts) if 1 < len(counts) <= FEW_CLASSES else ()
    by_class = [np.flatnonzero(Y[:, 0] == k) for k in classes]
    found = []
    for size in sizes:
        if size >= N:
            found.append(np.arange(N))
        elif not by_class:
            found.append(_spread(N, size))
        else:
            parts, left = [], size
            for nth, of_class in enumerate(by_class):
                share = min(len(of_class), left // (len(by_class) - nth))
                parts.append(of_class[_spread(len(of_class), share)])
                left -= share
            found.append(np.sort(np.concatenate(parts)))
    return found


def scattered(n: int, step: float = 0.5 * 5**0.5) -> Floats:
    """Return n numbers of [0, 1), the multiples of an irrational step: they have no period, as random ones have none,
    and numpy.random takes `inspect` 15 ms to import."""
    return np.asarray(np.arange(1, n + 1) * step % 1.0, np.float64)


def _spread(N: int, n: int) -> Places:
    """Return n of N places, rising: any one of each of n stretches, so that no period in a file matters."""
    bounds = np.arange(n + 1) * N // max(n, 1)
    return bounds[:-1] + (scattered(n) * np.diff(bounds)).astype(np.intp)
