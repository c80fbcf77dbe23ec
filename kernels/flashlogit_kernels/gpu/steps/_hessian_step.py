"""Kernels that take up a new Hessian: its matrix in a solver's coordinates, its inverse, and the step that follows."""

import triton
import triton.language as tl

from ._point import (
    CLOSE,
    DIRECTION,
    GAP,
    GOES_ON,
    GRADIENT,
    IS_NEW,
    KEPT_A_MODEL,
    LIMITS_A_MODEL,
    NEW,
    NEXT_STEP,
    NO_FACTOR,
    NOISE,
    NORM,
    NOT_FINITE,
    NUMBERS_A_MODEL,
    ROUNDING,
    STOP_GAP,
    VALUE,
    VECTORS_A_MODEL,
    WANTS_HESSIAN,
    WEIGHT_SUM_LIMIT,
    evaluated,
    finished,
    judged,
    store_numbers,
)


@triton.jit
def hessian_rows(RAW, CONSTANTS, S, i, j, P, pitch, INTERCEPT: tl.constexpr):
    """Return rows i and columns j of the Hessian by theta from a pass's sums, and of the unit matrix beyond P.

    Only the matrix's lower triangle is read: rounding makes a difference between the two.
    """
    D = P - INTERCEPT
    row, column = i[:, None], j[None, :]
    low, high = tl.minimum(row, column), tl.maximum(row, column)
    corner = tl.load(RAW + 2 * D + 5)
    border_i = tl.load(RAW + D + 5 + i, mask=i < P, other=0.0)[:, None]
    border_j = tl.load(RAW + D + 5 + j, mask=j < P, other=0.0)[None, :]
    d_i = tl.load(CONSTANTS + i, mask=i < pitch, other=0.0)[:, None]
    d_j = tl.load(CONSTANTS + j, mask=j < pitch, other=0.0)[None, :]
    l2 = tl.load(CONSTANTS + pitch + i, mask=i < pitch, other=0.0)[:, None]
    c_i = tl.load(CONSTANTS + 2 * pitch + i, mask=i < pitch, other=0.0)[:, None]
    c_j = tl.load(CONSTANTS + 2 * pitch + j, mask=j < pitch, other=0.0)[None, :]
    sums = tl.load(RAW + 2 * D + 6 + high * D + low, mask=high < D, other=0.0)
    # What follows the border is the corner, so that the intercept's row is the border with one number more.
    sums = tl.where(high < D, sums, tl.where(row == D, border_j, border_i))
    about = sums - (c_i * border_j + border_i * c_j) + corner * c_i * c_j
    hessian = about * d_i * d_j * (1.0 / S) + tl.where(row == column, l2, 0.0)
    return tl.where(high < P, hessian, tl.where(row == column, 1.0, 0.0))


@triton.jit
def swept(a, P, BLOCK: tl.constexpr):
    """Return minus the inverse of a [BLOCK, BLOCK], which is symmetric, and whether the first P pivots were positive.

    A sweep of row and column k replaces a by a - u u^T / pivot, where u is row k but -1 at place k, after row and
    column k have been set to 0.
    """
    places = tl.arange(0, BLOCK)
    sound = P > 0
    for k in range(0, P):
        mine = places == k
        row = tl.sum(tl.where(mine[:, None], a, 0.0), axis=0)
        pivot = tl.sum(tl.where(mine, row, 0.0), axis=0)
        sound &= (pivot > 0) & (pivot < float("inf"))
        u = tl.where(mine, -1.0, row)
        scaled = u * (1.0 / tl.where(pivot > 0, pivot, 1.0))
        a = tl.where(mine[:, None] | mine[None, :], 0.0, a) - u[:, None] * scaled[None, :]
    return a, sound


