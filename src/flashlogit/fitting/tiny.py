"""Fits of tables so small that a GPU makes the whole of one in a single launch."""

from __future__ import annotations

import time

from torch import Tensor

from flashlogit_kernels.compiling import compile_seconds

from ..objectives.certificate import Certificate, provable
from ..solvers.driver import HistoryRow
from .task import Fit, FitOptions

_LEAST_L2 = 1e-300
"""A penalty from which the kernel can compute the scale of a constant column."""


def tiny_fit(X: Tensor, y: Tensor, sample_weight: Tensor | None, options: FitOptions, *, intercept: bool) -> Fit | None:
    """Return the fit of a table that one program fits with the kernels, or None, with nothing raised.

    None where shapes, dtypes or options are not its kind, for which no value is looked at, and where the program has
    not ended at the tolerance with a proven gap: then the fit is made as if it had not been tried, and names what is
    wrong with the data. It waits for the device once. All rows of the history have the time at which they were read.

    Args:
        X, y, sample_weight: as `flashlogit.fit` has checked them, their values not yet.
        options: of the fit.
        intercept: whether b is free.
    """
    from flashlogit_kernels.gpu.fits.tiny import ENDED_AT_TOLERANCE, TINY_BYTES, TINY_COLUMNS, TinyFits, fit_tiny

    D = X.shape[1]
    read = X.numel() * X.element_size()
    small = D <= TINY_COLUMNS and read <= TINY_BYTES
    plain = options.l1 == 0 and options.l2 >= _LEAST_L2 and options.solver in ("auto", "newton")
    named = options.names is None or len(options.names) == D
    if not (small and plain and named and options.start is None and options.on_point is None):
        return None
    l2, tolerance, most = options.l2, options.tolerance, options.max_iterations
    found = fit_tiny(
        X, y, l2=l2, tolerance=tolerance, intercept=intercept, sample_weight=sample_weight, iterations=most
    )
    record = found.record[0].tolist()
    ending, value, gap, null, iterations, points, rounding, sizes = record[: TinyFits.NUMBERS]
    if ending != ENDED_AT_TOLERANCE:
        return None
    if not provable(0.0, l2, rounding, (0.0, sizes), tolerance=tolerance, null=null)[1]:
        return None
    compiling = compile_seconds() - options.compiled
    seconds = time.perf_counter() - options.began
    history: list[HistoryRow] = []
    for k in range(int(points)):
        start = TinyFits.NUMBERS + k * TinyFits.ROW
        iteration, at, gap_there, norm, step = record[start : start + TinyFits.ROW]
        history.append(
            {
                "iteration": int(iteration),
                "objective": at,
                "gap": gap_there,
                "relative_gap": gap_there / null,
                "gradient_norm": norm,
                "step": step,
                "passes": 2.0 + iteration + k,  # the columns' moments, the evaluations, a Hessian at each point before
                "seconds": seconds,
            }
        )
    passes = 1.0 + iterations + points
    return Fit(
        weight=found.weight[0],
        bias=found.bias,
        certificate=Certificate("gap", gap, value, null),
        tolerance=tolerance,
        solver="newton",
        ending="tolerance",
        iterations=int(iterations),
        passes=passes,
        bytes_read=passes * read,
        seconds=seconds - compiling,
        compile_seconds=compiling,
        history=history,
        names=options.names or [f"x{j}" for j in range(D)],
    )
