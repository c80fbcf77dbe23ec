"""Hessians of a sample of the rows, and products with the inverses of such, for several models at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _factors
from .pool import share

Tiles = NDArray[np.float64]
_RIDGES = (0.0, 1e-6, 1e-3, 1.0)
"""What is added to a diagonal of about 1 until there is a Cholesky factor."""
_JOINT_WIDTH = 96
"""Most columns of a part where Hessians are those of all classes jointly."""
_ONE_THREAD = 1 << 18
"""Products of two matrices up to which OpenBLAS makes them in the calling thread."""
_LEAST_CURVATURE = np.float32(1e-3)
"""See `_factors.joint_hessian`."""


class SampleRows:
    """Rows Z [N, P], float32, of which Hessians are made; their memory is laid out in parts of columns.

    A Hessian of C classes is the mean of their blocks, [P, P], or with `joint` that of all of them, [P C, P C], in
    which row j C + c is class c of column j.
    """

    def __init__(self, Z: NDArray[np.float32], *, joint: bool = False) -> None:
        (N, self._columns), self._joint = Z.shape, joint
        parts = -(-self._columns // (_JOINT_WIDTH if joint else _factors.SIDE))
        self._width = -(-self._columns // parts) if joint else _factors.SIDE
        self._Z = np.zeros((parts, N, self._width), np.float32)
        for part in range(parts):
            some = Z[:, part * self._width : (part + 1) * self._width]
            self._Z[part, :, : some.shape[1]] = some

    def hessians(
        self,
        weights: NDArray[np.float32],
        at: NDArray[np.float64],
        relative: NDArray[np.float64],
        penalties: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return M = R A R + diag(penalty) of G models, [G, Q, Q] with Q = P or P C; arguments as in
        `inverse_factors`."""
        (G, Q), side = relative.shape, _factors.SIDE
        found = np.empty((G, Q, Q))

        def make(k: int) -> None:
            tiles = self._hessian(weights[k], at[k])
            n = len(tiles)
            lower = np.tril(tiles.transpose(0, 2, 1, 3).reshape(n * side, n * side)[:Q, :Q])
            np.multiply(lower + np.tril(lower, -1).T, np.outer(relative[k], relative[k]), out=found[k])
            found[k].flat[:: Q + 1] += penalties[k]

        share(make, G)
        return found

    def inverse_factors(
        self,
        weights: NDArray[np.float32],
        at: NDArray[np.float64],
        relative: NDArray[np.float64],
        penalties: NDArray[np.float64],
    ) -> Tiles:
        """Return L^-1 of G models, M = R A R + diag(penalty) = L L^T, with as much more on a diagonal as it takes.

        Args:
            weights: [G, N] of the rows in A.
            at: [G, P, C], the coefficients at which the curvature is that of a row.
            relative, penalties: [G, Q], R's diagonal and the penalty's.
        """
        (G, Q), side = relative.shape, _factors.SIDE
        n = -(-Q // side)
        found = np.empty((G, n, n, side, side))

        def make(k: int) -> None:
            A = self._hessian(weights[k], at[k])
            L = np.empty(A.shape)
            R, diagonal = (_padded(each[k], side).reshape(-1) for each in (relative, penalties))
            diagonal[Q:] = 1.0
            for ridge in _RIDGES:
                if _factors.inverse_factor(A, R, diagonal, ridge, L, found[k]):
                    return
            found[k] = 0.0
            found[k, range(n), range(n)] = np.eye(side)

        share(make, G)
        return found

    def curvatures(self, weights: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return v_i h_i of the rows, [G, N], for arguments as of `inverse_factors`."""
        found = np.empty(weights.shape, np.float32)

        def curve(k: int) -> None:
            found[k] = weights[k]
            _factors.curvatures(self._Z, _padded(at[k], self._width).astype(np.float32), found[k])

        share(curve, len(found))
        return found

    def products(self, factors: Tiles, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M^-1 v of G models for vectors [G, Q, k]."""
        found = np.empty(vectors.shape)

        def multiply(k: int) -> None:
            v = _padded(vectors[k], _factors.SIDE)
            middle, result = np.empty_like(v), np.empty_like(v)
            _factors.multiply(factors[k], v, middle, result)
            found[k] = result.reshape(-1, v.shape[2])[: vectors.shape[1]]

        share(multiply, len(found))
        return found

    def _hessian(self, weights: NDArray[np.float32], at: NDArray[np.float64]) -> Tiles:
        """Return A of one model, whose lower tiles count."""
        side, (P, C) = _factors.SIDE, at.shape
        b = _padded(at, self._width).astype(np.float32)
        n = len(b)
        if not self._joint:
            A = np.empty((n, n, side, side))
            _factors.hessian(self._Z, weights, b, A)
            return A
        blocks = np.empty((C, C, n, n, self._width, self._width))
        height = min(_factors.SIDE, _ONE_THREAD // (self._width * max(self._width, C)))
        _factors.joint_hessian(self._Z, weights, b, height, _LEAST_CURVATURE, blocks)
        for c in range(C):
            blocks[:c, c] = blocks[c, :c]  # each is symmetric
        whole = blocks.transpose(2, 4, 0, 3, 5, 1).reshape(n * self._width * C, -1)[: P * C, : P * C]
        m = -(-P * C // side)
        tiles = np.zeros((m * side, m * side))
        tiles[: P * C, : P * C] = whole
        return np.ascontiguousarray(tiles.reshape(m, side, m, side).transpose(0, 2, 1, 3))


def _padded(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return values [Q] or [Q, k] with zeros behind them, [n, side, k]."""
    columns = values.reshape(len(values), -1)
    parts = -(-len(values) // side)
    whole = np.zeros((parts * side, columns.shape[1]))
    whole[: len(values)] = columns
    return whole.reshape(parts, side, -1)
