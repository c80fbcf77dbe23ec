"""The labels of several targets: their classes, and the scores of the models on each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flashlogit_kernels.models import MOST_CLASSES

from ..data.dataset import Rows
from ..fitting.many import TargetFits
from ..metrics.scores import SplitScores
from ..system.errors import UserError
from .grid import linear_logits

Floats = NDArray[np.float64]


def classes_of(targets: Sequence[str], t: int, splits: Mapping[str, Rows]) -> tuple[str, ...]:
    """Return the names of a target's classes, `0`, `1` and so on; UserError where a label is no class number or no
    training row has its class."""
    most = 1
    for split, rows in splits.items():
        y = rows.y[:, t].cpu().numpy()
        known = y[~np.isnan(y)]
        wrong = known[(known < 0) | (known >= MOST_CLASSES) | (known != np.floor(known))]
        setting, remedy = f'target "{targets[t]}"', "write labels as 0 and 1, or as class numbers from 0 on"
        if len(wrong):
            problem = f"has the label {wrong[0]:g} in the {split} rows; must be a whole number below {MOST_CLASSES}"
            raise UserError(problem, setting=setting, remedy=remedy)
        here = int(known.max()) if len(known) else 0
        if split == "train":
            most = max(most, here)
        elif here > most:
            raise UserError(f"has the class {here} in the {split} rows, and no training row of it", setting=setting)
    return tuple(str(k) for k in range(most + 1))


def scores_of_targets(
    splits: Mapping[str, Rows], models: Mapping[str, TargetFits]
) -> Iterator[tuple[str, dict[str, SplitScores | None]]]:
    """Yield the scores of each target's model on every split; None where it has no label there."""
    parameters = {name: (of.weight[0, 0], of.bias[0, 0]) for name, of in models.items()}
    logits = {split: linear_logits(rows.X, parameters) for split, rows in splits.items()}
    for t, name in enumerate(models):
        labels = {split: rows.y[:, t].cpu().numpy() for split, rows in splits.items()}
        yield (
            name,
            {
                split: scores_of(logits[split][name], y, splits[split].sample_weight, ~np.isnan(y))
                for split, y in labels.items()
            },
        )


def scores_of(z: Floats, y: Floats, weight: torch.Tensor | None, known: NDArray[np.bool_]) -> SplitScores | None:
    """Return the scores of the rows that are known; None without any of positive weight."""
    s = None if weight is None else weight.double().cpu().numpy()[known]
    if not known.any() or (s is not None and not s.any()):
        return None
    kind = np.uint8 if z.ndim == 1 else np.int64
    return SplitScores(z[known], y[known].astype(kind), s)
