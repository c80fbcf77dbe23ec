"""Labels, weights and columns as a fit looks at them before its first pass: each in one launch and one read-back.

The programs' sums are added up on the host: they are a few kilobytes, and a second stage would be one more launch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checks import check_labels, check_matrix, readable_labels
from ..contract import LabelSums
from . import _columns
from .arguments import on_device
from .launch import block_width, multiprocessors
from .plan import Launch

_LABELS = 1024
"""Labels of a tile, eight for each thread."""
_VALUES, _COLUMNS = 1024, 64
"""Values of X in a tile, and its columns at most."""
_NUM_WARPS = 4
_PARTIALS = 4096
"""Programs that share a block of columns write about so many sums a row of `SUMS` in all, as far as that is more than
one program: 64 KB, which are copied to the host as fast as a few numbers."""


def label_sums(y: Tensor, sample_weight: Tensor | None = None) -> LabelSums:
    """Read labels y [N] and weights [N] of any real dtype once, and return what a fit has to know of them.

    It waits for the device once.

    Raises:
        TypeError: a dtype that is not real.
        ValueError: shapes or devices that do not fit, or no labels.
    """
    y, s = check_labels(y, sample_weight)
    N, narrow = len(y), None if y.dtype == torch.uint8 else torch.empty_like(y, dtype=torch.uint8)
    tiles = -(-N // _LABELS)
    programs = min(tiles, 4 * multiprocessors(y.device))
    sums = y.new_empty((programs, 5), dtype=torch.float64)
    arguments = {"Y": y, "SAMPLE_WEIGHT": s, "NARROW": narrow, "SUMS": sums, "N": N, "BLOCK_N": _LABELS}
    _launch(_columns.label_sums_kernel, (programs,), arguments | {"tiles": tiles, "programs": programs})
    outside, soft, negative, total, positive = sums.to("cpu").numpy().sum(axis=0).tolist()
    labels = readable_labels(y, torch.float64) if narrow is None or soft > 0 else narrow
    return LabelSums(labels, s, outside > 0, negative > 0, total, positive)


def column_moments(X: Tensor, rows: Tensor | None = None) -> Any:
    """Return the first visited row of X [N, D], and partial sums of differences from it and of their squares.

    It waits for the device once.

    Args:
        X: as for `bce_onepass`.
        rows: [n] int64 numbers of the rows to visit, not checked; default all.

    Returns:
        A NumPy array [1 + 2 n, D] float64: the row, n partial sums of the differences, and n of their squares.

    Raises:
        TypeError, ValueError: an X that no pass takes.
    """
    X = check_matrix(X)
    (N, D), device = X.shape, X.device
    n, width = N if rows is None else len(rows), min(block_width(D), _COLUMNS)
    height = _VALUES // width
    tiles, blocks = -(-n // height), -(-D // width)
    programs = min(tiles, max(1, _PARTIALS // D), 2 * multiprocessors(device))
    sums = X.new_empty((1 + 2 * programs, D), dtype=torch.float64)
    arguments = {"X": X, "ROWS": rows, "SUMS": sums, "N": n, "BLOCK_N": height, "BLOCK_D": width}
    arguments |= {"row_stride": X.stride(0), "column_stride": X.stride(1)}
    counts = {"tiles": tiles, "programs": programs, "columns": D}
    _launch(_columns.column_moments_kernel, (programs, blocks), arguments | counts)
    return sums.to("cpu").numpy()


def _launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
    with on_device(arguments["SUMS"]):
        Launch(kernel, grid, {**arguments, "num_warps": _NUM_WARPS, "enable_fp_fusion": True})()
