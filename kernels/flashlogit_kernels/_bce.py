"""Kernels of binary cross-entropy: one that keeps whole rows in registers, one for rows of any width."""

import triton
import triton.language as tl

from ._terms import (
    add_totals,
    load_labels,
    load_scalar,
    load_tile,
    no_totals,
    row_numbers,
    row_terms,
    store_totals,
)


@triton.jit
def onepass_kernel(
    X,
    Y,
    WEIGHT,
    BIAS,
    SAMPLE_WEIGHT,
    POS_WEIGHT,
    ROWS,
    TOTALS,
    RESIDUAL,
    GRADIENTS,
    N,
    tiles,
    programs,
    column_stride,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    BOUND: tl.constexpr,
    TAIL: tl.constexpr,
    ZERO_BEYOND: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Each program walks row tiles [BLOCK_N, BLOCK_D >= D] that stay in registers between z = X w and X^T r.

    Writes its partial gradient to GRADIENTS[program, D], its totals to TOTALS[program, 5] and s r to RESIDUAL [N].
    BIAS, SAMPLE_WEIGHT, POS_WEIGHT, ROWS and RESIDUAL may be None.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    w = tl.load(WEIGHT + columns, mask=columns < D, other=0.0).to(COMPUTE)
    b = load_scalar(BIAS, 0.0, COMPUTE)
    q = load_scalar(POS_WEIGHT, 1.0, COMPUTE)
    gradient = tl.zeros([BLOCK_D], COMPUTE)
    totals = no_totals()
    for tile in tl.range(program, tiles, programs, num_stages=STAGES):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        x = load_tile(X, source, exists, columns, D, ROW_STRIDE, column_stride, COLUMN_MAJOR).to(COMPUTE)
        y, s = load_labels(Y, SAMPLE_WEIGHT, source, exists, COMPUTE, BLOCK_N)
        z = tl.sum(x * w[None, :], axis=1) + b
        loss, r = row_terms(z, y, s, q, BOUND, TAIL, ZERO_BEYOND)
        gradient += tl.sum(x * r[:, None], axis=0)
        totals = add_totals(totals, z, s, loss, r, exists)
        if RESIDUAL is not None:
            tl.store(RESIDUAL + place, r, mask=exists)
    tl.store(GRADIENTS + program * D + columns, gradient, mask=columns < D)
    store_totals(TOTALS, program, totals)


@triton.jit
def rows_kernel(
    X,
    Y,
    WEIGHT,
    BIAS,
    SAMPLE_WEIGHT,
    POS_WEIGHT,
    ROWS,
    TOTALS,
    RESIDUAL,
    LOSS,
    N,
    tiles,
    programs,
    column_stride,
    D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    BOUND: tl.constexpr,
    TAIL: tl.constexpr,
    ZERO_BEYOND: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """s loss to LOSS [N] and s r to RESIDUAL [N], for rows of any width, which are walked in column blocks.

    Writes TOTALS[program, 5] as `onepass_kernel` does. LOSS may be None too.
    """
    program = tl.program_id(0).to(tl.int64)
    b = load_scalar(BIAS, 0.0, COMPUTE)
    q = load_scalar(POS_WEIGHT, 1.0, COMPUTE)
    totals = no_totals()
    for tile in tl.range(program, tiles, programs):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        products = tl.zeros([BLOCK_N, BLOCK_D], COMPUTE)
        for start in tl.range(0, D, BLOCK_D):
            columns = start + tl.arange(0, BLOCK_D)
            x = load_tile(X, source, exists, columns, D, ROW_STRIDE, column_stride, COLUMN_MAJOR).to(COMPUTE)
            w = tl.load(WEIGHT + columns, mask=columns < D, other=0.0).to(COMPUTE)
            products += x * w[None, :]
        y, s = load_labels(Y, SAMPLE_WEIGHT, source, exists, COMPUTE, BLOCK_N)
        z = tl.sum(products, axis=1) + b
        loss, r = row_terms(z, y, s, q, BOUND, TAIL, ZERO_BEYOND)
        totals = add_totals(totals, z, s, loss, r, exists)
        tl.store(RESIDUAL + place, r, mask=exists)
        if LOSS is not None:
            tl.store(LOSS + place, loss, mask=exists)
    store_totals(TOTALS, program, totals)
