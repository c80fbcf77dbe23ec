"""Where a solver starts: at the optimum of a sample of the rows, which costs next to nothing.

The optimum of n rows lies about P / (2 n) above that of all rows, in nats, and their Hessian is right to 2 sqrt(P / n)
of itself in every direction: a solver that starts there with it has one digit of the coefficients already, or two.

Not so for a column that next to no row of the sample has, such as a rare category. Its optimum there is where the one
row is certain, and from such a point a Newton step on all rows is far too long: 261,877 flights x 186 columns took 32
reads of X by Newton's method and 83 by the truncated one, instead of 16 and 45. Such columns are left out of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..objectives.coordinates import Moments
from ..system.memory import cast_rows
from .newton import Newton
from .problem import Problem

SHRINK = 16
"""Rows of a sample are one in so many, so that a dozen passes over it cost less than one over all."""
_ROWS_A_PARAMETER = 64
"""A sample has at least so many rows for each parameter; its Hessian is then right to a quarter."""
_LEAST_ROWS = 2048
_STEPS = 12
LEAST_CUDA_BYTES = 8 << 30
"""Size of X on a GPU below which no sample is taken: an H100 reads so much in 3 ms, and the sample's levels are up to
1,900 launches. 11,000,000 x 28, which is 1.2 GB, took 60 ms with a sample and 39 without."""
_SUPPORT = 8
"""Rows of a sample that a column must rest on. With 20 or 50 heavy-tailed columns are left out as well: 400,000 x 28
of them took up to 45 reads of X instead of 22."""


def start_from_sample(objective: Problem, theta: Tensor) -> tuple[Tensor, Tensor | None]:
    """A better start than theta [P, 1], and the Hessian of the sample's objective there, [1, P, P].

    Gives theta itself and None where a sample would say too little: few rows, or a rare class.
    """
    X = objective.X
    if X.is_cuda and X.numel() * X.element_size() < LEAST_CUDA_BYTES:
        return theta, None
    rows = len(X) // SHRINK
    if rows < max(_LEAST_ROWS, _ROWS_A_PARAMETER * objective.parameters):
        return theta, None
    sample = objective.sample(rows)
    if sample is None:
        return theta, None
    known = _supported(sample)
    _still(sample, ~known)
    theta, hessian = start_from_sample(sample, theta)
    newton = Newton(sample, theta, hessian=hessian)
    # What a sample's optimum is off by anyway.
    goal = 0.02 * objective.parameters / rows
    for _ in range(_STEPS):
        if newton.decrement <= goal:
            break
        newton.advance()
    theta = newton.search.theta
    hessian = sample.hessian(theta)
    objective.reads += sample.reads
    # About what it is in these coordinates, for columns of which the sample does not know.
    columns = torch.cat([~known, known.new_zeros(1)]) if objective.coordinates.intercept else ~known
    unknown = columns.repeat_interleave(objective.parameters // len(columns))
    hessian.diagonal(dim1=1, dim2=2)[:, unknown] = 1.0
    return theta, hessian


def _still(sample: Problem, columns: Tensor) -> None:
    """Make columns [D] bool of a sample, whose X is its own, constant."""
    sample.X[:, columns] = sample.coordinates.center[columns].to(sample.X.dtype)


def _supported(sample: Problem) -> Tensor:
    """Whether a column rests on enough rows of the sample, [D] bool.

    On as many as rows of one size have its second and fourth moments: (sum x^2)^2 / sum x^4, about the sample's mean
    where there is an intercept. A column that is constant there rests on none.
    """
    X = sample.X
    moments = Moments.of(X)
    second = moments.count * moments.variance
    middle = moments.mean
    if not sample.coordinates.intercept:
        second = second + moments.count * middle.square()
        middle = torch.zeros_like(middle)
    fourth = torch.zeros_like(middle)
    for block in torch.split(X, cast_rows(X)):
        fourth += (block.double() - middle).square_().square_().sum(dim=0)
    return (second > 0) & (second.square() >= _SUPPORT * fourth)
