"""The step between two passes, by L-BFGS or by Newton's method: a program for each model."""

import triton
import triton.language as tl

from ._point import (
    CLOSE,
    CURVATURE,
    DECREMENT,
    DIRECTION,
    GAP,
    GOES_ON,
    GOOD_RATIO,
    GRADIENT,
    HEAD,
    INVERSE,
    IS_NEW,
    KEPT_A_MODEL,
    LIMITS_A_MODEL,
    MATRICES_A_MODEL,
    MISLED,
    NEW,
    NEXT_STEP,
    NOISE,
    NORM,
    NOT_FINITE,
    NUMBERS_A_MODEL,
    OF_CHANGES,
    OF_STEPS,
    PLACES,
    PRODUCTS,
    REFUSED,
    RING,
    ROUNDING,
    SIZE,
    STOP_GAP,
    THETA,
    TIMES_CHANGE,
    TIMES_GRADIENT,
    TRIAL,
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
def pairs_products(V, H, head, pitch, FIRST: tl.constexpr, CHUNK: tl.constexpr):
    """Return S g, Y g, S y and Y y, [PLACES] each, of all pairs with the new gradient g and the newest change y."""
    STAGES: tl.constexpr = 1 if CHUNK < 64 else 3
    place = tl.arange(0, PLACES)[:, None]
    zero = tl.zeros([PLACES, CHUNK], tl.float64)
    step_gradient, change_gradient, step_change, change_change = zero, zero, zero, zero
    for start in tl.range(0, pitch, CHUNK, num_stages=STAGES):
        j = start + tl.arange(0, CHUNK)
        inside = (place < RING) & (j < pitch)[None, :]
        s = tl.load(H + place * pitch + j[None, :], mask=inside, other=0.0)
        y = tl.load(H + (place + RING) * pitch + j[None, :], mask=inside, other=0.0)
        if FIRST:  # no pair has been written to the free place, where one that was refused may have left anything
            s, y = tl.where(place == head, 0.0, s), tl.where(place == head, 0.0, y)
        g = tl.load(V + pitch * NEW + j, mask=j < pitch, other=0.0)[None, :]
        step_gradient += s * g
        change_gradient += y * g
        if not FIRST:
            newest = tl.load(H + (head + RING) * pitch + j, mask=j < pitch, other=0.0)[None, :]
            step_change += s * newest
            change_change += y * newest
    return (
        tl.sum(step_gradient, axis=1),
        tl.sum(change_gradient, axis=1),
        tl.sum(step_change, axis=1),
        tl.sum(change_change, axis=1),
    )


@triton.jit
def pairs_direction(
    V, H, M, head, size, bent, length, pitch, FIRST: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr
):
    """Keep the pair at `head` if it is curved, set the direction -H g; return (direction . g, kept, size).

    H g = size g + S^T c - size Y^T a,    a = R^-1 S g,    c = R^-T (diag(s . y) a + size Y Y^T a - size Y g)

    is the compact form of Byrd, Nocedal and Schnabel 1994 (theorem 2.2). R holds s_i . y_j for pairs i no newer than j.
    A new pair adds a column to its inverse, and the oldest one leaves it with its row and column.
    """
    on_steps, on_changes, step_change, change_change = pairs_products(V, H, head, pitch, FIRST, CHUNK)
    places = tl.arange(0, PLACES)
    row, column = places[:, None], places[None, :]
    square = row * PLACES + column
    inverse, products = tl.load(M + INVERSE + square), tl.load(M + PRODUCTS + square)
    curvature = tl.load(M + CURVATURE + places)
    kept = bent < 0
    if not FIRST:
        kept = bent > tl.full([], 1e-14, tl.float64) * length
        divisor = tl.where(kept, bent, 1.0)
        newest = -tl.sum(inverse * step_change[None, :], axis=1) / divisor
        newest = tl.where(places == head, 1.0 / divisor, newest)
        oldest = (head + 1) % RING
        pushed = tl.where(column == head, newest[:, None], inverse)
        pushed = tl.where((row == oldest) | (column == oldest), 0.0, pushed)
        inverse = tl.where(kept, pushed, inverse)
        crossed = tl.where(row == head, change_change[None, :], products)
        crossed = tl.where(column == head, change_change[:, None], crossed)
        products = tl.where(kept, crossed, products)
        curvature = tl.where(kept, tl.where(places == head, bent, curvature), curvature)
        size = tl.where(kept, bent / tl.where(kept, length, 1.0), size)
        tl.debug_barrier()
        tl.store(M + INVERSE + square, inverse)
        tl.store(M + PRODUCTS + square, products)
        tl.store(M + CURVATURE + places, curvature)
    of_changes = tl.sum(inverse * on_steps[None, :], axis=1)
    middle = curvature * of_changes + size * (tl.sum(products * of_changes[None, :], axis=1) - on_changes)
    of_steps = tl.sum(inverse * middle[:, None], axis=0)
    tl.store(M + OF_CHANGES + places, size * of_changes)
    tl.store(M + OF_STEPS + places, of_steps)
    tl.debug_barrier()
    slope = tl.zeros([BLOCK], tl.float64)
    GROUP: tl.constexpr = 21 if BLOCK < 512 else 7
    for start in range(0, pitch, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = j < pitch
        g = tl.load(V + pitch * NEW + j, mask=inside, other=0.0)
        direction = -size * g
        for group in range(0, RING, GROUP):
            for member in tl.static_range(GROUP):
                place = group + member
                s = tl.load(H + place * pitch + j, mask=inside, other=0.0)
                y = tl.load(H + (place + RING) * pitch + j, mask=inside, other=0.0)
                if FIRST:
                    s, y = tl.where(head == place, 0.0, s), tl.where(head == place, 0.0, y)
                direction += tl.load(M + OF_CHANGES + place) * y - tl.load(M + OF_STEPS + place) * s
        tl.store(V + pitch * DIRECTION + j, direction, mask=inside)
        slope += direction * g
    return tl.sum(slope, axis=0), kept, size


@triton.jit
def inverse_products(V, INVERSE_HESSIAN, P, pitch, FIRST: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Write the inverse Hessian's products with the new gradient and, unless FIRST, with its change."""
    j = tl.arange(0, BLOCK)
    g = tl.load(V + pitch * NEW + j, mask=j < pitch, other=0.0)
    y = g
    if not FIRST:
        y -= tl.load(V + pitch * GRADIENT + j, mask=j < pitch, other=0.0)
    for start in range(0, P, ROWS):
        i = start + tl.arange(0, ROWS)
        inside = (i < P)[:, None] & (j < pitch)[None, :]
        h = tl.load(INVERSE_HESSIAN + i[:, None] * pitch + j[None, :], mask=inside, other=0.0)
        tl.store(V + pitch * TIMES_GRADIENT + i, tl.sum(h * g[None, :], axis=1), mask=i < P)
        if not FIRST:
            tl.store(V + pitch * TIMES_CHANGE + i, tl.sum(h * y[None, :], axis=1), mask=i < P)


@triton.jit
def newton_direction(
    V,
    INVERSE_HESSIAN,
    step,
    predicted,
    curvature,
    P,
    pitch,
    FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Correct the inverse Hessian along the step s if its gradient's change y is curved (a BFGS update), and set the
    direction -H^-1 g; return direction . g.

    With u = H^-1 y and rho = 1 / s . y the inverse becomes H^-1 - rho (s u^T + u s^T) + rho^2 (y . u + 1 / rho) s s^T.
    As s is a multiple of -H^-1 g for the last gradient g, s . H s is known without H.
    """
    inverse_products(V, INVERSE_HESSIAN, P, pitch, FIRST, ROWS, BLOCK)
    tl.debug_barrier()
    j = tl.arange(0, BLOCK)
    inside = j < pitch
    g = tl.load(V + pitch * NEW + j, mask=inside, other=0.0)
    direction = -tl.load(V + pitch * TIMES_GRADIENT + j, mask=inside, other=0.0)
    if not FIRST:
        expected = -step * predicted
        good = (expected > 0) & (curvature > tl.full([], 1e-3, tl.float64) * expected)
        s = tl.load(V + pitch * TRIAL + j, mask=inside, other=0.0)
        s -= tl.load(V + pitch * THETA + j, mask=inside, other=0.0)
        y = g - tl.load(V + pitch * GRADIENT + j, mask=inside, other=0.0)
        u = tl.load(V + pitch * TIMES_CHANGE + j, mask=inside, other=0.0)
        rho = 1.0 / tl.where(good, curvature, 1.0)
        again = rho * rho * (tl.sum(y * u, axis=0) + curvature)
        along, across = tl.sum(s * g, axis=0), tl.sum(u * g, axis=0)
        direction += tl.where(good, rho * (s * across + u * along) - again * s * along, 0.0)
        if good:
            for start in range(0, P, ROWS):
                i = start + tl.arange(0, ROWS)
                step_i = tl.load(V + pitch * TRIAL + i, mask=i < P, other=0.0)
                step_i -= tl.load(V + pitch * THETA + i, mask=i < P, other=0.0)
                u_i = tl.load(V + pitch * TIMES_CHANGE + i, mask=i < P, other=0.0)
                both = (i < P)[:, None] & (j < pitch)[None, :]
                at = INVERSE_HESSIAN + i[:, None] * pitch + j[None, :]
                change = rho * (step_i[:, None] * u[None, :] + u_i[:, None] * s[None, :])
                change -= again * (step_i[:, None] * s[None, :])
                tl.store(at, tl.load(at, mask=both, other=0.0) - change, mask=both)
    tl.store(V + pitch * DIRECTION + j, direction, mask=inside)
    return tl.sum(direction * g, axis=0)


@triton.jit
def step_kernel(
    SUMS,
    CONSTANTS,
    LIMITS,
    STATUS,
    NUMBERS,
    KEPT,
    VECTORS,
    MEMORY,
    MATRICES,
    W64,
    W32,
    P,
    pitch,
    INTERCEPT: tl.constexpr,
    NEWTON: tl.constexpr,
    FIRST: tl.constexpr,
    EXACT: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Judge the trial point by its pass's sums and set the next one, for models whose status is 0.

    SUMS is [K, D + 5], with EXACT [K, 2 D + 6]. FIRST: the point is taken as it is. MEMORY holds the pairs of L-BFGS or
    the inverse Hessian; TILE is the columns of a tile of pairs, or the rows of one of the inverse Hessian.
    """
    model = tl.program_id(0).to(tl.int64)
    if tl.load(STATUS + model) == GOES_ON:
        D = P - INTERCEPT
        if EXACT:
            SUMS += model * (2 * D + 6)
        else:
            SUMS += model * (D + 5)
        LIMITS += model * LIMITS_A_MODEL
        N, Q = NUMBERS + model * NUMBERS_A_MODEL, KEPT + model * KEPT_A_MODEL
        V = VECTORS + model * VECTORS_A_MODEL * pitch
        step, head, new = tl.load(Q + NEXT_STEP), tl.load(Q + HEAD).to(tl.int32), tl.load(Q + IS_NEW)
        size, last, last_gap = tl.load(Q + SIZE), tl.load(N + VALUE), tl.load(N + GAP)
        last_norm, refused, decrement = tl.load(N + NORM), tl.load(N + REFUSED), tl.load(N + DECREMENT)
        S, noise = tl.load(LIMITS + WEIGHT_SUM_LIMIT), tl.load(LIMITS + ROUNDING)
        last_noise = tl.load(Q + NOISE)
        zero, was_new = tl.zeros([], tl.float64), new
        if NEWTON:
            H, PAIR = MEMORY + model * P * pitch, None
        else:
            H = MEMORY + model * (2 * RING) * pitch
            PAIR = H + head * pitch
        value, gap, squares, predicted, bent, length = evaluated(
            SUMS, CONSTANTS, V, PAIR, S, P, pitch, INTERCEPT, FIRST, EXACT, BLOCK
        )
        accepted, shorter = judged(value, squares, predicted, last, step, tl.maximum(noise, last_noise), FIRST)
        status = tl.full([], GOES_ON, tl.int32)
        tl.debug_barrier()
        if accepted:
            if NEWTON:
                slope = newton_direction(V, H, step, predicted, bent, P, pitch, FIRST, TILE, BLOCK)
                if not FIRST:
                    poor = -0.5 * slope > tl.load(LIMITS + GOOD_RATIO) * decrement
                    status = tl.where(poor, WANTS_HESSIAN, status)
                    new = zero
            else:
                M = MATRICES + model * MATRICES_A_MODEL
                slope, kept, size = pairs_direction(V, H, M, head, size, bent, length, pitch, FIRST, BLOCK, TILE)
                head = tl.where(kept, (head + 1) % RING, head)
            decrement = -0.5 * slope
        if FIRST:
            refused, next_step, step = zero, zero + 1.0, zero + 1.0
            norm = tl.sqrt(squares)
            status = tl.where(accepted, status, NOT_FINITE)
        else:
            refused = tl.where(accepted, 0.0, refused + 1.0)
            next_step = tl.where(accepted, 1.0, shorter)
            value, gap = tl.where(accepted, value, last), tl.where(accepted, gap, last_gap)
            norm = tl.where(accepted, tl.sqrt(squares), last_norm)
            if NEWTON:
                status = tl.where((refused > 1.0) & (new == 0), WANTS_HESSIAN, status)
                status = tl.where((refused >= 4.0) & (new != 0), MISLED, status)
        status = tl.where((gap <= tl.load(LIMITS + STOP_GAP)) & (status != NOT_FINITE), CLOSE, status)
        tl.debug_barrier()
        finished(CONSTANTS, V, W64, W32, model, accepted, next_step, status == GOES_ON, P, pitch, INTERCEPT, BLOCK)
        tl.store(Q + NEXT_STEP, next_step)
        tl.store(Q + HEAD, head.to(tl.float64))
        tl.store(Q + SIZE, size)
        tl.store(Q + IS_NEW, new)
        tl.store(Q + NOISE, tl.where(accepted, noise, last_noise))
        store_numbers(N, status, value, gap, norm, step, refused, decrement, was_new)
        tl.store(STATUS + model, status)


@triton.jit
def resume_kernel(
    CONSTANTS,
    STATUS,
    KEPT,
    VECTORS,
    W64,
    W32,
    P,
    pitch,
    INTERCEPT: tl.constexpr,
    BACK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Set every model's status to 0 and its next point to where its direction leads, or BACK to the accepted point."""
    model = tl.program_id(0).to(tl.int64)
    V, step = VECTORS + model * VECTORS_A_MODEL * pitch, tl.load(KEPT + model * KEPT_A_MODEL + NEXT_STEP)
    goes_on = pitch > 0
    if BACK:
        goes_on = pitch < 0
    finished(CONSTANTS, V, W64, W32, model, pitch < 0, step, goes_on, P, pitch, INTERCEPT, BLOCK)
    tl.store(STATUS + model, GOES_ON)
