"""A pass over a range of rows, in blocks that stay in the first caches: logits, what follows of each, and the gradient.

The formulas are those of `flashlogit.reference`. exp and log1p are written out, for libm's are called one number at a
time; their polynomials are right to the last digits of float64, and of float32 in float32.
"""

import numpy as np

from .loops import exact, helper, loop

WHOLE, BFLOAT16, FLOAT16 = 0, 1, 2
"""How X is stored: as numbers, or as the bits of a narrower kind."""
NONE, UINT8, FLOAT32, FLOAT64 = 0, 1, 2, 3
"""How labels and weights are stored."""
NARROW = 16
"""Rows of fewer columns are gone through column by column, many rows at once."""
_BLOCK_VALUES = 1 << 15
_MOST_ROWS, _LEAST_ROWS = 512, 8
"""Rows of a block: 128 KB of float32, if these are as many."""
_SUMMED_ROWS = 256
"""Rows whose gradient is added up in the arithmetic's dtype, at least, before it is added to the sums in float64."""

@exact
def _exp_of_minus(a, e, bits, m):
    """Write exp(-a) for m numbers a >= 0: 2^k times a polynomial in what is left, whose exponent is put together as an
    integer; `bits` are those of another array of this dtype, as integers."""
    T = e.dtype.type
    scale = bits.view(e.dtype)
    if e.itemsize == 8:
        for k in range(m):
            x = -a[k]
            x = T(-708.0) if x < T(-708.0) else x
            n = np.floor(x * T(1.4426950408889634) + T(0.5))
            r = (x - n * T(0.6931471803691238)) - n * T(1.9082149292705877e-10)
            p = T(1.6059043836821613e-10)
            p = p * r + T(2.08767569878681e-09)
            p = p * r + T(2.505210838544172e-08)
            p = p * r + T(2.755731922398589e-07)
            p = p * r + T(2.7557319223985893e-06)
            p = p * r + T(2.48015873015873e-05)
            p = p * r + T(0.0001984126984126984)
            p = p * r + T(0.001388888888888889)
            p = p * r + T(0.008333333333333333)
            p = p * r + T(0.041666666666666664)
            p = p * r + T(0.16666666666666666)
            p = p * r + T(0.5)
            p = p * r + T(1.0)
            e[k] = p * r + T(1.0)
            scale[k] = n + T(6755399441055744.0)  # whose last bits are those of the integer n
        for k in range(m):
            bits[k] = (bits[k] + 1023) << 52
    else:
        for k in range(m):
            x = -a[k]
            x = T(-87.0) if x < T(-87.0) else x
            n = np.floor(x * T(1.4426950408889634) + T(0.5))
            r = (x - n * T(0.693359375)) + n * T(2.12194440e-4)
            p = T(1.9875691500e-4)
            p = p * r + T(1.3981999507e-3)
            p = p * r + T(8.3334519073e-3)
            p = p * r + T(4.1665795894e-2)
            p = p * r + T(1.6666665459e-1)
            p = p * r + T(5.0000001201e-1)
            e[k] = (p * r * r + r) + T(1.0)
            scale[k] = n + T(12582912.0)
        for k in range(m):
            bits[k] = (bits[k] + 127) << 23
    for k in range(m):
        e[k] *= scale[k]


@exact
def _log1p(e, out, m):
    """Write log(1 + e) = 2 artanh(e / (2 + e)) for m numbers e in [0, 1]."""
    T = e.dtype.type
    if e.itemsize == 8:
        for k in range(m):
            t = e[k] / (T(2.0) + e[k])
            u = t * t
            p = T(2 / 27)
            p = p * u + T(2 / 25)
            p = p * u + T(2 / 23)
            p = p * u + T(2 / 21)
            p = p * u + T(2 / 19)
            p = p * u + T(2 / 17)
            p = p * u + T(2 / 15)
            p = p * u + T(2 / 13)
            p = p * u + T(2 / 11)
            p = p * u + T(2 / 9)
            p = p * u + T(2 / 7)
            p = p * u + T(2 / 5)
            p = p * u + T(2 / 3)
            out[k] = p * u * t + (t + t)
    else:
        for k in range(m):
            t = e[k] / (T(2.0) + e[k])
            u = t * t
            p = T(2 / 13)
            p = p * u + T(2 / 11)
            p = p * u + T(2 / 9)
            p = p * u + T(2 / 7)
            p = p * u + T(2 / 5)
            p = p * u + T(2 / 3)
            out[k] = p * u * t + (t + t)


