"""A whole fit of a few thousand numbers in one program: its X stays in the multiprocessor's cache between the walks."""

import triton
import triton.language as tl

from ... import fits
from .._terms import row_terms

TOLERANCE = tl.constexpr(fits.TOLERANCE)
LIMIT = tl.constexpr(fits.LIMIT)
STALLED = tl.constexpr(fits.STALLED)
REFUSED = tl.constexpr(fits.REFUSED)
UNSOUND = tl.constexpr(fits.UNSOUND)
TRIALS = tl.constexpr(fits.TRIALS)
PATIENCE = tl.constexpr(fits.PATIENCE)
NO_CURVATURE = tl.constexpr(fits.NO_CURVATURE)
NO_FLOAT32_CURVATURE = tl.constexpr(fits.NO_FLOAT32_CURVATURE)
FLAT = tl.constexpr(fits.FLAT)
FARTHEST_SHIFT = tl.constexpr(fits.FARTHEST_SHIFT)
NUMBERS = tl.constexpr(fits.NUMBERS)
ROW = tl.constexpr(fits.ROW)


@triton.jit
def tiny_tile(
    X,
    ROWS,
    place,
    stop,
    columns,
    column_stride,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Return (x, which entries exist) of the rows at places from `place` on, float64."""
    places = place + tl.arange(0, BLOCK_N).to(tl.int64)
    exists = places < stop
    source = places
    if ROWS is not None:
        source = tl.load(ROWS + places, mask=exists, other=0)
    if COLUMN_MAJOR:
        pointers = X + source[:, None] + columns[None, :].to(tl.int64) * column_stride
    else:
        pointers = X + source[:, None] * ROW_STRIDE + columns[None, :]
    inside = exists[:, None] & (columns < D)[None, :]
    return tl.load(pointers, mask=inside, other=0.0).to(tl.float64), inside


@triton.jit
def label_rows(Y, SAMPLE_WEIGHT, ROWS, place, stop, BLOCK: tl.constexpr):
    """Return (places, whether they exist, y, s) from `place` on, y and s float64."""
    places = place + tl.arange(0, BLOCK).to(tl.int64)
    exists = places < stop
    source = places
    if ROWS is not None:
        source = tl.load(ROWS + places, mask=exists, other=0)
    y = tl.load(Y + source, mask=exists, other=0).to(tl.float64)
    s = exists.to(tl.float64)
    if SAMPLE_WEIGHT is not None:
        s = tl.load(SAMPLE_WEIGHT + places, mask=exists, other=0.0).to(tl.float64)
    return places, exists, y, s


@triton.jit
def minus_inverse(A, least, UNPENALISED: tl.constexpr, P: tl.constexpr, WIDTH: tl.constexpr):
    """Return -A^-1 of the symmetric A [WIDTH, WIDTH], by sweeping its P rows, none with a pivot below `least` [WIDTH],
    and the smallest pivot.

    A pivot is the curvature along a parameter when those before it follow, which a penalty bounds from below. What
    rounding makes smaller is taken for that bound, so that the result is negative definite. Where a penalty is missing
    there is no bound, and parameters of smaller pivots are left out: only that there are some is of use then.
    """
    numbers = tl.arange(0, WIDTH)
    smallest = tl.full([], float("inf"), tl.float64)
    for k in tl.range(0, P):
        mine = numbers == k
        row = tl.sum(tl.where(mine[:, None], A, 0.0), axis=0)
        column = tl.sum(tl.where(mine[None, :], A, 0.0), axis=1)
        smallest = tl.minimum(smallest, tl.sum(tl.where(mine, row, 0.0), axis=0))
        bounded = tl.where(row > least, row, float("inf")) if UNPENALISED else tl.maximum(row, least)
        pivot = 1.0 / tl.sum(tl.where(mine, bounded, 0.0), axis=0)
        scaled = row * pivot
        swept = tl.where(mine[None, :], column[:, None] * pivot, A - column[:, None] * scaled[None, :])
        A = tl.where(mine[:, None], tl.where(mine, -pivot, scaled)[None, :], swept)
    return A, smallest


@triton.jit
def tiny_hessian(
    X,
    ROWS,
    CURVATURES,
    start,
    stop,
    columns,
    center,
    scale,
    ones,
    column_stride,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Return sum_i CURVATURES_i z_i z_i^T of the places from start to stop, [WIDTH, WIDTH] float64."""
    hessian = tl.zeros([WIDTH, WIDTH], tl.float64)
    for place in tl.range(start, stop, BLOCK_H):
        x, inside = tiny_tile(X, ROWS, place, stop, columns, column_stride, D, ROW_STRIDE, COLUMN_MAJOR, BLOCK_H)
        x = tl.where(inside, (x - center[None, :]) * scale[None, :], ones[None, :]).to(tl.float32)
        places = place + tl.arange(0, BLOCK_H).to(tl.int64)
        h = tl.load(CURVATURES + places, mask=places < stop, other=0.0).to(tl.float32)
        hessian += tl.dot(tl.trans(x * h[:, None]), x, input_precision=PRECISION).to(tl.float64)
    return hessian


@triton.jit(do_not_specialize=["l2_bits", "tolerance_bits", "limit", "N"])
def tiny_kernel(
    X,
    Y,
    SAMPLE_WEIGHT,
    ROWS,
    STARTS,
    L2,
    WEIGHT,
    BIAS,
    RECORD,
    LOGITS,
    RESIDUALS,
    CURVATURES,
    N,
    column_stride,
    l2_bits,
    tolerance_bits,
    limit,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    INTERCEPT: tl.constexpr,
    UNPENALISED: tl.constexpr,
    POINTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_H: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Program m fits the problem of the places STARTS[m] to STARTS[m + 1], or m N to (m + 1) N where STARTS is None.

    A place's row of X and its label are those numbered ROWS[place], or `place` where ROWS is None; SAMPLE_WEIGHT has a
    number for each place, or is None. L2 has a number for each problem, or is None where all have l2, which comes, as
    the tolerance does, as the bits of a float64 number: a float argument would be rounded to float32. The arithmetic is
    float64 on (x - center) scale, with the intercept as column D. Only the Hessian, which chooses directions, is a
    product of float32 tiles, and its sum over the tiles is float64.

    Writes WEIGHT[m, D] and BIAS[m] in the units of X, and RECORD[m, NUMBERS + POINTS * ROW]: ending, P, gap, null
    model's P, evaluations after the first, accepted points, and the columns' squared errors and sizes as
    `objectives.coordinates` has them; then for each point the evaluations before it, P, gap, |gradient| and the length
    of the step that led there. The ending is UNSOUND where there is nothing to fit: a label outside [0, 1], a weight
    below 0, one class, or numbers that are not finite.
    """
    problem = tl.program_id(0).to(tl.int64)
    start, stop = problem * N, problem * N + N
    if STARTS is not None:
        start, stop = tl.load(STARTS + problem), tl.load(STARTS + problem + 1)
    zero = tl.full([], 0.0, tl.float64)
    one = zero + 1.0
    l2 = (tl.full([], 0, tl.int64) + l2_bits).to(tl.float64, bitcast=True)
    if L2 is not None:
        l2 = tl.load(L2 + problem)
    tolerance = (tl.full([], 0, tl.int64) + tolerance_bits).to(tl.float64, bitcast=True)
    P: tl.constexpr = D + INTERCEPT
    columns = tl.arange(0, WIDTH)
    weights, intercept = columns < D, columns == (D if INTERCEPT else -1)

    # The columns' moments about the first row, which is exact for a constant column.
    first = start
    if ROWS is not None:
        first = tl.load(ROWS + start, mask=start < stop, other=0)
    if COLUMN_MAJOR:
        pointers = X + first + columns.to(tl.int64) * column_stride
    else:
        pointers = X + first * ROW_STRIDE + columns
    shift = tl.load(pointers, mask=columns < tl.where(start < stop, D, 0), other=0.0).to(tl.float64)
    total = tl.zeros([BLOCK_N, WIDTH], tl.float64)
    squares = tl.zeros([BLOCK_N, WIDTH], tl.float64)
    for place in tl.range(start, stop, BLOCK_N):
        x, inside = tiny_tile(X, ROWS, place, stop, columns, column_stride, D, ROW_STRIDE, COLUMN_MAJOR, BLOCK_N)
        moved = tl.where(inside, x - shift[None, :], 0.0)
        total += moved
        squares += moved * moved
    mass = tl.zeros([BLOCK], tl.float64)
    positive = tl.zeros([BLOCK], tl.float64)
    wrong = tl.zeros([BLOCK], tl.int32)
    for place in tl.range(start, stop, BLOCK):
        places, exists, y, s = label_rows(Y, SAMPLE_WEIGHT, ROWS, place, stop, BLOCK)
        mass += s
        positive += s * y
        wrong += tl.where((y >= 0) & (y <= 1) & (s >= 0), 0, 1)
    count = tl.maximum(stop - start, 1).to(tl.float64)
    moved_mean = tl.sum(total, axis=0) / count
    square = tl.sum(squares, axis=0) / count
    variance = square - moved_mean * moved_mean
    variance = tl.where(variance > 1e-14 * square, variance, 0.0)
    S = tl.sum(mass, axis=0)
    share = tl.sum(positive, axis=0) / tl.where(S > 0, S, 1.0)
    sound = (tl.sum(wrong, axis=0) == 0) & (S > 0) & (float("inf") > S) & (tl.sum(square, axis=0) < float("inf"))
    if INTERCEPT:
        sound = sound & (share > 0) & (share < 1)
        share = tl.where(sound, share, 0.5)
        center = shift + moved_mean
        spread = share * (1.0 - share)
        of_loss = spread * variance
        null = -(share * tl.log(share) + (1.0 - share) * tl.log(1.0 - share))
        odds = tl.log(share / (1.0 - share))
    else:
        center = tl.zeros([WIDTH], tl.float64)
        spread = zero + 0.25
        of_loss = spread * (variance + (shift + moved_mean) * (shift + moved_mean))
        null = tl.log(zero + 2.0)
        odds = zero
    tiny_l2 = tl.full([], 1e-16, tl.float64)
    diagonal = tl.where(of_loss > 0, of_loss + l2, tl.maximum(l2, tiny_l2))
    scale = tl.where(weights, 1.0 / tl.sqrt(diagonal), 0.0)
    of_intercept = 1.0 / tl.sqrt(spread)
    ones = zero + tl.where(intercept, of_intercept, 0.0)
    penalty = tl.where(weights, l2 * scale * scale, 0.0)
    no_curvature = tl.zeros([WIDTH], tl.float64) + NO_FLOAT32_CURVATURE

    goal = tolerance * null

    record = RECORD + problem * (NUMBERS + POINTS * ROW)
    tl.store(record + 3, null)
    tl.store(record + 6, tl.sum(tl.where(weights, of_loss, 0.0), axis=0))
    tl.store(record + 7, tl.sum(tl.where(weights & (of_loss > 0), scale * scale, 0.0), axis=0))
    theta = zero + tl.where(intercept, odds / of_intercept, 0.0)
    direction = tl.zeros([WIDTH], tl.float64)
    value, best, slope, step = zero, zero + float("inf"), zero, one
    none = tl.full([], 0, tl.int32)
    refused, stalled, points, iterations = none, none, none, none - 1
    ending = tl.where(sound, -1, UNSOUND)
    # Not a while loop, for only here can be said that addresses are not to be kept in registers all the time.
    for _ in tl.range(0, limit + 1, disable_licm=True):
        if ending < 0:
            iterations += 1
            trial = theta + step * direction
            for place in tl.range(start, stop, BLOCK_N):
                x, inside = tiny_tile(
                    X, ROWS, place, stop, columns, column_stride, D, ROW_STRIDE, COLUMN_MAJOR, BLOCK_N
                )
                x = tl.where(inside, (x - center[None, :]) * scale[None, :], ones[None, :])
                places = place + tl.arange(0, BLOCK_N).to(tl.int64)
                tl.store(LOGITS + places, tl.sum(x * trial[None, :], axis=1), mask=places < stop)
            tl.debug_barrier()
            losses = tl.zeros([BLOCK], tl.float64)
            for place in tl.range(start, stop, BLOCK):
                places, exists, y, s = label_rows(Y, SAMPLE_WEIGHT, ROWS, place, stop, BLOCK)
                z = tl.load(LOGITS + places, mask=exists, other=0.0)
                loss, r, h = row_terms(z, y, None, float("inf"), 0.0, False)
                losses += s * loss
                tl.store(RESIDUALS + places, s * r, mask=exists)
                tl.store(CURVATURES + places, s * h, mask=exists)
            tl.debug_barrier()
            gradients = tl.zeros([BLOCK_N, WIDTH], tl.float64)
            borders = tl.zeros([BLOCK_N, WIDTH], tl.float64)
            for place in tl.range(start, stop, BLOCK_N):
                x, inside = tiny_tile(
                    X, ROWS, place, stop, columns, column_stride, D, ROW_STRIDE, COLUMN_MAJOR, BLOCK_N
                )
                x = tl.where(inside, (x - center[None, :]) * scale[None, :], ones[None, :])
                places = place + tl.arange(0, BLOCK_N).to(tl.int64)
                gradients += x * tl.load(RESIDUALS + places, mask=places < stop, other=0.0)[:, None]
                borders += x * tl.load(CURVATURES + places, mask=places < stop, other=0.0)[:, None]
            of_data = tl.sum(gradients, axis=0) / S
            border = tl.sum(borders, axis=0) / S
            gradient = of_data + penalty * trial
            new_value = tl.sum(losses, axis=0) / S + 0.5 * tl.sum(penalty * trial * trial, axis=0)

            change = new_value - value
            predicted = step * slope
            accepted = change <= 1e-4 * predicted + 2e-14 * tl.abs(value)
            accepted = (accepted | (iterations == 0)) & (tl.abs(new_value) < float("inf"))
            if accepted:
                smallest = one
                if UNPENALISED:
                    hessian = tiny_hessian(
                        X, ROWS, CURVATURES, start, stop, columns, center, scale, ones, column_stride,
                        D, ROW_STRIDE, COLUMN_MAJOR, PRECISION, BLOCK_H, WIDTH,
                    )  # fmt: skip
                    inverse, smallest = minus_inverse(hessian / S, no_curvature, True, P, WIDTH)
                    direction = tl.sum(inverse * gradient[:, None], axis=0)
                    slope = tl.sum(gradient * direction, axis=0)
                    gap = -0.5 * slope
                else:
                    # The certificate, as `objectives.certificate` has it where l1 = 0.
                    nearer = zero
                    divergence = zero
                    if INTERCEPT:
                        curvature = tl.sum(tl.where(intercept, border, 0.0), axis=0)
                        nearer = tl.sum(tl.where(intercept, of_data, 0.0), axis=0) / curvature
                        divergence = nearer * nearer * curvature / of_intercept
                    apart = gradient - nearer * border
                    proven = divergence + tl.sum(
                        tl.where(weights, 0.5 * apart * apart, 0.0) / tl.where(weights, penalty, 1.0), axis=0
                    )
                    gap = tl.where((tl.abs(nearer) <= FARTHEST_SHIFT) & (proven < new_value), proven, new_value)
                norm = tl.sqrt(tl.sum(gradient * gradient, axis=0))
                row = record + NUMBERS + points * ROW
                tl.store(row, iterations.to(tl.float64))
                tl.store(row + 1, new_value)
                tl.store(row + 2, gap)
                tl.store(row + 3, norm)
                tl.store(row + 4, step)
                tl.store(record + 1, new_value)
                tl.store(record + 2, gap)
                points += 1
                stalled = tl.where(gap < 0.9 * best, 0, stalled + 1)
                # Without a penalty one step more: what is nothing to the loss may be a part of a standard error.
                reached = (gap <= goal) & (best <= goal) if UNPENALISED else gap <= goal
                best = tl.minimum(best, gap)
                theta, value, step, refused = trial, new_value, one, none
                ending = tl.where(reached, TOLERANCE, tl.where(stalled >= PATIENCE, STALLED, ending))
                if UNPENALISED:
                    ending = tl.where(smallest > NO_FLOAT32_CURVATURE, ending, REFUSED)
                elif ending < 0:
                    hessian = tiny_hessian(
                        X, ROWS, CURVATURES, start, stop, columns, center, scale, ones, column_stride,
                        D, ROW_STRIDE, COLUMN_MAJOR, PRECISION, BLOCK_H, WIDTH,
                    )  # fmt: skip
                    H = hessian / S + tl.where(columns[:, None] == columns[None, :], penalty[None, :], 0.0)
                    inverse, smallest = minus_inverse(H, tl.maximum(penalty, NO_CURVATURE), False, P, WIDTH)
                    direction = tl.sum(inverse * gradient[:, None], axis=0)
                    slope = tl.sum(gradient * direction, axis=0)
            else:
                parabola = -0.5 * predicted / (change - predicted)
                shorter = tl.where(tl.abs(parabola) < float("inf"), parabola, 0.1)
                step = step * tl.minimum(tl.maximum(shorter, 0.1), 0.5)
                refused += 1
                ending = tl.where(refused >= TRIALS, REFUSED, ending)
            ending = tl.where((ending < 0) & (iterations >= limit), LIMIT, ending)

    if UNPENALISED:  # noqa: SIM102 this is known when it is compiled
        if ending == TOLERANCE:
            # Whether classes overlap beyond doubt: some row is on the other label's side, and the curvature less `FLAT`
            # of the null model's is still positive in all directions.
            beyond = tl.zeros([BLOCK], tl.int32)
            for place in tl.range(start, stop, BLOCK):
                places, exists, y, s = label_rows(Y, SAMPLE_WEIGHT, ROWS, place, stop, BLOCK)
                r = tl.load(RESIDUALS + places, mask=exists, other=0.0)
                h = tl.load(CURVATURES + places, mask=exists, other=0.0)
                soft = (y > 0) & (y < 1)
                beyond += tl.where((s > 0) & (soft | (tl.abs(r) >= 0.5 * s)), 1, 0)
                tl.store(CURVATURES + places, h - FLAT * spread * s, mask=exists)
            tl.debug_barrier()
            hessian = tiny_hessian(
                X, ROWS, CURVATURES, start, stop, columns, center, scale, ones, column_stride,
                D, ROW_STRIDE, COLUMN_MAJOR, PRECISION, BLOCK_H, WIDTH,
            )  # fmt: skip
            inverse, smallest = minus_inverse(hessian / S, no_curvature, True, P, WIDTH)
            overlap = (tl.sum(beyond, axis=0) > 0) & (smallest > NO_FLOAT32_CURVATURE)
            ending = tl.where(overlap, TOLERANCE, REFUSED)

    w = theta * scale
    tl.store(WEIGHT + problem * D + columns, w, mask=weights)
    tl.store(BIAS + problem, tl.sum(tl.where(intercept, theta * of_intercept, 0.0) - center * w, axis=0))
    tl.store(record, ending.to(tl.float64))
    tl.store(record + 4, iterations.to(tl.float64))
    tl.store(record + 5, points.to(tl.float64))


@triton.jit
def mean_kernel(
    WEIGHT, BIAS, RECORD, NULL, CENTER, SCALE, THETA, PASS, M, D, record_size, FOLDED: tl.constexpr, WIDTH: tl.constexpr
):
    """One program writes the mean of the optima of `tiny_kernel` that were proven, of models with an intercept.

    THETA [D + 1] is the mean in coordinates of CENTER [D] and SCALE [D + 1], or NULL [D + 1] where nothing was proven.
    PASS has the weights [D] and, at the next multiple of four, the intercept as a pass takes them: of the columns as
    they are where the centre is FOLDED into it, else of the columns less their centre.
    """
    BLOCK_M: tl.constexpr = 2048 // WIDTH
    columns = tl.arange(0, WIDTH)
    weights = columns < D
    total, biases = tl.zeros([BLOCK_M, WIDTH], tl.float64), tl.zeros([BLOCK_M], tl.float64)
    proven = biases
    for start in range(0, M, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        known = tl.load(RECORD + m * record_size, mask=m < M, other=-1.0) == TOLERANCE
        inside = known[:, None] & weights[None, :]
        total += tl.load(WEIGHT + m[:, None] * D + columns[None, :], mask=inside, other=0.0)
        biases += tl.load(BIAS + m, mask=known, other=0.0)
        proven += tl.where(known, 1.0, 0.0)
    count = tl.sum(proven, axis=0)
    share = 1.0 / tl.maximum(count, 1.0)
    center = tl.load(CENTER + columns, mask=weights, other=0.0)
    scale, scale_b = tl.load(SCALE + columns, mask=weights, other=1.0), tl.load(SCALE + D)
    w = tl.sum(total, axis=0) * share
    b = tl.sum(biases, axis=0) * share + tl.sum(center * w, axis=0)
    theta = tl.where(count > 0, w / scale, tl.load(NULL + columns, mask=weights, other=0.0))
    theta_b = tl.where(count > 0, b / scale_b, tl.load(NULL + D))
    tl.store(THETA + columns, theta, mask=weights)
    tl.store(THETA + D, theta_b)
    w, b = theta * scale, theta_b * scale_b
    if FOLDED:
        b -= tl.sum(center * w, axis=0)
    tl.store(PASS + columns, w, mask=weights)
    tl.store(PASS + (D + 3) // 4 * 4, b)
