"""A pass over a range of rows for many models, in tiles of a few models and rows: two matrix products around what a row
says of each model.

    Z = W^T X^T + b [columns, rows]      R from Z, labels and folds      G += R X [columns, D]

A tile has at most `TILE` products, which the BLAS makes in the calling thread, for the rows are shared out already.
Products written as loops took twice as long, and with torch's the threads of OpenMP are in the way of these ones.
"""

import numpy as np

from ._blocks import NONE, WHOLE, gather, read
from ._exponentials import exp_of_minus, log1p
from .loops import helper, loop

TILE = 1 << 18
"""Products in a tile: OpenBLAS gives a larger one to several threads."""
_MOST_COLUMNS, _LEAST_ROWS, _MOST_ROWS = 64, 16, 128
_AT_ONCE = 512
"""Exponentials that are made at once: those of one model's rows take a third longer, and in float64 those of a whole
tile, which the first cache does not hold, half as long again."""
_NO_BYTE, _NO_WIDE = 255, 32_767
"""Codes of labels that are missing, of one byte and of two."""
_TURNED = 20
"""Columns of weights from which a block of X is turned for the first product: OpenBLAS takes half the time where no
matrix of a product is turned, and turning one costs what 20 columns save."""


@helper
def _code(codes, paired, i):
    """Return number i of codes of one byte each, or of two, the lower one first."""
    return np.int64(codes[2 * i]) + 256 * np.int64(codes[2 * i + 1]) if paired else np.int64(codes[i])


@helper
def _read_rows(codes, paired, folds, N, begin, m, s, sides, known, of_fold):
    """Write for each target the side of m rows, -1 for label 1 and else 1, and their weights, 0 where the label is
    missing; and fold numbers: as numbers of z's dtype, of which a vector holds as many as of the logits."""
    T = s.dtype.type
    missing = _NO_WIDE if paired else _NO_BYTE
    for t in range(len(sides)):
        at = t * N + begin
        for i in range(m):
            sides[t, i] = T(-1.0) if _code(codes, paired, at + i) == 1 else T(1.0)
            known[t, i] = T(0.0) if _code(codes, paired, at + i) == missing else s[i]
    for f in range(len(of_fold)):
        at = f * N + begin
        for i in range(m):
            of_fold[f, i] = T(folds[at + i])


@helper
def _look(known, of_fold, held, ordered, m, trains, out):
    """Write the weights with which m rows train a model, and with which they are held out."""
    T = known.dtype.type
    h = T(held)
    if ordered:
        for i in range(m):
            trains[i] = known[i] if of_fold[i] < h else T(0.0)
    else:
        for i in range(m):
            trains[i] = known[i] if of_fold[i] != h else T(0.0)
    for i in range(m):
        out[i] = known[i] if of_fold[i] == h else T(0.0)


@helper
def _logistic(z, m, trains, out, side, along, moved, e, logs, sums):
    """Write residuals times weights over the logits z [m], and with an `along` other than 0 curvatures times that and
    weights to `moved`; add the losses of training rows to sums[0] and of held-out ones to sums[1]. Return the sum of
    what was written to z. e, logs: exp(-|z|) and log(1 + e)."""
    T = z.dtype.type
    loss, held, total = T(0.0), T(0.0), T(0.0)
    for i in range(m):
        wrong = side[i] * z[i]
        value = logs[i] + (T(0.0) if wrong < T(0.0) else wrong)
        share = (e[i] if wrong < T(0.0) else T(1.0)) / (T(1.0) + e[i])
        loss += trains[i] * value if trains[i] > T(0.0) else T(0.0)
        held += out[i] * value if out[i] > T(0.0) else T(0.0)
        z[i] = trains[i] * (side[i] * share) if trains[i] > T(0.0) else T(0.0)
    for i in range(m):
        total += z[i]
    sums[0] += np.float64(loss)
    sums[1] += np.float64(held)
    if along != 0:
        for i in range(m):
            p = T(1.0) / (T(1.0) + e[i])
            moved[i] = trains[i] * (along * (p * (e[i] * p))) if trains[i] > T(0.0) else T(0.0)
    return np.float64(total)


