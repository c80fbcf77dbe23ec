"""Coordinate descent on a quadratic model plus an l1 term: plain Python, which Numba compiles where it is installed."""

from __future__ import annotations


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
