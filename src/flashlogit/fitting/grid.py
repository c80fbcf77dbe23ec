"""What many models over one X come to: by target, penalty and fold; and which penalty is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .folds import Folds

Selection = Literal["best", "one_standard_error"]
NO_CLASS: Literal["class missing"] = "class missing"
"""How a model ends whose training rows lack a class: it is left out."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TargetFits:
    """The models of one target: L penalties and F folds.

    weight [L, F, D] and bias [L, F] float64, in the units of X, on its device; for a softmax [L, F, C, D] and
    [L, F, C]. All others are arrays [L, F]: l2 and l1 are the penalties in P; objective, gap and relative_gap as in a
    certificate; ending as in a `Fit`, or "class missing" for a model that is left out, and is NaN, as its training rows
    lack the class named in `lacks`; iterations are evaluations. held_loss (mean, in nats), accuracy and roc_auc are
    those of the rows that the fold holds out, NaN where there are none, or of one class only.
    """

    name: str
    classes: int
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    l2: Floats = field(repr=False)
    l1: Floats = field(repr=False)
    objective: Floats = field(repr=False)
    gap: Floats = field(repr=False)
    relative_gap: Floats = field(repr=False)
    ending: NDArray[np.object_] = field(repr=False)
    iterations: NDArray[np.int64] = field(repr=False)
    held_loss: Floats = field(repr=False)
    accuracy: Floats = field(repr=False)
    roc_auc: Floats = field(repr=False)
    lacks: NDArray[np.int64] = field(repr=False)
    """[L, F]: a class that is absent, or -1."""
    best: int | None = None
    """Place of the chosen penalty; None where nothing was held out, or no penalty has a model of every fold."""
    refit: TargetFits | None = field(default=None, repr=False)
    """The model of the chosen penalty on all rows, [1, 1]."""

    @property
    def mean_loss(self) -> Floats:
        """Mean over the folds of the held-out loss, [L]; NaN where a fold has no model."""
        return np.asarray(self.held_loss.mean(axis=1))

    @property
    def standard_error(self) -> Floats:
        """Standard error of that mean, [L], as if folds were independent."""
        F = self.held_loss.shape[1]
        return np.asarray(self.held_loss.std(axis=1, ddof=1) / math.sqrt(F)) if F > 1 else np.full(len(self.l2), np.nan)


@dataclass(frozen=True)
class ManyFits(Mapping[str, TargetFits]):
    """All models by target's name, and what they took.

    penalties [L]: as they were given, ascending; folds: which rows each fold holds out, None where there are none.
    passes over X, each for as many models as were left; seconds without compile_seconds.
    """

    targets: dict[str, TargetFits]
    penalties: Floats
    penalty: Literal["l2", "C"]
    l1_ratio: float
    folds: Folds | None = field(repr=False)
    passes: float
    seconds: float
    compile_seconds: float
    bytes_read: float
    tolerance: float

    def __getitem__(self, name: str) -> TargetFits:
        return self.targets[name]

    def __iter__(self) -> Any:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def columns(self) -> list[tuple[str, float, int | None]]:
        """(target, penalty, fold) of each column of `weights`."""
        folds: Sequence[int | None] = range(self.folds.count) if self.folds else [None]
        return [(name, float(each), fold) for name in self.targets for each in self.penalties for fold in folds]

    def weights(self) -> Tensor:
        """Return the weights of all models side by side, [D, K], as `columns` names them; two classes only.

        Raises:
            ValueError: a softmax, whose models have a column for each class.
        """
        many = [name for name, of in self.targets.items() if of.classes > 2]
        if many:
            raise ValueError(f"target {many[0]} has {self[many[0]].classes} classes; take its own weight")
        return torch.cat([of.weight.reshape(-1, of.weight.shape[-1]) for of in self.targets.values()]).t()

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of a table for each model, by name of the column."""
        names = ("objective", "gap", "relative_gap", "ending", "iterations", "held_loss", "accuracy", "roc_auc")
        table = []
        for name, of in self.targets.items():
            for place, value in enumerate(self.penalties.tolist()):
                for fold in range(of.l2.shape[1]):
                    row = {"target": name, self.penalty: value, "fold": fold if self.folds else None}
                    at = {each: getattr(of, each)[place, fold] for each in names}
                    table.append(
                        row | {key: each.item() if hasattr(each, "item") else each for key, each in at.items()}
                    )
        return table


def choose(of: TargetFits, select: Selection) -> int | None:
    """Return the place of the penalty with the least mean held-out loss, or of the strongest within one standard error
    of it."""
    # Weights of separated classes without a penalty are those where a fit ended: any others would be as good.
    mean = np.where((of.ending == "separated").any(axis=1), np.nan, of.mean_loss)
    if not np.isfinite(mean).any():
        return None
    best = int(np.nanargmin(mean))
    if select == "best" or not math.isfinite(of.standard_error[best]):
        return best
    good = np.flatnonzero(mean <= mean[best] + of.standard_error[best])
    strength = (of.l1 + of.l2).mean(axis=1)
    return int(good[np.argmax(strength[good])])
