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

import math
from dataclasses import dataclass

from ..objectives.design import sample_rows
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
    fitted_bytes: int = 512 << 20
    """Size of X on a GPU from which small samples are fitted, by kernels: an H100 reads so much in 0.17 ms, and they
    spare five times that, two passes and two Hessians. A fit of 569 x 30 takes it 0.43 ms."""
    fitted_parameters: int = 32
    """Most parameters of such a fit."""
    fitted_rows: int = 20
    """Rows of such a sample for each parameter, where the classes are equally large."""
    most_fitted_rows: int = 2048
    """Rows of such a sample above which none is fitted: where one class is rare."""
    fitted_steps: int = 8
    """Evaluations of such a fit, which suffice where the classes are not separated."""
    known: float = 0.02
    """Gap on a sample that is small enough, in parameters for each row: what a sample's optimum is off by anyway."""


TUNING = Tuning()


def start_from_sample(objective: Objective, start: Start) -> Start:
    """Return a better start, with the Hessian of the sample's objective there, [1, P, P], unless kernels fitted samples
    too small for one.

    It is `start` itself where a sample would say too little: few rows, or a rare class.
    """
    X = objective.X
    on_gpu = X.is_cuda or by_kernels(objective.loss)
    size = X.numel() * X.element_size()
    mean = _mean_of_fits(objective, start) if by_kernels(objective.loss) and size >= TUNING.fitted_bytes else None
    if mean is not None:
        return mean
    if on_gpu and size < TUNING.least_gpu_bytes:
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


def _mean_of_fits(objective: Objective, null: Start) -> Start | None:
    """Return the mean of the optima of small random samples, one for each multiprocessor, all of them fitted in
    one launch. Waits for nothing.

    Its error is a multiprocessor's share of a single sample's, and a bias of second order (Zhang, Duchi and Wainwright
    2013). With 64 samples of 580 rows P was 2e-3 of the null model's too high in place of 4e-2, for data like 11
    million rows of 28 columns: two steps from the end. Left out are samples that do not converge, such as separated
    ones. A median would need no such care, but depends on the axes: with singular values over three decades it was
    worse than nothing.

    It is None where a sample of so few rows says too little: where one class is rare; and with weights, of which few
    may count, or without an intercept, where the share of a class is not known. With weights that balanced rare classes
    the mean was up to 30 times as far from the optimum as the null model.
    """
    from flashlogit_kernels.gpu.fits.tiny import fit_tiny, mean_optimum
    from flashlogit_kernels.gpu.launch import multiprocessors

    X, loss, device, P = objective.X, objective.loss, objective.X.device, objective.parameters
    small = TUNING.fitted_parameters >= P
    if not small or objective.l1 > 0 or loss.sample_weight is not None or not objective.intercept:
        return None
    balance = 4 * math.prod(loss.shares)
    if TUNING.fitted_rows * P > balance * TUNING.most_fitted_rows:
        return None
    rows = math.ceil(TUNING.fitted_rows * P / balance)
    chosen = sample_rows(len(X), multiprocessors(device) * rows, device, ascending=False)
    if chosen is None:
        return None
    objective.design.count(len(chosen) / len(X))
    found = fit_tiny(
        X,
        loss.y,
        l2=objective.l2,
        tolerance=TUNING.known * P / rows,
        rows=chosen.view(-1, rows),
        iterations=TUNING.fitted_steps,
    )
    coordinates, folded = objective.design.coordinates, objective.design.center is None
    theta, coefficients = mean_optimum(
        found, null=null.theta, center=coordinates.center, scale=coordinates.scale, folded=folded
    )
    return Start(theta, null.tolerance, coefficients=coefficients)
