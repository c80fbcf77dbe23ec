"""Whole fits of small tables by plain Newton steps on a few arrays: of two classes, as the twin of the compiled loop
and of the kernel, and of a softmax.

The weights and intercepts of a softmax's K classes add up to 0 at the optimum, so that they are Q theta for an
orthonormal basis Q [K, C] of what does, C = K - 1. Theta has the same l2 penalty, and no direction that leaves all
probabilities as they are, in which a Hessian would have no curvature.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.fits import (
    FARTHEST_SHIFT,
    FLAT,
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
_FEW_PRODUCTS, _FEW_PARAMETERS = 1 << 14, 64
"""Most multiplications of a product, and most unknowns of a system, that NumPy is asked for, which takes 5 and 30 us
less than torch: with twice as many multiplications, and with 72 unknowns, OpenBLAS was seen to wake other threads."""


def fit_tiny(
    X: Tensor,
    y: Tensor,
    *,
    l2: float | Tensor,
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
    penalties = np.broadcast_to(np.asarray(l2, np.float64), len(found.bias)).tolist()
    weights = np.ones(len(visited)) if sample_weight is None else sample_weight.to(torch.float64).numpy()
    for m in range(len(ends) - 1):
        mine = slice(ends[m], ends[m + 1])
        data = every[visited[mine]], labels[visited[mine]], weights[mine]
        with np.errstate(all="ignore"):
            limit = min(iterations, TINY_ITERATIONS)
            weight, bias, record = _logistic(*data, penalties[m], tolerance, intercept, limit)
        found.weight[m], found.bias[m] = torch.from_numpy(weight[:, 0]), float(bias[0])
        found.record[m, : len(record)] = torch.tensor(record, dtype=torch.float64)
    return found


def fit_softmax_tiny(
    X: Tensor,
    y: Tensor,
    *,
    classes: int,
    l2: float,
    tolerance: float,
    intercept: bool = True,
    sample_weight: Tensor | None = None,
    iterations: int = TINY_ITERATIONS,
) -> TinyFits:
    """Minimise the objective of a softmax of K = `classes` with l2 > 0, for M = 1; y [N] int64 lies in [0, K - 1]."""
    data, labels = X.to(torch.float64).numpy(), y.numpy()
    s = np.ones(len(data)) if sample_weight is None else sample_weight.to(torch.float64).numpy()
    with np.errstate(all="ignore"):
        mass = np.bincount(labels, weights=s, minlength=classes)
        S = float(s.sum())
        shares = mass / S if intercept else np.full(classes, 1 / classes)
        sound = bool((s >= 0).all()) and 0 < S < math.inf and bool((shares > 0).all())
        if not (sound and _is_finite(data)):
            return TinyFits(*(torch.full((1, NUMBERS), UNSOUND, dtype=torch.float64) for _ in range(3)))
        logs = np.log(shares)
        Q = np.linalg.qr(np.c_[np.ones(classes), np.eye(classes)[:, 1:]])[0][:, 1:]
        columns = _Columns.of(data, float((shares * (1 - shares)).mean()), l2, intercept)
        loss = _Softmax(columns.Z, labels, s, S, Q)
        null, limit = -float(shares @ logs), min(iterations, TINY_ITERATIONS)
        W, b, record = _newton(columns, loss, Q.T @ logs, null, l2, tolerance, limit)
    found = (Q @ W.T, Q @ b, np.array(record))
    return TinyFits(*(torch.from_numpy(each[None]) for each in found))


def _logistic(
    X: Array, y: Array, s: Array, l2: float, tolerance: float, intercept: bool, limit: int
) -> tuple[Array, Array, list[float]]:
    """Return the weights [D, 1], the bias [1] and the record of one problem of two classes."""
    S = float(s.sum())
    share = float(s @ y) / S if S > 0 else math.nan
    sound = len(X) > 0 and bool(((y >= 0) & (y <= 1) & (s >= 0)).all()) and math.isfinite(S)
    if not (sound and (not intercept or 0 < share < 1) and _is_finite(X)):
        return np.zeros((X.shape[1], 1)), np.zeros(1), [UNSOUND]
    share = share if intercept else 0.5
    null = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    columns = _Columns.of(X, share * (1 - share), l2, intercept)
    start = np.array([math.log(share / (1 - share))])
    loss = _Logistic(columns.Z, y, s, S)
    weight, bias, record = _newton(columns, loss, start, null, l2, tolerance, limit)
    if l2 == 0 and record[0] == TOLERANCE and not _overlap(columns.Z, X @ weight[:, 0] + bias, y, s, share):
        record[0] = REFUSED
    return weight, bias, record


def _overlap(Z: Array, z: Array, y: Array, s: Array, share: float) -> bool:
    """Return whether the classes overlap beyond doubt, so that an unpenalised optimum of logits z is not at infinity:
    some row is on the other label's side, and no direction has less than `FLAT` of the null model's curvature."""
    on = 1 / (1 + np.exp(-z))
    hard = (y == 0) | (y == 1)
    if not bool(((s > 0) & ~(hard & (np.abs(on - y) < 0.5))).any()):
        return False
    h = s * (on * (1 - on) - FLAT * share * (1 - share))
    return not int(torch.linalg.cholesky_ex(torch.from_numpy(_product(Z.T * h, Z) / s.sum()))[1])


def _is_finite(X: Array) -> bool:
    return bool(np.isfinite(np.square(X).sum()))


class _Columns(NamedTuple):
    """Coordinates of about unit curvature: Z [N, P] has the columns of X about their centers [D] times scale [P], and
    one more for an intercept. rounding, sizes: as `flashlogit.objectives.coordinates` has them."""

    Z: Array
    center: Array
    scale: Array
    intercept: bool
    rounding: float
    sizes: float

    @classmethod
    def of(cls, X: Array, curvature: float, l2: float, intercept: bool) -> _Columns:
        """Return those of X [N, D] for a null model of this curvature."""
        N, D = X.shape
        square, mean = np.square(X - X[0]).mean(axis=0), (X - X[0]).mean(axis=0)
        variance = square - np.square(mean)
        variance = np.where(variance > 1e-14 * square, variance, 0.0)
        mean = X[0] + mean
        of_loss = curvature * (variance if intercept else variance + np.square(mean))
        scale = 1 / np.sqrt(np.where(of_loss > 0, of_loss + l2, max(l2, 1e-16) if l2 > 0 else 1.0))
        sizes = float(np.square(scale[of_loss > 0]).sum())
        center, last = mean if intercept else np.zeros(D), np.full(int(intercept), 1 / math.sqrt(curvature))
        Z = np.c_[(X - center) * scale, np.tile(last, (N, 1))]
        return cls(Z, center, np.r_[scale, last], intercept, float(of_loss.sum()), sizes)


class _Logistic:
    """The mean loss of labels y [N] in [0, 1] by theta [P, 1].

    Q [K, C], here and of a softmax: what the C intercepts add to the logits of the classes. In a certificate half the
    distance of the largest and the smallest is bounded; a shift of the one logit counts as it is.
    """

    Q = np.array([[-1.0], [1.0]])

    def __init__(self, Z: Array, y: Array, s: Array, S: float) -> None:
        self.Z, self.y, self.s, self.S = Z, y, s, S

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the mean loss, and what `derivatives` takes of the rows: their logits [N]."""
        z = _product(self.Z, theta)[:, 0]
        return float(self.s @ (np.logaddexp(0, z) - self.y * z)) / self.S, z

    def derivatives(self, rows: Array) -> tuple[Array, Array]:
        """Return the gradient [P, C] and the Hessian [P C, P C]."""
        on, off = np.exp(-np.logaddexp(0, -rows)), np.exp(-np.logaddexp(0, rows))
        residual = self.s * ((1 - self.y) * on - self.y * off)
        hessian = _product(self.Z.T * (self.s * on * off), self.Z) / self.S
        return _product(self.Z.T, residual[:, None]) / self.S, hessian


