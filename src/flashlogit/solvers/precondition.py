"""A preconditioner of conjugate gradients: the Hessian of a sample of the rows.

In whatever units columns are, and however nearly collinear, the Hessian of n of the rows differs from that of all by
factors between (1 - sqrt(P / n))^2 and (1 + sqrt(P / n))^2, so that each product divides the error by about
sqrt(n / P). Without one, 20,000 x 768 whose singular values span three decades takes 4,400 products, and with two
decades 750.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flashlogit.convex import ConvexObjective

from .proximal import factor

_MOST_PARAMETERS = 4097
"""Beyond, the matrix and its factors take too much memory and time."""
_LEAST_ROWS, _MOST_ROWS, _SHARE = 8, 64, 8
"""A sample has one row in `_SHARE`, but for each parameter at least so many and at most so many."""
_PRODUCT_BOUND = 40.0
"""Columns at which a row in the sampled Hessian costs as much as in a product, on CPU and GPU alike within a factor."""
_FACTOR_BOUND = 12.0
"""Rows for each parameter, squared, at which factors cost as much as a product over the rows."""
_SURE = 1.5
"""How many times the products that it costs a preconditioner has to spare: how fast others converge is an estimate."""


class Preconditioner:
    """M = L L^T near the Hessian, made when it is seen to pay."""

    def __init__(self, objective: ConvexObjective) -> None:
        P, N = objective.parameters, len(objective.X)
        self._objective = objective
        self._rows = min(N, max(_LEAST_ROWS * P, min(N // _SHARE, _MOST_ROWS * P)))
        self.factors: Tensor | None = None
        """L, [1, P, P] in float32: no digit of it is in a solution."""

    def pays(self, left: float, rate: float) -> bool:
        """Whether making it, for the first time or anew, would save products.

        left: the natural logarithm of the factor by which the residual is still to fall; rate: of that by which a
        product makes it fall at present.
        """
        P, N, rows = self._objective.parameters, len(self._objective.X), self._rows
        if P > _MOST_PARAMETERS:
            return False
        cost = rows / N * P / _PRODUCT_BOUND + P * P / (_FACTOR_BOUND * N)
        promised = 0.5 * math.log(max(rows / P, 2.0))
        return left > _SURE * (cost + left / promised) * max(rate, 0.0)

    def make(self) -> None:
        """From the Hessian at the last point evaluated; a second time from twice the rows."""
        self.factors = factor(self._objective.sampled_hessian(self._rows)).to(torch.float32)
        self._rows = min(len(self._objective.X), 2 * self._rows)


def precondition(factors: Tensor | None, r: Tensor) -> Tensor:
    """M^-1 r for r [P, K], float64; r itself without factors [1, P, P]."""
    if factors is None:
        return r
    # Scaled, for what is left of a gradient may be too small for float32.
    size = r.abs().amax(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    half = torch.linalg.solve_triangular(factors[0], (r / size).to(factors.dtype), upper=False)
    z: Tensor = torch.linalg.solve_triangular(factors[0].t(), half, upper=True)
    return z.to(r.dtype) * size
