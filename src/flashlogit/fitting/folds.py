"""Which rows each fold holds out: at random, with groups kept together, in the order of time, or as given."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.models import NO_FOLD, missing_code

_TRAINS, _HELD, _NEITHER = 0, 1, 2
_LOOKED_AT = 1 << 16
"""Rows at first, most often with all fold numbers among them, that spare a look at millions of others."""


@dataclass(frozen=True)
class Folds:
    """F folds of N rows as bytes (`flashlogit_kernels.models.Models`).

    codes [n, N] uint8; column, held [F]: fold f holds out the rows with codes[column[f]] == held[f], and trains on
    those with another code, or where `ordered` with a lower one.
    """

    codes: NDArray[np.uint8]
    column: NDArray[np.int32]
    held: NDArray[np.int32]
    ordered: bool = False

    @property
    def count(self) -> int:
        """F."""
        return len(self.held)

    def test(self, fold: int) -> NDArray[np.bool_]:
        """Return which rows a fold holds out, [N]."""
        of_fold: NDArray[np.bool_] = self.codes[self.column[fold]] == self.held[fold]
        return of_fold

    def train(self, fold: int) -> NDArray[np.bool_]:
        """Return which rows a fold trains on, [N]."""
        code, held = self.codes[self.column[fold]], self.held[fold]
        trains: NDArray[np.bool_] = code < held if self.ordered else code != held
        return trains

    @classmethod
    def none(cls, N: int) -> Folds:
        """Return the one fold that holds nothing out."""
        one = np.zeros(1, np.int32)
        return cls(np.zeros((1, N), np.uint8), one, one + NO_FOLD)

    @classmethod
    def of_numbers(cls, numbers: NDArray[Any]) -> Folds:
        """Return the folds of rows [N] with fold numbers of at least 0, or -1 for rows that are never held out.

        Raises:
            ValueError: fewer than two folds, or more than 254.
        """
        least, most = int(numbers.min()), int(numbers.max())
        if most >= NO_FOLD:
            _, place = np.unique(np.maximum(numbers.astype(np.int64), -1), return_inverse=True)
            numbers, least = place - (least < 0), -1 if least < 0 else 0
            if numbers.max() >= NO_FOLD:
                raise ValueError(
                    f"folds has more than {NO_FOLD - 1} different numbers from 0 on; must have 2 to as many"
                )
        # Millions of bytes are counted, and looked up, in a fraction of the time of as many int64.
        small = (np.where(numbers < 0, NO_FOLD, numbers) if least < 0 else numbers).astype(np.uint8)
        counts = np.bincount(small[:_LOOKED_AT], minlength=NO_FOLD + 1)
        if least < 0 or most >= NO_FOLD or not counts[: most + 1].all():
            counts = np.bincount(small, minlength=NO_FOLD + 1)
        values = np.flatnonzero(counts[:NO_FOLD])
        if not 2 <= len(values) < NO_FOLD:
            raise ValueError(f"folds has {len(values)} different numbers from 0 on; must have 2 to {NO_FOLD - 1}")
        code_of = np.full(NO_FOLD + 1, NO_FOLD, np.uint8)
        code_of[values] = np.arange(len(values))
        codes = small if values[-1] == len(values) - 1 else code_of[small]
        held = np.arange(len(values), dtype=np.int32)
        return cls(codes[None], np.zeros_like(held), held)

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[Any, Any]], N: int) -> Folds:
        """Return the folds of pairs of row numbers, or masks [N], to train on and to hold out; they may overlap."""
        masks = [(_mask(train, N), _mask(test, N)) for train, test in pairs]
        if not masks:
            raise ValueError("folds has no pair of rows to train on and rows to hold out; must have one")
        tests = np.stack([test for _, test in masks])
        parted = len(masks) < NO_FOLD and bool((tests.sum(axis=0) <= 1).all())
        if len(masks) > 1 and parted and all((train == ~test).all() for train, test in masks):
            return cls.of_numbers(np.where(tests.any(axis=0), tests.argmax(axis=0), -1))
        codes = np.full((len(masks), N), _NEITHER, np.uint8)
        for code, (train, test) in zip(codes, masks, strict=True):
            if (train & test).any():
                row = int(np.flatnonzero(train & test)[0])
                raise ValueError(f"folds trains on row {row} and holds it out in one fold; must do one of these")
            code[train], code[test] = _TRAINS, _HELD
        column = np.arange(len(masks), dtype=np.int32)
        return cls(codes, column, np.full_like(column, _HELD), ordered=True)

    @classmethod
    def in_time(cls, time: NDArray[Any], n: int) -> Folds:
        """Return n folds in the order of time [N]: each holds out a span, and trains on all that is earlier.

        Rows of one time stay together; spans hold about equally many rows.
        """
        values, place, counts = np.unique(time, return_inverse=True, return_counts=True)
        if len(values) <= n:
            raise ValueError(f"folds is {n} and time has {len(values)} different values; must have more than folds")
        middle = np.cumsum(counts) - counts / 2
        span = np.minimum((middle * (n + 1) / counts.sum()).astype(int), n)
        # No span stays empty where a time has more rows than one.
        span = np.minimum(np.maximum(span, np.arange(len(values)) - (len(values) - 1 - n)), np.arange(len(values)))
        span = np.maximum.accumulate(span)
        _, span = np.unique(span, return_inverse=True)
        held = np.arange(1, span.max() + 1, dtype=np.int32)
        return cls(span[place].astype(np.uint8)[None], np.zeros_like(held), held, ordered=True)


def make_folds(
    folds: int | Sequence[Any] | NDArray[Any] | Iterable[tuple[Any, Any]] | None,
    codes: Tensor,
    *,
    groups: NDArray[Any] | None,
    time: NDArray[Any] | None,
    seed: int,
) -> Folds:
    """Return the folds of rows with labels `codes` [T, N], `missing_code` where one is missing.

    Args:
        folds: how many, by default five where there are groups or times; or [N] numbers of folds; or pairs of rows to
            train on and to hold out; None for no folds.
        codes: for one target without missing labels each fold has about as many rows of each class.
        groups: [N], rows of one group stay together.
        time: [N], each fold trains on rows that are earlier than those that it holds out.
        seed: of the order of the rows.

    Raises:
        ValueError: what makes no folds.
    """
    N = codes.shape[1]
    for name, each in (("groups", groups), ("time", time)):
        if each is not None and (each.ndim != 1 or len(each) != N):
            raise ValueError(f"{name} is {list(each.shape)}; must be [{N}], one for each row of X")
        if each is not None and (missing := each != each).any():
            raise ValueError(f"{name}[{int(np.argmax(missing))}] is missing (NaN or NaT); each row must have a value")
    if groups is not None and time is not None:
        raise ValueError("groups and time are both given; folds can keep groups together or follow time: give one")
    if folds is None and groups is None and time is None:
        return Folds.none(N)
    if isinstance(folds, int | np.integer) or folds is None:
        n = 5 if folds is None else int(folds)
        if not 2 <= n < NO_FOLD or n > N:
            raise ValueError(f"folds is {n}; must be 2 to {min(NO_FOLD - 1, N)}, and at most the number of rows")
        return Folds.in_time(time, n) if time is not None else _split(n, codes, groups, seed)
    if groups is not None or time is not None:
        raise ValueError("folds says which rows each fold holds out, and groups or time do so too: give one of them")
    if hasattr(folds, "split") or isinstance(folds, str | float) or not hasattr(folds, "__iter__"):
        raise ValueError(
            f"folds is {folds!r}; must be a whole number, [{N}] numbers, or pairs such as cv.split(X, y) gives"
        )
    given: Any = np.asarray(folds) if hasattr(folds, "__array__") else list(folds)
    if isinstance(given, np.ndarray) or all(isinstance(each, int | float | np.number) for each in given):
        array = np.asarray(given)
        if array.shape != (N,) or array.dtype.kind not in "iub":
            raise ValueError(f"folds is {list(array.shape)} {array.dtype}; must be [{N}] whole numbers, one for a row")
        return Folds.of_numbers(array.astype(np.int8) if array.dtype == bool else array)
    return Folds.of_pairs(given, N)


def _split(n: int, codes: Tensor, groups: NDArray[Any] | None, seed: int) -> Folds:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold  # a second's import

    rows = np.zeros(codes.shape[1])
    if groups is not None:
        different = len(np.unique(groups))
        if different < n:
            raise ValueError(f"folds is {n} and there are {different} groups; must be at most as many as groups")
        pairs = GroupKFold(n).split(rows, groups=groups)
    else:
        only = codes[0].cpu().numpy()
        stratified = len(codes) == 1 and only.max() != missing_code(codes) and np.bincount(only).max() >= n
        splitter = StratifiedKFold if stratified else KFold
        pairs = splitter(n, shuffle=True, random_state=seed).split(rows, only)
    numbers = np.full(len(rows), -1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer rows than folds: some of these then hold out none of it
        for fold, (_, test) in enumerate(pairs):
            numbers[test] = fold
    return Folds.of_numbers(numbers)


def _mask(rows: Any, N: int) -> NDArray[np.bool_]:
    """Return row numbers, or a mask [N], as a mask."""
    given = np.asarray(rows)
    given = given.astype(np.int64) if given.size == 0 else given
    masked = given.dtype == bool and given.shape == (N,)
    if not masked and (given.dtype.kind not in "iu" or (given.size and not 0 <= given.min() <= given.max() < N)):
        raise ValueError(
            f"folds has a pair with {given.dtype} {list(given.shape)}; must be row numbers from 0 to {N - 1}"
        )
    mask = np.zeros(N, dtype=bool)
    mask[given] = True
    return mask