@helper
def _softmax(z, p, C, m, codes, paired, at, trains, out, a, e, bits, sums):
    """Write residuals times weights over the logits z [C, m] and probabilities to p [C, m]; add the losses to sums."""
    T = z.dtype.type
    missing = _NO_WIDE if paired else _NO_BYTE
    for i in range(m):
        own = _code(codes, paired, at + i)
        own = own if own != missing else 0
        middle = z[own, i]
        most = T(-np.inf)
        for c in range(C):
            z[c, i] -= middle
            if c != own and (z[c, i] > most or z[c, i] != z[c, i]):
                most = z[c, i]
        a[i] = most
    for c in range(C):
        for i in range(m):
            e[i] = (T(0.0) if a[i] < T(0.0) else a[i]) - z[c, i]
        exp_of_minus(e, p[c], bits, m)
    for i in range(m):
        own, most = _code(codes, paired, at + i), a[i]
        own = own if own != missing else 0
        others = T(0.0)
        for c in range(C):
            if c != own:
                others += p[c, i]
        total = p[own, i] + others
        value = np.log1p(others) if not most > 0 else most + np.log(total)
        sums[0] += np.float64(trains[i]) * np.float64(value) if trains[i] > 0 else 0.0
        sums[1] += np.float64(out[i]) * np.float64(value) if out[i] > 0 else 0.0
        for c in range(C):
            p[c, i] /= total
            z[c, i] = trains[i] * p[c, i] if trains[i] > 0 else T(0.0)
        z[own, i] = -trains[i] * (others / total) if trains[i] > 0 else T(0.0)


@helper
def _along(p, C, m, along, begin, trains, moved, e):
    """Write J_i t times weights to moved [C, m], for t = along[begin:]."""
    T = p.dtype.type
    for i in range(m):
        e[i] = T(0.0)
    for c in range(C):
        for i in range(m):
            e[i] += p[c, i] * along[begin + c]
    for c in range(C):
        for i in range(m):
            moved[c, i] = trains[i] * p[c, i] * (along[begin + c] - e[i]) if trains[i] > 0 else T(0.0)


@helper
def _add_second(p, C, m, trains, second):
    """Add s_i J_i [C, C] of m rows."""
    for c in range(C):
        for d in range(C):
            total = 0.0
            for i in range(m):
                if trains[i] > 0:
                    other = (1.0 if c == d else 0.0) - np.float64(p[d, i])
                    total += np.float64(trains[i]) * np.float64(p[c, i]) * other
            second[c, d] += total


@helper
def _logits(W, b, block, turned, tiles, m, width, part, z, first):
    """Write X W + b of m rows to z [columns, m], for these columns of W and a block of X [tiles, m, width], which
    `turned` has as [tiles, width, m] unless it is empty."""
    count = len(z)
    found = part[: count * m].reshape(count, m)
    for tile in range(tiles):
        start, end = tile * m * width, (tile + 1) * m * width
        if len(turned):
            np.dot(W[tile, first : first + count], turned[start:end].reshape(width, m), found)
        else:
            np.dot(W[tile, first : first + count], block[start:end].reshape(m, width).T, found)
        for c in range(count):
            for k in range(m):
                z[c, k] = found[c, k] + (z[c, k] if tile else b[first + c])


@helper
def _add_products(values, columns, m, block, tiles, width, product, gradient, first):
    """Add `values` [columns, m] times a block of X [tiles, m, width] to the sums [tiles, M, width] of these columns."""
    for tile in range(tiles):
        start = tile * m * width
        x = block[start : start + m * width].reshape(m, width)
        found = product[: columns * width].reshape(columns, width)
        np.dot(values, x, found)
        for c in range(columns):
            for j in range(width):
                gradient[tile, first + c, j] += np.float64(found[c, j])


