"""Coordinate descent on a quadratic model plus an l1 term: plain Python, which Numba compiles where it is installed."""

from __future__ import annotations


def descend(H, slope, x, l1, sweeps, least):
    """Minimise slope . d + 1/2 d^T H d + sum_j l1_j |x_j + d_j| by one d_j after the other; see `descent.descend`."""
    for _ in range(sweeps):
        gained = 0.0
        for j in range(len(x)):
            curvature, old = H[j, j], x[j]
            if not curvature > 0:
                continue
            pull = curvature * old - slope[j]
            if pull > l1[j]:
                new = (pull - l1[j]) / curvature
            elif pull < -l1[j]:
                new = (pull + l1[j]) / curvature
            else:
                new = 0.0
            if new != old:
                x[j] = new
                add(slope, new - old, H[j])
                gained += 0.5 * curvature * (new - old) ** 2
        if gained <= least:
            break


def add(total, factor, row):
    """Add a multiple of a row to a total."""
    total += factor * row


def add_each(total, factor, row):
    """Do the same by a loop: compiled, it takes a third of the time."""
    for k in range(len(total)):
        total[k] += factor * row[k]
