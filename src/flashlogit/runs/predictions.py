"""What a run's model said of the rows that were held out, kept row by row so that runs can be compared on them.

Training rows are not kept: they are most of the rows, and no fair ground for a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.data import Settings
from ..metrics.scores import SplitScores
from ..system.errors import UserError
from ..system.safetensors_file import read_safetensors, write_safetensors
from ..system.strict import parser_of

_KIND = "predictions"
_REMEDY = "copy the run again, or train it again with --overwrite"


class _Header(Settings):
    """Nothing: all there is are tensors."""


@dataclass(frozen=True)
class Predictions:
    """A model's scores of the rows of a split, in the order of the file."""

    number: NDArray[np.integer]
    """[N]: each row's number in its file, the first of which is 1."""
    scores: SplitScores
    """Logits [N] or [N, K], labels and the user's weights."""


def write_predictions(path: Path, splits: Mapping[str, Predictions]) -> None:
    """Write the tensors `row` and `label` [N], `logit` [N] or [N, K], and where there are weights `weight` [N], each
    with its split before it, as in `test.logit`.

    Each has the narrowest of a few dtypes that holds its values exactly: a row of two classes takes 9 bytes where the
    model is in float32.
    """
    tensors = {}
    for name, split in splits.items():
        scores = split.scores
        tensors[f"{name}.row"] = _narrowed(split.number, np.int32)
        tensors[f"{name}.label"] = _narrowed(scores.y, np.uint8)
        tensors[f"{name}.logit"] = _narrowed(scores.logits, np.float32)
        if scores.sample_weight is not None:
            tensors[f"{name}.weight"] = _narrowed(scores.sample_weight, np.float32)
    write_safetensors(path, tensors, kind=_KIND, content={})


def _narrowed(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        narrow: NDArray[Any] = values.astype(dtype)
    return narrow if np.array_equal(narrow, values) else values


def read_predictions(path: Path, split: str, classes: int) -> Predictions | None:
    """Return those of a split; None where the file, which earlier versions did not write, or the split is missing.

    Raises:
        UserError: the file is damaged or no model of so many classes made it.
    """
    if not path.is_file():
        return None
    tensors, _ = read_safetensors(path, kind=_KIND, content=parser_of(_Header), remedy=_REMEDY)
    parts = {name.removeprefix(f"{split}."): of for name, of in tensors.items() if name.startswith(f"{split}.")}
    if not parts:
        return None
    try:
        logits = parts["logit"].astype(np.float64)
        scores = SplitScores(logits, parts["label"].astype(np.int64), parts.get("weight"))
        number = parts["row"]
        if number.shape != scores.y.shape or scores.classes != classes:
            raise ValueError(f"rows {list(number.shape)} and logits {list(logits.shape)} of {classes} classes")
    except (KeyError, ValueError) as error:
        raise UserError(f"holds no predictions of the run ({error})", setting=path, remedy=_REMEDY) from error
    return Predictions(number, scores)