@helper
def _logits_by_rows(x, at, apart, m, D, w, b, z):
    """Write x w + b of m rows, which begin `apart` numbers from each other."""
    T = z.dtype.type
    k = 0
    while k + 4 <= m:
        x0 = x[at : at + D]
        x1 = x[at + apart : at + apart + D]
        x2 = x[at + 2 * apart : at + 2 * apart + D]
        x3 = x[at + 3 * apart : at + 3 * apart + D]
        z0 = z1 = z2 = z3 = T(0.0)
        for j in range(D):
            v = w[j]
            z0 += T(x0[j]) * v
            z1 += T(x1[j]) * v
            z2 += T(x2[j]) * v
            z3 += T(x3[j]) * v
        z[k], z[k + 1], z[k + 2], z[k + 3] = z0 + b, z1 + b, z2 + b, z3 + b
        k += 4
        at += 4 * apart
    while k < m:
        x0 = x[at : at + D]
        z0 = T(0.0)
        for j in range(D):
            z0 += T(x0[j]) * w[j]
        z[k] = z0 + b
        k += 1
        at += apart


@helper
def _gradient_by_rows(x, at, apart, m, D, r, g):
    """Add X^T r of m rows to g."""
    T = g.dtype.type
    k = 0
    while k + 4 <= m:
        x0 = x[at : at + D]
        x1 = x[at + apart : at + apart + D]
        x2 = x[at + 2 * apart : at + 2 * apart + D]
        x3 = x[at + 3 * apart : at + 3 * apart + D]
        r0, r1, r2, r3 = r[k], r[k + 1], r[k + 2], r[k + 3]
        for j in range(D):
            g[j] += (r0 * T(x0[j]) + r1 * T(x1[j])) + (r2 * T(x2[j]) + r3 * T(x3[j]))
        k += 4
        at += 4 * apart
    while k < m:
        x0 = x[at : at + D]
        r0 = r[k]
        for j in range(D):
            g[j] += r0 * T(x0[j])
        k += 1
        at += apart


@helper
def _logits_by_columns(x, at, apart, m, D, w, b, z):
    """Write x w + b of m rows that lie beside each other, the columns being `apart`."""
    T = z.dtype.type
    for k in range(m):
        z[k] = b
    j = 0
    while j + 4 <= D:
        x0 = x[at : at + m]
        x1 = x[at + apart : at + apart + m]
        x2 = x[at + 2 * apart : at + 2 * apart + m]
        x3 = x[at + 3 * apart : at + 3 * apart + m]
        w0, w1, w2, w3 = w[j], w[j + 1], w[j + 2], w[j + 3]
        for k in range(m):
            z[k] += (T(x0[k]) * w0 + T(x1[k]) * w1) + (T(x2[k]) * w2 + T(x3[k]) * w3)
        j += 4
        at += 4 * apart
    while j < D:
        x0 = x[at : at + m]
        w0 = w[j]
        for k in range(m):
            z[k] += T(x0[k]) * w0
        j += 1
        at += apart


@helper
def _gradient_by_columns(x, at, apart, m, D, r, g):
    """Add X^T r of m rows to g."""
    T = g.dtype.type
    j = 0
    while j + 4 <= D:
        x0 = x[at : at + m]
        x1 = x[at + apart : at + apart + m]
        x2 = x[at + 2 * apart : at + 2 * apart + m]
        x3 = x[at + 3 * apart : at + 3 * apart + m]
        g0 = g1 = g2 = g3 = T(0.0)
        for k in range(m):
            v = r[k]
            g0 += T(x0[k]) * v
            g1 += T(x1[k]) * v
            g2 += T(x2[k]) * v
            g3 += T(x3[k]) * v
        g[j] += g0
        g[j + 1] += g1
        g[j + 2] += g2
        g[j + 3] += g3
        j += 4
        at += 4 * apart
    while j < D:
        x0 = x[at : at + m]
        g0 = T(0.0)
        for k in range(m):
            g0 += T(x0[k]) * r[k]
        g[j] += g0
        j += 1
        at += apart


