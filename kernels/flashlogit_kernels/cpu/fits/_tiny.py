"""A whole fit of a small table by Newton's method, in float64, as one compiled loop."""

import math

import numpy as np

from ...fits import FARTHEST_SHIFT, FLAT, LIMIT, NO_CURVATURE, PATIENCE, REFUSED, STALLED, TOLERANCE, TRIALS, UNSOUND
from ..loops import helper, loop
from ._table import hessian, losses, padded, product


@helper
def _copy_column(X, row_stride, rows, start, out, n):
    """Write the visited rows of the column that X begins with."""
    for k in range(n):
        out[k] = X[(rows[start + k] if len(rows) else start + k) * row_stride]


@helper
def _solve(H, P, least, g, x):
    """Factor the lower triangle of H [P, P] in place, write -H^-1 g, and return the smallest pivot.

    A pivot is the curvature along a parameter when those before it follow, which a penalty bounds from below. What
    rounding makes smaller than `least` [P] is taken for that bound, so that x leads downwards.
    """
    smallest = np.inf
    for i in range(P):
        for j in range(i + 1):
            row, other = H[i, :j], H[j, :j]
            rest = H[i, j]
            for k in range(j):
                rest -= row[k] * other[k]
            if j < i:
                H[i, j] = rest * H[j, j]
            else:
                smallest = min(smallest, rest)
                H[i, i] = 1.0 / math.sqrt(max(rest, least[i]))
    for i in range(P):
        rest = -g[i]
        for k in range(i):
            rest -= H[i, k] * x[k]
        x[i] = rest * H[i, i]
    for i in range(P - 1, -1, -1):
        x[i] *= H[i, i]
        for k in range(i):
            x[k] -= H[i, k] * x[i]
    return smallest


@helper
def _overlap(Z, P, y, s, r, h, S, spread, H, scratch):
    """Return whether the classes overlap beyond doubt, so that an unpenalised optimum is not at infinity: some row is
    on the other label's side, and no direction has less than `FLAT` of the null model's curvature.

    r, h: s_i r_i and s_i h_i at the optimum. spread: a row's curvature at the null model. All but Z, y and s are lost.
    """
    apart = True
    for k in range(len(y)):
        apart &= s[k] == 0.0 or ((y[k] == 0.0 or y[k] == 1.0) and abs(r[k]) < 0.5 * s[k])
        r[k] = FLAT * spread * s[k]
    if apart:
        return False
    least = np.empty(H.shape)
    for k in range(2):
        hessian(Z, r if k == 0 else h, least if k == 0 else H)
    for j in range(P):
        for i in range(j + 1):
            H[j, i] = (H[j, i] - least[j, i]) / S
    return _solve(H, P, scratch, scratch, scratch) > NO_CURVATURE


