"""Hessians of a sample of the rows, and products with the inverses of such, for several models at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _factors
from .pool import share

Tiles = NDArray[np.float64]
_RIDGES = (0.0, 1e-6, 1e-3, 1.0)
"""What is added to a diagonal of about 1 until there is a Cholesky factor."""


class SampleRows:
    """Rows Z [N, P], float32, of which Hessians are made; their memory is laid out in tiles."""

    def __init__(self, Z: NDArray[np.float32]) -> None:
        N, self.columns = Z.shape
        self._parts = -(-self.columns // _factors.SIDE)
        self._Z = np.zeros((self._parts, N, _factors.SIDE), np.float32)
        for part in range(self._parts):
            some = Z[:, part * _factors.SIDE : (part + 1) * _factors.SIDE]
            self._Z[part, :, : some.shape[1]] = some

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
            relative, penalties: [G, P], R's diagonal and the penalty's.
        """
        n, side = self._parts, _factors.SIDE
        found = np.empty((len(at), n, n, side, side))

        def make(k: int) -> None:
            A, L = np.empty(found.shape[1:]), np.empty(found.shape[1:])
            _factors.hessian(self._Z, weights[k], self._padded(at[k]).astype(np.float32), A)
            R, diagonal = (each.reshape(-1) for each in (self._padded(relative[k]), self._padded(penalties[k])))
            diagonal[self.columns :] = 1.0
            for ridge in _RIDGES:
                if _factors.inverse_factor(A, R, diagonal, ridge, L, found[k]):
                    return
            found[k] = 0.0
            found[k, range(n), range(n)] = np.eye(side)

        share(make, len(found))
        return found

    def products(self, factors: Tiles, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M^-1 v of G models for vectors [G, P, k]."""
        found = np.empty(vectors.shape)

        def multiply(k: int) -> None:
            v = self._padded(vectors[k])
            middle, result = np.empty_like(v), np.empty_like(v)
            _factors.multiply(factors[k], v, middle, result)
            found[k] = result.reshape(-1, v.shape[2])[: self.columns]

        share(multiply, len(found))
        return found

    def _padded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values [P] or [P, k] with zeros behind them, [n, SIDE, k]."""
        k = values.reshape(self.columns, -1).shape[1]
        whole = np.zeros((self._parts * _factors.SIDE, k))
        whole[: self.columns] = values.reshape(self.columns, k)
        return whole.reshape(self._parts, _factors.SIDE, k)
