"""Fits of tables so small that the whole of one is made at once: in a single launch on a GPU, by one compiled loop on a
CPU, and without Numba, or for a softmax, by plain Newton steps on a few arrays.

The general way asks torch for a thousand operations, which take longer than the arithmetic of such a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from flashlogit_kernels.compiling import compile_seconds
from flashlogit_kernels.fits import NUMBERS, ROW, TOLERANCE, TinyFits

from ..objectives.certificate import Certificate, provable
from ..solvers.driver import HistoryRow
from .task import Fit, FitOptions, default_names

SMALL_COLUMNS = 128
"""Most columns on a CPU."""
SMALL_VALUES = 1 << 17
"""Most numbers of X on a CPU: 1 MB as float64, which the cache of a core holds."""
SOFTMAX_PARAMETERS = 320
"""Most weights and intercepts of a softmax: for no more `auto` takes Newton's method."""
SOFTMAX_LOGITS, SOFTMAX_PRODUCTS = 1 << 15, 1 << 19
"""Most N K, and most N (D + 1) K (K - 1) / 2, the products that make a Hessian: beyond either a fit in steps takes less
time. CPU times on an AMD EPYC: 7 ms against 13 at 3,000 x 10 with 3 classes, 12 against 14 at 10,000 x 4 with 3, 12
against 19 at 2,000 x 20 with 5, and 36 against 21 at 3,000 x 20 with 5."""
LEAST_L2 = 1e-300
"""A penalty from which the kernel can compute the scale of a constant column."""


def tiny_fit(
    X: Tensor,
    y: Tensor,
    sample_weight: Tensor | None,
    options: FitOptions,
    *,
    intercept: bool,
    backend: Literal["triton", "numba", "torch"],
    classes: int = 1,
) -> Fit | None:
    """Return the fit of a small table, made at once, or None, with nothing raised.

    None where shapes, dtypes or options are not its kind, for which no value is looked at, and where it has not ended
    at the tolerance with a proven gap, or without a penalty with classes that overlap beyond doubt: then the fit is
    made as if it had not been tried, and names what is wrong with the data. It waits for the device once. All rows of
    the history have the time at which they were read.

    Args:
        X, y, sample_weight: as `flashlogit.fit` has checked them, their values not yet.
        options: of the fit.
        intercept: whether b is free.
        backend: triton for a GPU's kernel, numba for the compiled loop, torch for plain steps on the CPU.
        classes: K for a softmax of the class numbers y, for which every backend takes plain steps; 1 for two classes.
    """
    D, l2, tolerance = X.shape[1], options.l2, options.tolerance
    plain = options.l1 == 0 and options.solver in ("auto", "newton")
    plain &= l2 >= LEAST_L2 or (l2 == 0 and backend != "triton" and classes == 1)
    named = options.names is None or len(options.names) == D
    if not (plain and named and options.start is None and options.on_point is None):
        return None
    fit_tiny = _program(X, backend, classes)
    if fit_tiny is None:
        return None
    most, s = options.max_iterations, sample_weight
    if s is not None:  # what is in rows of weight 0 must not count in the columns' scales
        counted = torch.nonzero(s != 0)[:, 0]
        X, y, s = (X, y, s) if len(counted) in (0, len(s)) else (X[counted], y[counted], s[counted])
    found = fit_tiny(X, y, l2=l2, tolerance=tolerance, intercept=intercept, sample_weight=s, iterations=most)
    record = found.record[0].tolist()
    ending, value, gap, null, iterations, points, rounding, sizes = record[:NUMBERS]
    if ending != TOLERANCE:
        return None
    sizes_of = (0.0, sizes)
    if l2 > 0 and not provable(0.0, l2, rounding, sizes_of, tolerance=tolerance, null=null, classes=classes)[1]:
        return None
    compiling = compile_seconds() - options.compiled
    seconds = time.perf_counter() - options.began
    history: list[HistoryRow] = []
    for k in range(int(points)):
        start = NUMBERS + k * ROW
        iteration, at, gap_there, norm, step = record[start : start + ROW]
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
        bias=found.bias.reshape(-1),
        certificate=Certificate("gap" if l2 > 0 else "decrement", gap, value, null),
        tolerance=tolerance,
        solver="newton",
        ending="tolerance",
        iterations=int(iterations),
        passes=passes,
        bytes_read=passes * X.numel() * X.element_size(),
        seconds=seconds - compiling,
        compile_seconds=compiling,
        history=history,
        names=options.names or default_names(D),
    )


def _program(X: Tensor, backend: str, classes: int) -> Callable[..., TinyFits] | None:
    """Return what fits X with this backend, or None where X, or a softmax of so many classes, is too large for it."""
    N, D = X.shape
    if classes > 1:
        small = X.device.type == "cpu" and X.numel() <= SMALL_VALUES
        parameters, logits = (D + 1) * classes, N * classes
        small &= parameters <= SOFTMAX_PARAMETERS and logits <= SOFTMAX_LOGITS
        if not small or N * parameters * (classes - 1) > 2 * SOFTMAX_PRODUCTS:
            return None
        from ..reference.tiny import fit_softmax_tiny

        return partial(fit_softmax_tiny, classes=classes)
    return program_of(backend) if most_rows(X, backend) >= N else None


def most_rows(X: Tensor, backend: str) -> int:
    """Return the number of rows up to which a table of the columns of X is fitted at once, 0 of too many columns."""
    D = X.shape[1]
    if backend == "triton":
        from flashlogit_kernels.gpu.fits import tiny

        return tiny.TINY_BYTES // (D * X.element_size()) if D <= tiny.TINY_COLUMNS else 0
    return SMALL_VALUES // D if D <= SMALL_COLUMNS and X.device.type == "cpu" else 0


def program_of(backend: str) -> Callable[..., TinyFits]:
    """Return what fits small tables of two classes with this backend."""
    if backend == "triton":
        from flashlogit_kernels.gpu.fits.tiny import fit_tiny as launched

        return launched
    if backend == "numba":
        from flashlogit_kernels.cpu.fits.tiny import fit_tiny as compiled

        return compiled
    from ..reference.tiny import fit_tiny

    return fit_tiny