@helper
def _newton(X, strides, D, y, s, rows, starts, problem, l2, tolerance, intercept, limit, weight, bias, head, points):
    """Fit one problem; see `newton`."""
    start, n = starts[problem], starts[problem + 1] - starts[problem]
    P = D + (1 if intercept else 0)
    width, height = padded(P, n)
    head, points = head[problem], points[problem]

    labels, mass = np.zeros(height), np.zeros(height)
    S = on = 0.0
    sound = n > 0
    for k in range(n):
        labels[k] = y[rows[start + k]] if len(rows) else y[start + k]
        mass[k] = s[start + k] if len(s) else 1.0
        sound &= 0.0 <= labels[k] <= 1.0 and mass[k] >= 0.0
        S += mass[k]
        on += mass[k] * labels[k]
    share = on / S if S > 0.0 else 0.0
    sound &= 0.0 < S < np.inf and (not intercept or 0.0 < share < 1.0)
    head[0] = UNSOUND
    if not sound:
        return
    null, spread, odds = math.log(2.0), 0.25, 0.0
    if intercept:
        null = -(share * math.log(share) + (1.0 - share) * math.log(1.0 - share))
        spread, odds = share * (1.0 - share), math.log(share / (1.0 - share))

    Z = np.zeros((width, height))
    center, scale, penalty = np.zeros(D), np.zeros(D), np.zeros(width)
    rounding = sizes = 0.0
    for j in range(D):
        x = Z[j]
        _copy_column(X[j * strides[1] :], strides[0], rows, start, x, n)
        # Moments about the first row, which is exact for a constant column.
        first, total, squares = x[0], 0.0, 0.0
        for k in range(n):
            total += x[k] - first
            squares += (x[k] - first) * (x[k] - first)
        mean, square = total / n, squares / n
        sound &= square < np.inf
        variance = square - mean * mean
        variance = variance if variance > 1e-14 * square else 0.0
        mean += first
        of_loss = spread * (variance if intercept else variance + mean * mean)
        center[j] = mean if intercept else 0.0
        rest = max(l2, 1e-16) if l2 > 0.0 else 1.0
        scale[j] = 1.0 / math.sqrt(of_loss + l2 if of_loss > 0.0 else rest)
        penalty[j] = l2 * scale[j] * scale[j]
        rounding += of_loss
        sizes += scale[j] * scale[j] if of_loss > 0.0 else 0.0
        for k in range(n):
            x[k] = (x[k] - center[j]) * scale[j]
    if not sound:
        return
    of_intercept = 1.0 / math.sqrt(spread)
    if intercept:
        for k in range(n):
            Z[D, k] = of_intercept
    least = np.empty(width)
    for j in range(width):
        least[j] = max(penalty[j], NO_CURVATURE)
    r, h = np.empty(height), np.empty(height)
    theta, direction, trial = np.zeros(width), np.zeros(width), np.empty(width)
    gradient, border, H = np.empty(width), np.empty(width), np.empty((width, width))
    if intercept:
        theta[D] = odds / of_intercept
    goal = tolerance * null
    value = slope = gap = 0.0
    step, best = 1.0, np.inf
    refused = stalled = found = 0
    iterations, ending = -1, -1
    while ending < 0:
        iterations += 1
        penalties = 0.0
        for j in range(width):
            trial[j] = theta[j] + step * direction[j]
            penalties += penalty[j] * trial[j] * trial[j]
        new_value = losses(Z, trial, labels, mass, r, h) / S + 0.5 * penalties
        change, predicted = new_value - value, step * slope
        accepted = (iterations == 0 or change <= 1e-4 * predicted + 2e-14 * abs(value)) and abs(new_value) < np.inf
        if accepted:
            theta, trial, value = trial, theta, new_value
            product(Z, r, gradient)
            nearer = proven = norm = 0.0
            if intercept and l2 > 0.0:  # The certificate, as `flashlogit.objectives.certificate` has it where l1 = 0.
                product(Z, h, border)
                nearer = gradient[D] / border[D]
                proven = nearer * nearer * border[D] / (S * of_intercept)
            for j in range(width):
                gradient[j] = gradient[j] / S + penalty[j] * theta[j]
                norm += gradient[j] * gradient[j]
                if j < D and l2 > 0.0:
                    apart = gradient[j] - (nearer * border[j] / S if intercept else 0.0)
                    proven += 0.5 * apart * apart / penalty[j]
            gap = proven if abs(nearer) <= FARTHEST_SHIFT and proven < value else value
            if l2 == 0.0 or gap > goal:
                hessian(Z, h, H)
                for j in range(width):
                    for i in range(j + 1):
                        H[j, i] /= S
                    H[j, j] += penalty[j]
                smallest = _solve(H, P, least, gradient, direction)
                slope = 0.0
                for j in range(P):
                    slope += gradient[j] * direction[j]
                if l2 == 0.0:
                    gap = -0.5 * slope
                    if not smallest > 100.0 * NO_CURVATURE:
                        ending = REFUSED
            stalled = 0 if gap < 0.9 * best else stalled + 1
            best = min(best, gap)
            points[found, 0], points[found, 1], points[found, 2] = iterations, value, gap
            points[found, 3], points[found, 4] = math.sqrt(norm), step
            found += 1
            step, refused = 1.0, 0
            if ending < 0:
                ending = TOLERANCE if gap <= goal else (STALLED if stalled >= PATIENCE else ending)
        else:
            parabola = -0.5 * predicted / (change - predicted)
            step *= min(max(parabola, 0.1), 0.5) if abs(parabola) < np.inf else 0.1
            refused += 1
            if refused >= TRIALS:
                ending = REFUSED
        if ending < 0 and iterations >= limit:
            ending = LIMIT
    if l2 == 0.0 and ending == TOLERANCE:
        # A gap that is nothing to the loss may still be a part of a coefficient's standard error: one step more.
        for j in range(width):
            trial[j] = theta[j] + direction[j]
        new_value = losses(Z, trial, labels, mass, r, h) / S
        if new_value <= value * (1.0 + 2e-14):
            theta, value = trial, new_value
        gradient[:] = NO_CURVATURE
        if not _overlap(Z, P, labels, mass, r, h, S, spread, H, gradient):
            ending = REFUSED
    at = theta[D] * of_intercept if intercept else 0.0
    for j in range(D):
        weight[problem, j] = theta[j] * scale[j]
        at -= center[j] * weight[problem, j]
    bias[problem] = at
    head[0], head[1], head[2], head[3] = ending, value, gap, null
    head[4], head[5], head[6], head[7] = iterations, found, rounding, sizes


@loop
def newton(X, strides, D, y, s, rows, starts, first, last, l2, tolerance, intercept, limit, weight, bias, head, points):
    """Fit the problems from `first` to before `last`: m has the places starts[m] to starts[m + 1], as for `fit_tiny`.

    Args:
        X: [N D] float64, the numbers of D columns in memory. strides: from row to row, and from column to column. Rows
            are gathered from where they lie, and are in a cache from their first column on: to copy X column by column
            before took 0.33 s in place of 0.15, of 1,000 groups of 200 x 30 in no order.
        y, s, rows, starts: [N] float64, [places] float64, [places] int64 and [M + 1] int64; s may be empty for ones,
            and rows for all in order.
        l2: [M] float64, of which some may be 0: there half the squared Newton decrement takes the gap's place, and a
            Hessian that cannot be factored, or classes that may not overlap, end the fit.
        tolerance, intercept, limit: of the fits.
        weight, bias, head, points: [M, D], [M], [M, NUMBERS] and [M, TINY_ITERATIONS + 1, ROW] to be written: see
            `TinyFits`.
    """
    for m in range(first, last):
        _newton(X, strides, D, y, s, rows, starts, m, l2[m], tolerance, intercept, limit, weight, bias, head, points)
