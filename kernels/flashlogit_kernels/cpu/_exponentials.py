"""exp and log1p of many numbers, written out, for libm's are called one number at a time.

Their polynomials are right to the last digits of float64, and of float32 in float32.
"""

import numpy as np

from .loops import exact


@exact
def exp_of_minus(a, e, bits, m):
    """Write exp(-a) for m numbers a >= 0, and 0 where that is next to the least number of the dtype.

    It is 2^n times a polynomial in what is left. The bits of 2^n are put together in `bits` [m], integers of the size
    of the dtype.
    """
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
    least = T(708.0 if e.itemsize == 8 else 87.0)
    for k in range(m):
        e[k] = T(0.0) if a[k] > least else e[k] * scale[k]


@exact
def log1p(e, out, m):
    """Write log(1 + e) = 2 artanh(e / (2 + e)) for m numbers e in [0, 1]."""
    T = e.dtype.type
    if e.itemsize == 8:
        for k in range(m):
            t = e[k] / (T(2.0) + e[k])
            u = t * t
            p = T(2 / 31)
            p = p * u + T(2 / 29)
            p = p * u + T(2 / 27)
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
