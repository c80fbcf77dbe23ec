"""Coordinate descent on a quadratic model plus an l1 term, and Newton's method by it over a few columns: plain Python,
which Numba compiles where it is installed."""

from __future__ import annotations

import math

import numpy as np


def descend(H, slope, x, l1, sweeps, goal):
    """Minimise slope . d + 1/2 d^T H d + sum_j l1_j |x_j + d_j| by one d_j after the other; see `descent.descend`."""
    left = 0.0
    for _ in range(sweeps):
        squares = 0.0
        for j in range(len(x)):
            curvature, old, bound = H[j, j], x[j], l1[j]
            if not curvature > 0:
                continue
            pull = curvature * old - slope[j]
            new = 0.0
            if pull > bound:
                new = (pull - bound) / curvature
            elif pull < -bound:
                new = (pull + bound) / curvature
            moved = new - old
            # What is less is rounding, but zeros are exact.
            if abs(moved) * curvature > 1e-15 * (abs(pull) + bound) or (new == 0.0 and old != 0.0):
                x[j] = new
                add(slope, moved, H[j])
                squares += (curvature * moved) ** 2
        left = squares**0.5
        if not left > goal:
            break
    return left


def add(total, factor, row):
    """Add a multiple of a row to a total."""
    total += factor * row


def add_each(total, factor, row):
    """Do the same by a loop: compiled, it takes a third of the time."""
    for k in range(len(total)):
        total[k] += factor * row[k]


def newton(A, y, s, x, l1, l2, share, steps):
    """Take x towards the least objective over rows A by Newton's method; see `descent.newton`."""
    P = len(x)
    H, slope, z = np.empty((P, P)), np.empty(P), np.empty(len(y))
    value, first = objective(A, y, s, x, l1, l2, z), -1.0
    for _ in range(steps):
        derivatives(A, y, s, z, x, l2, slope, H)
        squares, predicted = 0.0, 0.0
        for j in range(P):
            down = abs(slope[j] + l1[j] * np.sign(x[j])) if x[j] != 0 else max(abs(slope[j]) - l1[j], 0.0)
            squares += down * down
        left = math.sqrt(squares)
        first = left if first < 0 else first
        if left <= share * first or left <= 1e-15:
            return value, True
        end, here = x.copy(), slope.copy()
        descend(H, here, end, l1, 500, 1e-3 * left)
        step = end - x
        for j in range(P):
            predicted += slope[j] * step[j] + l1[j] * (abs(end[j]) - abs(x[j]))
        length, new = 1.0, objective(A, y, s, end, l1, l2, z)
        while not new <= value + 1e-4 * length * predicted + 2e-14 * abs(value):
            length *= 0.5
            if length < 1e-9:
                return value, False
            end = x + length * step
            new = objective(A, y, s, end, l1, l2, z)
        value = new
        x[:] = end
    return value, False


def objective(A, y, s, x, l1, l2, z):
    """Return the losses of the rows, weighted by s, and the penalty; write their logits to z."""
    total = 0.0
    for i in range(len(y)):
        logit = 0.0
        for j in range(len(x)):
            logit += A[i, j] * x[j]
        z[i] = logit
        # For labels 0 and 1 nothing cancels.
        total += s[i] * (math.log1p(math.exp(-abs(logit))) + (1 - y[i]) * max(logit, 0.0) + y[i] * max(-logit, 0.0))
    for j in range(len(x)):
        total += l1[j] * abs(x[j]) + 0.5 * l2[j] * x[j] * x[j]
    return total


def derivatives(A, y, s, z, x, l2, slope, H):
    """Write the first derivative of the smooth part to slope, and the second one to H; z: the logits at x."""
    P = len(x)
    H[:] = 0.0
    slope[:] = l2 * x
    for i in range(len(y)):
        e = math.exp(-abs(z[i]))
        larger, less = 1 / (1 + e), e / (1 + e)
        on, off = (larger, less) if z[i] >= 0 else (less, larger)
        r, h = s[i] * ((1 - y[i]) * on - y[i] * off), s[i] * on * off
        for j in range(P):
            slope[j] += r * A[i, j]
            ha = h * A[i, j]
            for k in range(j + 1):
                H[j, k] += ha * A[i, k]
    for j in range(P):
        H[j, j] += l2[j]
        for k in range(j):
            H[k, j] = H[j, k]
