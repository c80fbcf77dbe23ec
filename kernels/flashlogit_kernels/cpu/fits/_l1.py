"""Newton's method with an l1 term over a few columns, in float64, as one compiled loop."""

import math

import numpy as np
from numba.extending import overload

from .. import _descent
from ..loops import helper, loop
from ._table import hessian, losses, padded, product

overload(_descent.add)(lambda total, factor, row: _descent.add_each)
descend = loop(_descent.descend)
_PRODUCTS = 50_000_000
"""Most products of a step's coordinate descent, if all variables move: some milliseconds."""
_SWEEPS = 500
"""Most of its sweeps."""


@helper
def _penalty(x, l1, l2):
    """Return the penalty of x."""
    total = 0.0
    for j in range(len(x)):
        total += l1[j] * abs(x[j]) + 0.5 * l2[j] * x[j] * x[j]
    return total


@loop
def newton(columns, y, s, x, l1, l2, share, steps):
    """Take x towards the least objective; see `descent.newton`."""
    P, n = columns.shape
    width, height = padded(P, n)
    Z, labels, mass = np.zeros((width, height)), np.zeros(height), np.zeros(height)
    for j in range(P):
        Z[j, :n] = columns[j]
    labels[:n], mass[:n] = y, s
    H, slope, at = np.empty((width, width)), np.empty(width), np.zeros(width)
    r, h, end, model = np.empty(height), np.empty(height), np.empty(P), np.empty(P)
    at[:P] = x
    value, first = losses(Z, at, labels, mass, r, h) + _penalty(x, l1, l2), -1.0
    for _ in range(steps):
        product(Z, r, slope)
        hessian(Z, h, H)
        squares = 0.0
        for j in range(P):
            slope[j] += l2[j] * x[j]
            H[j, j] += l2[j]
            for k in range(j):
                H[k, j] = H[j, k]
            down = abs(slope[j] + l1[j] * np.sign(x[j])) if x[j] != 0 else max(abs(slope[j]) - l1[j], 0.0)
            squares += down * down
            end[j], model[j] = x[j], slope[j]
        left = math.sqrt(squares)
        first = left if first < 0 else first
        if left <= share * first or left <= 1e-15:
            return value, True
        descend(H, model, end, l1, min(_SWEEPS, 1 + _PRODUCTS // (P * P)), 1e-3 * left)
        predicted = 0.0
        for j in range(P):
            predicted += slope[j] * (end[j] - x[j]) + l1[j] * (abs(end[j]) - abs(x[j]))
        length = 1.0
        while True:
            for j in range(P):
                at[j] = x[j] + length * (end[j] - x[j]) if length < 1.0 else end[j]
            new = losses(Z, at, labels, mass, r, h) + _penalty(at[:P], l1, l2)
            if new <= value + 1e-4 * length * predicted + 2e-14 * abs(value):
                break
            length *= 0.5
            if length < 1e-9:
                return value, False
        value = new
        x[:] = at[:P]
    return value, False
