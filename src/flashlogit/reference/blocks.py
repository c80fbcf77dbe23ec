"""Walking the rows of X block by block, and the two products with a block while it is in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ..system.memory import scratch_buffer
from ..system.threads import map_in_threads, thread_count

Result = TypeVar("Result")
Total = TypeVar("Total")

_CPU_BLOCK_BYTES = 2 << 20
"""Bytes of a block in the arithmetic's dtype: a thread's share of the caches. 1 MB costs up to 15 % in calls, 16 MB
loses the caches."""
_COPIED_BLOCK_BYTES = 4 << 20
"""Bytes of a block that is cast, in the arithmetic's dtype: what it is read from takes half as many, or less."""
_TOUCHED_COLUMNS = range(96, 1025)
"""Column counts at which a block is touched first, see `row_blocks`: 5 % less time at 100, 18 to 27 % from 128 to
300, 10 % at 784, up to 5 % at 1,024."""
_CPU_BLOCK_ROWS = 1 << 16
"""BLAS adds up a column row after row in float32; blocks are added in float64, which keeps narrow tables accurate."""
_GPU_BLOCK_BYTES = 256 << 20
"""Separate products cannot keep a block in a GPU's cache; there the block only bounds the temporaries."""
_PART_ROWS = 1 << 17
"""Most rows of a thread's part, whose losses are computed at once. Every call may have to wait for Python's lock, and a
thread that waits may be put on a core that is taken: with a quarter of these rows 10 M x 1 takes 57 ms and not 32."""
_PART_BYTES = 1 << 20
"""Fewest bytes of X in a thread's part: fewer are not worth another thread."""


def over_parts(X: Tensor, n: int, work: Callable[[slice], Result], combine: Callable[[list[Result]], Total]) -> Total:
    """Return `combine` of the results of `work` for consecutive parts of n visited rows; on a CPU in several threads.

    Autocast does not apply to `work`.
    """

    def without_autocast(part: slice) -> Result:
        with torch.inference_mode(), torch.autocast(X.device.type, enabled=False):
            return work(part)

    height = max(1, n)
    if X.device.type == "cpu":
        share = max(-(-n // thread_count()), _PART_BYTES // (X.shape[1] * X.element_size()))
        height = min(height, _PART_ROWS, max(1, share))
    parts = [slice(start, min(start + height, n)) for start in range(0, n, height)]
    return map_in_threads(without_autocast, parts, combine)


def linear(X: Tensor, w: Tensor, b: Tensor | None, out: Tensor) -> Tensor:
    """Write X w + b of a block to `out` [m], and return it."""
    if X.shape[1] == 1:
        torch.mul(X[:, 0], w, out=out)
        return out if b is None else out.add_(b)
    return torch.mv(X, w, out=out) if b is None else torch.addmv(b, X, w, out=out)


def transposed_product(X: Tensor, v: Tensor) -> Tensor:
    """Return X^T v, [D]. BLAS takes six times as long over a single column, and its dot product adds up in one
    float32."""
    if X.shape[1] == 1:
        return (X[:, 0] * v).sum(dtype=torch.float64).to(v.dtype).reshape(1)
    return torch.mv(X.t(), v)


def gather(vector: Tensor | None, rows: Tensor | None, part: slice) -> Tensor | None:
    """Return the visited rows `part` of a vector, if there is one."""
    return vector if vector is None else vector[part] if rows is None else vector[rows[part]]


def row_blocks(
    X: Tensor,
    rows: Tensor | None,
    part: slice,
    compute_dtype: torch.dtype,
    center: Tensor | None = None,
    *,
    touch: bool = False,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield row blocks of the visited rows `part` in the arithmetic's dtype, with their place within the part.

    `center` [D] in that dtype, if there is one, is subtracted from them. A block that had to be cast or centred lies in
    the same memory as the one before it: memory that is new each time costs as much as the arithmetic.

    BLAS reads several rows at once, which comes from main memory at a third of the speed of one stream. With `touch`,
    for a block that is used twice, blocks of some widths are added up first: that brings them into the cache sooner.
    """
    height = max(1, min(block_rows(X, compute_dtype), part.stop - part.start))
    copied = X.dtype != compute_dtype or center is not None
    if rows is None and not copied:
        touch = touch and X.device.type == "cpu" and X.stride(1) == 1 and X.shape[1] in _TOUCHED_COLUMNS
        start = 0
        for block in torch.split(X[part], height):
            if touch:
                block.sum()
            yield slice(start, start + len(block)), block
            start += len(block)
        return
    with scratch_buffer(height * X.shape[1] if copied else 0, compute_dtype, X.device) as scratch:
        # In the layout of X, which makes the copy and decides the order of the sums.
        own = scratch.view(height, -1) if X.stride(1) == 1 else scratch.view(-1, height).t()
        for start in range(part.start, part.stop, height):
            visited = slice(start, min(start + height, part.stop))
            block = X[visited] if rows is None else X.index_select(0, rows[visited])
            if copied:
                stored, block = block, own[: block.shape[0]]
                if center is not None and X.dtype == own.dtype:
                    torch.sub(stored, center, out=block)
                else:
                    block.copy_(stored)
                    if center is not None:
                        block -= center
            yield slice(visited.start - part.start, visited.stop - part.start), block


def block_rows(X: Tensor, compute_dtype: torch.dtype) -> int:
    """Return the number of rows of a block."""
    row_bytes = X.shape[1] * compute_dtype.itemsize
    if X.device.type != "cpu":
        return max(1, _GPU_BLOCK_BYTES // row_bytes)
    size = _CPU_BLOCK_BYTES if X.dtype == compute_dtype else _COPIED_BLOCK_BYTES
    return max(1, min(size // row_bytes, _CPU_BLOCK_ROWS))
