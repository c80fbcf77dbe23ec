"""The second stage: sums over the programs, always in the same order and in float64."""

import triton
import triton.language as tl

from ._terms import MAX_ABS_LOGIT, SCALARS


@triton.jit(do_not_specialize=["partial_count", "total_count"])
def reduce_kernel(
    PARTIALS,
    TOTALS,
    OUT,
    partial_count,
    total_count,
    D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """OUT[:D] is the sum of PARTIALS[partial_count, D] over its rows. Where TOTALS[total_count, SCALARS] is not
    None, its sums and the maximum of its last column follow in OUT, written by the last program of the grid.
    """
    block = tl.program_id(0)
    columns = block * BLOCK_D + tl.arange(0, BLOCK_D)
    chunk = tl.arange(0, BLOCK_P)
    if block * BLOCK_D < D:
        total = tl.zeros([BLOCK_P, BLOCK_D], tl.float64)
        for start in tl.range(0, partial_count, BLOCK_P):
            rows = (start + chunk)[:, None].to(tl.int64)
            mask = (rows < partial_count) & (columns < D)[None, :]
            total += tl.load(PARTIALS + rows * D + columns[None, :], mask=mask, other=0.0).to(tl.float64)
        tl.store(OUT + columns, tl.sum(total, axis=0), mask=columns < D)
    elif TOTALS is not None:
        kinds = tl.arange(0, 8)
        sums = tl.zeros([BLOCK_P, 8], tl.float64)
        largest = tl.zeros([BLOCK_P], tl.float64)
        for start in tl.range(0, total_count, BLOCK_P):
            rows = start + chunk
            mask = (rows < total_count)[:, None] & (kinds < MAX_ABS_LOGIT)[None, :]
            sums += tl.load(TOTALS + rows[:, None] * SCALARS + kinds[None, :], mask=mask, other=0.0)
            magnitudes = tl.load(TOTALS + rows * SCALARS + MAX_ABS_LOGIT, mask=rows < total_count, other=0.0)
            largest = tl.maximum(largest, magnitudes)
        tl.store(OUT + D + kinds, tl.sum(sums, axis=0), mask=kinds < MAX_ABS_LOGIT)
        tl.store(OUT + D + MAX_ABS_LOGIT, tl.max(largest, axis=0))
