"""Hessians of a sample of the rows, and products with their inverses, in torch: the twin of
`flashlogit_kernels.cpu.factors`, for any device."""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGES = (1e-6, 1e-3, 1.0)
_AT_ONCE = 1 << 26
"""Numbers of scaled rows that are made at once: 256 MB."""


class SampleRows:
    """Rows Z [N, P], float32; joint: whether Hessians are those of all classes jointly, [P C, P C]."""

    def __init__(self, Z: Tensor, *, joint: bool = False) -> None:
        self._Z, self._joint = Z, joint

    def hessians(self, weights: Tensor, at: Tensor, relative: Tensor, penalties: Tensor) -> Tensor:
        """Return M = R A R + diag(penalty) of G models, [G, Q, Q] with Q = P or P C.

        Args:
            weights: [G, N] of the rows in A.
            at: [G, P, C], the coefficients at which the curvature is that of a row.
            relative, penalties: [G, Q], R's diagonal and the penalty's.
        """
        Z = self._Z
        (N, P), G = Z.shape, len(at)
        if self._joint:
            p = self._probabilities(at)
            M = torch.stack([self._joint_hessian(weights[g], p[g]) for g in range(G)])
        else:
            root = self.curvatures(weights, at).sqrt()
            M = Z.new_empty((G, P, P), dtype=torch.float64)
            height = max(1, _AT_ONCE // (N * P))
            for some in torch.split(torch.arange(G), height):
                V = Z * root[some[0] : some[-1] + 1, :, None]
                M[some[0] : some[-1] + 1] = V.mT @ V
        M *= relative[:, :, None] * relative[:, None, :]
        M.diagonal(dim1=1, dim2=2).add_(penalties)
        return M

    def curvatures(self, weights: Tensor, at: Tensor) -> Tensor:
        """Return the mean curvatures of the classes times weights, [G, N], for arguments as of `hessians`."""
        p = self._probabilities(at)
        return weights * (p * (1 - p)).mean(dim=2)

    def _probabilities(self, at: Tensor) -> Tensor:
        z = torch.einsum("np,gpc->gnc", self._Z, at.float())
        return torch.softmax(z, dim=2) if at.shape[2] > 1 else torch.sigmoid(z)

    def _joint_hessian(self, weights: Tensor, p: Tensor) -> Tensor:
        """Return sum_i v_i (diag p_i - p_i p_i^T) x z_i z_i^T, row j C + c for class c of column j."""
        Z, ((N, C), P) = self._Z, (p.shape, self._Z.shape[1])
        J = -p[:, :, None] * p[:, None, :]
        # A difference 1 - p of a class that is almost certain would be all rounding.
        J.diagonal(dim1=1, dim2=2).zero_()
        J.diagonal(dim1=1, dim2=2).copy_(-J.sum(dim=2))
        J = (J * weights[:, None, None]).reshape(N, C * C).t()
        height = max(1, _AT_ONCE // (N * P))
        blocks = torch.cat([((Z * some[:, :, None]).mT @ Z).double() for some in torch.split(J, height)])
        return blocks.reshape(C, C, P, P).permute(2, 0, 3, 1).reshape(P * C, P * C)

    def inverse_factors(self, weights: Tensor, at: Tensor, relative: Tensor, penalties: Tensor) -> Tensor:
        """Return L^-1 [G, Q, Q] of G models, M = L L^T, for the arguments of `hessians`."""
        M = self.hessians(weights, at, relative, penalties)
        eye = torch.eye(M.shape[1], dtype=torch.float64, device=M.device)
        L, failed = torch.linalg.cholesky_ex(M)
        for ridge in _RIDGES:
            if not bool(failed.any()):
                break
            L, failed = torch.linalg.cholesky_ex(M + ridge * (failed > 0)[:, None, None] * eye)
        L = torch.where((failed > 0)[:, None, None], eye, L)
        inverse: Tensor = torch.linalg.solve_triangular(L, eye.expand_as(L), upper=False)
        return inverse

    def products(self, factors: Tensor, vectors: Tensor) -> Tensor:
        """Return M^-1 v of G models for vectors [G, Q, k]."""
        product: Tensor = factors.mT @ (factors @ vectors)
        return product
