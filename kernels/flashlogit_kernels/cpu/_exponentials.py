"""exp and log1p of many numbers, written out, for libm's are called one number at a time.

Their polynomials are right to the last digits of float64, and of float32 in float32.
"""

import numpy as np

from .loops import by_types


def _exp_double(a, e, bits, m):
    scale = bits.view(np.float64)
    for k in range(m):
        x = -a[k]
        x = np.float64(-708.0) if x < np.float64(-708.0) else x
        n = np.floor(x * np.float64(1.4426950408889634) + np.float64(0.5))
        r = (x - n * np.float64(0.6931471803691238)) - n * np.float64(1.9082149292705877e-10)
        p = np.float64(1.6059043836821613e-10)
        p = p * r + np.float64(2.08767569878681e-09)
        p = p * r + np.float64(2.505210838544172e-08)
        p = p * r + np.float64(2.755731922398589e-07)
        p = p * r + np.float64(2.7557319223985893e-06)
        p = p * r + np.float64(2.48015873015873e-05)
        p = p * r + np.float64(0.0001984126984126984)
        p = p * r + np.float64(0.001388888888888889)
        p = p * r + np.float64(0.008333333333333333)
        p = p * r + np.float64(0.041666666666666664)
        p = p * r + np.float64(0.16666666666666666)
        p = p * r + np.float64(0.5)
        p = p * r + np.float64(1.0)
        e[k] = p * r + np.float64(1.0)
        scale[k] = n + np.float64(6755399441055744.0)  # whose last bits are those of the integer n
    for k in range(m):
        bits[k] = (bits[k] + 1023) << 52
    for k in range(m):
        e[k] = np.float64(0.0) if a[k] > np.float64(708.0) else e[k] * scale[k]


def _exp_single(a, e, bits, m):
    scale = bits.view(np.float32)
    for k in range(m):
        x = -a[k]
        x = np.float32(-87.0) if x < np.float32(-87.0) else x
        n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
        r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        e[k] = (p * r * r + r) + np.float32(1.0)
        scale[k] = n + np.float32(12582912.0)
    for k in range(m):
        bits[k] = (bits[k] + 127) << 23
    for k in range(m):
        e[k] = np.float32(0.0) if a[k] > np.float32(87.0) else e[k] * scale[k]


@by_types(exact=True)
def exp_of_minus(a, e, bits, m):
    """Write exp(-a) for m numbers a >= 0, and 0 where that is next to the least number of the dtype.

    It is 2^n times a polynomial in what is left. The bits of 2^n are put together in `bits` [m], integers of the size
    of the dtype.
    """
    return _exp_single if e.dtype.bitwidth == 32 else _exp_double


def _log1p_double(e, out, m):
    for k in range(m):
        t = e[k] / (np.float64(2.0) + e[k])
        u = t * t
        p = np.float64(2 / 31)
        p = p * u + np.float64(2 / 29)
        p = p * u + np.float64(2 / 27)
        p = p * u + np.float64(2 / 25)
        p = p * u + np.float64(2 / 23)
        p = p * u + np.float64(2 / 21)
        p = p * u + np.float64(2 / 19)
        p = p * u + np.float64(2 / 17)
        p = p * u + np.float64(2 / 15)
        p = p * u + np.float64(2 / 13)
        p = p * u + np.float64(2 / 11)
        p = p * u + np.float64(2 / 9)
        p = p * u + np.float64(2 / 7)
        p = p * u + np.float64(2 / 5)
        p = p * u + np.float64(2 / 3)
        out[k] = p * u * t + (t + t)


def _log1p_single(e, out, m):
    for k in range(m):
        t = e[k] / (np.float32(2.0) + e[k])
        u = t * t
        p = np.float32(2 / 13)
        p = p * u + np.float32(2 / 11)
        p = p * u + np.float32(2 / 9)
        p = p * u + np.float32(2 / 7)
        p = p * u + np.float32(2 / 5)
        p = p * u + np.float32(2 / 3)
        out[k] = p * u * t + (t + t)


@by_types(exact=True)
def log1p(e, out, m):
    """Write log(1 + e) = 2 artanh(e / (2 + e)) for m numbers e in [0, 1]."""
    return _log1p_single if e.dtype.bitwidth == 32 else _log1p_double