@helper
def _widen(bits, kind, out):
    """Write bfloat16 or float16 numbers, given as uint16, as float32."""
    as_bits = out.view(np.uint32)
    if kind == BFLOAT16:
        for k in range(len(bits)):
            as_bits[k] = np.uint32(bits[k]) << np.uint32(16)
        return
    for k in range(len(bits)):
        as_bits[k] = (np.uint32(bits[k]) & np.uint32(0x7FFF)) << np.uint32(13)
    for k in range(len(bits)):
        out[k] *= np.float32(2.0**112)  # from a bias of 15 to one of 127
    for k in range(len(bits)):
        half = np.uint32(bits[k])
        if half & np.uint32(0x7C00) == np.uint32(0x7C00):  # infinite, or NaN
            as_bits[k] |= np.uint32(0x7F800000)
        as_bits[k] |= (half & np.uint32(0x8000)) << np.uint32(16)


@helper
def _gather(x, row_stride, column_stride, D, kind, rows, begin, m, center, by_columns, wide, out):
    """Write a block as numbers of the arithmetic's dtype less the centre: row by row, or column by column."""
    T = out.dtype.type
    apart = (1, m) if by_columns else (D, 1)
    for k in range(m):
        at = (rows[begin + k] if len(rows) else begin + k) * row_stride
        if x.itemsize == 2:
            if column_stride == 1:
                _widen(x[at : at + D], kind, wide)
            else:
                _widen(x[at : at + (D - 1) * column_stride + 1 : column_stride], kind, wide)
            for j in range(D):
                out[k * apart[0] + j * apart[1]] = T(wide[j])
        elif column_stride == 1:
            row = x[at : at + D]
            for j in range(D):
                out[k * apart[0] + j * apart[1]] = T(row[j])
        else:
            for j in range(D):
                out[k * apart[0] + j * apart[1]] = T(x[at + j * column_stride])
    if len(center):
        for k in range(m):
            for j in range(D):
                out[k * apart[0] + j * apart[1]] -= center[j]


@helper
def _pick(stored, rows, begin, m, out):
    """Write the numbers of m visited rows."""
    T = out.dtype.type
    if len(rows):
        for k in range(m):
            out[k] = T(stored[rows[begin + k]])
    else:
        for k in range(m):
            out[k] = T(stored[begin + k])


@helper
def _read(stored, kind, rows, begin, m, out):
    """Write the numbers of m visited rows from the bytes in which they are stored."""
    if kind == UINT8:
        _pick(stored, rows, begin, m, out)
    elif kind == FLOAT32:
        _pick(stored.view(np.float32), rows, begin, m, out)
    else:
        _pick(stored.view(np.float64), rows, begin, m, out)


@helper
def _farthest(a, bits, m):
    """Return how many of m magnitudes are not finite, and the largest of the others."""
    infinite = np.array([np.inf], dtype=a.dtype).view(bits.dtype)[0]
    largest = bits.dtype.type(0)
    for k in range(m):  # numbers of one sign are in the order of their bits
        largest = max(largest, bits[k])
    if largest < infinite:
        return 0, np.array([largest], dtype=bits.dtype).view(a.dtype)[0]
    count, most = 0, a.dtype.type(0)
    for k in range(m):
        if bits[k] >= infinite:
            count += 1
        else:
            most = max(most, a[k])
    return count, most


@helper
def _sum(values, m):
    total = 0.0
    for k in range(m):
        total += np.float64(values[k])
    return total


@helper
def _flush(g, sums):
    for j in range(len(g)):
        sums[j] += np.float64(g[j])
        g[j] = g.dtype.type(0)


@helper
def _logits(x, at, apart, by_columns, m, D, w, b, z):
    if by_columns:
        _logits_by_columns(x, at, apart, m, D, w, b, z)
    else:
        _logits_by_rows(x, at, apart, m, D, w, b, z)


@helper
def _gradient(x, at, apart, by_columns, m, D, r, g):
    if by_columns:
        _gradient_by_columns(x, at, apart, m, D, r, g)
    else:
        _gradient_by_rows(x, at, apart, m, D, r, g)


@helper
def _terms(z, off, on, bound, tail, zeroes, a, bits, scale, e, l, r, h, m):
    """Write loss, residual and curvature of m rows to l, r and h, and the magnitudes of their logits to a.

    off = s (1 - y) and on = s q y; nothing cancels where a label is 0 or 1.
    """
    T = z.dtype.type
    one, zero = T(1.0), T(0.0)
    for k in range(m):
        a[k] = abs(z[k])
    _exp_of_minus(a, e, scale, m)
    for k in range(m):
        r[k] = tail if e[k] < tail else e[k]
    _log1p(r, l, m)
    for k in range(m):
        near = one / (one + e[k])
        far = e[k] * near
        left = z[k] < zero
        both = off[k] + on[k]
        beyond = a[k] > bound
        slope = on[k] if left else off[k]
        linear = slope * (bound if beyond else a[k])
        l[k] = both * l[k] + (zero if slope == zero else linear)
        flat = zeroes and beyond
        residual = off[k] * (far if left else near) - on[k] * (near if left else far)
        r[k] = zero if flat else residual
        h[k] = zero if flat else both * (near * far)


