"""Losses of rows and their derivatives, for small tables in float64 that one compiled loop fits.

A table Z [width, height] is held column by column, so that all products are loops over rows, many of them at once. It
is padded with columns of zeros and with rows of weight 0: no loop has a rest.
"""

import math

import numpy as np

from .._exponentials import exp_of_minus, log1p
from ..loops import helper

_ROWS = 256
"""Rows of a block, whose logits, or columns times the root of the curvature, stay in the first caches."""
_AT_ONCE = 32
"""The number of rows is a multiple of it."""


@helper
def padded(P, n):
    """Return the width and height of a table for P columns and n rows."""
    return -(-P // 4) * 4, -(-n // _AT_ONCE) * _AT_ONCE


@helper
def _logits(Z, theta, begin, m, z):
    """Write theta . Z of m rows."""
    for k in range(m):
        z[k] = 0.0
    for j in range(0, len(Z), 4):
        x0, x1, x2, x3 = Z[j, begin:], Z[j + 1, begin:], Z[j + 2, begin:], Z[j + 3, begin:]
        t0, t1, t2, t3 = theta[j], theta[j + 1], theta[j + 2], theta[j + 3]
        for k in range(m):
            z[k] += (x0[k] * t0 + x1[k] * t1) + (x2[k] * t2 + x3[k] * t3)


@helper
def losses(Z, theta, y, s, r, h):
    """Return the sum of s_i loss_i, and write s_i r_i and s_i h_i."""
    z, a, e, scratch = np.empty(_ROWS), np.empty(_ROWS), np.empty(_ROWS), np.empty(_ROWS)
    bits = scratch.view(np.int64)
    total = 0.0
    for begin in range(0, Z.shape[1], _ROWS):
        m = min(_ROWS, Z.shape[1] - begin)
        _logits(Z, theta, begin, m, z)
        for k in range(m):
            a[k] = abs(z[k])
        exp_of_minus(a, e, bits, m)
        log1p(e, a, m)
        y_b, s_b, r_b, h_b = y[begin:], s[begin:], r[begin:], h[begin:]
        for k in range(m):
            q = 1.0 / (1.0 + e[k])
            small = e[k] * q
            on = q if z[k] >= 0.0 else small
            off = small if z[k] >= 0.0 else q
            # p - y without cancellation for labels of 0 and 1.
            r_b[k] = s_b[k] * ((1.0 - y_b[k]) * on - y_b[k] * off)
            h_b[k] = s_b[k] * (q * small)
            total += s_b[k] * (a[k] + (z[k] if z[k] >= 0.0 else 0.0) - z[k] * y_b[k])
    return total


@helper
def product(Z, v, out):
    """Write Z v."""
    for j in range(0, len(Z), 4):
        x0, x1, x2, x3 = Z[j], Z[j + 1], Z[j + 2], Z[j + 3]
        s0 = s1 = s2 = s3 = 0.0
        for k in range(len(v)):
            s0 += x0[k] * v[k]
            s1 += x1[k] * v[k]
            s2 += x2[k] * v[k]
            s3 += x3[k] * v[k]
        out[j], out[j + 1], out[j + 2], out[j + 3] = s0, s1, s2, s3


@helper
def hessian(Z, h, H):
    """Write the lower triangle of sum_i h_i z_i z_i^T, in tiles of four by four that stay in registers."""
    V, root = np.empty((len(Z), _ROWS + 8)), np.empty(_ROWS)  # rows 2 KB apart would share few sets of a cache
    for i in range(len(H)):
        for j in range(len(H)):
            H[i, j] = 0.0
    for begin in range(0, Z.shape[1], _ROWS):
        m = min(_ROWS, Z.shape[1] - begin)
        for k in range(m):
            root[k] = math.sqrt(h[begin + k])
        for j in range(len(Z)):
            x, v = Z[j, begin : begin + m], V[j]
            for k in range(m):
                v[k] = x[k] * root[k]
        for i in range(0, len(Z), 4):
            a0, a1, a2, a3 = V[i], V[i + 1], V[i + 2], V[i + 3]
            for j in range(0, i + 1, 4):
                b0, b1, b2, b3 = V[j], V[j + 1], V[j + 2], V[j + 3]
                s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = 0.0
                s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = 0.0
                for k in range(m):
                    u0, u1, u2, u3 = a0[k], a1[k], a2[k], a3[k]
                    v0, v1, v2, v3 = b0[k], b1[k], b2[k], b3[k]
                    s00 += u0 * v0
                    s01 += u0 * v1
                    s02 += u0 * v2
                    s03 += u0 * v3
                    s10 += u1 * v0
                    s11 += u1 * v1
                    s12 += u1 * v2
                    s13 += u1 * v3
                    s20 += u2 * v0
                    s21 += u2 * v1
                    s22 += u2 * v2
                    s23 += u2 * v3
                    s30 += u3 * v0
                    s31 += u3 * v1
                    s32 += u3 * v2
                    s33 += u3 * v3
                H[i + 0, j + 0] += s00
                H[i + 0, j + 1] += s01
                H[i + 0, j + 2] += s02
                H[i + 0, j + 3] += s03
                H[i + 1, j + 0] += s10
                H[i + 1, j + 1] += s11
                H[i + 1, j + 2] += s12
                H[i + 1, j + 3] += s13
                H[i + 2, j + 0] += s20
                H[i + 2, j + 1] += s21
                H[i + 2, j + 2] += s22
                H[i + 2, j + 3] += s23
                H[i + 3, j + 0] += s30
                H[i + 3, j + 1] += s31
                H[i + 3, j + 2] += s32
                H[i + 3, j + 3] += s33
