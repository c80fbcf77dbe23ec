"""How well models do on the rows that were held out from them."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.cpu.pool import share
from flashlogit_kernels.models import NO_FOLD, Models, missing_code

from ..metrics.scores import logsumexp, rank
from ..reference import row_blocks
from .grid import Floats

_SCORED_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits that are made at once for areas and accuracies: 32 MB, or 1 GB."""


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
    targets = models.target_of.cpu().numpy()
    # Many rows are sorted on a GPU in the time that a core takes for a thousand.
    score = _score_on_device if X.is_cuda else _score_on_host
    read = 0
    for column, h in sorted({(int(columns[k]), int(held[k])) for k in present}):
        rows = torch.nonzero(models.folds[column] == h)[:, 0]
        if not len(rows):
            continue
        these = present[(columns[present] == column) & (held[present] == h)]
        some = max(1, _SCORED_LOGITS[X.device.type] // (len(rows) * C))
        codes = models.codes[:, rows]
        s = None if models.sample_weight is None else models.sample_weight[rows].double()
        for begin in range(0, len(these), some):
            block = these[begin : begin + some]
            at, bias = W[:, :, block].reshape(len(W), -1), b[:, block].reshape(-1)
            z = torch.cat([torch.addmm(bias, x, at) for _, x in row_blocks(X, torch.float64, rows=rows)])
            loss[block], accuracy[block], area[block] = score(z.view(-1, C, len(block)), codes, targets[block], s)
            read += len(rows)
    return (loss, accuracy, area), read / len(X)


def _score_on_host(z: Tensor, codes: Tensor, targets: NDArray[np.int64], weight: Tensor | None) -> Floats:
    """Return mean loss, accuracy and area of logits z [n, C, k], labels of a row of codes [T, n] each, [3, k]."""
    found, missing = np.full((3, len(targets)), np.nan), missing_code(codes)
    logits, labels, s = z.numpy(), codes.numpy(), None if weight is None else weight.numpy()

    def score(place: int) -> None:
        y = labels[targets[place]]
        known = y != missing if s is None else (y != missing) & (s > 0)
        if known.any():
            found[:, place] = _score(logits[known, :, place], y[known], None if s is None else s[known])

    share(score, len(targets))
    return found


def _score_on_device(z: Tensor, codes: Tensor, targets: NDArray[np.int64], weight: Tensor | None) -> Floats:
    """Return the same for a GPU, for one wait."""
    found, missing = [], missing_code(codes)
    for place, target in enumerate(targets.tolist()):
        y = codes[target]
        known = y != missing if weight is None else (y != missing) & (weight > 0)
        logits, y = z[known, :, place], y[known].long()
        s = logits.new_ones(len(y)) if weight is None else weight[known]
        if z.shape[1] > 1:
            losses = torch.logsumexp(logits, dim=1) - logits.gather(1, y[:, None])[:, 0]
            right, area = logits.argmax(dim=1) == y, s.new_tensor(torch.nan)
        else:
            at = logits[:, 0].contiguous()
            losses = torch.nn.functional.softplus(torch.where(y == 1, -at, at), threshold=1e9)
            right, area = (at > 0) == (y == 1), _area(at, y == 1, s)
        found.append(torch.stack([(losses * s).sum() / s.sum(), (right * s).sum() / s.sum(), area]))
    return np.asarray(torch.stack(found, dim=1).cpu().numpy())


def _area(z: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Return the area under the ROC curve, []: the weight of the negative rows below each positive one, and of half of
    those beside it. NaN where one class has no row."""
    z, order = z.sort()
    positive, weight = positive[order], weight[order]
    below = torch.where(positive, 0.0, weight).cumsum(dim=0)
    below = torch.cat([below.new_zeros(1), below])
    left, right = torch.searchsorted(z, z), torch.searchsorted(z, z, right=True)
    ranks = 0.5 * (below[left] + below[right])
    of_positive = torch.where(positive, weight, 0.0)
    return (of_positive * ranks).sum() / (of_positive.sum() * below[-1])


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
