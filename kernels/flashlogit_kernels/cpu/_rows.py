"""A pass over a range of rows, in blocks that stay in the first caches: logits, what follows of each, and the gradient.

The formulas are those of `flashlogit.reference`.
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
from ._exponentials import exp_of_minus, log1p
from .loops import helper, loop, optimised

_BLOCK_VALUES = 1 << 15
_MOST_ROWS, _LEAST_ROWS = 512, 8
"""Rows of a block: 128 KB of float32, if these are as many."""
_SUMMED_ROWS = 256
"""Rows whose gradient is added up in the arithmetic's dtype, at least, before it is added to the sums in float64."""


@helper
def _farthest(a, bits, m):
    """Return how many of m magnitudes are not finite, and the largest of the others, or any if all are 0.

    Numbers of one sign are in the order of their bits, whose maximum is found many at a time.
    """
    infinite = bits.dtype.type(0x7FF0000000000000 if a.itemsize == 8 else 0x7F800000)
    largest, count, place = bits.dtype.type(0), 0, 0
    for k in range(m):
        largest = max(largest, bits[k])
    if largest >= infinite:
        largest = bits.dtype.type(0)
        for k in range(m):
            if bits[k] >= infinite:
                count += 1
            else:
                largest = max(largest, bits[k])
    while place < m - 1 and bits[place] != largest:
        place += 1
    return count, a[place] if bits[place] == largest else a.dtype.type(0)


@helper
def _sum(values, m):
    total = 0.0
    for k in range(m):
        total += np.float64(values[k])
    return total


@helper
def _flush(g, sums, at):
    """Add g to the sums in float64, and set it to 0."""
    for j in range(len(g)):
        sums[at + j] += np.float64(g[j])
        g[j] = g.dtype.type(0)


@helper
def _copy(values, m, out, begin):
    """Write m values to where they are wanted, if they are."""
    if len(out):
        for k in range(m):
            out[begin + k] = values[k]


@optimised
def _terms(z, off, on, bound, tail, zeroes, a, bits, e, losses, r, h, m):
    """Write loss, residual and curvature of m rows to losses, r and h, and the magnitudes of their logits to a.

    off = s (1 - y) and on = s q y; nothing cancels where a label is 0 or 1.
    """
    T = z.dtype.type
    one, zero = T(1.0), T(0.0)
    for k in range(m):
        a[k] = abs(z[k])
    exp_of_minus(a, e, bits, m)
    for k in range(m):
        r[k] = tail if e[k] < tail else e[k]
    log1p(r, losses, m)
    for k in range(m):
        near = one / (one + e[k])
        far = e[k] * near
        left = z[k] < zero
        both = off[k] + on[k]
        beyond = a[k] > bound
        slope = on[k] if left else off[k]
        linear = slope * (bound if beyond else a[k])
        losses[k] = both * losses[k] + (zero if slope == zero else linear)
        flat = zeroes and beyond
        residual = off[k] * (far if left else near) - on[k] * (near if left else far)
        r[k] = zero if flat else residual
        h[k] = zero if flat else both * (far - far * far)


@loop
def pass_over(
    x, row_stride, column_stride, D, kind, rows, center, w, bias, y, y_kind, s, s_kind, pos_weight, bound, tail, zeroes,
    begin, end, gradient, losses, residuals, curvatures, logits, integers, sums, matrix,
):  # fmt: skip
    """Write `BCESums.packed` of the visited rows from `begin` to `end` to `sums`, and what is wanted of each row.

    x: X as one row of numbers, or of their bits. y and s: the bytes of labels and weights of the visited rows, and how
    they are to be read. Without labels a row's residual is its weight times its logit, and without w its weight.
    losses to logits: [n], or [0] where unwanted. integers: [0] of as many bytes as the arithmetic's dtype. sums has
    room for a border, if one is wanted. matrix: [D * D] for the lower triangle of the Hessian, or [0].
    """
    T = center.dtype.type
    bordered = len(sums) > D + 5
    height = min(max(_BLOCK_VALUES // D, _LEAST_ROWS), _MOST_ROWS)
    by_columns = D < NARROW or column_stride != 1 or len(matrix) > 0
    gathered = len(rows) > 0 or len(center) > 0 or x.itemsize == 2 or (by_columns and row_stride != 1)
    gathered |= len(matrix) > 0
    scratch = np.zeros((9, height), T)
    z, r, h, off, on, a, e, of_row = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5], scratch[6], scratch[7],
    )  # fmt: skip
    bits = scratch[8].view(integers.dtype)
    sizes = a.view(integers.dtype)
    g = np.zeros(D, T)
    of_h = np.zeros(D if bordered else 0, T)
    own = np.empty(height * D if gathered else 0, T)
    slope = loss = weight = corner = 0.0
    nonfinite, farthest = 0, T(0.0)
    weighted = np.empty(4 * height if len(matrix) else 0, T)
    for total in (sums, matrix):
        for j in range(len(total)):
            total[j] = 0.0
    waiting, i = 0, begin
    while i < end:
        m = min(height, end - i)
        at, apart = i * row_stride, column_stride if by_columns else row_stride
        if gathered:
            at, apart = 0, m if by_columns else D
            gather(x, row_stride, column_stride, D, kind, rows, i, m, center, by_columns, own)
        if len(w):
            for k in range(m):
                z[k] = T(bias)
            add_logits(gathered, own, x, by_columns, at, apart, m, D, w, z)
        if s_kind == NONE:
            for k in range(m):
                off[k] = T(1.0)
        else:
            read(s, s_kind, i, m, off)
        weight += _sum(off, m)
        if y_kind != NONE:
            read(y, y_kind, i, m, on)
            for k in range(m):
                both = off[k]
                off[k] = both * (T(1.0) - on[k])
                on[k] *= both * T(pos_weight)
            _terms(z, off, on, T(bound), T(tail), zeroes, a, bits, e, of_row, r, h, m)
            count, most = _farthest(a, sizes, m)
            loss += _sum(of_row, m)
            nonfinite += count
            farthest = max(farthest, most)
        else:
            for k in range(m):
                r[k] = off[k] * z[k] if len(w) else off[k]
        slope += _sum(r, m)
        _copy(of_row, m, losses, i)
        _copy(r, m, residuals, i)
        _copy(h, m, curvatures, i)
        _copy(z, m, logits, i)
        for wanted, values, into in ((gradient, r, g), (bordered, h, of_h)):
            if wanted:
                add_gradient(gathered, own, x, by_columns, at, apart, m, D, values, into)
        if bordered:
            corner += _sum(h, m)
        if len(matrix):
            add_products(own, D, m, h, weighted, matrix)
        waiting += m
        i += m
        if waiting >= _SUMMED_ROWS or i == end:
            _flush(g, sums, 0)
            _flush(of_h, sums, D + 5)
            waiting = 0
    sums[D], sums[D + 1], sums[D + 2], sums[D + 3], sums[D + 4] = slope, loss, weight, nonfinite, farthest
    if bordered:
        sums[2 * D + 5] = corner
