"""What the kernels share: reading rows, loss and residual of a row from its logit, and the totals over rows."""

import triton
import triton.language as tl


@triton.jit
def exp_of_negative(a):
    """exp(-a) for a >= 0 to about one rounding.

    tl.exp in float32 rounds a * log2(e) before it takes the power, which costs a relative error of a * 6e-8: more than
    the accuracy promised for a single row. So the power of two is split off first (Cody and Waite): the product of
    an integer below 2^8 and LN2_HIGH, which has 15 significant bits, is exact.
    """
    LN2_HIGH: tl.constexpr = 0.693145751953125
    LN2_LOW: tl.constexpr = 1.428606820309417e-06
    LOG2_E: tl.constexpr = 1.4426950408889634
    if a.dtype == tl.float64:
        result = tl.exp(-a)
    else:
        near = tl.where(a < 104.0, a, 104.0)  # exp(-104) is 0 in float32; NaN is put back below
        power = tl.floor(near * LOG2_E + 0.5)
        rest = (near - power * LN2_HIGH) - power * LN2_LOW
        result = tl.where(a == a, tl.exp2(-rest * LOG2_E) * tl.exp2(-power), a)
    return result


@triton.jit
def reciprocal(u):
    """1 / u, correctly rounded: Triton's plain division is good to 2 ulp in float32."""
    if u.dtype == tl.float64:
        result = 1.0 / u
    else:
        result = tl.div_rn(tl.full(u.shape, 1.0, tl.float32), u)
    return result


@triton.jit
def row_terms(z, y, s, q, BOUND: tl.constexpr, TAIL: tl.constexpr, ZERO_BEYOND: tl.constexpr):
    """(s loss, s r) of rows with logits z, labels y, weights s and pos_weight q.

    loss = (1 - y) softplus(c) + q y softplus(-c) with c = clamp(z, -BOUND, BOUND), TAIL = exp(-BOUND);
    r = (1 - y) p - q y (1 - p). One exponential serves both: exp(-|c|) = max(exp(-|z|), TAIL). Comparisons with NaN are
    false, so that a NaN logit stays NaN throughout.
    """
    a = tl.abs(z)
    e = exp_of_negative(a)
    upper = reciprocal(1.0 + e)  # sigmoid(|z|)
    lower = e * upper
    p = tl.where(z > 0, upper, lower)
    not_p = tl.where(z > 0, lower, upper)
    on = q * y
    off = 1.0 - y
    r = off * p - on * not_p

    beyond = a > BOUND
    magnitude = tl.where(beyond, BOUND, a)
    ce = tl.where(beyond, TAIL, e)
    # log1p without a library call: log(u) plus the first-order correction for what 1 + ce lost in rounding.
    u = 1.0 + ce
    log1p = tl.log(u) + (ce - (u - 1.0)) * upper
    slope = tl.where(z > 0, off, on)
    linear = tl.where(
        slope == 0, 0.0, slope * magnitude
    )  # an infinite logit on the right side costs 0, not NaN
    loss = linear + (on + off) * log1p
    if ZERO_BEYOND:
        r = tl.where(beyond, 0.0, r)
    return s * loss, s * r


@triton.jit
def load_scalar(P, default: tl.constexpr, COMPUTE: tl.constexpr):
    """The number at P as [1], or `default` where P is None."""
    if P is not None:
        value = tl.load(P + tl.arange(0, 1)).to(COMPUTE)
    else:
        value = tl.full([1], default, COMPUTE)
    return value


@triton.jit
def row_numbers(tile, N, ROWS, BLOCK_N: tl.constexpr):
    """(place in the pass, row of X, whether it exists) of a tile's rows; int64, as X may have 2^31 entries."""
    place = tile * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
    exists = place < N
    source = place
    if ROWS is not None:
        source = tl.load(ROWS + place, mask=exists, other=0)
    return place, source, exists


@triton.jit
def load_tile(
    X,
    source,
    exists,
    columns,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    column_stride,
    COLUMN_MAJOR: tl.constexpr,
):
    """X [BLOCK_N, BLOCK_D] at int64 row numbers and int32 column numbers, 0 outside; each entry is read once.

    The row stride is a constant of the compiled kernel: without that, loads of 28 columns are not vectorised.
    """
    if COLUMN_MAJOR:
        pointers = X + source[:, None] + columns[None, :].to(tl.int64) * column_stride
    else:
        pointers = X + source[:, None] * ROW_STRIDE + columns[None, :]
    mask = exists[:, None] & (columns < D)[None, :]
    return tl.load(pointers, mask=mask, other=0.0, eviction_policy="evict_first")


@triton.jit
def load_labels(Y, SAMPLE_WEIGHT, source, exists, COMPUTE: tl.constexpr, BLOCK_N: tl.constexpr):
    """(y, s) of a tile's rows. Rows past the end have weight 0 and a zero tile: finite terms that add nothing."""
    y = tl.load(Y + source, mask=exists, other=0).to(COMPUTE)
    if SAMPLE_WEIGHT is not None:
        s = tl.load(SAMPLE_WEIGHT + source, mask=exists, other=0.0)
    else:
        s = tl.where(exists, tl.full([BLOCK_N], 1.0, COMPUTE), 0.0)
    return y, s


@triton.jit
def no_totals():
    """Totals of no rows: residual, loss, weight, non-finite logits, largest finite |z|, all float64 scalars."""
    zero = tl.full([], 0.0, tl.float64)
    return zero, zero, zero, zero, zero


@triton.jit
def combine_totals(
    residual_a, loss_a, weight_a, nonfinite_a, largest_a, residual_b, loss_b, weight_b, nonfinite_b, largest_b
):
    """Four sums and a maximum, so that one reduction serves all five."""
    return (
        residual_a + residual_b,
        loss_a + loss_b,
        weight_a + weight_b,
        nonfinite_a + nonfinite_b,
        tl.maximum(largest_a, largest_b),
    )


@triton.jit
def add_totals(totals, z, s, loss, r, exists):
    """The totals with one more tile of rows.

    Reduced over each tile at once: kept per row until the end, they would stand in the tile's own layout, where each
    row is held by several threads, and spill.
    """
    residual_sum, loss_sum, weight_sum, nonfinite, largest = totals
    finite = tl.abs(z) < float("inf")
    bad = tl.where(exists & (finite == 0), 1.0, 0.0)
    size = tl.where(exists & finite, tl.abs(z), 0.0)
    a, b, c, d, e = tl.reduce((r, loss, s, bad, size), 0, combine_totals)
    return (
        residual_sum + a.to(tl.float64),
        loss_sum + b.to(tl.float64),
        weight_sum + c.to(tl.float64),
        nonfinite + d.to(tl.float64),
        tl.maximum(largest, e.to(tl.float64)),
    )


@triton.jit
def store_totals(TOTALS, program, totals):
    """Write a program's five totals to TOTALS[program, 5] float64."""
    residual_sum, loss_sum, weight_sum, nonfinite, largest = totals
    row = TOTALS + program * 5
    tl.store(row, residual_sum)
    tl.store(row + 1, loss_sum)
    tl.store(row + 2, weight_sum)
    tl.store(row + 3, nonfinite)
    tl.store(row + 4, largest)
