"""What one row contributes: loss, residual and curvature from its logit, and the running totals over rows."""

import triton
import triton.language as tl

from .. import contract

SCALARS = tl.constexpr(contract.SCALARS)
BIAS_GRAD = tl.constexpr(contract.BIAS_GRAD)
LOSS_SUM = tl.constexpr(contract.LOSS)
WEIGHT_SUM = tl.constexpr(contract.WEIGHT_SUM)
NONFINITE = tl.constexpr(contract.NONFINITE)
MAX_ABS_LOGIT = tl.constexpr(contract.MAX_ABS_LOGIT)


EXP = tl.constexpr((
    -2.510038549551032e-08, 2.7620088445409746e-07, -2.7557268459997064e-06, 2.4801521295954376e-05,
    -0.00019841269863053618, 0.0013888888917213717, -0.008333333333330062, 0.04166666666662413, -0.16666666666666669,
    0.5000000000000001, -1.0, 1.0,
))  # fmt: skip
"""exp(-x) for |x| <= log(2) / 2: a Chebyshev interpolant of (exp(-x) - 1 + x) / x^2, relative error 2e-17."""
LOG1P = tl.constexpr((
    0.1616404561194353, 0.08800738486144674, 0.12001072809590713, 0.13314144209654935, 0.15385570064958623,
    0.18181789436132859, 0.22222222717427864, 0.2857142856710876, 0.40000000000014585, 0.6666666666666666, 2.0,
))  # fmt: skip
"""2 artanh(sqrt(t)) / sqrt(t) for 0 <= t <= 1/9: a Chebyshev interpolant of its part beyond 2, relative error 7e-18."""


@triton.jit
def polynomial(x, COEFFICIENTS: tl.constexpr, DEGREE: tl.constexpr):
    """Return the polynomial at x, from the coefficient of the highest power to the constant one (Horner).

    Each is made a number of the dtype of x, since Triton 3.6 takes a plain number for float32.
    """
    result = tl.full([], COEFFICIENTS[0], x.dtype)
    for k in tl.static_range(1, DEGREE + 1):
        result = result * x + tl.full([], COEFFICIENTS[k], x.dtype)
    return result


@triton.jit
def exp_of_negative(a):
    """Return exp(-a) for a >= 0 to about one rounding; 0 below the smallest normal number.

    tl.exp in float32 rounds a * log2(e) before it takes the power, which costs a relative error of a * 6e-8: more than
    the accuracy promised for a single row. So the power of two is split off first (Cody and Waite): the product of
    an integer below 2^8 and LN2_HIGH, which has 15 significant bits, is exact. Adding ROUND leaves the power, plus the
    bias of a float's exponent, in the lowest bits of the sum: shifted into place they are the float 2^power, or 0.
    The same in float64, with 32 bits of the logarithm for integers below 2^11, takes half the instructions of tl.exp.
    """
    LN2_HIGH: tl.constexpr = 0.693145751953125
    LN2_LOW: tl.constexpr = 1.428606820309417e-06
    LOG2_E: tl.constexpr = 1.4426950408889634
    ROUND: tl.constexpr = 12582912.0 + 127.0
    if a.dtype == tl.float64:
        far = tl.full([], 709.0, tl.float64)  # exp(-709) is below 2^-1022
        near = tl.where(a > far, far, a)
        shifted = tl.full([], 6755399441055744.0 + 1023.0, tl.float64) - near * tl.full([], LOG2_E, tl.float64)
        power = shifted - tl.full([], 6755399441055744.0 + 1023.0, tl.float64)
        rest = near + power * tl.full([], 0.6931471803691238, tl.float64)
        rest += power * tl.full([], 1.9082149292705877e-10, tl.float64)
        result = polynomial(rest, EXP, 11) * (shifted.to(tl.int64, bitcast=True) << 52).to(tl.float64, bitcast=True)
    else:
        near = tl.minimum(a, 88.0, propagate_nan=tl.PropagateNan.ALL)  # exp(-88) is below 2^-126
        shifted = ROUND - near * LOG2_E
        power = shifted - ROUND
        rest = (near + power * LN2_HIGH) + power * LN2_LOW
        scale = (shifted.to(tl.int32, bitcast=True) << 23).to(tl.float32, bitcast=True)
        result = tl.exp2(-rest * LOG2_E) * scale
    return result


