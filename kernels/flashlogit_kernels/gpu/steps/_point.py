"""What the kernels between two passes have in common: a point is evaluated and judged, and the next one is written.

Vectors [P] are kept at multiples of 16 numbers, `pitch` apart, with zeros behind their ends, and are walked in blocks.
Whatever another thread reads afterwards goes through global memory and a barrier.
"""

import triton
import triton.language as tl

THETA, TRIAL, GRADIENT, DIRECTION, NEW = (tl.constexpr(row) for row in range(5))
TIMES_CHANGE, TIMES_GRADIENT = tl.constexpr(5), tl.constexpr(6)
VECTORS_A_MODEL = tl.constexpr(7)
"""Rows of a model's vectors. NEW is the trial point's gradient, the last two are the inverse Hessian's products."""
STATUS_NUMBER, VALUE, GAP, NORM, TRIED, REFUSED, DECREMENT, WAS_NEW = (tl.constexpr(place) for place in range(8))
NUMBERS_A_MODEL = tl.constexpr(8)
NEXT_STEP, HEAD, SIZE, IS_NEW, NOISE = (tl.constexpr(place) for place in range(5))
"""What else is kept: the step of the trial point, the pairs' free place, s . y / |y|^2 of the newest pair, whether the
Hessian is new, and the share of P that was noise in the accepted point's pass."""
KEPT_A_MODEL = tl.constexpr(5)
WEIGHT_SUM_LIMIT, STOP_GAP, ROUNDING, GOOD_RATIO = (tl.constexpr(place) for place in range(4))
LIMITS_A_MODEL = tl.constexpr(4)
RING = tl.constexpr(21)
"""Places for pairs: one more than are remembered, so that a pair is written before it is known whether it is kept."""
PLACES = tl.constexpr(32)
INVERSE, PRODUCTS, CURVATURE, OF_CHANGES, OF_STEPS = (tl.constexpr(place) for place in (0, 1024, 2048, 2080, 2112))
MATRICES_A_MODEL = tl.constexpr(2144)
"""Places of R^-1 and Y Y^T [32, 32], of s . y of each pair, and of the pairs' parts in the direction, [32] each."""
GOES_ON, CLOSE, NOT_FINITE, WANTS_HESSIAN, MISLED, NO_FACTOR = (tl.constexpr(status) for status in range(6))


