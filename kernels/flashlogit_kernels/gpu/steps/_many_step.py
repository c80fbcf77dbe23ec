"""The step between two passes of many models, in two kernels around the product with M^-1: a program for each model.

A model's vectors [P C] have class c of column j at j C + c. They are walked in tiles of HEIGHT columns and LANES >= C
classes, so that what belongs to a column or a class is no division away. WHOLE: one tile holds them, and the vector of
the two-loop recursion stays in registers.

Models that are done leave the passes but not the memory: program k steps the model in row ROWS[k] of everything that is
kept, and only what a pass takes and gives is of K models. A copy of 20 pairs for each model that leaves would be as
many bytes as a step reads.
"""

import triton
import triton.language as tl

from ... import fits
from ._point import judged

FARTHEST_SHIFT = tl.constexpr(fits.FARTHEST_SHIFT)
THETA, GRADIENT, DIRECTION, TRIAL = (tl.constexpr(row) for row in range(4))
VECTORS_A_MODEL = tl.constexpr(4)
VALUE, GAP, HELD_LOSS, STEP, REFUSED, BEST, STALLED, ACCEPTED, WEIGHT_SUM, GOAL, FLOOR = (
    tl.constexpr(place) for place in range(11)
)
NUMBERS_A_MODEL = tl.constexpr(11)
NOISE, ROUGH_NOISE, CURVED, NEAR_GOAL, MOST_REFUSED, MOST_STALLED = (tl.constexpr(place) for place in range(6))
"""Places of the limits that all models share."""
IS_ROUGH, ARE_PROOFS, ARE_FIRST_PROOFS = (tl.constexpr(bit) for bit in (1, 2, 4))
"""Flags of a pass: whether it, or the last one, was in float32; whether gaps at most the goal end a model; whether gaps
are proofs and those of the last pass were not."""
DONE, OVER, REACHED, LOW, NEAR = (tl.constexpr(bit) for bit in (1, 2, 4, 8, 16))
"""Bits of a model's status: its gap ends it; it ends; its gap is at most the goal, the floor of passes in float32, and
so many times the goal that the next one may reach it."""


@triton.jit
def total(tile):
    """Return the sum over a tile."""
    return tl.sum(tl.sum(tile, axis=1), axis=0)


@triton.jit
def places(start, P, C: tl.constexpr, HEIGHT: tl.constexpr, LANES: tl.constexpr):
    """Return columns [HEIGHT, 1], classes [1, LANES], their places in a vector, and which of these there are."""
    j, c = start + tl.arange(0, HEIGHT)[:, None], tl.arange(0, LANES)[None, :]
    return j, c, j * C + c, (j < P) & (c < C)


@triton.jit
def evaluated(
    SUMS,
    BIAS_SUMS,
    BORDER,
    CORNER,
    V,
    SCALE,
    L2,
    PROVING,
    CENTER,
    Q,
    PAIR,
    S,
    place,
    K,
    D,
    P,
    width,
    C: tl.constexpr,
    HEIGHT: tl.constexpr,
    LANES: tl.constexpr,
    PROVEN: tl.constexpr,
    GIVEN: tl.constexpr,
):
    """Return (penalty, gap, predicted change, s . y, |y|^2) of the trial point; its gradient goes to Q.

    s is the step to it and y the change of the gradient; they go to PAIR. GIVEN: SUMS is the gradient, [P C, K].
    """
    zero = tl.zeros([HEIGHT, LANES], tl.float64)
    penalty, bound, predicted, curvature, change = zero, zero, zero, zero, zero
    columns = K * C
    lanes = tl.arange(0, LANES)[None, :]
    share = 1.0 / S
    shift, corner = tl.zeros([], tl.float64), tl.zeros([], tl.float64)
    if not GIVEN:
        bias = tl.load(BIAS_SUMS + place * C + lanes, mask=lanes < C, other=0.0)
        if PROVEN:  # one class, and an intercept
            corner = tl.load(CORNER + place)
            shift = tl.where(corner > 0, tl.load(BIAS_SUMS + place) / tl.where(corner > 0, corner, 1.0), 1.0)
    for start in range(0, P, HEIGHT):
        j, c, at, inside = places(start, P, C, HEIGHT, LANES)
        trial = tl.load(V + P * C * TRIAL + at, mask=inside, other=0.0)
        if GIVEN:
            gradient = tl.load(SUMS + at * K + place, mask=inside, other=0.0)
        else:
            weights = inside & (j < D)
            d = tl.load(SCALE + j, mask=j < P, other=0.0)
            l2 = tl.load(L2 + j, mask=j < P, other=0.0)
            center = tl.load(CENTER + j, mask=j < P, other=0.0)
            sums = tl.load(SUMS + j * columns + place * C + c, mask=weights, other=0.0)
            gradient = tl.where(j < D, sums - center * bias, bias) * (d * share) + l2 * trial
            penalty += l2 * trial * trial
            proving = tl.load(PROVING + j, mask=j < P, other=0.0)
            rest = gradient
            if PROVEN:
                border = tl.load(BORDER + j * columns + place + c, mask=weights, other=0.0)
                rest = tl.where(j < D, gradient - shift * ((border - center * corner) * (d * share)), 0.0)
            bound += rest * rest * proving
        tl.store(Q + at * width, gradient, mask=inside)
        s = trial - tl.load(V + P * C * THETA + at, mask=inside, other=0.0)
        last = tl.load(V + P * C * GRADIENT + at, mask=inside, other=0.0)
        y = gradient - last
        predicted += last * s
        curvature += s * y
        change += y * y
        tl.store(PAIR + at, s, mask=inside)
        tl.store(PAIR + P * C + at, y, mask=inside)
    gap = total(bound)
    if PROVEN:
        of_shift = shift * shift * (corner * share)
        gap = tl.where(tl.abs(shift) <= FARTHEST_SHIFT, gap + of_shift, float("inf"))
    return 0.5 * total(penalty), gap, total(predicted), total(curvature), total(change)


