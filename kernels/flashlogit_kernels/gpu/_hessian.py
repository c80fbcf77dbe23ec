"""Loss, gradient and Hessian of binary cross-entropy for rows of few columns, from one read of X."""

import triton
import triton.language as tl

from ._bce import bce_row, weighted_row
from ._terms import add_totals, fold, no_totals, store_totals
from ._tiles import (
    centred,
    column_sums,
    load_or_none,
    load_scalar,
    load_tile,
    row_numbers,
    row_sums,
    scalar_or_none,
)


@triton.jit(do_not_specialize=["tiles", "programs"])
def hessian_kernel(
    X,
    Y,
    WEIGHT,
    BIAS,
    SAMPLE_WEIGHT,
    POS_WEIGHT,
    CENTER,
    ROWS,
    TOTALS,
    PARTIALS,
    N,
    tiles,
    programs,
    column_stride,
    D: tl.constexpr,
    READABLE_D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    BOUND: tl.constexpr,
    TAIL: tl.constexpr,
    ZERO_BEYOND: tl.constexpr,
    COMPUTE: tl.constexpr,
    LANES: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_RUN: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """With h = s dr/dz, a program's sums X^T (s r) [D], X^T h [D], sum h [1] and X^T diag(h) X [D, D], side by side.

    They go to PARTIALS[program], its totals to TOTALS[program, SCALARS]. BIAS, SAMPLE_WEIGHT, POS_WEIGHT, CENTER and
    ROWS may be None. The intercept's row and column are summed apart: as a column of ones in X they would double a tile
    of 2^k columns.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    w = load_or_none(WEIGHT, columns, columns < D, COMPUTE)
    center = load_or_none(CENTER, columns, columns < D, COMPUTE)
    b = load_scalar(BIAS, 0.0, COMPUTE)
    q = scalar_or_none(POS_WEIGHT, COMPUTE)
    gradient = tl.zeros([GROUP, BLOCK_D], COMPUTE)
    border = tl.zeros([GROUP, BLOCK_D], COMPUTE)
    matrix = tl.zeros([BLOCK_D, BLOCK_D], COMPUTE)
    corner = tl.zeros([LANES], tl.float64)
    totals = no_totals(COMPUTE, LANES)
    for tile in tl.range(program, tiles, programs, num_stages=STAGES):
        _, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        x = load_tile(
            X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, "evict_first"
        ).to(COMPUTE)
        x = centred(x, center, COMPUTE)
        z = row_sums(x, w, COMPUTE) + b
        z, loss, r, curvature = bce_row(z, source, exists, Y, q, BOUND, TAIL, ZERO_BEYOND, COMPUTE)
        s = load_or_none(SAMPLE_WEIGHT, source, exists, COMPUTE)
        loss, r, curvature = weighted_row(s, exists, loss, r, curvature)
        totals = add_totals(totals, z, s, loss, r, exists, LANES, RUN)
        gradient += column_sums(x, r, COMPUTE, GROUP, GROUP_RUN)
        border += column_sums(x, curvature, COMPUTE, GROUP, GROUP_RUN)
        corner += fold(curvature, LANES, RUN).to(tl.float64)
        matrix += tl.dot(tl.trans(x * curvature[:, None]), x, input_precision=PRECISION, out_dtype=COMPUTE)
    row = PARTIALS + program * (D * D + 2 * D + 1)
    tl.store(row + columns, tl.sum(gradient, axis=0), mask=columns < D)
    tl.store(row + D + columns, tl.sum(border, axis=0), mask=columns < D)
    tl.store(row + 2 * D, tl.sum(corner, axis=0).to(COMPUTE))
    place_in_matrix = columns[:, None] * D + columns[None, :]
    inside = (columns < D)[:, None] & (columns < D)[None, :]
    tl.store(row + 2 * D + 1 + place_in_matrix, matrix, mask=inside)
    store_totals(TOTALS, program, totals, N, tiles, programs, BLOCK_N, SAMPLE_WEIGHT is None)
