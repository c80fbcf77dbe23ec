"""Labels, weights and columns as a fit looks at them before its first pass."""

import numpy as np

from ._blocks import NONE, gather, read
from .loops import loop

_ROWS = 1024


@loop
def look_at_labels(y, y_kind, s, s_kind, narrow, found):
    """Write how many labels lie outside of [0, 1] or are NaN, how many are neither 0 nor 1, how many weights are
    negative or NaN, the sum of the weights and the weighted sum of the labels to `found` [5], and labels as bytes to
    `narrow` [N], or [0] where unwanted.

    y and s: bytes, and how they are to be read.
    """
    N = len(y) // (1 if y_kind == 1 else 4 if y_kind == 2 else 8)
    labels, weights = np.ones(_ROWS), np.ones(_ROWS)
    outside = soft = negative = 0
    total = positive = 0.0
    for begin in range(0, N, _ROWS):
        m = min(_ROWS, N - begin)
        read(y, y_kind, begin, m, labels)
        if s_kind != NONE:
            read(s, s_kind, begin, m, weights)
        for k in range(m):
            outside += not (labels[k] >= 0.0 and labels[k] <= 1.0)
            soft += labels[k] != 0.0 and labels[k] != 1.0
            negative += not weights[k] >= 0.0
        for k in range(m):
            total += weights[k]
            positive += weights[k] * labels[k]
        if len(narrow):
            for k in range(m):
                narrow[begin + k] = 1 if labels[k] == 1.0 else 0
    found[0], found[1], found[2], found[3], found[4] = outside, soft, negative, total, positive


@loop
def add_moments(x, row_stride, column_stride, D, kind, rows, first, begin, end, sums):
    """Write the sums of differences from `first` [D] of the rows from `begin` to `end`, and of their squares, to `sums`
    [2 * D]; x, its strides and its kind as for a pass."""
    height = max(1, _ROWS // D)
    own = np.empty(height * D)
    for j in range(2 * D):
        sums[j] = 0.0
    for i in range(begin, end, height):
        m = min(height, end - i)
        gather(x, row_stride, column_stride, D, kind, rows, i, m, first, False, own)
        for k in range(m):
            for j in range(D):
                value = own[k * D + j]
                sums[j] += value
                sums[D + j] += value * value
