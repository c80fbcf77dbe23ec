"""The pass for many models in pure torch: the truth in tests, and the fallback on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from flashlogit_kernels.models import Models, ModelSums, check_models

from . import row_blocks

_WORKSPACE = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Logits of the rows that are made at once."""


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
    """Return losses, held-out losses and gradients of K models, for one read of X.

    Args:
        X: [N, D] of any floating dtype, with a unit stride in one dimension.
        models: of which rows and labels; C = models.classes.
        weight: [D, K C] float32 or float64, which is the arithmetic's dtype.
        bias: [K C].
        center: [D], subtracted from every row.
        along: [K C] t for the border.
        second: whether to sum J [K, C, C].

    Raises:
        ValueError, TypeError: shapes, devices or dtypes that do not fit, see `check_models`.
    """
    check_models(X, models, weight, bias, center, along)
    (D, M), K, C = weight.shape, models.count, models.classes
    shapes = ((K,), (K,), (D + 1, M), (D + 1, M), (K, C, C))
    sums = (torch.zeros(shape, dtype=torch.float64, device=X.device) for shape in shapes)
    loss, held_loss, gradient, border, seconds = sums
    targets, folds = models.target_of.long(), models.fold_of.long()
    height = max(1, _WORKSPACE[X.device.type] // M)
    for rows, block in row_blocks(X, weight.dtype, center=center, height=height):
        z = torch.addmm(bias, block, weight).view(-1, K, C)
        y, e = models.codes[:, rows][targets].t(), models.folds[:, rows][folds].t()
        known = y != models.missing
        held = known & (e == models.held)
        trains = known & ((e < models.held) if models.ordered else (e != models.held))
        s = z.new_ones(len(z)) if models.sample_weight is None else models.sample_weight[rows].to(z.dtype)
        y = torch.where(known, y, 0).long()
        if C == 1:
            p, off = torch.sigmoid(z), torch.sigmoid(-z)
            losses = torch.nn.functional.softplus(torch.where(y == 1, -z[..., 0], z[..., 0]), threshold=1e9)
            r = torch.where(y[..., None] == 1, -off, p)
            J = (p * off)[..., None]
        else:
            p = torch.softmax(z, dim=2)
            own = y[..., None]
            others = (z - z.gather(2, own)).scatter(2, own, -torch.inf)
            losses = torch.logaddexp(z.new_zeros(()), torch.logsumexp(others, dim=2))
            r = p.scatter(2, own, 0.0)
            r = r.scatter(2, own, -r.sum(dim=2, keepdim=True))
            J = None
        of_training = torch.where(trains, s[:, None], 0.0)
        loss += torch.where(trains, s[:, None] * losses, 0.0).sum(dim=0)
        held_loss += torch.where(held, s[:, None] * losses, 0.0).sum(dim=0)
        _add(gradient, block, torch.where(trains[..., None], r, 0.0) * s[:, None, None])
        if along is not None:
            t = along.view(K, C)
            moved = p * off * t if C == 1 else p * (t - (p * t).sum(dim=2, keepdim=True))
            _add(border, block, of_training[..., None] * moved)
        if second:
            if J is None:
                J = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
            seconds += (of_training[..., None, None] * J).sum(dim=0)
    return ModelSums(
        loss,
        held_loss,
        gradient[:D],
        gradient[D],
        border[:D] if along is not None else None,
        border[D] if along is not None else None,
        seconds if second else None,
    )


def _add(total: Tensor, block: Tensor, values: Tensor) -> None:
    """Add sum_i (x_i, 1) v_i of a block [n, D] and values [n, K, C] to a total [D + 1, K C]."""
    flat = values.reshape(len(block), -1)
    total[:-1] += block.t() @ flat
    total[-1] += flat.sum(dim=0)