class _Softmax:
    """The mean loss of class numbers y [N] by theta [P, C], whose logits are Z theta Q^T.

    The Hessian by a row's logits, diag p - p p^T, is the sum over pairs k < l of p_k p_l (e_k - e_l) (e_k - e_l)^T: no
    digits are lost where one class has nearly all, and it takes half the products of all K^2 blocks.
    """

    def __init__(self, Z: Array, y: NDArray[np.int64], s: Array, S: float, Q: Array) -> None:
        self.Z, self.Q, self.share, self.own = Z, Q, s / S, (np.arange(len(y)), y)
        self.columns = np.ascontiguousarray(Z.T)
        self.pairs = np.triu_indices(len(Q), 1)
        apart = Q[self.pairs[0]] - Q[self.pairs[1]]
        self.outer = (apart[:, :, None] * apart[:, None, :]).reshape(len(apart), -1).T

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the mean loss, and the probabilities [N, K] with the loss of its own class in place of each row's."""
        z = _product(self.Z, theta @ self.Q.T)
        z -= z[self.own][:, None]
        z[self.own] = -math.inf
        top = z.max(axis=1)
        losses = np.logaddexp(0, top + np.log(np.exp(z - top[:, None]).sum(axis=1)))
        p = np.exp(z - losses[:, None])
        p[self.own] = losses
        return float(self.share @ losses), p

    def derivatives(self, rows: Array) -> tuple[Array, Array]:
        """Return the gradient [P, C] and the Hessian [P C, P C]."""
        p, (P, N), C = rows.copy(), self.columns.shape, self.Q.shape[1]
        p[self.own] = 0
        residual = p.copy()
        residual[self.own] = -p.sum(axis=1)  # p - 1 as what the other classes have: nothing cancels
        p[self.own] = np.exp(-rows[self.own])
        gradient = _product(self.columns, residual * self.share[:, None]) @ self.Q
        p = np.ascontiguousarray(p.T)
        of_pairs = p[self.pairs[0]] * p[self.pairs[1]] * self.share
        wide = (of_pairs[:, None] * self.columns).reshape(-1, N)
        blocks = _product(self.columns, wide.T).reshape(P, -1, P)
        hessian = _product(self.outer, blocks).reshape(P, C, C, P)
        return gradient, hessian.transpose(0, 1, 3, 2).reshape(P * C, P * C)


