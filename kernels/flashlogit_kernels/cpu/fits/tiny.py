"""Whole fits of small tables by a compiled loop, many of them side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...fits import NUMBERS, ROW, TINY_ITERATIONS, TinyFits, problems
from ..pool import share
from ._tiny import newton

_PARTS = 64
"""Problems are shared by threads in at least so many parts, and no part has many more: a call of a loop takes as long
as a fit of a few rows, and between calls Ctrl-C is heard."""


def fit_tiny(
    X: Tensor,
    y: Tensor,
    *,
    l2: float | Tensor,
    tolerance: float,
    intercept: bool = True,
    sample_weight: Tensor | None = None,
    rows: Tensor | None = None,
    starts: Tensor | None = None,
    iterations: int = TINY_ITERATIONS,
) -> TinyFits:
    """Minimise M objectives with an l2 penalty by Newton's method, several at a time in torch's number of threads.

    The arithmetic is float64, on a copy of each problem's rows, and one of X if it is of another dtype. A problem gives
    the same bits whatever others are fitted with it, and in whatever threads.

    Args:
        X: [N, D] of a floating dtype, on the CPU. No limit is set to its size, but the loops are made for X whose
            float64 numbers a core's cache holds.
        y: [N] labels of a real dtype. Those outside [0, 1] end their problem; nothing is raised.
        l2: of P as in `flashlogit.fit`, at least 0, or [M] float64 on the CPU. At 0 half the squared Newton decrement
            takes the gap's place.
        tolerance: on the duality gap relative to the intercept-only model's P.
        intercept: whether b is free; else it is 0.
        sample_weight: a number for each place, [places] of a real dtype; default ones.
        rows: row numbers [places] int64, or [M, places] of M problems of one size; default: place i is row i.
        starts: [M + 1] int64, ascending: problem m has the places from starts[m] to starts[m + 1]; default: as `rows`.
        iterations: most evaluations after the first, at most `TINY_ITERATIONS`.
    """
    M = problems(rows) if starts is None else len(starts) - 1
    places = len(X) if rows is None else rows.numel()
    ends = np.linspace(0, places, M + 1, dtype=np.int64) if starts is None else _array(starts, np.int64)
    found = TinyFits.empty(X, M)
    none = y.new_empty(0)
    s, visited = none if sample_weight is None else sample_weight, none if rows is None else rows.view(-1)
    by_columns = X.stride(0) == 1
    table = _array(X.t() if by_columns else X, np.float64).reshape(-1)
    given = (y, np.float64), (s, np.float64), (visited, np.int64)
    strides = (1, len(X)) if by_columns else (X.shape[1], 1)
    data = table, strides, X.shape[1], *(_array(values, dtype) for values, dtype in given), ends
    penalties = np.broadcast_to(np.asarray(l2, np.float64), (M,))
    options = np.ascontiguousarray(penalties), float(tolerance), bool(intercept), min(int(iterations), TINY_ITERATIONS)
    weight, bias, record = (each.numpy() for each in (found.weight, found.bias, found.record))
    written = weight, bias, record[:, :NUMBERS], record[:, NUMBERS:].reshape(M, -1, ROW)
    parts = min(M, max(_PARTS, M // _PARTS))
    edges = [M * part // max(parts, 1) for part in range(parts + 1)]
    share(lambda part: newton(*data, edges[part], edges[part + 1], *options, *written), parts)
    return found


def _array(values: Tensor, dtype: type[np.generic]) -> NDArray[Any]:
    """Return the numbers in a dtype, contiguous, by NumPy: torch would wake its threads, and wait for them."""
    if values.dtype == torch.bfloat16:
        bits = values.view(torch.uint16).numpy().astype(np.uint32) << 16
        return np.ascontiguousarray(bits.view(np.float32), dtype=dtype)
    return np.ascontiguousarray(values.numpy(), dtype=dtype)
