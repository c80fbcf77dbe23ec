"""Whole fits of tables that a multiprocessor's cache holds, a program each, in one launch."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor

from ...fits import TINY_ITERATIONS, TinyFits, problems
from ..arguments import launch_options, on_device
from ..launch import LaunchConfig, block_width, is_column_major
from ..plan import Launch
from ..resources import are_fitted, loaded
from . import _tiny

TINY_COLUMNS = 63
"""Most columns: their Hessian, with the intercept's row, is 64 x 64 numbers in registers."""
TINY_BYTES = 200 << 10
"""Bytes of X that a multiprocessor of an H100 keeps in its first cache."""
_TILE = 2048
"""Numbers in a tile: with eight warps eight a thread, which leaves registers for as many partial sums twice."""
_HESSIAN_TILE = 1024
"""The same of the tiles that are multiplied: with 2,048 and 63 columns 26 registers of a thread were spilled."""
_BLOCK = 512
"""Rows whose losses are computed at once, two a thread."""
_NARROWEST = 16
"""Smallest side of the matrices that tl.dot multiplies."""
_WARPS = 8
_LIKE_THEM = {"N": 2, "limit": 2, "l2_bits": 1 << 40, "tolerance_bits": 1 << 40}
"""Numbers of the same types as those that change from fit to fit: one compiled kernel does for all of them."""


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
    """Minimise M objectives with an l2 penalty by Newton's method, each in a program of its own. Waits for nothing.

    Args:
        X: [N, D] of a floating dtype, D <= `TINY_COLUMNS`, its rows or its columns contiguous. No limit is set to N,
            but a program's rows should be no more than `TINY_BYTES`.
        y: [N] labels of a real dtype. Those outside [0, 1] end their problem; nothing is raised.
        l2: of P as in `flashlogit.fit`, or [M] float64 on the device of X, contiguous, all above 0. At the number 0
            half the squared Newton decrement takes the gap's place.
        tolerance: on the duality gap relative to the intercept-only model's P.
        intercept: whether b is free; else it is 0.
        sample_weight: a number for each place, [places] of a floating dtype; default ones.
        rows: row numbers [places] int64, or [M, places] of M problems of one size; default: place i is row i.
        starts: [M + 1] int64, ascending: problem m has the places from starts[m] to starts[m + 1]; default: as `rows`.
        iterations: most evaluations after the first, at most `TINY_ITERATIONS`.
    """
    (N, D), device = X.shape, X.device
    places = N if rows is None else rows.numel()
    M = problems(rows) if starts is None else len(starts) - 1
    column_major = is_column_major(X)
    width = max(_NARROWEST, block_width(D + intercept))
    found = TinyFits.empty(X, M)
    scratch = X.new_empty((3, -(-places // 2) * 2), dtype=torch.float64)
    arguments: dict[str, Any] = {
        "X": X,
        "Y": y.view(torch.uint8) if y.dtype == torch.bool else y,
        "SAMPLE_WEIGHT": sample_weight,
        "ROWS": rows,
        "STARTS": starts,
        "L2": l2 if isinstance(l2, Tensor) else None,
        "WEIGHT": found.weight,
        "BIAS": found.bias,
        "RECORD": found.record,
        "LOGITS": scratch[0],
        "RESIDUALS": scratch[1],
        "CURVATURES": scratch[2],
        "column_stride": X.stride(1) if column_major else 0,
        "D": D,
        "ROW_STRIDE": 1 if column_major else X.stride(0),
        "COLUMN_MAJOR": column_major,
        "INTERCEPT": int(intercept),
        "UNPENALISED": int(not isinstance(l2, Tensor) and l2 == 0),
        "POINTS": TINY_ITERATIONS + 1,
        "PRECISION": "ieee",
        "BLOCK": _BLOCK,
        "BLOCK_N": _TILE // width,
        "BLOCK_H": _HESSIAN_TILE // width,
        "WIDTH": width,
        **launch_options(LaunchConfig(_TILE // width, _WARPS, 1)),
    }
    bits = struct.unpack("2q", struct.pack("2d", 0.0 if isinstance(l2, Tensor) else l2, tolerance))
    numbers = {"N": places // max(M, 1), "limit": min(iterations, TINY_ITERATIONS)}
    numbers |= {"l2_bits": bits[0], "tolerance_bits": bits[1]}
    with on_device(X):
        compiled = loaded(_tiny.tiny_kernel, device, arguments | _LIKE_THEM) if are_fitted(device) else None
        Launch(_tiny.tiny_kernel, (M,), arguments | numbers, found=compiled)()
    return found


def mean_optimum(
    found: TinyFits, *, null: Tensor, center: Tensor, scale: Tensor, folded: bool
) -> tuple[Tensor, Tensor]:
    """Return the mean of the proven optima of models with an intercept, for one launch. Waits for nothing.

    Args:
        found: what `fit_tiny` returned.
        null: [D + 1, 1] float64, the answer where no optimum was proven.
        center, scale: [D] and [D + 1] float64, the coordinates of null and of the answer.
        folded: whether passes take X as it is; else less its centre.

    Returns:
        theta [D + 1, 1] float64; and what a pass takes there, float64: the weights [D] and, at the next multiple of
        four, the intercept.
    """
    M, D = found.weight.shape
    begin = -(-(D + 1) // 2) * 2
    made = scale.new_empty(begin + -(-D // 4) * 4 + 1)
    theta, coefficients = made[: D + 1, None], made[begin:]
    tensors = found.weight, found.bias, found.record, null, center, scale, theta, coefficients
    sizes = M, D, found.record.shape[1], folded, block_width(D)
    arguments = dict(zip(_tiny.mean_kernel.arg_names, (*tensors, *sizes), strict=True))
    with on_device(made):
        Launch(_tiny.mean_kernel, (1,), {**arguments, "num_warps": _WARPS, "enable_fp_fusion": True})()
    return theta, coefficients
