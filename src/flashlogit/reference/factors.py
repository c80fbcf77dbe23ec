"""Hessians of a sample of the rows, and products with their inverses, in torch: the twin of
`flashlogit_kernels.cpu.factors`, for any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_RIDGES = (0.0, 1e-6, 1e-3, 1.0)


class SampleRows:
    """Rows Z [N, P], float32."""

    def __init__(self, Z: Tensor) -> None:
        self._Z = Z

    def inverse_factors(
        self, weights: Sequence[Tensor], at: Sequence[Tensor], relative: Sequence[Tensor], penalties: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return L^-1 for each of several models, M = R A R + diag(penalty) = L L^T."""
        found = []
        for s, W, R, penalty in zip(weights, at, relative, penalties, strict=True):
            z = self._Z @ W.float()
            p = torch.softmax(z, dim=1) if z.shape[1] > 1 else torch.sigmoid(z)
            V = self._Z * (s * (p * (1 - p)).mean(dim=1)).sqrt()[:, None]
            M = (V.t() @ V).double() * R[:, None] * R + torch.diag(penalty)
            eye = torch.eye(len(M), dtype=torch.float64, device=M.device)
            for ridge in _RIDGES:
                L, failed = torch.linalg.cholesky_ex(M + ridge * eye)
                if not bool(failed):
                    break
            found.append(eye if bool(failed) else torch.linalg.solve_triangular(L, eye, upper=False))
        return found

    def products(self, factors: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return M^-1 v for each of several models and its v [P, k]."""
        return [L.t() @ (L @ v) for L, v in zip(factors, vectors, strict=True)]