@triton.jit
def log1p_of_unit(e, half):
    """Return log(1 + e) for 0 <= e <= 1, given in float64 half = 1 / (2 + e).

    In float64 the series of 2 artanh(e / (2 + e)), which takes a third of the instructions of tl.log. In float32 a
    Chebyshev interpolant of log1p(e) / e of degree 9, whose relative error is 5e-9: no logarithm unit, and no
    cancellation where e is small.
    """
    if e.dtype == tl.float64:
        ratio = e * half
        result = ratio * polynomial(ratio * ratio, LOG1P, 10)
    else:
        ratio = e * -0.0031760570127516985 + 0.019542528316378593
        ratio = ratio * e - 0.05637361481785774
        ratio = ratio * e + 0.10543623566627502
        ratio = ratio * e - 0.1526966691017151
        ratio = ratio * e + 0.1966327428817749
        ratio = ratio * e - 0.24951615929603577
        ratio = ratio * e + 0.33329710364341736
        ratio = ratio * e - 0.49999892711639404
        ratio = ratio * e + 1.0
        result = ratio * e
    return result


@triton.jit
def reciprocals(e, f):
    """Return 1 / (1 + e) and, in float64, 1 / (2 + f) for 0 <= e, f <= 1.

    In float32 the quadratic of least relative error in u = 1 + e, 1/99 (a Chebyshev polynomial of degree 3 divided by
    u), and two Newton steps, which square it twice: fewer instructions than a division, and 1e-8 besides rounding. In
    float64 both come from one reciprocal, of the product: float32's with a step that cubes its error.
    """
    u = 1.0 + e
    if e.dtype == tl.float64:
        v = 2.0 + f
        product = u * v
        guess = (1.0 / product.to(tl.float32)).to(tl.float64)
        missing = 1.0 - product * guess
        guess += guess * (missing + missing * missing)
        result = (guess * v, guess * u)
    else:
        guess = (u * (32.0 / 99.0) - 144.0 / 99.0) * u + 210.0 / 99.0
        guess += guess * (1.0 - u * guess)
        guess += guess * (1.0 - u * guess)
        result = (guess, guess)
    return result


@triton.jit
def at_least(values, least):
    """Return the larger of both, NaN where `values` is NaN. For float64 GPUs have no such instruction."""
    if values.dtype == tl.float64:
        result = tl.where(values < least, least, values)
    else:
        result = tl.maximum(values, least, propagate_nan=tl.PropagateNan.ALL)
    return result


@triton.jit
def at_most(values, most):
    """Return the smaller of both, NaN where `values` is NaN."""
    if values.dtype == tl.float64:
        result = tl.where(values > most, most, values)
    else:
        result = tl.minimum(values, most, propagate_nan=tl.PropagateNan.ALL)
    return result


@triton.jit
def row_terms(z, y, q, BOUND: tl.constexpr, TAIL: tl.constexpr, ZERO_BEYOND: tl.constexpr):
    """Return (loss, r, dr/dz) of rows with logits z, labels y and pos_weight q, which is None for 1.

    loss = (1 - y) softplus(c) + q y softplus(-c) with c = clamp(z, -BOUND, BOUND), TAIL = exp(-BOUND);
    r = (1 - y) p - q y (1 - p); dr/dz = (1 - y + q y) p (1 - p).

    All of it comes from one exponential, e = exp(-|z|), and from m = e / (1 + e), the smaller of p and 1 - p. With
    T = 1 - y + q y and the slope of the loss far out on z's side, 1 - y for z > 0 and q y else,
    loss = slope |c| + T log(1 + exp(-|c|)) and r = +-(slope - T m), which does not cancel where a label is 0 or 1.
    Minimum and maximum keep NaN, so that a NaN logit stays NaN throughout.
    """
    a = tl.abs(z)
    e = exp_of_negative(a)
    # Triton 3.6 takes a plain number beside a tensor for float32, also where the tensor is float64.
    bound, tail = tl.full([], BOUND, a.dtype), tl.full([], TAIL, a.dtype)
    clamped = e  # exp(-|c|)
    if float("inf") != BOUND:
        clamped = at_least(e, tail)
    upper, half = reciprocals(e, clamped)  # upper = sigmoid(|z|)
    log1p = log1p_of_unit(clamped, half)
    m = e * upper
    positive = z > 0
    off = 1.0 - y
    if q is None:
        slope = tl.where(positive, off, y)
        inner = slope - m
        curvature = m * upper
    else:
        slope = tl.where(positive, off, q * y)
        inner = slope - (off + q * y) * m
        curvature = (off + q * y) * m * upper
    r = tl.where(positive, inner, -inner)

    if float("inf") == BOUND:
        linear = tl.where(slope == 0, 0.0, slope * a)  # an infinite logit on the right side costs 0, not NaN
    else:
        linear = slope * at_most(a, bound)
    if q is None:
        loss = linear + log1p
    else:
        loss = linear + (off + q * y) * log1p
    if ZERO_BEYOND:
        beyond = a > bound
        r = tl.where(beyond, 0.0, r)
        curvature = tl.where(beyond, 0.0, curvature)
    return loss, r, curvature


