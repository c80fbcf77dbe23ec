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

from ..objectives.sampled_hessian import half_dtype
from .driver import State, of_shapes
from .problem import Problem
from .proximal import factor

_MOST_PARAMETERS = 4097
"""Beyond, the matrix and its factors take too much memory and time."""
_LEAST_ROWS, _MOST_ROWS, _SHARE = 8, 64, 8
"""A sample has one row in `_SHARE`, but for each parameter at least so many and at most so many."""
_PRODUCT_BOUND, _HALF_BOUND = 40.0, 130.0
"""Columns at which a row in the sampled Hessian costs as much as in a product, in float32 and in bfloat16."""
_FACTOR_BOUND = 12.0
"""Rows for each parameter, squared, at which factors cost as much as a product over the rows."""
_USUAL_RATE = 0.43
"""Natural logarithm of what a product divides the residual by without a preconditioner, on well conditioned data."""
_SURE = 1.5
"""How many times the products that it costs a preconditioner has to spare: how fast others converge is an estimate."""
_HALF_NOISE = 1e-2
"""Of the diagonal, added to a matrix in bfloat16: smaller eigenvalues are noise."""


class Preconditioner:
    """M = L L^T near the Hessian, made when it is expected to pay."""

    def __init__(self, objective: Problem, state: State | None = None) -> None:
        """Without factors, or as it was in a state."""
        P, N = len(objective.coordinates.scale), len(objective.X)
        self._objective = objective
        self._rows = min(N, max(_LEAST_ROWS * P, min(N // _SHARE, _MOST_ROWS * P)))
        self._rough = half_dtype(objective.X) is not None
        self.factors: Tensor | None = None
        """L, [1, P, P]."""
        self.dtype = torch.float32
        """The factors' dtype: no digit of them is in a solution, but conjugate gradients may need them all the same."""
        if state is not None:
            sample_rows, rough, exact = of_shapes(state, sample_rows=(), rough=(), exact_factors=())
            self._rows, self._rough = int(sample_rows), bool(rough)
            self.dtype = torch.float64 if bool(exact) else torch.float32
            if "factors" in state:
                (self.factors,) = of_shapes(state, factors=(1, P, P))

    def state(self) -> State:
        """The factors, if there are any, and how the next ones would be made."""
        made: State = {} if self.factors is None else {"factors": self.factors}
        how = {"sample_rows": self._rows, "rough": self._rough, "exact_factors": self.dtype == torch.float64}
        return {name: torch.tensor(value) for name, value in how.items()} | made

    def pays(self, left: float, rate: float | None = None) -> bool:
        """Whether making it, for the first time or anew, would save products.

        left: the natural logarithm of the factor by which the residual is still to fall; rate: of that by which a
        product makes it fall at present, if that has been seen.
        """
        P, N = len(self._objective.coordinates.scale), len(self._objective.X)
        if P > _MOST_PARAMETERS:
            return False
        bound = _HALF_BOUND if self._rough else _PRODUCT_BOUND
        cost = self._rows / N * P / bound + P * P / (_FACTOR_BOUND * N)
        needed = cost + left / (0.5 * math.log(max(self._rows / P, 2.0)))
        return left > (needed * _USUAL_RATE if rate is None else _SURE * needed * max(rate, 0.0))

    def make(self) -> None:
        """From the Hessian at the last point evaluated: first roughly, if that is faster, then of ever more rows."""
        H = self._objective.sampled_hessian(self._rows, rough=self._rough)
        if self._rough:  # and so well conditioned that float32 has factors
            H.diagonal(dim1=1, dim2=2).mul_(1 + _HALF_NOISE)
            self._rough = False
        else:
            H = H.to(torch.float64)
            self._rows = min(len(self._objective.X), 2 * self._rows)
        # In the layout in which a state is saved: with another one products differ in their last digits.
        self.factors = factor(H).to(self.dtype).contiguous()


def precondition(factors: Tensor | None, r: Tensor) -> Tensor:
    """M^-1 r for r [P, K], float64; r itself without factors [1, P, P]. r [P K, 1] is taken for [P, K] row by row."""
    if factors is None:
        return r
    columns = r.reshape(factors.shape[-1], -1)
    # Scaled, for what is left of a gradient may be too small for float32.
    size = columns.abs().amax(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    half = torch.linalg.solve_triangular(factors[0], (columns / size).to(factors.dtype), upper=False)
    z: Tensor = torch.linalg.solve_triangular(factors[0].t(), half, upper=True)
    return (z.to(r.dtype) * size).reshape(r.shape)
