"""What a fit asks of its data before the first pass: sums over labels and weights, and over columns of X."""

import triton
import triton.language as tl

from ._tiles import row_numbers


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
        outside += tl.where((y >= 0) & (y <= 1), 0, 1)
        soft += tl.where((y == 0) | (y == 1), 0, 1)
        if NARROW is not None:
            tl.store(NARROW + place, (y == 1).to(tl.uint8), mask=exists)
        if SAMPLE_WEIGHT is not None:
            s = tl.load(SAMPLE_WEIGHT + place, mask=exists, other=0).to(tl.float64)
            negative += tl.where(s >= 0, 0, 1)
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
