"""A start at the optimum of a sample of the rows.

Where a pass over all rows takes longer than the launches of a fit, the optimum of a sample costs next to nothing. The
optimum of n rows lies about P / (2 n) above that of all rows, in nats, and their Hessian is right to 2 sqrt(P / n) of
itself in every direction: a solver that starts there with it has one digit of the coefficients already, or two.

Not so for a column that next to no row of the sample has, such as a rare category. Its optimum there is where the one
row is certain, and from such a point a Newton step on all rows is far too long: 261,877 flights x 186 columns took 32
passes over X by Newton's method and 83 by the truncated one, instead of 16 and 45. Such columns are left out of a
sample.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..objectives.objective import Objective
from .choose import begun
from .method import Start
from .stepped import by_kernels


@dataclass(frozen=True)
class Tuning:
    """When a sample is taken, and how far it is followed."""

    shrink: int = 16
    """Rows of a sample are one in so many, so that a dozen passes over it cost less than one over all."""
    rows_a_parameter: int = 64
    """A sample has at least so many rows for each parameter; its Hessian is then right to a quarter."""
    least_rows: int = 2048
    """A sample has at least so many rows."""
    steps: int = 12
    """Most steps of Newton's method on a sample."""
    least_gpu_bytes: int = 8 << 30
    """Size of X on a GPU below which no sample is taken, and above which no sample of a sample is: an H100 reads so
    much in 3 ms, and spends as long on a sample."""
    known: float = 0.02
    """Gap on a sample that is small enough, in parameters for each row: what a sample's optimum is off by anyway."""


TUNING = Tuning()


def start_from_sample(objective: Objective, start: Start) -> Start:
    """Return a better start, with the Hessian of the sample's objective there, [1, P, P].

    It is `start` itself where a sample would say too little: few rows, or a rare class.
    """
    X = objective.X
    on_gpu = X.is_cuda or by_kernels(objective.loss)
    if on_gpu and X.numel() * X.element_size() < TUNING.least_gpu_bytes:
        return start
    rows = len(X) // TUNING.shrink
    if rows < max(TUNING.least_rows, TUNING.rows_a_parameter * objective.parameters):
        return start
    found = objective.sample(rows)
    if found is None:
        return start
    sample, known = found
    newton = begun("newton", sample, start if on_gpu else start_from_sample(sample, start))
    goal = TUNING.known * objective.parameters / rows
    for _ in range(TUNING.steps):
        if newton.decrement <= goal:
            break
        newton.advance()
    hessian = sample.hessian(newton.search.theta)
    # About what it is in these coordinates, for columns of which the sample does not know.
    unknown = (~known).repeat_interleave(objective.scale.shape[1])
    hessian.diagonal(dim1=1, dim2=2)[:, : len(unknown)].masked_fill_(unknown, 1.0)
    return Start(newton.search.theta, start.tolerance, hessian=hessian)
