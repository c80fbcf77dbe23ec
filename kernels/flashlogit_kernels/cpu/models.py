"""The pass over X for many models on a CPU, as a compiled loop: the twin of `flashlogit.reference.models`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..models import Models, ModelSums, check_models
from . import _models
from .passes import as_bytes, number_of_parts, part_of, table_of
from .pool import share

_MOST_NUMBERS = 1 << 22
"""Numbers that all parts sum up to, unless one part alone does: 32 MB."""
_TILE_COLUMNS = 64
"""Most columns of X in a tile."""


def models_onepass(
    X: Tensor,
    models: Models,
    weight: Tensor,
    bias: Tensor,
    *,
    center: Tensor | None = None,
    along: Tensor | None = None,
    second: bool = False,
) -> ModelSums:
    """Return losses, held-out losses and gradients of K models, for one read of X."""
    check_models(X, models, weight, bias, center, along)
    (N, D), M, K, C = X.shape, len(bias), models.count, models.classes
    tiles = -(-D // _TILE_COLUMNS)
    width = -(-D // tiles)
    of_dtype = np.empty(0, np.float64 if weight.dtype == torch.float64 else np.float32)
    W = np.zeros((tiles, M, width), of_dtype.dtype)
    of_columns = weight.detach().numpy()
    for tile in range(tiles):
        some = of_columns[tile * width : (tile + 1) * width]
        W[tile, :, : len(some)] = some.T
    before = (
        *table_of(X, None),
        of_dtype if center is None else center.numpy(),
        W,
        bias.detach().contiguous().numpy(),
        models.codes.view(-1).numpy().view(np.uint8),
        models.codes.dtype != torch.uint8,
        models.folds.view(-1).numpy(),
        N,
        *(each.numpy() for each in (models.target_of, models.fold_of, models.held)),
        models.ordered,
        C,
        *as_bytes(models.sample_weight),
        of_dtype if along is None else along.contiguous().numpy(),
        of_dtype.view(np.int64 if weight.dtype == torch.float64 else np.int32),
    )
    sized = 0 if along is None else M
    seconds = K if second and C > 1 else 0
    numbers = (M + sized) * (tiles * width + 1) + 2 * K + seconds * C * C
    count = min(number_of_parts(N, D * M), max(1, _MOST_NUMBERS // numbers))
    shapes = ((K, 2), (M,), (tiles, M, width), (sized,), (tiles, sized, width), (seconds, C, C))
    sums = [np.empty((count, *shape)) for shape in shapes]

    def add(part: int) -> None:
        _models.pass_over_models(*before, *part_of(part, count, N), *(each[part] for each in sums))

    share(add, count)
    losses, of_bias, gradient, corner, border, matrices = (torch.from_numpy(each.sum(axis=0)) for each in sums)

    def joined(of_tiles: Tensor) -> Tensor:
        return of_tiles.permute(0, 2, 1).reshape(tiles * width, -1)[:D].contiguous()

    found = ModelSums(losses[:, 0], losses[:, 1], joined(gradient), of_bias)
    if along is not None:
        found = found._replace(border=joined(border), corner=corner)
    return found._replace(second=matrices) if seconds else found