@loop
def pass_over_models(
    x, row_stride, column_stride, D, kind, rows, center, W, b, codes, paired, folds, N, target_of, fold_of, held,
    ordered, C, s, s_kind, along, integers, begin, end, sums, of_bias, gradient, corner, border, second,
):  # fmt: skip
    """Write losses and held-out losses [K, 2], and sums by the intercepts [M] and by the weights [tiles, M, width].

    x to rows, s, s_kind: as for a pass of two classes. W [tiles, M, width]: weights, tile by tile of the columns of X,
    zeros behind the last; b [M]. codes, folds: bytes [T N], or two for each code with `paired`, and [F N]. along:
    [M], or [0] for no corner [M] and no border [tiles, M, width]. second: [K, C, C], or of size 0.
    """
    T = W.dtype.type
    tiles, width = W.shape[0], W.shape[2]
    K = len(held)
    per = min(max(_MOST_COLUMNS // C, 1), K)
    columns = per * C
    height = min(max(TILE // (min(columns, _MOST_COLUMNS) * width), _LEAST_ROWS), _MOST_ROWS)
    wide = np.empty(height * D, T)
    block = np.zeros(tiles * height * width, T)
    turned = np.empty(len(block) if W.shape[1] >= _TURNED else 0, T)
    zs, moved_all = np.empty(columns * height, T), np.empty(columns * height if len(along) else 0, T)
    part = np.empty(max(columns * height, columns * width), T)
    p_all = np.empty(C * height if C > 1 else 0, T)
    weights, trains, out = np.ones(height, T), np.empty(height, T), np.empty(height, T)
    numbers = columns * height if C == 1 else height
    e, logs = np.empty(numbers, T), np.empty(numbers, T)
    a = np.empty(height if C > 1 else 0, T)
    bits, targets = np.empty(_AT_ONCE, integers.dtype), len(codes) // (2 * N if paired else N)
    sides, known, of_fold = (
        np.empty((targets, height), T),
        np.empty((targets, height), T),
        np.empty((len(folds) // N, height), T),
    )
    sums[:, :] = 0.0
    of_bias[:] = 0.0
    gradient[:, :, :] = 0.0
    corner[:] = 0.0
    border[:, :, :] = 0.0
    second[:, :, :] = 0.0
    i = begin
    while i < end:
        m = min(height, end - i)
        straight = kind == WHOLE and column_stride == 1
        if not straight:
            gather(x, row_stride, column_stride, D, kind, rows, i, m, center, False, wide)
        for tile in range(tiles):
            first, last = tile * width, min((tile + 1) * width, D)
            for k in range(m):
                place = (tile * m + k) * width
                into = block[place : place + last - first]
                if straight:
                    row = x[(i + k) * row_stride + first : (i + k) * row_stride + last]
                    if len(center):
                        for j in range(last - first):
                            into[j] = T(row[j]) - center[first + j]
                    else:
                        for j in range(last - first):
                            into[j] = T(row[j])
                else:
                    for j in range(last - first):
                        into[j] = wide[k * D + first + j]
                for j in range(last - first, width):
                    block[place + j] = T(0.0)
        for tile in range(tiles if len(turned) else 0):
            start = tile * m * width
            for j in range(width):
                for k in range(m):
                    turned[start + j * m + k] = block[start + k * width + j]
        if s_kind != NONE:
            read(s, s_kind, i, m, weights)
        _read_rows(codes, paired, folds, N, i, m, weights, sides, known, of_fold)
        model = 0
        while model < K:
            some = min(per, K - model)
            first, count = model * C, some * C
            z = zs[: count * m].reshape(count, m)
            moved = moved_all[: count * m].reshape(count, m) if len(along) else moved_all.reshape(0, 0)
            _logits(W, b, block, turned, tiles, m, width, part, z, first)
            if C == 1:
                for piece in range(0, count * m, _AT_ONCE):
                    n = min(_AT_ONCE, count * m - piece)
                    exp_of_minus(zs[piece : piece + n], e[piece : piece + n], bits, n)
                    log1p(e[piece : piece + n], logs[piece : piece + n], n)
            for k in range(some):
                number = model + k
                target = target_of[number]
                _look(known[target], of_fold[fold_of[number]], held[number], ordered, m, trains, out)
                if C == 1:
                    t = along[number] if len(along) else T(0.0)
                    row = moved[k] if len(along) else moved_all
                    at = slice(k * m, (k + 1) * m)
                    of_bias[number] += _logistic(
                        z[k], m, trains, out, sides[target], t, row, e[at], logs[at], sums[number]
                    )
                else:
                    own = z[k * C : (k + 1) * C]
                    p = p_all[: C * m].reshape(C, m)
                    _softmax(own, p, C, m, codes, paired, target * N + i, trains, out, a, e, bits, sums[number])
                    if len(along):
                        _along(p, C, m, along, number * C, trains, moved[k * C : (k + 1) * C], e)
                    if len(second):
                        _add_second(p, C, m, trains, second[number])
                    for c in range(C):
                        total = 0.0
                        for j in range(m):
                            total += np.float64(own[c, j])
                        of_bias[number * C + c] += total
                if len(along):
                    for c in range(C):
                        total = 0.0
                        for j in range(m):
                            total += np.float64(moved[k * C + c, j])
                        corner[number * C + c] += total
            _add_products(z, count, m, block, tiles, width, part, gradient, first)
            if len(along):
                _add_products(moved, count, m, block, tiles, width, part, border, first)
            model += some
        i += m