def _newton(
    columns: _Columns, loss: _Logistic | _Softmax, start: Array, null: float, l2: float, tolerance: float, limit: int
) -> tuple[Array, Array, list[float]]:
    """Return the weights [D, C], the intercepts [C] and the record of one problem.

    start [C]: the null model's intercepts, where they are free; null: its P.
    """
    D, P, C, intercept = len(columns.center), len(columns.scale), len(start), columns.intercept
    scale = columns.scale[:, None]
    penalty = np.repeat(np.r_[l2 * np.square(columns.scale[:D]), np.zeros(P - D)], C)
    theta, direction = np.zeros(P * C), np.zeros(P * C)
    if intercept:
        theta[D * C :] = start / scale[D]

    value, slope, step, best, gap = math.inf, 0.0, 1.0, math.inf, math.inf
    iterations = refused = stalled = 0
    ending, points = -1, list[float]()
    while ending < 0:
        trial = theta + step * direction
        new_value, rows = loss(trial.reshape(P, C))
        new_value += 0.5 * float(penalty @ np.square(trial))
        change, predicted = new_value - value, step * slope
        if math.isfinite(new_value) and (not points or change <= 1e-4 * predicted + 2e-14 * abs(value)):
            theta, value = trial, new_value
            of_loss, hessian = loss.derivatives(rows)
            gradient = of_loss.reshape(-1) + penalty * theta
            hessian += np.diag(penalty)
            factor = torch.linalg.cholesky_ex(torch.from_numpy(hessian))[0]
            pivots = np.square(factor.diagonal().numpy())
            if not bool((pivots > NO_CURVATURE * (1 if l2 > 0 else 100)).all()):
                ending = REFUSED
                break
            direction = -_solution(hessian, factor, gradient)
            slope = float(gradient @ direction)
            gap = -0.5 * slope
            if l2 > 0:
                gap = _gap(gradient, hessian, penalty, value, loss.Q * scale[D] if intercept else None)
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
        further = loss((theta + direction).reshape(P, C))[0]
        if further <= value * (1 + 2e-14):
            theta, value = theta + direction, further
    scaled = theta.reshape(P, C) * scale
    bias = (scaled[D] if intercept else np.zeros(C)) - columns.center @ scaled[:D]
    numbers = [ending, value, gap, null, iterations, len(points) // ROW, columns.rounding, columns.sizes]
    assert len(numbers) == NUMBERS
    return scaled[:D], bias, [*numbers, *points]


def _product(A: Array, B: Array) -> Array:
    """Return A B, beyond a few multiplications by torch, whose threads are those of the caller."""
    if A.size * B.shape[-1] <= _FEW_PRODUCTS:
        return A @ B
    product: Array = (torch.from_numpy(A) @ torch.from_numpy(B)).numpy()
    return product


def _solution(hessian: Array, factor: Tensor, gradient: Array) -> Array:
    """Return the solution of hessian @ x = gradient; factor: the Hessian's, by Cholesky."""
    if len(gradient) <= _FEW_PARAMETERS:
        return np.linalg.solve(hessian, gradient).astype(np.float64, copy=False)
    solution: Array = torch.cholesky_solve(torch.from_numpy(gradient[:, None]), factor)[:, 0].numpy()
    return solution


def _gap(gradient: Array, hessian: Array, penalty: Array, value: float, intercepts: Array | None) -> float:
    """Return the duality gap as `flashlogit.objectives.objective` certifies it where l1 = 0.

    intercepts [K, C]: what the intercepts, the last C of all parameters, add to the logits of the classes.
    """
    divergence, apart, weights = 0.0, gradient, penalty > 0
    if intercepts is not None:
        last = slice(-intercepts.shape[1], None)
        shift = np.linalg.solve(hessian[last, last], gradient[last])
        if not 0.5 * float(np.ptp(intercepts @ shift)) <= FARTHEST_SHIFT:
            return value  # as P* >= 0
        divergence, apart = float(gradient[last] @ shift), gradient - hessian[:, last] @ shift
    return float(min(divergence + 0.5 * float((np.square(apart[weights]) / penalty[weights]).sum()), value))