@triton.jit
def newton_hessian_kernel(
    RAW,
    INVERTED,
    INFO,
    CONSTANTS,
    LIMITS,
    STATUS,
    NUMBERS,
    KEPT,
    VECTORS,
    MEMORY,
    W64,
    W32,
    P,
    pitch,
    INTERCEPT: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Take up the Hessian at the accepted point, for models of status 3 and more.

    RAW [K, 2 D + 6 + D D] are a pass's sums: gradient, scalars, border, corner, matrix. FIRST: value, gradient and gap
    are taken from them as well, for models of status 0 too. INVERTED [K, P, P] is the Hessian's inverse where INFO [K]
    is 0; both are None where it is inverted here, for up to BLOCK columns of X.
    """
    model = tl.program_id(0).to(tl.int64)
    status = tl.load(STATUS + model)
    if (status >= WANTS_HESSIAN) | ((status == GOES_ON) & FIRST):
        D = P - INTERCEPT
        RAW += model * (2 * D + 6 + D * D)
        LIMITS += model * LIMITS_A_MODEL
        N, Q = NUMBERS + model * NUMBERS_A_MODEL, KEPT + model * KEPT_A_MODEL
        V, H = VECTORS + model * VECTORS_A_MODEL * pitch, MEMORY + model * P * pitch
        S = tl.load(LIMITS + WEIGHT_SUM_LIMIT)
        j = tl.arange(0, BLOCK)
        accepted = P < 0
        finite = P > 0
        if FIRST:
            value, gap, squares, _, _, _ = evaluated(RAW, CONSTANTS, V, None, S, P, pitch, INTERCEPT, True, True, BLOCK)
            finite, _ = judged(value, squares, value, value, value, value, True)
            accepted = finite
            norm = tl.sqrt(squares)
            tl.debug_barrier()
            G = V + pitch * NEW
        else:
            value, gap, norm = tl.load(N + VALUE), tl.load(N + GAP), tl.load(N + NORM)
            G = V + pitch * GRADIENT
        if INVERTED is None:
            inside = (j < D)[:, None] & (j < D)[None, :]
            a = hessian_rows(RAW, CONSTANTS, S, j, j, P, pitch, INTERCEPT)
            g = tl.load(G + j, mask=j < D, other=0.0)
            sound = P > 0
            if INTERCEPT:  # its row is eliminated beforehand, so that 64 columns are no more than 64 rows
                corner = tl.load(RAW + 2 * D + 5)
                sound = (corner > 0) & (corner < float("inf"))
                corner = tl.where(sound, corner, 1.0)
                d, c = tl.load(CONSTANTS + j, mask=j < D, other=0.0), tl.load(CONSTANTS + 2 * pitch + j, mask=j < D)
                border = tl.where(j < D, tl.load(RAW + D + 5 + j, mask=j < D, other=0.0) - c * corner, 0.0) * d
                root = border / (tl.sqrt(corner) * tl.sqrt(S))  # the product may be below all numbers
                a -= root[:, None] * root[None, :]
            # The tile goes through memory so that every version of Triton lays it out by rows: 3.6 has another layout
            # for what is read here, and takes twice as many instructions for a sweep.
            places = H + j[:, None] * pitch + j[None, :]
            tl.store(places, a, mask=inside)
            tl.debug_barrier()
            beyond = tl.where((j[:, None] == j[None, :]) & (j >= D)[None, :], 1.0, 0.0)
            a, positive = swept(tl.load(places, mask=inside, other=0.0) + beyond, D, BLOCK)
            sound &= positive
            known = tl.where(sound, D, 0)
            tl.store(places, -a, mask=inside)
            direction = tl.sum(a * g[None, :], axis=1)
            slope = tl.zeros([], tl.float64)
            if INTERCEPT:
                d_b, g_b = tl.load(CONSTANTS + D), tl.load(G + D)
                ratio = border / (corner * d_b)
                beside = tl.sum(a * ratio[None, :], axis=1)
                last = S / (corner * d_b) / d_b - tl.sum(ratio * beside, axis=0)
                tl.store(H + D * pitch + j, beside, mask=j < D)
                tl.store(H + j * pitch + D, beside, mask=j < D)
                tl.store(H + D * pitch + D, last)
                of_intercept = -tl.sum(beside * g, axis=0) - last * g_b
                direction -= beside * g_b
                slope = of_intercept * g_b
                tl.store(V + pitch * DIRECTION + D, of_intercept, mask=known > 0)
            slope += tl.sum(direction * g, axis=0)
            tl.store(V + pitch * DIRECTION + j, direction, mask=j < known)
        else:
            g = tl.load(G + j, mask=j < pitch, other=0.0)
            sound = tl.load(INFO + model) == 0
            known = tl.where(sound, P, 0)
            for start in range(0, P, TILE):
                i = start + tl.arange(0, TILE)
                inside = (i < known)[:, None] & (j < P)[None, :]
                h = tl.load(INVERTED + model * P * P + i[:, None] * P + j[None, :], mask=inside, other=0.0)
                tl.store(H + i[:, None] * pitch + j[None, :], h, mask=inside)
                tl.store(V + pitch * DIRECTION + i, -tl.sum(h * g[None, :], axis=1), mask=i < known)
            tl.debug_barrier()
            slope = tl.sum(g * tl.load(V + pitch * DIRECTION + j, mask=j < pitch, other=0.0), axis=0)
        decrement = -0.5 * slope
        zero = tl.zeros([], tl.float64)
        status = tl.where(sound & (tl.abs(decrement) < float("inf")), GOES_ON, NO_FACTOR)
        status = tl.where(gap <= tl.load(LIMITS + STOP_GAP), CLOSE, status)
        status = tl.where(finite, status, NOT_FINITE)
        tl.debug_barrier()
        finished(CONSTANTS, V, W64, W32, model, accepted, zero + 1.0, status == GOES_ON, P, pitch, INTERCEPT, BLOCK)
        tl.store(Q + NEXT_STEP, zero + 1.0)
        tl.store(Q + IS_NEW, zero + 1.0)
        if FIRST:
            tl.store(Q + NOISE, tl.load(LIMITS + ROUNDING))
        store_numbers(N, status, value, gap, norm, zero + 1.0, zero, decrement, zero + 1.0)
        tl.store(STATUS + model, status)


@triton.jit
def build_hessian_kernel(
    RAW, HESSIAN, CONSTANTS, LIMITS, P, pitch, INTERCEPT: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr
):
    """Program (k, t) writes TILE rows of the Hessian of model k to HESSIAN [K, P, P]."""
    model = tl.program_id(0).to(tl.int64)
    D = P - INTERCEPT
    i, j = tl.program_id(1) * TILE + tl.arange(0, TILE), tl.arange(0, BLOCK)
    S = tl.load(LIMITS + model * LIMITS_A_MODEL + WEIGHT_SUM_LIMIT)
    rows = hessian_rows(RAW + model * (2 * D + 6 + D * D), CONSTANTS, S, i, j, P, pitch, INTERCEPT)
    inside = (i < P)[:, None] & (j < P)[None, :]
    tl.store(HESSIAN + model * P * P + i[:, None] * P + j[None, :], rows, mask=inside)
