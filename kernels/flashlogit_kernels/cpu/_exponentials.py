"""exp and log1p of many numbers, written out, for libm's are called one number at a time.

Their polynomials are right to the last digits of float64, and of float32 in float32. Loops over their coefficients are
unrolled.
"""

from .loops import by_types


def _exp(most, ln2, rest, series, magic, shift):
    """Return `exp_of_minus` for magnitudes up to `most`. ln2 + rest is the logarithm of 2, and `series` has the
    coefficients of the polynomial. What is added to `magic` is rounded to an integer, and the last bits of the sum are
    those of the integer plus the exponent's bias: `shift` makes an exponent of them."""

    def exp(z, e, bits, m):
        T = e.dtype.type
        scale = bits.view(e.dtype)
        for k in range(m):
            x = -abs(z[k])
            x = T(-most) if x < T(-most) else x
            shifted = x * T(1.4426950408889634) + T(magic)
            n = shifted - T(magic)
            r = (x - n * T(ln2)) - n * T(rest)
            p = T(0.0)
            for c in series:
                p = p * r + T(c)
            e[k] = p
            scale[k] = shifted
        for k in range(m):
            bits[k] = bits[k] << shift
        for k in range(m):
            e[k] = T(0.0) if abs(z[k]) > T(most) else e[k] * scale[k]

    return exp


# fmt: off
_EXP_SINGLE = _exp(87.0, 0.693359375, -2.12194440e-4, (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1.0, 1.0,
), 12582912.0 + 127, 23)
_EXP_DOUBLE = _exp(708.0, 0.6931471803691238, 1.9082149292705877e-10, (
    1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08, 2.755731922398589e-07, 2.7557319223985893e-06,
    2.48015873015873e-05, 0.0001984126984126984, 0.001388888888888889, 0.008333333333333333, 0.041666666666666664,
    0.16666666666666666, 0.5, 1.0, 1.0,
), 6755399441055744.0 + 1023, 52)
# fmt: on


@by_types(exact=True)
def exp_of_minus(z, e, bits, m):
    """Write exp(-|z|) for m numbers, and 0 where that is next to the least number of the dtype.

    It is 2^n times a polynomial in what is left. The bits of 2^n are put together in `bits` [m], integers of the size
    of the dtype. Magnitudes are taken here: where a loop of the caller writes them just before, this one takes two to
    three times as long.
    """
    return _EXP_SINGLE if e.dtype.bitwidth == 32 else _EXP_DOUBLE


def _log1p(series):
    def log1p(e, out, m):
        T = e.dtype.type
        for k in range(m):
            t = e[k] / (T(2.0) + e[k])
            u = t * t
            p = T(0.0)
            for c in series:
                p = p * u + T(c)
            out[k] = p * u * t + (t + t)

    return log1p


# (2 artanh(t) / t - 2) / t^2 as a polynomial of t^2 up to 1/9, interpolated at Chebyshev points. Its Taylor series
# needs 15 coefficients for the last digits of float64, and 6 for those of float32.
_LOG1P_SINGLE = _log1p(
    (0.2322432927470185, 0.21706575786246596, 0.28592357995351697, 0.39999706331897517, 0.6666666732052768)
)
# fmt: off
_LOG1P_DOUBLE = _log1p((
    0.16164045688037065, 0.08800738446041402, 0.12001072818488293, 0.1331414420857559, 0.15385570065036416,
    0.1818178943612947, 0.2222222271742795, 0.2857142856710876, 0.40000000000014585, 0.6666666666666666,
))
# fmt: on


@by_types(exact=True)
def log1p(e, out, m):
    """Write log(1 + e) = 2 artanh(e / (2 + e)) for m numbers e in [0, 1]."""
    return _LOG1P_SINGLE if e.dtype.bitwidth == 32 else _LOG1P_DOUBLE
