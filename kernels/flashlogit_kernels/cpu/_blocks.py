"""Blocks of rows that stay in a core's caches: how they are read, and multiplied by vectors and by themselves.

X is one row of numbers, or of their bits, `row_stride` and `column_stride` apart. A block is gone through row by row,
or, where rows are shorter than a vector, column by column with its rows side by side.
"""

import numpy as np

from .loops import by_types, helper

WHOLE, BFLOAT16, FLOAT16 = 0, 1, 2
"""How X is stored: as numbers, or as the bits of a narrower kind."""
NONE, UINT8, FLOAT32, FLOAT64 = 0, 1, 2, 3
"""How labels and weights are stored."""
NARROW = 16
"""Rows of fewer columns are gone through column by column, many rows at once."""
ONE_STREAM = (64, 3072)
"""Columns with which logits are computed row by row: one stream comes from memory faster than four (0.22 ns a value in
place of 0.36, at 513 columns). Shorter rows have sums to be added up too often, and longer weights fall out of the
first cache."""


@helper
def _logits_by_rows(x, at, apart, m, D, w, z):
    """Add x w to z, for m rows which begin `apart` numbers from each other."""
    T = z.dtype.type
    k = 0
    while k + 4 <= m and not ONE_STREAM[0] <= D <= ONE_STREAM[1]:
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
        z[k], z[k + 1], z[k + 2], z[k + 3] = z[k] + z0, z[k + 1] + z1, z[k + 2] + z2, z[k + 3] + z3
        k += 4
        at += 4 * apart
    while k < m:
        x0 = x[at : at + D]
        z0 = T(0.0)
        for j in range(D):
            z0 += T(x0[j]) * w[j]
        z[k] += z0
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
def _logits_by_columns(x, at, apart, m, D, w, z):
    """Add x w to z, for m rows which lie beside each other, the columns being `apart`."""
    T = z.dtype.type
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


def _of_block(by_rows, by_columns):
    """Return a function that loops call: one of the two, of a block where one is gathered and of X itself elsewhere.
    Where their dtypes are the same, or all blocks are gathered, it is compiled once."""

    @helper
    def either(x, by_column, at, apart, m, D, v, out):
        if by_column:
            by_columns(x, at, apart, m, D, v, out)
        else:
            by_rows(x, at, apart, m, D, v, out)

    @by_types()
    def of_block(gathered, own, x, by_column, at, apart, m, D, v, out):
        def of_own(gathered, own, x, by_column, at, apart, m, D, v, out):
            either(own, by_column, at, apart, m, D, v, out)

        def of_one(gathered, own, x, by_column, at, apart, m, D, v, out):
            either(own if gathered else x, by_column, at, apart, m, D, v, out)

        def of_each(gathered, own, x, by_column, at, apart, m, D, v, out):
            if gathered:
                either(own, by_column, at, apart, m, D, v, out)
            else:
                either(x, by_column, at, apart, m, D, v, out)

        if x.dtype.bitwidth == 16:
            return of_own
        return of_one if own.dtype == x.dtype else of_each

    return of_block


add_logits = _of_block(_logits_by_rows, _logits_by_columns)
add_gradient = _of_block(_gradient_by_rows, _gradient_by_columns)


@by_types()
def gather(x, row_stride, column_stride, D, kind, rows, begin, m, center, by_columns, out):
    """Write a block as numbers of the arithmetic's dtype less the centre: row by row, or column by column."""
    return _gather_halves if x.dtype.bitwidth == 16 else _gather_numbers


def _gather_numbers(x, row_stride, column_stride, D, kind, rows, begin, m, center, by_columns, out):
    T = out.dtype.type
    if by_columns and len(rows) == 0:
        for j in range(D):
            at, c = begin * row_stride + j * column_stride, center[j] if len(center) else T(0.0)
            for k in range(m):
                out[j * m + k] = T(x[at + k * row_stride]) - c
        return
    of_row, of_column = 1 if by_columns else D, m if by_columns else 1
    for k in range(m):
        at, to = (rows[begin + k] if len(rows) else begin + k) * row_stride, k * of_row
        for j in range(D):
            out[to + j * of_column] = T(x[at + j * column_stride])
        _subtract(center, D, out, to, of_column)


