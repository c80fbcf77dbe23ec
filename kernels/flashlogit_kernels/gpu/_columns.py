"""Sums over rows: X^T v for a vector v, moments of columns, what labels and weights add up to, and the second stage of
a pass, which adds up the programs' sums."""

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
        x = load_tile(
            X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, "evict_first"
        ).to(COMPUTE)
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


@triton.jit(do_not_specialize=["tiles", "programs"])
def label_sums_kernel(Y, SAMPLE_WEIGHT, NARROW, SUMS, N, tiles, programs, BLOCK_N: tl.constexpr):
    """Each program walks tiles of labels Y [N] and writes five sums to SUMS[program, 5].

    They are the numbers of labels outside [0, 1] or NaN, of labels that are neither 0 nor 1, and of weights that are
    negative or NaN; the sum of the weights, and the weighted sum of the labels. NARROW [N] uint8 gets 1 for labels of
    1, and else 0. SAMPLE_WEIGHT and NARROW may be None.
    """
    program = tl.program_id(0).to(tl.int64)
    outside = tl.zeros([BLOCK_N], tl.int32)
    soft = tl.zeros([BLOCK_N], tl.int32)
    negative = tl.zeros([BLOCK_N], tl.int32)
    weights = tl.zeros([BLOCK_N], tl.float64)
    labels = tl.zeros([BLOCK_N], tl.float64)
    for tile in tl.range(program, tiles, programs):
        place, _, exists = row_numbers(tile, N, None, BLOCK_N)
        y = tl.load(Y + place, mask=exists, other=0).to(tl.float64)
        inside = (y >= 0) & (y <= 1)
        outside += tl.where(inside, 0, 1)
        y = tl.where(inside, y, 0.0)  # sums of infinities of both signs would make the host warn
        soft += tl.where((y == 0) | (y == 1), 0, 1)
        if NARROW is not None:
            tl.store(NARROW + place, (y == 1).to(tl.uint8), mask=exists)
        if SAMPLE_WEIGHT is not None:
            s = tl.load(SAMPLE_WEIGHT + place, mask=exists, other=0).to(tl.float64)
            negative += tl.where(s >= 0, 0, 1)
            s = tl.where(s >= 0, s, 0.0)
            weights += s
            labels += s * y
        else:
            weights += exists.to(tl.float64)
            labels += y
    sums = SUMS + program * 5
    tl.store(sums, tl.sum(outside, axis=0).to(tl.float64))
    tl.store(sums + 1, tl.sum(soft, axis=0).to(tl.float64))
    tl.store(sums + 2, tl.sum(negative, axis=0).to(tl.float64))
    tl.store(sums + 3, tl.sum(weights, axis=0))
    tl.store(sums + 4, tl.sum(labels, axis=0))


@triton.jit(do_not_specialize=["tiles", "programs", "columns"])
def column_moments_kernel(
    X,
    ROWS,
    SUMS,
    N,
    tiles,
    programs,
    columns,
    row_stride,
    column_stride,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Program (i, j) sums column block j of row tiles i, i + programs, ... less the first visited row, in float64.

    SUMS[0] is that row [columns], SUMS[1 + i] the sums of the differences from it, and SUMS[1 + programs + i] those of
    their squares. ROWS [N] int64 are the rows to visit, or None for N rows from the first on. The number of columns is
    no constant of the compiled kernel: loads of single numbers are fast enough for the few rows of a sample, and
    another table is no reason to compile anew.
    """
    program = tl.program_id(0).to(tl.int64)
    numbers = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    known = numbers < columns
    pointers = X + numbers.to(tl.int64) * column_stride
    first = 0
    if ROWS is not None:
        first = tl.load(ROWS)
    shift = tl.load(pointers + first * row_stride, mask=known, other=0.0).to(tl.float64)
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    squares = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    for tile in tl.range(program, tiles, programs):
        _, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        there = exists[:, None] & known[None, :]
        x = tl.load(pointers[None, :] + source[:, None] * row_stride, mask=there, other=0.0).to(tl.float64)
        x = tl.where(there, x - shift[None, :], 0.0)
        total += x
        squares += x * x
    sums = SUMS + numbers
    if program == 0:
        tl.store(sums, shift, mask=known)
    tl.store(sums + (1 + program) * columns, tl.sum(total, axis=0), mask=known)
    tl.store(sums + (1 + programs + program) * columns, tl.sum(squares, axis=0), mask=known)
