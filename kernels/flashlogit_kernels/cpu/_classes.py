"""A pass over a range of rows for K classes of a softmax, in blocks that stay in the first cache.

    loss_i = log sum_k exp(z_ik - z_i,y_i),      p_i = softmax(z_i),      r_ik = s_i (p_ik - [k = y_i])

Each class goes over a block as a model of two classes does.
"""

import numpy as np

from ._blocks import (
    NARROW,
    NONE,
    add_gradient,
    add_logits,
    add_products,
    gather,
    read,
)
from ._exponentials import exp_of_minus
from .loops import helper, loop

EVALUATE, PRODUCT, HESSIAN = 0, 1, 2
"""What a pass gives: loss and gradient; the Hessian times a vector, from the probabilities that were kept; or loss,
gradient and Hessian."""
_BLOCK_VALUES, _MOST_ROWS, _LEAST_ROWS = 1 << 13, 512, 8


@helper
def _residuals(z, y, begin, weights, m, K, e, bits, a, r, sums, margin):
    """Write probabilities over the logits z [K, m] and residuals times weights to r [K, m]; add the losses to sums[0].
    Return the least lead of the own class of a row of positive weight over the next."""
    T = z.dtype.type
    for k in range(m):
        own = z[y[begin + k], k]
        most = T(-np.inf)
        for c in range(K):
            z[c, k] -= own
            if c != y[begin + k] and (z[c, k] > most or z[c, k] != z[c, k]):
                most = z[c, k]
        a[k] = most
        if weights[k] > 0 and not -most >= margin:
            margin = np.float64(-most)
    for c in range(K):
        for k in range(m):
            e[k] = max(a[k], T(0.0)) - z[c, k]
        exp_of_minus(e, r[c], bits, m)
    for k in range(m):
        own, most = y[begin + k], a[k]
        others = T(0.0)
        for c in range(K):
            if c != own:
                others += r[c, k]
        near = r[own, k]  # exp(-most) where another class leads, else 1
        total = near + others
        loss = np.log1p(others) if not most > 0 else most + np.log(total)
        sums[0] += np.float64(weights[k]) * np.float64(loss)
        for c in range(K):
            p = r[c, k] / total
            z[c, k] = p
            r[c, k] = weights[k] * p
        r[own, k] = -weights[k] * (others / total)
    return margin


@helper
def _products(z, p, m, K, weights, r):
    """Write s_i p_ik (u_ik - p_i . u_i) for u [K, m] and probabilities p [K, m] to r."""
    T = z.dtype.type
    for k in range(m):
        r[0, k] = T(0.0)
    for c in range(K):
        for k in range(m):
            r[0, k] += p[c, k] * z[c, k]
    for c in range(K - 1, -1, -1):
        for k in range(m):
            r[c, k] = weights[k] * p[c, k] * (z[c, k] - r[0, k])


@helper
def _keep(p, kept, begin, m, K):
    for k in range(m):
        for c in range(K):
            kept[(begin + k) * K + c] = p[c, k]


@helper
def _take(p, kept, begin, m, K):
    T = p.dtype.type
    for k in range(m):
        for c in range(K):
            p[c, k] = T(kept[(begin + k) * K + c])


@loop
def pass_over_classes(
    x, row_stride, column_stride, D, kind, rows, center, W, b, y, s, s_kind, mode, begin, end, kept, kept_bytes,
    integers, second, sums, gradient, matrices,
):  # fmt: skip
    """Write the sum of losses, the least margin and the gradient by the intercepts to `sums` [2 + K], and that by the
    weights to `gradient` [K, D], float64.

    x to s_kind: as for a pass of two classes; W [K, D], b [K]; y [N] int64. kept: the bytes of the probabilities [N, K]
    as numbers of `kept_bytes`, to be written by an evaluation and read by a product; or [0]. second: [K, K] for
    sum_i s_i (diag p_i - p_i p_i^T), or [0, 0]. matrices: [K (K + 1) / 2, (D + 1)^2] for the lower triangles of the
    Hessian's blocks, of each class and those before it, with the intercept's row last; or [0, 0].
    """
    T = W.dtype.type
    K = len(b)
    # A block's products with itself are the quicker, the longer its columns are.
    height = min(max((4 if mode == HESSIAN else 1) * _BLOCK_VALUES // D, _LEAST_ROWS), _MOST_ROWS)
    by_columns = D < NARROW or column_stride != 1 or mode == HESSIAN
    gathered = len(center) > 0 or x.itemsize == 2 or (by_columns and row_stride != 1) or mode == HESSIAN
    own = np.empty(height * (D + 1) if gathered else 0, T)
    weighted = np.empty(4 * height if mode == HESSIAN else 0, T)
    z, r, p = np.empty((K, height), T), np.empty((K, height), T), np.empty((K, height), T)
    weights, a, e = np.ones(height, T), np.empty(height, T), np.empty(height, T)
    bits, g = np.empty(height, integers.dtype), np.zeros((K, D), T)
    second[:, :] = 0.0
    sums[:] = 0.0
    gradient[:, :] = 0.0
    matrices[:, :] = 0.0
    margin = np.inf
    i = begin
    while i < end:
        m = min(height, end - i)
        at, apart = i * row_stride, column_stride if by_columns else row_stride
        if gathered:
            at, apart = 0, m if by_columns else D
            gather(x, row_stride, column_stride, D, kind, rows, i, m, center, by_columns, own)
        for c in range(K):
            for k in range(m):
                z[c, k] = b[c]
            add_logits(gathered, own, x, by_columns, at, apart, m, D, W[c], z[c])
        if s_kind != NONE:
            read(s, s_kind, i, m, weights)
        if mode == PRODUCT:
            if kept_bytes == 4:
                _take(p, kept.view(np.float32), i, m, K)
            else:
                _take(p, kept.view(np.float64), i, m, K)
            _products(z, p, m, K, weights, r)
        else:
            margin = _residuals(z, y, i, weights, m, K, e, bits, a, r, sums, margin)
            if len(kept):
                if kept_bytes == 4:
                    _keep(z, kept.view(np.float32), i, m, K)
                else:
                    _keep(z, kept.view(np.float64), i, m, K)
            if len(second):
                for c in range(K):
                    for d in range(K):
                        total = 0.0
                        for k in range(m):
                            own_share = z[c, k] if c == d else T(0.0)
                            total += np.float64(weights[k] * (own_share - z[c, k] * z[d, k]))
                        second[c, d] += total
        if mode == HESSIAN:
            own[D * m : (D + 1) * m] = T(1.0)
            place = 0
            for c in range(K):
                for d in range(c + 1):
                    for k in range(m):
                        a[k] = weights[k] * z[c, k] * ((T(1.0) if c == d else T(0.0)) - z[d, k])
                    add_products(own, D + 1, m, a, weighted, matrices[place])
                    place += 1
        for c in range(K):
            total = 0.0
            for k in range(m):
                total += np.float64(r[c, k])
            sums[2 + c] += total
            add_gradient(gathered, own, x, by_columns, at, apart, m, D, r[c], g[c])
        i += m
        for c in range(K):
            for j in range(D):
                gradient[c, j] += np.float64(g[c, j])
                g[c, j] = T(0.0)
    sums[1] = margin
