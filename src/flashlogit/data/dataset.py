"""What every source of data becomes: rows on the device, divided for training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config.settings import ClassWeight
from ..system.errors import UserError, rows_text
from .columns.encoding import Encoding, Standardization
from .columns.labels import Rule
from .files.tables import Mask

TRAIN, VALIDATION, TEST, DROPPED = range(4)
NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """Rows of one split on the device.

    X is [N, D] in the storage dtype, y [N] uint8 (0 or 1; the class numbers of more classes in int64), or of several
    targets [N, T] float64 with NaN for a label that is missing, sample_weight [N] float32 or float64, or None for ones.
    number [N] int64 has each row's number in its file, the first of which is 1; None for training rows, of which
    `RowOrigins` tells.
    """

    X: Tensor
    y: Tensor
    sample_weight: Tensor | None = None
    number: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.X.shape[0]


@dataclass(frozen=True)
class RowOrigins:
    """What cross-validation knows of training rows [N] beside X and y.

    number [N] int64: each row's number in its file, the first of which is 1. along [N] int64, if there is a column to
    divide by: the rank of the row's group or time among their distinct values; `kind` says which of the two it is.
    """

    number: NDArray[np.int64]
    along: NDArray[np.int64] | None = None
    kind: Literal["group", "time"] | None = None


@dataclass(frozen=True)
class Dataset:
    """The splits of one data set. Validation and test are None where the settings ask for none."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """Names of the negative and the positive class, or of K > 2 classes in the order of their numbers."""
    standardization: Standardization
    array_widths: tuple[int, ...] = ()
    """Columns that an array without column names must have to be read the same way; () if there are names."""
    encoding: Encoding | None = None
    """How the features were made of the file's columns; None where they are those."""
    rule: Rule | None = None
    """What a label column means; None where the labels are no file's."""
    notes: tuple[str, ...] = ()
    """Sentences worth showing to the user, such as constant columns or dropped rows."""
    warnings: tuple[str, ...] = ()
    """Sentences on columns that may be leaks of the label, copies of others or numbers of rows, with the remedy."""
    unlabelled: int = 0
    """Rows of the files that were left out, as they have no label."""
    origins: RowOrigins | None = None
    """Where the training rows come from; None where `load` was not asked for it."""
    targets: tuple[str, ...] = ()
    """Names of T labels that have a model each; () for one label."""

    @property
    def splits(self) -> dict[str, Rows]:
        """The splits that exist, by name, training first."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in named.items() if rows is not None}


def stratified(
    y: NDArray[np.integer], kept: Mask, fractions: dict[int, float], class_names: tuple[str, ...], seed: int
) -> NDArray[np.uint8]:
    """Return the split [N] of every row, drawn class by class: every split has the classes in one proportion.

    `fractions` has the shares of VALIDATION and TEST among the rows with kept true; the others are DROPPED.
    The same seed and labels give the same split. Raises UserError if a split would be empty or lack a class.
    """
    splits = np.full(len(y), DROPPED, dtype=np.uint8)
    splits[kept] = TRAIN
    rest: NDArray[np.signedinteger] = np.flatnonzero(kept)
    if len(kept) < 2**31:
        rest = rest.astype(np.int32)
    K = len(class_names)
    totals = np.bincount(y[rest], minlength=K)
    sizes = split_sizes(fractions, len(rest), K)
    for split, size in sizes.items():
        _require_rows(2, y[rest], class_names, totals)  # one for each side
        rest, taken = _divided(rest, y[rest], size, seed)
        splits[taken] = split
    for split in (TRAIN, *sizes) if K == 2 else (TRAIN,):
        _require_rows(1, y[splits == split], class_names, totals)
    return splits


def split_sizes(fractions: dict[int, float], rows: int, classes: int) -> dict[int, int]:
    """Return how many of the rows each split with a fraction gets; UserError where one has fewer than the classes."""
    sizes = {split: round(rows * share) for split, share in fractions.items() if share > 0}
    for split, size in sizes.items():
        if size < classes:
            needed = classes / rows
            more = f"raise it to {needed:.2g} or more" if needed < 0.5 else "give more rows"
            problem = f"it takes at least one row of each class, and this is {size} of {rows_text(rows)}"
            remedy = f"{more}, or set it to 0"
            setting, mends = f"data.split.{NAMES[split]}", {"split": {NAMES[split]: 0}}
            raise UserError(problem, setting=setting, value=fractions[split], remedy=remedy, mends=mends)
    training = rows - sum(sizes.values())
    if training < classes:
        problem = f"leaves {training} of {rows_text(rows)} for training, which takes at least one of each class"
        raise UserError(problem, setting="data.split", remedy="lower data.split.validation or data.split.test")
    return sizes


def _divided(
    rows: NDArray[np.signedinteger], y: NDArray[np.integer], size: int, seed: int
) -> tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]:
    """Return the rows [n] without `size` of them, and those, both in random order and with the classes in one
    proportion.

    These are the rows that scikit-learn's `train_test_split` with `stratify` draws, in its order, without the lists of
    Python integers that it draws them by: ten million rows took 18 s and 0.8 GB so, and take 2 s and 0.2 GB.
    """
    random = np.random.RandomState(seed)
    counts = np.bincount(y)
    left = _drawn(counts, len(rows) - size, random)
    taken = _drawn(counts - left, size, random)
    by_class = [np.flatnonzero(y == k).astype(rows.dtype) for k in range(len(counts))]
    for of_class in by_class:
        random.shuffle(of_class)
    first = np.concatenate([places[:n] for places, n in zip(by_class, left, strict=True)])
    second = np.concatenate([places[n : n + m] for places, n, m in zip(by_class, left, taken, strict=True)])
    del by_class, of_class
    random.shuffle(first)
    random.shuffle(second)
    return rows[first], rows[second]


def _drawn(counts: NDArray[np.intp], size: int, random: np.random.RandomState) -> NDArray[np.intp]:
    """Return how many rows of each class, of which there are `counts` [K], are among `size` in their proportion.

    What rounding down leaves goes to the classes with the largest remainders, at random where these are equal.
    """
    exact = counts / counts.sum() * size
    drawn: NDArray[np.float64] = np.floor(exact)
    remainder = exact - drawn
    for value in np.unique(remainder)[::-1]:
        if (lacking := int(size - drawn.sum())) == 0:
            break
        alike = np.flatnonzero(remainder == value)
        drawn[random.choice(alike, min(len(alike), lacking), replace=False)] += 1
    return drawn.astype(np.intp)


def _require_rows(least: int, y: NDArray[np.integer], class_names: tuple[str, ...], totals: NDArray[np.intp]) -> None:
    counts = np.bincount(y, minlength=len(class_names))
    if counts.min() < least:
        rare = int(np.argmin(counts))
        problem = f'the class "{class_names[rare]}" has {rows_text(totals[rare])}, too few for every split to get some'
        remedy = "give more rows of it, or change data.split.validation and data.split.test (0 for none)"
        mends = {"split": {"validation": 0, "test": 0}}
        raise UserError(problem, setting="data.split", remedy=remedy, mends=mends)


def with_class_weight(rows: Rows, class_weight: tuple[float, ...]) -> Rows:
    """Return the rows with their weights multiplied by their class's, [K] in the order of the classes."""
    if all(factor == 1 for factor in class_weight):
        return rows
    dtype = torch.float32 if rows.sample_weight is None else rows.sample_weight.dtype
    factor = torch.tensor(class_weight, dtype=dtype, device=rows.X.device)[rows.y.to(torch.int64)]
    weight = factor if rows.sample_weight is None else factor * rows.sample_weight
    return Rows(rows.X, rows.y, weight)


def class_weights(rows: Rows, setting: ClassWeight | str | None, *, classes: int = 2) -> tuple[float, ...]:
    """Return factors [K] in the order of the classes.

    "balanced" gives all classes of the training `rows` the weight S / K.

    Raises:
        UserError: factors of the negative and the positive class where there are more than two.
    """
    if setting is None:
        return (1.0,) * classes
    if isinstance(setting, ClassWeight):
        if classes > 2:
            problem = f"it names a negative and a positive class, and there are {classes} classes"
            remedy = "set it to balanced or null, or give rows weights of their own (data.weight)"
            raise UserError(problem, setting="loss.class_weight", remedy=remedy)
        return setting.negative, setting.positive
    weight = None if rows.sample_weight is None else rows.sample_weight.double()
    mass = torch.bincount(rows.y.to(torch.int64), weights=weight, minlength=classes).double()
    return tuple((mass.sum() / (classes * mass)).tolist())