@loop
def pass_over(
    x, row_stride, column_stride, D, kind, rows, center, w, bias, y, y_kind, s, s_kind, pos_weight, bound, tail, zeroes,
    begin, end, gradient, losses, residuals, curvatures, logits, integers, sums,
):  # fmt: skip
    """Write `BCESums.packed` of the visited rows from `begin` to `end` to `sums`, and what is wanted of each row.

    x: X as one row of numbers, or of their bits. y and s: bytes of labels and weights, and how they are to be read.
    Without labels a row's residual is its weight times its logit, and without w its weight; then weights are numbered as
    the visited rows are. losses to logits: [n], or [0] where unwanted. integers: [0] of as many bytes as the
    arithmetic's dtype. sums has room for a border, if one is wanted.
    """
    T = center.dtype.type
    b, bound, tail = T(bias), T(bound), T(tail)
    labelled, bordered, all_rows = y_kind != NONE, len(sums) > D + 5, rows[:0]
    height = min(max(_BLOCK_VALUES // D, _LEAST_ROWS), _MOST_ROWS)
    z, r, h = np.zeros(height, T), np.zeros(height, T), np.zeros(height, T)
    off, on, a = np.empty(height, T), np.empty(height, T), np.empty(height, T)
    e, l, scale = np.empty(height, T), np.empty(height, T), np.empty(height, integers.dtype)
    g, of_h = np.zeros(D, T), np.zeros(D if bordered else 0, T)
    by_columns = D < NARROW or column_stride != 1
    gathered = len(rows) > 0 or len(center) > 0 or x.itemsize == 2 or (by_columns and row_stride != 1)
    own, wide = np.empty(height * D if gathered else 0, T), np.empty(D, np.float32)
    total = np.zeros(6)
    sums[:] = 0.0
    waiting, i = 0, begin
    while i < end:
        m = min(height, end - i)
        at, apart = i * row_stride, column_stride if by_columns else row_stride
        if gathered:
            _gather(x, row_stride, column_stride, D, kind, rows, i, m, center, by_columns, wide, own)
            at, apart = 0, m if by_columns else D
        if len(w):
            if gathered:
                _logits(own, at, apart, by_columns, m, D, w, b, z)
            else:
                _logits(x, at, apart, by_columns, m, D, w, b, z)
        if s_kind != NONE:
            _read(s, s_kind, rows if labelled else all_rows, i, m, off)
        else:
            off[:m] = T(1.0)
        total[2] += _sum(off, m)
        if labelled:
            _read(y, y_kind, rows, i, m, on)
            q = T(pos_weight)
            for k in range(m):
                weight = off[k]
                off[k] = weight * (T(1.0) - on[k])
                on[k] *= weight * q
            _terms(z, off, on, bound, tail, zeroes, a, a.view(integers.dtype), scale, e, l, r, h, m)
            count, most = _farthest(a, a.view(integers.dtype), m)
            total[1] += _sum(l, m)
            total[3] += count
            total[4] = max(total[4], most)
        elif len(w):
            for k in range(m):
                r[k] = off[k] * z[k]
        else:
            r[:m] = off[:m]
        total[0] += _sum(r, m)
        if len(losses):
            losses[i : i + m] = l[:m]
        if len(residuals):
            residuals[i : i + m] = r[:m]
        if len(curvatures):
            curvatures[i : i + m] = h[:m]
        if len(logits):
            logits[i : i + m] = z[:m]
        if gradient:
            if gathered:
                _gradient(own, at, apart, by_columns, m, D, r, g)
            else:
                _gradient(x, at, apart, by_columns, m, D, r, g)
        if bordered:
            total[5] += _sum(h, m)
            if gathered:
                _gradient(own, at, apart, by_columns, m, D, h, of_h)
            else:
                _gradient(x, at, apart, by_columns, m, D, h, of_h)
        waiting += m
        i += m
        if waiting >= _SUMMED_ROWS or i == end:
            _flush(g, sums)
            if bordered:
                _flush(of_h, sums[D + 5 :])
            waiting = 0
    sums[D : D + 5] = total[:5]
    if bordered:
        sums[2 * D + 5] = total[5]
