"""Whole fits of small tables by plain Newton steps on a few arrays: the twin of the compiled loop and of the kernel."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.fits import (
    LIMIT,
    NO_CURVATURE,
    NUMBERS,
    PATIENCE,
    REFUSED,
    ROW,
    STALLED,
    TINY_ITERATIONS,
    TOLERANCE,
    TRIALS,
    UNSOUND,
    TinyFits,
    problems,
)

Array = NDArray[np.float64]


def fit_tiny(
    X: Tensor,
    y: Tensor,
    *,
    l2: float,
    tolerance: float,
    intercept: bool = True,
    sample_weight: Tensor | None = None,
    rows: Tensor | None = None,
    starts: Tensor | None = None,
    iterations: int = TINY_ITERATIONS,
) -> TinyFits:
    """Minimise M objectives with an l2 penalty, one after the other: the twin of
    `flashlogit_kernels.cpu.fits.tiny.fit_tiny`. A Hessian that has no factor ends a fit."""
    visited = np.arange(len(X)) if rows is None else rows.numpy().reshape(-1)
    ends = np.linspace(0, len(visited), problems(rows) + 1, dtype=int) if starts is None else starts.numpy()
    found = TinyFits.empty(X, len(ends) - 1)
    every, labels = (each.to(torch.float64).numpy() for each in (X, y))
    weights = np.ones(len(visited)) if sample_weight is None else sample_weight.to(torch.float64).numpy()
    for m in range(len(ends) - 1):
        mine = slice(ends[m], ends[m + 1])
        data = every[visited[mine]], labels[visited[mine]], weights[mine]
        with np.errstate(all="ignore"):
            weight, bias, record = _newton(*data, l2, tolerance, intercept, min(iterations, TINY_ITERATIONS))
        found.weight[m], found.bias[m] = torch.from_numpy(weight), bias
        found.record[m, : len(record)] = torch.tensor(record, dtype=torch.float64)
    return found


def _newton(
    X: Array, y: Array, s: Array, l2: float, tolerance: float, intercept: bool, limit: int
) -> tuple[Array, float, list[float]]:
    """Return the weights [D], the bias and the record of one problem, in coordinates of about unit curvature."""
    (N, D), S = X.shape, float(s.sum())
    share = float(s @ y) / S if S > 0 else math.nan
    sound = (
        N > 0 and bool(((y >= 0) & (y <= 1) & (s >= 0)).all()) and math.isfinite(S) and (not intercept or 0 < share < 1)
    )
    if not (sound and bool(np.isfinite(np.square(X).sum()))):
        return np.zeros(D), 0.0, [UNSOUND]
    share = share if intercept else 0.5
    null = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    spread = share * (1 - share)
    square, mean = np.square(X - X[0]).mean(axis=0), (X - X[0]).mean(axis=0)
    variance = square - np.square(mean)
    variance = np.where(variance > 1e-14 * square, variance, 0.0)
    mean = X[0] + mean
    of_loss = spread * (variance if intercept else variance + np.square(mean))
    scale = 1 / np.sqrt(np.where(of_loss > 0, of_loss + l2, max(l2, 1e-16) if l2 > 0 else 1.0))
    center, of_intercept = mean if intercept else np.zeros(D), 1 / math.sqrt(spread)
    Z = np.c_[(X - center) * scale, np.full((N, int(intercept)), of_intercept)]
    penalty = np.r_[l2 * np.square(scale), np.zeros(int(intercept))]
    theta, direction = np.zeros(D + intercept), np.zeros(D + intercept)
    if intercept:
        theta[D] = math.log(share / (1 - share)) / of_intercept

    value, slope, step, best, gap = math.inf, 0.0, 1.0, math.inf, math.inf
    iterations = refused = stalled = 0
    ending, points = -1, list[float]()
    while ending < 0:
        trial = theta + step * direction
        z = _product(Z, trial)
        new_value = _mean_loss(z, y, s) + 0.5 * float(penalty @ np.square(trial))
        change, predicted = new_value - value, step * slope
        if math.isfinite(new_value) and (not points or change <= 1e-4 * predicted + 2e-14 * abs(value)):
            theta, value = trial, new_value
            on, off = np.exp(-np.logaddexp(0, -z)), np.exp(-np.logaddexp(0, z))
            h = s * on * off
            gradient = _product(Z.T, s * ((1 - y) * on - y * off)) / S + penalty * theta
            hessian = _product(Z.T * h, Z) / S + np.diag(penalty)
            factor = torch.linalg.cholesky_ex(torch.from_numpy(hessian))[0]
            pivots = np.square(factor.diagonal().numpy())
            if not bool((pivots > NO_CURVATURE * (1 if l2 > 0 else 100)).all()):
                ending = REFUSED
                break
            direction = -torch.cholesky_solve(torch.from_numpy(gradient[:, None]), factor)[:, 0].numpy()
            slope = float(gradient @ direction)
            gap = -0.5 * slope if l2 == 0 else _gap(gradient, hessian, penalty, value, of_intercept if intercept else 0)
            points += [iterations, value, gap, float(np.linalg.norm(gradient)), step]
            stalled = 0 if gap < 0.9 * best else stalled + 1
            best, step, refused = min(best, gap), 1.0, 0
            ending = TOLERANCE if gap <= tolerance * null else STALLED if stalled >= PATIENCE else -1
        else:
            parabola = -0.5 * predicted / (change - predicted)
            step, refused = step * (min(max(parabola, 0.1), 0.5) if math.isfinite(parabola) else 0.1), refused + 1
            ending = REFUSED if refused >= TRIALS else -1
        if ending < 0 and iterations >= limit:
            ending = LIMIT
        iterations += ending < 0
    if l2 == 0 and ending == TOLERANCE:
        further = _mean_loss(_product(Z, theta + direction), y, s)
        if further <= value * (1 + 2e-14):
            theta, value = theta + direction, further
    w = theta[:D] * scale
    bias = (float(theta[D]) * of_intercept if intercept else 0.0) - float(center @ w)
    sizes = float(np.square(scale[of_loss > 0]).sum())
    numbers = [ending, value, gap, null, iterations, len(points) // ROW, float(of_loss.sum()), sizes]
    assert len(numbers) == NUMBERS
    return w, bias, [*numbers, *points]


def _product(A: Array, B: Array) -> Array:
    """Return A B, by torch, whose threads are those of the caller."""
    product: Array = (torch.from_numpy(A) @ torch.from_numpy(B)).numpy()
    return product


def _mean_loss(z: Array, y: Array, s: Array) -> float:
    return float(s @ (np.logaddexp(0, z) - y * z)) / float(s.sum())


def _gap(gradient: Array, hessian: Array, penalty: Array, value: float, of_intercept: float) -> float:
    """Return the duality gap as `flashlogit.objectives.certificate` has it where l1 = 0; `of_intercept` is 0 if there
    is none."""
    weights, nearer, divergence, apart = penalty > 0, 0.0, 0.0, gradient
    if of_intercept:
        border = hessian[-1] / of_intercept
        curvature = border[-1] / of_intercept
        nearer = float(gradient[-1]) / of_intercept / curvature
        divergence, apart = nearer * nearer * curvature, gradient - nearer * border
    proven = divergence + 0.5 * float((np.square(apart[weights]) / penalty[weights]).sum())
    return float(min(proven, value)) if abs(nearer) <= 0.5 else value
