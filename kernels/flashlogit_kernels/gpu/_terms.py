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


@triton.jit
def exp_of_negative(a):
    """Return exp(-a) for a >= 0 to about one rounding; 0 below the smallest normal number.

    tl.exp in float32 rounds a * log2(e) before it takes the power, which costs a relative error of a * 6e-8: more than
    the accuracy promised for a single row. So the power of two is split off first (Cody and Waite): the product of
    an integer below 2^8 and LN2_HIGH, which has 15 significant bits, is exact. Adding ROUND leaves the power, plus the
    bias of a float's exponent, in the lowest bits of the sum: shifted into place they are the float 2^power, or 0.
    """
    LN2_HIGH: tl.constexpr = 0.693145751953125
    LN2_LOW: tl.constexpr = 1.428606820309417e-06
    LOG2_E: tl.constexpr = 1.4426950408889634
    ROUND: tl.constexpr = 12582912.0 + 127.0
    if a.dtype == tl.float64:
        result = tl.exp(-a)
    else:
        near = tl.minimum(a, 88.0, propagate_nan=tl.PropagateNan.ALL)  # exp(-88) is below 2^-126
        shifted = ROUND - near * LOG2_E
        power = shifted - ROUND
        rest = (near + power * LN2_HIGH) + power * LN2_LOW
        scale = (shifted.to(tl.int32, bitcast=True) << 23).to(tl.float32, bitcast=True)
        result = tl.exp2(-rest * LOG2_E) * scale
    return result


@triton.jit
def log1p_of_unit(e, reciprocal_u):
    """Return log(1 + e) for 0 <= e <= 1, given 1 / (1 + e).

    In float32 a Chebyshev interpolant of log1p(e) / e of degree 9, whose relative error is 5e-9: no logarithm unit, and
    no cancellation where e is small.
    """
    if e.dtype == tl.float64:
        u = 1.0 + e
        # What 1 + e lost in rounding comes back as a first-order correction.
        result = tl.log(u) + (e - (u - 1.0)) * reciprocal_u
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
def reciprocal(u):
    """Return 1 / u for 1 <= u <= 2.

    In float32 the quadratic of least relative error, 1/99 (a Chebyshev polynomial of degree 3 divided by u), and two
    Newton steps, which square it twice: fewer instructions than a division, and 1e-8 besides rounding.
    """
    if u.dtype == tl.float64:
        result = 1.0 / u
    else:
        guess = (u * (32.0 / 99.0) - 144.0 / 99.0) * u + 210.0 / 99.0
        guess += guess * (1.0 - u * guess)
        result = guess + guess * (1.0 - u * guess)
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
    upper = reciprocal(1.0 + e)  # sigmoid(|z|)
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

    # Triton 3.6 takes a plain number beside a tensor for float32, also where the tensor is float64.
    bound, tail = tl.full([], BOUND, a.dtype), tl.full([], TAIL, a.dtype)
    if float("inf") == BOUND:
        linear = tl.where(slope == 0, 0.0, slope * a)  # an infinite logit on the right side costs 0, not NaN
        log1p = log1p_of_unit(e, upper)
    else:
        linear = slope * tl.minimum(a, bound, propagate_nan=tl.PropagateNan.ALL)
        log1p = log1p_of_unit(tl.maximum(e, tail, propagate_nan=tl.PropagateNan.ALL), upper)
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