@triton.jit
def older_half(
    q,
    Q,
    PAIRS,
    INVERSES,
    ALPHAS,
    head,
    pairs,
    P,
    width,
    C: tl.constexpr,
    MEMORY: tl.constexpr,
    HEIGHT: tl.constexpr,
    LANES: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Go from the newest pair to the oldest: alpha = (s . q) / (s . y), q -= alpha y. Return q where it is one tile."""
    for age in range(0, pairs):
        slot = (head + MEMORY - age) % MEMORY
        inverse = tl.load(INVERSES + slot)
        PAIR, known = PAIRS + slot * 2 * P * C, tl.where(inverse != 0, P, 0)
        products = tl.zeros([HEIGHT, LANES], tl.float64)
        for start in range(0, P, HEIGHT):
            j, _, at, inside = places(start, P, C, HEIGHT, LANES)
            used = inside & (j < known)
            if not WHOLE:
                q = tl.load(Q + at * width, mask=inside, other=0.0)
            products += tl.load(PAIR + at, mask=used, other=0.0) * q
        alpha = inverse * total(products)
        tl.store(ALPHAS + slot, alpha)
        for start in range(0, P, HEIGHT):
            j, _, at, inside = places(start, P, C, HEIGHT, LANES)
            used = inside & (j < known)
            if not WHOLE:
                q = tl.load(Q + at * width, mask=inside, other=0.0)
            q -= alpha * tl.load(PAIR + P * C + at, mask=used, other=0.0)
            if not WHOLE:
                tl.store(Q + at * width, q, mask=inside)
        if not WHOLE:
            tl.debug_barrier()
    return q


@triton.jit
def newer_half(
    r,
    R,
    PAIRS,
    INVERSES,
    ALPHAS,
    head,
    pairs,
    P,
    width,
    C: tl.constexpr,
    MEMORY: tl.constexpr,
    HEIGHT: tl.constexpr,
    LANES: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Go from the oldest pair to the newest: r += (alpha - (y . r) / (s . y)) s. Return r where it is one tile."""
    for place in range(0, pairs):
        slot = (head + MEMORY - pairs + 1 + place) % MEMORY
        inverse = tl.load(INVERSES + slot)
        PAIR, known = PAIRS + slot * 2 * P * C, tl.where(inverse != 0, P, 0)
        products = tl.zeros([HEIGHT, LANES], tl.float64)
        for start in range(0, P, HEIGHT):
            j, _, at, inside = places(start, P, C, HEIGHT, LANES)
            used = inside & (j < known)
            if not WHOLE:
                r = tl.load(R + at * width, mask=inside, other=0.0)
            products += tl.load(PAIR + P * C + at, mask=used, other=0.0) * r
        part = tl.load(ALPHAS + slot) - inverse * total(products)
        for start in range(0, P, HEIGHT):
            j, _, at, inside = places(start, P, C, HEIGHT, LANES)
            used = inside & (j < known)
            if not WHOLE:
                r = tl.load(R + at * width, mask=inside, other=0.0)
            r += part * tl.load(PAIR + at, mask=used, other=0.0)
            if not WHOLE:
                tl.store(R + at * width, r, mask=inside)
        if not WHOLE:
            tl.debug_barrier()
    return r


@triton.jit(do_not_specialize=["K", "D", "P", "head", "pairs", "width", "flags"])
def judge_kernel(
    SUMS,
    BIAS_SUMS,
    LOSS,
    HELD,
    BORDER,
    CORNER,
    ROWS,
    SLOTS,
    SCALE,
    L2,
    PROVING,
    CENTER,
    LIMITS,
    NUMBERS,
    VECTORS,
    PAIRS,
    INVERSES,
    ALPHAS,
    Q,
    STATUS,
    K,
    D,
    P,
    head,
    pairs,
    width,
    flags,
    C: tl.constexpr,
    MEMORY: tl.constexpr,
    HEIGHT: tl.constexpr,
    LANES: tl.constexpr,
    WHOLE: tl.constexpr,
    PROVEN: tl.constexpr,
    GIVEN: tl.constexpr,
):
    """Judge the trial points by the sums of a pass, keep the pair, and write q of the recursion's first half to Q.

    SUMS [D, K C], BIAS_SUMS [K C], LOSS and HELD [K] are a pass's, and with PROVEN so are BORDER and CORNER. GIVEN:
    SUMS is the gradient [P C, K], LOSS the value, BIAS_SUMS the gap. The new pair goes to place `head` of MEMORY, and
    the recursion is over the newest `pairs`. A number of q is `width` from the next one, the first at SLOTS. STATUS [K]
    is what the host is told.
    """
    place = tl.program_id(0)
    if place < K:
        model = tl.load(ROWS + place).to(tl.int64)
        N, V = NUMBERS + model * NUMBERS_A_MODEL, VECTORS + model * VECTORS_A_MODEL * P * C
        SCALE, L2, PROVING = SCALE + model * P, L2 + model * P, PROVING + model * P
        PAIRS, INVERSES, ALPHAS = PAIRS + model * MEMORY * 2 * P * C, INVERSES + model * MEMORY, ALPHAS + model * MEMORY
        Q += tl.load(SLOTS + model)
        S, step = tl.load(N + WEIGHT_SUM), tl.load(N + STEP)
        last, last_gap, refused = tl.load(N + VALUE), tl.load(N + GAP), tl.load(N + REFUSED)
        penalty, gap, predicted, bent, length = evaluated(
            SUMS, BIAS_SUMS, BORDER, CORNER, V, SCALE, L2, PROVING, CENTER, Q, PAIRS + head * 2 * P * C, S, place, K, D,
            P, width, C, HEIGHT, LANES, PROVEN, GIVEN
        )  # fmt: skip
        value = tl.load(LOSS + place)
        if GIVEN:
            gap = tl.load(BIAS_SUMS + place)
        else:
            value = value * (1.0 / S) + penalty
            gap = tl.where(gap > value, value, gap)
        zero = tl.zeros([], tl.float64)
        rough = (flags & IS_ROUGH) != 0
        noise = tl.where(rough, tl.load(LIMITS + ROUGH_NOISE), tl.load(LIMITS + NOISE))
        accepted, shorter = judged(value, zero, predicted, last, step, noise, False)
        kept = accepted & (bent > tl.load(LIMITS + CURVED) * length)
        # An estimate of a point that stays is no proof.
        unproven = (flags & ARE_FIRST_PROOFS) != 0
        least = tl.where(unproven, tl.full([], 1e300, tl.float64), zero)
        gap = tl.where(accepted, gap, tl.where(last_gap < least, least, last_gap))
        value = tl.where(accepted, value, last)
        refused = tl.where(accepted, 0.0, refused + 1.0)
        best, stalled = tl.load(N + BEST), tl.load(N + STALLED)
        stalled = tl.where(gap < tl.full([], 0.9, tl.float64) * best, 0.0, stalled + 1.0)
        goal, floor = tl.load(N + GOAL), tl.load(N + FLOOR)
        reached, proofs = gap <= goal, (flags & ARE_PROOFS) != 0
        done = reached & proofs
        over = done | (refused >= tl.load(LIMITS + MOST_REFUSED)) | (stalled >= tl.load(LIMITS + MOST_STALLED))
        over = over | ~(tl.abs(value) < float("inf"))
        status = tl.where(done, DONE, 0) + tl.where(over, OVER, 0) + tl.where(reached, REACHED, 0)
        near = gap <= tl.load(LIMITS + NEAR_GOAL) * goal
        tl.store(STATUS + place, status + tl.where(gap <= floor, LOW, 0) + tl.where(near, NEAR, 0))
        held = tl.where(accepted, tl.load(HELD + place), tl.load(N + HELD_LOSS))
        tl.debug_barrier()
        tl.store(INVERSES + head, tl.where(kept, 1.0 / tl.where(kept, bent, 1.0), 0.0))
        tl.store(N + VALUE, value)
        tl.store(N + GAP, gap)
        tl.store(N + HELD_LOSS, held)
        tl.store(N + STEP, tl.where(accepted, 1.0, shorter))
        tl.store(N + REFUSED, refused)
        tl.store(N + BEST, tl.where(best < gap, best, gap))
        tl.store(N + STALLED, stalled)
        tl.store(N + ACCEPTED, tl.where(accepted, 1.0, zero))
        tl.debug_barrier()
        if accepted:
            q = tl.zeros([HEIGHT, LANES], tl.float64)
            for start in range(0, P, HEIGHT):
                _, _, at, inside = places(start, P, C, HEIGHT, LANES)
                theta = tl.load(V + P * C * TRIAL + at, mask=inside, other=0.0)
                tl.store(V + P * C * THETA + at, theta, mask=inside)
                q = tl.load(Q + at * width, mask=inside, other=0.0)
                tl.store(V + P * C * GRADIENT + at, q, mask=inside)
            q = older_half(q, Q, PAIRS, INVERSES, ALPHAS, head, pairs, P, width, C, MEMORY, HEIGHT, LANES, WHOLE)
            if WHOLE:
                _, _, at, inside = places(0, P, C, HEIGHT, LANES)
                tl.store(Q + at * width, q, mask=inside)


@triton.jit(do_not_specialize=["K", "D", "P", "head", "pairs", "width"])
def try_kernel(
    R,
    ROWS,
    SLOTS,
    SCALE,
    CENTER,
    NUMBERS,
    VECTORS,
    PAIRS,
    INVERSES,
    ALPHAS,
    W,
    B,
    K,
    D,
    P,
    head,
    pairs,
    width,
    C: tl.constexpr,
    MEMORY: tl.constexpr,
    HEIGHT: tl.constexpr,
    LANES: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Set the directions of models that went on from R = M^-1 q, and the next trial points of all: W [D, K C] and
    B [K C] for a pass, in the dtype of its arithmetic."""
    place = tl.program_id(0)
    if place < K:
        model = tl.load(ROWS + place).to(tl.int64)
        N, V = NUMBERS + model * NUMBERS_A_MODEL, VECTORS + model * VECTORS_A_MODEL * P * C
        SCALE += model * P
        PAIRS, INVERSES, ALPHAS = PAIRS + model * MEMORY * 2 * P * C, INVERSES + model * MEMORY, ALPHAS + model * MEMORY
        R += tl.load(SLOTS + model)
        step = tl.load(N + STEP)
        if tl.load(N + ACCEPTED) != 0:
            _, _, at, inside = places(0, P, C, HEIGHT, LANES)
            r = tl.load(R + at * width, mask=inside, other=0.0)
            r = newer_half(r, R, PAIRS, INVERSES, ALPHAS, head, pairs, P, width, C, MEMORY, HEIGHT, LANES, WHOLE)
            if WHOLE:
                tl.store(V + P * C * DIRECTION + at, -r, mask=inside)
            else:
                for start in range(0, P, HEIGHT):
                    _, _, at, inside = places(start, P, C, HEIGHT, LANES)
                    r = tl.load(R + at * width, mask=inside, other=0.0)
                    tl.store(V + P * C * DIRECTION + at, -r, mask=inside)
        tl.debug_barrier()
        bias = tl.zeros([HEIGHT, LANES], tl.float64)
        for start in range(0, P, HEIGHT):
            j, c, at, inside = places(start, P, C, HEIGHT, LANES)
            trial = tl.load(V + P * C * THETA + at, mask=inside, other=0.0)
            trial += step * tl.load(V + P * C * DIRECTION + at, mask=inside, other=0.0)
            tl.store(V + P * C * TRIAL + at, trial, mask=inside)
            w = trial * tl.load(SCALE + j, mask=j < P, other=0.0)
            tl.store(W + j * (K * C) + place * C + c, w, mask=inside & (j < D))
            bias += tl.where(j < D, -tl.load(CENTER + j, mask=j < D, other=0.0) * w, w)
        lanes = tl.arange(0, LANES)
        tl.store(B + place * C + lanes, tl.sum(bias, axis=0), mask=lanes < C)
