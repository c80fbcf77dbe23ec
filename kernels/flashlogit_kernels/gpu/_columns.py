"""Sums for each column: X^T v for a vector v over the rows, and the second stage, which adds up the programs' sums."""

import triton
import triton.language as tl

from ._terms import MAX_ABS_LOGIT, SCALARS
from ._tiles import centred, load_or_none, load_tile, row_numbers


@triton.jit(do_not_specialize=["tiles", "programs"])
def column_sums_kernel(
    X,
    V,
    CENTER,
    ROWS,
    SUMS,
    N,
    tiles,
    programs,
    column_stride,
    D: tl.constexpr,
    READABLE_D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Program (i, j) sums row tiles i, i + programs, ... of column block j into SUMS[i, D].

    CENTER and ROWS may be None.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    center = load_or_none(CENTER, columns, columns < D, COMPUTE)
    total = tl.zeros([BLOCK_D], COMPUTE)
    for tile in tl.range(program, tiles, programs):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        x = load_tile(X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR).to(COMPUTE)
        x = centred(x, center, COMPUTE)
        v = tl.load(V + place, mask=exists, other=0.0).to(COMPUTE)
        total += tl.sum(x * v[:, None], axis=0)
    tl.store(SUMS + program * D + columns, total, mask=columns < D)


@triton.jit(do_not_specialize=["partial_count", "total_count"])
def reduce_kernel(
    PARTIALS,
    TOTALS,
    OUT,
    partial_count,
    total_count,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """OUT[:WIDTH] is the sum of PARTIALS[partial_count, WIDTH] over its rows, always in the same order and in float64.
    Where TOTALS[total_count, SCALARS] is not None, its sums and the maximum of its last column stand behind the first D
    numbers of OUT, before the others. The last program of the grid writes them.
    """
    block = tl.program_id(0)
    columns = block * BLOCK_D + tl.arange(0, BLOCK_D)
    chunk = tl.arange(0, BLOCK_P)
    if block * BLOCK_D < WIDTH:
        total = tl.zeros([BLOCK_P, BLOCK_D], tl.float64)
        for start in tl.range(0, partial_count, BLOCK_P):
            rows = (start + chunk)[:, None].to(tl.int64)
            mask = (rows < partial_count) & (columns < WIDTH)[None, :]
            total += tl.load(PARTIALS + rows * WIDTH + columns[None, :], mask=mask, other=0.0).to(tl.float64)
        place = columns
        if TOTALS is not None:
            place = tl.where(columns < D, columns, columns + SCALARS)
        tl.store(OUT + place, tl.sum(total, axis=0), mask=columns < WIDTH)
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
