"""Hessians of a sample of the rows, and products with their inverses, in torch: the twin of
`flashlogit_kernels.cpu.factors`, for any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_RIDGES = (1e-6, 1e-3, 1.0)


class SampleRows:
    """Rows Z [N, P], float32."""

    def __init__(self, Z: Tensor) -> None:
        self._Z = Z

    def inverse_factors(
        self, weights: Sequence[Tensor], at: Sequence[Tensor], relative: Sequence[Tensor], penalties: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return L^-1 for each of several models, M = R A R + diag(penalty) = L L^T."""
        P = self._Z.shape[1]
        matrices = self._Z.new_empty((len(at), P, P), dtype=torch.float64)
        for M, s, W, R, penalty in zip(matrices, weights, at, relative, penalties, strict=True):
            z = self._Z @ W.float()
            p = torch.softmax(z, dim=1) if z.shape[1] > 1 else torch.sigmoid(z)
            V = self._Z * (s * (p * (1 - p)).mean(dim=1)).sqrt()[:, None]
            M[:] = (V.t() @ V).double() * R[:, None] * R
            M.diagonal().add_(penalty)
        eye = torch.eye(P, dtype=torch.float64, device=matrices.device)
        L, failed = torch.linalg.cholesky_ex(matrices)
        for ridge in _RIDGES:
            if not bool(failed.any()):
                break
            L, failed = torch.linalg.cholesky_ex(matrices + ridge * (failed > 0)[:, None, None] * eye)
        L = torch.where((failed > 0)[:, None, None], eye, L)
        return list(torch.linalg.solve_triangular(L, eye.expand_as(L), upper=False))

    def products(self, factors: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return M^-1 v for each of several models and its v [P, k]."""
        return [L.t() @ (L @ v) for L, v in zip(factors, vectors, strict=True)]