@triton.jit
def no_totals(COMPUTE: tl.constexpr, LANES: tl.constexpr):
    """Return the totals of no rows: sums of residual, loss and weight, count of non-finite logits, largest finite |z|.

    [LANES] each: every thread of a program keeps its own. Sums are float64, since a thread may add up thousands of
    equal terms; that costs a conversion and an addition, a reduction over each tile several times as much.
    """
    zero = tl.zeros([LANES], tl.float64)
    return zero, zero, zero, tl.zeros([LANES], tl.int32), tl.zeros([LANES], COMPUTE)


@triton.jit
def fold(values, LANES: tl.constexpr, RUN: tl.constexpr):
    """Return sums [LANES] of values [BLOCK_N] over the rows that a thread holds: runs of RUN rows, LANES runs apart."""
    REPEATS: tl.constexpr = values.shape[0] // (LANES * RUN)
    if RUN > 1:
        values = tl.sum(tl.reshape(values, [REPEATS * LANES, RUN]), axis=1)
    if REPEATS > 1:
        values = tl.sum(tl.reshape(values, [REPEATS, LANES]), axis=0)
    return values


@triton.jit
def fold_largest(values, LANES: tl.constexpr, RUN: tl.constexpr):
    """Return the maxima [LANES] over the same rows as `fold`."""
    REPEATS: tl.constexpr = values.shape[0] // (LANES * RUN)
    if RUN > 1:
        values = tl.max(tl.reshape(values, [REPEATS * LANES, RUN]), axis=1)
    if REPEATS > 1:
        values = tl.max(tl.reshape(values, [REPEATS, LANES]), axis=0)
    return values


@triton.jit
def add_totals(totals, z, s, loss, r, exists, LANES: tl.constexpr, RUN: tl.constexpr):
    """Return the totals with one more tile of rows; s is None for weights of 1."""
    residual_sum, loss_sum, weight_sum, nonfinite, largest = totals
    a = tl.abs(z)
    finite = a < float("inf")
    if s is not None:
        weight_sum += fold(s, LANES, RUN).to(tl.float64)
    return (
        residual_sum + fold(r, LANES, RUN).to(tl.float64),
        loss_sum + fold(loss, LANES, RUN).to(tl.float64),
        weight_sum,
        nonfinite + fold((exists & (finite == 0)).to(tl.int32), LANES, RUN),
        tl.maximum(largest, fold_largest(tl.where(exists & finite, a, 0.0), LANES, RUN)),
    )


@triton.jit
def store_totals(TOTALS, program, totals, N, tiles, programs, BLOCK_N: tl.constexpr, UNWEIGHTED: tl.constexpr):
    """Write a program's totals to TOTALS[program, SCALARS] float64. Unweighted rows are counted here, at once."""
    residual_sum, loss_sum, weight_sum, nonfinite, largest = totals
    row = TOTALS + program * SCALARS
    tl.store(row + BIAS_GRAD, tl.sum(residual_sum, axis=0))
    tl.store(row + LOSS_SUM, tl.sum(loss_sum, axis=0))
    if UNWEIGHTED:
        last = tl.full([], -1, tl.int64) + tiles  # int64: there may be more than 2^31 rows
        mine = (last - program) // programs + 1
        missing = tl.where(program == last % programs, (last + 1) * BLOCK_N - N, 0)
        tl.store(row + WEIGHT_SUM, (mine * BLOCK_N - missing).to(tl.float64))
    else:
        tl.store(row + WEIGHT_SUM, tl.sum(weight_sum, axis=0))
    tl.store(row + NONFINITE, tl.sum(nonfinite, axis=0).to(tl.float64))
    tl.store(row + MAX_ABS_LOGIT, tl.max(largest, axis=0).to(tl.float64))
