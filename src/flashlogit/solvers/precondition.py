"""A preconditioner of conjugate gradients: the Hessian of a sample of the rows.

In whatever units columns are, and however nearly collinear, the Hessian of n of the rows differs from that of all by
factors between (1 - sqrt(P / n))^2 and (1 + sqrt(P / n))^2, so that each product divides the error by about
sqrt(n / P). Without one, 20,000 x 768 whose singular values span three decades takes 4,400 products, and with two
decades 750.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..objectives.objective import Objective, Point
from ..objectives.sampled_hessian import half_dtype
from .method import State, of_shapes
from .proximal import factor


@dataclass(frozen=True)
class Tuning:
    """What a preconditioner costs, and when it is worth it."""

    most_parameters: int = 4097
    """Most parameters of a class: beyond, the matrix and its factors take too much memory and time."""
    share: int = 8
    """A sample has one row in so many, but at least `least_rows` and at most `most_rows` for each parameter."""
    least_rows: int = 8
    """Least rows of a sample for each parameter."""
    most_rows: int = 64
    """Most rows of a sample for each parameter, unless `share` asks for fewer."""
    product_bound: float = 40.0
    """At so many columns a row in the sampled Hessian costs as much as in a product, in float32."""
    half_bound: float = 130.0
    """The same in bfloat16."""
    factor_bound: float = 12.0
    """At so many rows for each parameter, squared, factors cost as much as a product over the rows."""
    usual_rate: float = 0.43
    """Natural logarithm of what a product divides the residual by without a preconditioner, on well conditioned
    data."""
    sure: float = 1.5
    """A preconditioner has to spare so many times the products that it costs: how fast others converge is an
    estimate."""
    half_noise: float = 1e-2
    """Share of the diagonal that is added to a matrix in bfloat16: smaller eigenvalues are noise."""


TUNING = Tuning()


class Preconditioner:
    """M = L L^T near the Hessian, made when it is expected to pay; as it was in a state, if one is given."""

    def __init__(self, objective: Objective, state: State | None = None) -> None:
        P, N = len(objective.scale), len(objective.X)
        self._objective, self._P, self._N = objective, P, N
        self._rows = min(N, max(TUNING.least_rows * P, min(N // TUNING.share, TUNING.most_rows * P)))
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
        """Return the factors, if there are any, and how the next ones would be made."""
        made: State = {} if self.factors is None else {"factors": self.factors}
        how = {"sample_rows": self._rows, "rough": self._rough, "exact_factors": self.dtype == torch.float64}
        return {name: torch.tensor(value) for name, value in how.items()} | made

    def pays(self, left: float, rate: float | None = None) -> bool:
        """Return whether making it, for the first time or anew, would save products.

        left: the natural logarithm of the factor by which the residual is still to fall; rate: of that by which a
        product makes it fall at present, if that has been seen.
        """
        P, N = self._P, self._N
        if TUNING.most_parameters < P:
            return False
        bound = TUNING.half_bound if self._rough else TUNING.product_bound
        cost = self._rows / N * P / bound + P * P / (TUNING.factor_bound * N)
        needed = cost + left / (0.5 * math.log(max(self._rows / P, 2.0)))
        return left > (needed * TUNING.usual_rate if rate is None else TUNING.sure * needed * max(rate, 0.0))

    def make(self, at: Point) -> None:
        """Make it of the Hessian at a point: first roughly, if that is faster, then of ever more rows."""
        H = self._objective.sampled_hessian(at, self._rows, rough=self._rough)
        if self._rough:  # and so well conditioned that float32 has factors
            H.diagonal(dim1=1, dim2=2).mul_(1 + TUNING.half_noise)
            self._rough = False
        else:
            H = H.to(torch.float64)
            self._rows = min(self._N, 2 * self._rows)
        # In the layout in which a state is saved: with another one products differ in their last digits.
        self.factors = factor(H).to(self.dtype).contiguous()


def precondition(factors: Tensor | None, r: Tensor) -> Tensor:
    """Return M^-1 r for r [P, K] float64, or [P K, 1] row by row; r itself without factors [1, P, P]."""
    if factors is None:
        return r
    columns = r.reshape(factors.shape[-1], -1)
    # Scaled, for what is left of a gradient may be too small for float32.
    size = columns.abs().amax(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    half = torch.linalg.solve_triangular(factors[0], (columns / size).to(factors.dtype), upper=False)
    z: Tensor = torch.linalg.solve_triangular(factors[0].t(), half, upper=True)
    return (z.to(r.dtype) * size).reshape(r.shape)