def _gather_halves(x, row_stride, column_stride, D, kind, rows, begin, m, center, by_columns, out):
    T = out.dtype.type
    of_row, of_column = 1 if by_columns else D, m if by_columns else 1
    bits, wide = np.empty(D, np.uint16), np.empty(D, np.float32)
    for k in range(m):
        at, to = (rows[begin + k] if len(rows) else begin + k) * row_stride, k * of_row
        for j in range(D):
            bits[j] = x[at + j * column_stride]
        _widen(bits, kind, wide)
        for j in range(D):
            out[to + j * of_column] = T(wide[j])
        _subtract(center, D, out, to, of_column)


@helper
def _subtract(center, D, out, at, apart):
    if len(center):
        for j in range(D):
            out[at + j * apart] -= center[j]


@helper
def add_products(columns, D, m, h, weighted, matrix):
    """Add X^T diag(h) X of m rows, given column by column, to the lower triangle of a matrix [D * D] in float64.

    Four columns times four are added up side by side, in registers. `weighted` is scratch memory [4 * m].
    """
    T = columns.dtype.type
    for first in range(0, D, 4):
        i0, i1, i2, i3 = first, min(first + 1, D - 1), min(first + 2, D - 1), min(first + 3, D - 1)
        for k in range(m):
            weighted[k] = h[k] * columns[i0 * m + k]
            weighted[m + k] = h[k] * columns[i1 * m + k]
            weighted[2 * m + k] = h[k] * columns[i2 * m + k]
            weighted[3 * m + k] = h[k] * columns[i3 * m + k]
        v0, v1, v2, v3 = weighted[:m], weighted[m : 2 * m], weighted[2 * m : 3 * m], weighted[3 * m : 4 * m]
        for second in range(0, first + 4, 4):
            j0, j1, j2, j3 = second, min(second + 1, D - 1), min(second + 2, D - 1), min(second + 3, D - 1)
            x0, x1 = columns[j0 * m : j0 * m + m], columns[j1 * m : j1 * m + m]
            x2, x3 = columns[j2 * m : j2 * m + m], columns[j3 * m : j3 * m + m]
            a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = T(0.0)
            a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = T(0.0)
            for k in range(m):
                p0, p1, p2, p3 = v0[k], v1[k], v2[k], v3[k]
                q0, q1, q2, q3 = x0[k], x1[k], x2[k], x3[k]
                a00 += p0 * q0
                a01 += p0 * q1
                a02 += p0 * q2
                a03 += p0 * q3
                a10 += p1 * q0
                a11 += p1 * q1
                a12 += p1 * q2
                a13 += p1 * q3
                a20 += p2 * q0
                a21 += p2 * q1
                a22 += p2 * q2
                a23 += p2 * q3
                a30 += p3 * q0
                a31 += p3 * q1
                a32 += p3 * q2
                a33 += p3 * q3
            tile = ((a00, a01, a02, a03), (a10, a11, a12, a13), (a20, a21, a22, a23), (a30, a31, a32, a33))
            for i in range(min(4, D - first)):
                for j in range(min(4, D - second)):
                    matrix[(first + i) * D + second + j] += np.float64(tile[i][j])


@helper
def read(stored, kind, begin, m, out):
    """Write the numbers of m rows from the bytes in which they are stored."""
    T = out.dtype.type
    if kind == UINT8:
        for k in range(m):
            out[k] = T(stored[begin + k])
    elif kind == FLOAT32:
        floats = stored.view(np.float32)
        for k in range(m):
            out[k] = T(floats[begin + k])
    else:
        doubles = stored.view(np.float64)
        for k in range(m):
            out[k] = T(doubles[begin + k])