@triton.jit
def evaluated(
    SUMS,
    CONSTANTS,
    V,
    PAIR,
    S,
    P,
    pitch,
    INTERCEPT: tl.constexpr,
    FIRST: tl.constexpr,
    EXACT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Return (value, gap, |gradient|^2, predicted change, s . y, |y|^2) of the trial point; its gradient goes to NEW.

    s is the step to it, y the change of the gradient; they go to PAIR and, RING vectors on, unless it is None.
    """
    zero = tl.zeros([BLOCK], tl.float64)
    penalty, bound, squares, predicted, curvature, change = zero, zero, zero, zero, zero, zero
    D = P - INTERCEPT
    of_bias = tl.load(SUMS + D)
    share = 1.0 / S
    if EXACT and INTERCEPT:
        corner = tl.load(SUMS + 2 * D + 5)
        shift = tl.where(corner > 0, of_bias / tl.where(corner > 0, corner, 1.0), 1.0)
    for start in range(0, pitch, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = j < pitch
        d = tl.load(CONSTANTS + j, mask=inside, other=0.0)
        l2 = tl.load(CONSTANTS + pitch + j, mask=inside, other=0.0)
        c = tl.load(CONSTANTS + 2 * pitch + j, mask=inside, other=0.0)
        trial = tl.load(V + pitch * TRIAL + j, mask=inside, other=0.0)
        data = (tl.load(SUMS + j, mask=j < P, other=0.0) - c * of_bias) * (d * share)
        gradient = data + l2 * trial
        tl.store(V + pitch * NEW + j, gradient, mask=inside)
        penalty += l2 * trial * trial
        squares += gradient * gradient
        proving = tl.load(CONSTANTS + 3 * pitch + j, mask=inside, other=0.0)
        if EXACT and INTERCEPT:
            border = tl.load(SUMS + D + 5 + j, mask=j < D, other=0.0)
            rest = gradient - shift * ((border - c * corner) * (d * share))
            bound += tl.where(j < D, rest * rest * proving, 0.0)
        else:
            bound += gradient * gradient * proving
        if not FIRST:
            s = trial - tl.load(V + pitch * THETA + j, mask=inside, other=0.0)
            last = tl.load(V + pitch * GRADIENT + j, mask=inside, other=0.0)
            y = gradient - last
            predicted += last * s
            curvature += s * y
            change += y * y
            if PAIR is not None:
                tl.store(PAIR + j, s, mask=inside)
                tl.store(PAIR + pitch * RING + j, y, mask=inside)
    value = tl.load(SUMS + D + 1) * share + 0.5 * tl.sum(penalty, axis=0)
    gap = tl.sum(bound, axis=0)
    if EXACT and INTERCEPT:
        gap = tl.where(tl.abs(shift) <= 0.5, gap + shift * shift * (corner * share), value)
    gap = tl.minimum(gap, value)
    slope, bent, length = tl.sum(predicted, axis=0), tl.sum(curvature, axis=0), tl.sum(change, axis=0)
    return value, gap, tl.sum(squares, axis=0), slope, bent, length


@triton.jit
def judged(value, squares, predicted, last, step, rounding, FIRST: tl.constexpr):
    """Return whether the trial point is accepted and, as a share of its step, the next step after a refusal."""
    accepted = (tl.abs(value) < float("inf")) & (squares < float("inf"))
    shorter = step
    if not FIRST:
        # Triton 3.6 takes a plain number beside a tensor for float32, also where the tensor is float64.
        sufficient, least = tl.full([], 1e-4, tl.float64), tl.full([], 0.1, tl.float64)
        change = value - last
        accepted &= change <= sufficient * predicted + rounding * tl.abs(last)
        above = change - predicted
        curved = (tl.abs(above) < float("inf")) & (above != 0)
        parabola = tl.where(curved, -0.5 * predicted / tl.where(curved, above, 1.0), 0.0)
        shorter = step * tl.minimum(tl.maximum(parabola, least), 0.5)
    return accepted, shorter


@triton.jit
def finished(
    CONSTANTS,
    V,
    W64,
    W32,
    model,
    accepted,
    step,
    goes_on,
    P,
    pitch,
    INTERCEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Go to the trial point if it is accepted, set the next one, and write its weights and bias for a pass.

    A model that does not go on has the accepted point for the next one.
    """
    D = P - INTERCEPT
    place = (D + 3) // 4 * 4
    W64 += model * (place + 4)
    W32 += model * (place + 4)
    bias = tl.zeros([BLOCK], tl.float64)
    for start in range(0, pitch, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = j < pitch
        d = tl.load(CONSTANTS + j, mask=inside, other=0.0)
        c = tl.load(CONSTANTS + 2 * pitch + j, mask=inside, other=0.0)
        theta = tl.load(V + pitch * THETA + j, mask=inside, other=0.0)
        if accepted:
            theta = tl.load(V + pitch * TRIAL + j, mask=inside, other=0.0)
            gradient = tl.load(V + pitch * NEW + j, mask=inside, other=0.0)
            tl.store(V + pitch * THETA + j, theta, mask=inside)
            tl.store(V + pitch * GRADIENT + j, gradient, mask=inside)
        trial = theta
        if goes_on:
            trial += step * tl.load(V + pitch * DIRECTION + j, mask=inside, other=0.0)
        tl.store(V + pitch * TRIAL + j, trial, mask=inside)
        w = trial * d
        tl.store(W64 + j, w, mask=j < D)
        tl.store(W32 + j, w.to(tl.float32), mask=j < D)
        bias += tl.where(j < D, -c * w, w)
    b = tl.sum(bias, axis=0) * INTERCEPT
    tl.store(W64 + place, b)
    tl.store(W32 + place, b.to(tl.float32))


@triton.jit
def store_numbers(N, status, value, gap, norm, tried, refused, decrement, new):
    """Write what the host may read of a model."""
    tl.store(N + STATUS_NUMBER, status.to(tl.float64))
    tl.store(N + VALUE, value)
    tl.store(N + GAP, gap)
    tl.store(N + NORM, norm)
    tl.store(N + TRIED, tried)
    tl.store(N + REFUSED, refused)
    tl.store(N + DECREMENT, decrement)
    tl.store(N + WAS_NEW, new)
