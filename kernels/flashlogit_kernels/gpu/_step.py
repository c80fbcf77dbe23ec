"""Kernels of what happens between two passes: a program a model judges the last point and sets the next one.

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
        data = (tl.load(SUMS + j, mask=j < P, other=0.0) - c * of_bias) * d / S
        gradient = data + l2 * trial
        tl.store(V + pitch * NEW + j, gradient, mask=inside)
        penalty += l2 * trial * trial
        squares += gradient * gradient
        divisor = tl.where(j < D, 2 * l2, 1.0)
        if EXACT and INTERCEPT:
            border = tl.load(SUMS + D + 5 + j, mask=j < D, other=0.0)
            rest = gradient - shift * ((border - c * corner) * d / S)
            bound += tl.where(j < D, rest * rest / divisor, 0.0)
        else:
            bound += gradient * gradient / divisor
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
    value = tl.load(SUMS + D + 1) / S + 0.5 * tl.sum(penalty, axis=0)
    gap = tl.sum(bound, axis=0)
    if EXACT and INTERCEPT:
        gap = tl.where(tl.abs(shift) <= 0.5, gap + shift * shift * (corner / S), value)
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


@triton.jit
def pairs_products(V, H, head, pitch, FIRST: tl.constexpr, CHUNK: tl.constexpr):
    """Return S g, Y g, S y and Y y, [PLACES] each, of all pairs with the new gradient g and the newest change y."""
    place = tl.arange(0, PLACES)[:, None]
    zero = tl.zeros([PLACES, CHUNK], tl.float64)
    step_gradient, change_gradient, step_change, change_change = zero, zero, zero, zero
    for start in range(0, pitch, CHUNK):
        j = start + tl.arange(0, CHUNK)
        inside = (place < RING) & (j < pitch)[None, :]
        s = tl.load(H + place * pitch + j[None, :], mask=inside, other=0.0)
        y = tl.load(H + (place + RING) * pitch + j[None, :], mask=inside, other=0.0)
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

    H = size 1 + S^T R^-T ((diag(s . y) + size Y Y^T) R^-1 S - size Y) - size Y^T R^-1 S, the compact form of Byrd,
    Nocedal and Schnabel 1994 (theorem 2.2). R holds s_i . y_j of pairs i no newer than j, so that a new pair adds a column
    to its inverse, and the oldest pair leaves with a row and a column of its own.
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
    for start in range(0, pitch, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = j < pitch
        g = tl.load(V + pitch * NEW + j, mask=inside, other=0.0)
        direction = -size * g
        for place in tl.static_range(RING):
            s = tl.load(H + place * pitch + j, mask=inside, other=0.0)
            y = tl.load(H + (RING + place) * pitch + j, mask=inside, other=0.0)
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
def resume_kernel(CONSTANTS, STATUS, KEPT, VECTORS, W64, W32, P, pitch, INTERCEPT: tl.constexpr, BLOCK: tl.constexpr):
    """Set every model's status to 0 and its next point to where its direction leads."""
    model = tl.program_id(0).to(tl.int64)
    V, step = VECTORS + model * VECTORS_A_MODEL * pitch, tl.load(KEPT + model * KEPT_A_MODEL + NEXT_STEP)
    finished(CONSTANTS, V, W64, W32, model, pitch < 0, step, pitch > 0, P, pitch, INTERCEPT, BLOCK)
    tl.store(STATUS + model, GOES_ON)
