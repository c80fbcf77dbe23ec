"""Passes over X for the K classes of a softmax, as compiled loops; rows are shared out as for two classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..gram import mirrored
from . import _classes
from .passes import as_bytes, number_of_parts, part_of, table_of
from .pool import share

_MOST_NUMBERS = 1 << 22
"""Numbers that all parts sum up to, unless one part alone does: 32 MB."""


class ClassSums(NamedTuple):
    """Sums over rows, float64: of losses [], by the weights [D, K] and by the intercepts [K]; of the derivatives by the
    intercepts [K, K] if they were wanted, the least lead of a row's own class over the next [], and lower triangles of
    the Hessian's blocks if it was."""

    loss: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    second: Tensor | None
    margin: Tensor
    matrices: Tensor


def softmax_onepass(
    X: Tensor,
    y: Tensor,
    W: Tensor,
    b: Tensor,
    *,
    sample_weight: Tensor | None = None,
    center: Tensor | None = None,
    probabilities: Tensor | None = None,
    second: bool = False,
) -> ClassSums:
    """Sum s_i loss_i and its derivatives over all rows, for one read of X.

    Args:
        X: [N, D] of any floating dtype, with a unit stride in one dimension.
        y: [N] int64 class numbers, which are not checked.
        W, b: [D, K] and [K], float32 or float64: the arithmetic's dtype.
        sample_weight: [N] float32 or float64.
        center: [D] in the arithmetic's dtype, subtracted from every row.
        probabilities: [N, K] float32 or float64, contiguous, to be written; or None.
        second: whether to sum s_i (diag p_i - p_i p_i^T).
    """
    return _over_parts(_classes.EVALUATE, X, y, W, b, sample_weight, center, probabilities, second=second)


def softmax_product(
    X: Tensor,
    probabilities: Tensor,
    V: Tensor,
    c: Tensor,
    *,
    sample_weight: Tensor | None = None,
    center: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the Hessian of the sum of losses times (V [D, K], c [K]), as [D, K] and [K] float64, for one read of X.

    probabilities: [N, K] as `softmax_onepass` wrote them; the others as for it.
    """
    y = torch.empty(0, dtype=torch.int64)
    found = _over_parts(_classes.PRODUCT, X, y, V, c, sample_weight, center, probabilities, second=False)
    return found.weight_grad, found.bias_grad


def softmax_hessian(
    X: Tensor, y: Tensor, W: Tensor, b: Tensor, *, sample_weight: Tensor | None = None, center: Tensor | None = None
) -> Tensor:
    """Return sum_i s_i (x_i, 1) (x_i, 1)^T (x) (diag p_i - p_i p_i^T), [D + 1, K, D + 1, K] float64, for one read of X.

    Arguments as for `softmax_onepass`.
    """
    K, P = len(b), X.shape[1] + 1
    found = _over_parts(_classes.HESSIAN, X, y, W, b, sample_weight, center, None, second=False)
    matrix = X.new_empty((P, K, P, K), dtype=torch.float64)
    whole = mirrored(found.matrices.view(-1, P, P).mT)
    for place, (first, second) in enumerate(zip(*np.tril_indices(K), strict=True)):
        matrix[:, first, :, second] = matrix[:, second, :, first] = whole[place]
    return matrix


def _over_parts(
    mode: int,
    X: Tensor,
    y: Tensor,
    W: Tensor,
    b: Tensor,
    sample_weight: Tensor | None,
    center: Tensor | None,
    kept: Tensor | None,
    *,
    second: bool,
) -> ClassSums:
    (N, D), K = X.shape, len(b)
    W = W.detach().t().contiguous()
    of_dtype = np.empty(0, np.float64 if W.dtype == torch.float64 else np.float32)
    middle, of_rows = of_dtype if center is None else center.detach().numpy(), as_bytes(sample_weight)
    before = (*table_of(X, None), middle, W.numpy(), b.detach().contiguous().numpy(), y.numpy(), *of_rows, mode)
    probabilities = np.empty(0, np.uint8) if kept is None else kept.view(-1).view(torch.uint8).numpy()
    integers = of_dtype.view(np.int64 if W.dtype == torch.float64 else np.int32)
    after = (probabilities, 8 if kept is None else kept.element_size(), integers)
    pairs = K * (K + 1) // 2 if mode == _classes.HESSIAN else 0
    count = min(number_of_parts(N, D * K), max(1, _MOST_NUMBERS // (D * K + pairs * (D + 1) ** 2)))
    matrices = np.empty((count, pairs, (D + 1) ** 2))
    size = K if second else 0
    seconds, sums, gradients = np.empty((count, size, size)), np.empty((count, 2 + K)), np.empty((count, K, D))

    def add(part: int) -> None:
        place = part_of(part, count, N)
        _classes.pass_over_classes(*before, *place, *after, seconds[part], sums[part], gradients[part], matrices[part])

    share(add, count)
    total, margin = torch.from_numpy(sums.sum(axis=0)), torch.tensor(sums[:, 1].min())
    of_second = torch.from_numpy(seconds.sum(axis=0)) if second else None
    of_weights, blocks = torch.from_numpy(gradients.sum(axis=0)).t(), torch.from_numpy(matrices.sum(axis=0))
    return ClassSums(total[0], of_weights, total[2:], of_second, margin, blocks)
