"""How well models do on the rows that were held out from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.cpu.pool import share
from flashlogit_kernels.models import MISSING, NO_FOLD, Models

from ..metrics.scores import logsumexp, rank
from ..reference import row_blocks
from .grid import Floats

_SCORED_LOGITS = 1 << 22
"""Logits that are made at once for areas and accuracies: 32 MB."""


def held_out_scores(
    X: Tensor, models: Models, W: Tensor, b: Tensor, present: NDArray[np.int64]
) -> tuple[tuple[Floats, Floats, Floats], float]:
    """Return mean loss, accuracy and area under the ROC curve of the rows held out from each model, [K] each, NaN where
    there are none; the area for two classes only. Also how often X [N, D] was read: each fold's rows once for a block
    of models.

    W [D, C, K] and b [C, K] float64 on the device of X; present: the numbers of the models to score.
    """
    K, C = models.count, models.classes
    loss, accuracy, area = (np.full(K, np.nan) for _ in range(3))
    columns, held = models.fold_of.cpu().numpy(), models.held.cpu().numpy()
    if (held[present] == NO_FOLD).all():
        return (loss, accuracy, area), 0.0
    s = None if models.sample_weight is None else models.sample_weight.double().cpu().numpy()
    codes = models.codes.cpu().numpy()
    targets = models.target_of.cpu().numpy()
    read = 0
    for column, h in sorted({(int(columns[k]), int(held[k])) for k in present}):
        rows = torch.nonzero(models.folds[column] == h)[:, 0]
        if not len(rows):
            continue
        these = present[(columns[present] == column) & (held[present] == h)]
        some = max(1, _SCORED_LOGITS // (len(rows) * C))
        on_host = rows.cpu().numpy()
        weight = None if s is None else s[on_host]
        for begin in range(0, len(these), some):
            block = these[begin : begin + some]
            at, bias = W[:, :, block].reshape(len(W), -1), b[:, block].reshape(-1)
            z = torch.cat([torch.addmm(bias, x, at) for _, x in row_blocks(X, torch.float64, rows=rows)])
            logits = z.cpu().numpy().reshape(-1, C, len(block))
            read += len(rows)

            def score(place: int, block: Any = block, logits: Any = logits, at: Any = on_host, s: Any = weight) -> None:
                k = block[place]
                y = codes[targets[k], at]
                known = y != MISSING if s is None else (y != MISSING) & (s > 0)
                if known.any():
                    of = None if s is None else s[known]
                    loss[k], accuracy[k], area[k] = _score(logits[known, :, place], y[known], of)

            share(score, len(block))
    return (loss, accuracy, area), read / len(X)


def _score(z: Floats, y: NDArray[np.uint8], weight: Floats | None) -> tuple[float, float, float]:
    """Return mean loss, accuracy and area under the ROC curve of logits [n, C]; no area for a softmax, or one class."""
    if z.shape[1] > 1:
        own = np.take_along_axis(z, y[:, None].astype(np.int64), axis=1)[:, 0]
        losses, right = logsumexp(z) - own, z.argmax(axis=1) == y
        return float(np.average(losses, weights=weight)), float(np.average(right, weights=weight)), math.nan
    z = z[:, 0]
    positive = y == 1
    losses = np.logaddexp(0.0, np.where(positive, -z, z))
    areas = rank(np.ascontiguousarray(z), positive, weight).areas
    found = np.average(losses, weights=weight), np.average((z > 0) == positive, weights=weight)
    return float(found[0]), float(found[1]), math.nan if areas is None else areas[0]
