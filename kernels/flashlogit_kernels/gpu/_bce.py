"""Kernels of binary cross-entropy: one that keeps whole rows in registers, one for rows of any width."""

import triton
import triton.language as tl

from ._terms import add_totals, fold, no_totals, row_terms, store_totals
from ._tiles import (
    centred,
    column_sums,
    load_or_none,
    load_scalar,
    load_tile,
    one_thread_a_row,
    repeated,
    row_numbers,
    row_sums,
    scalar_or_none,
    unrepeated,
)


@triton.jit
def bce_row(
    z, source, exists, Y, q, BOUND: tl.constexpr, TAIL: tl.constexpr, ZERO_BEYOND: tl.constexpr, COMPUTE: tl.constexpr
):
    """Return (z, loss, r, dr/dz) of a tile's rows from their logits."""
    y = tl.load(Y + source, mask=exists, other=0).to(COMPUTE)
    z = one_thread_a_row(z, y)
    loss, r, curvature = row_terms(z, y, q, BOUND, TAIL, ZERO_BEYOND)
    return z, loss, r, curvature


@triton.jit
def weighted_row(s, exists, loss, r, curvature):
    """Return (s loss, s r, s dr/dz), 0 for rows that do not exist; s is None for weights of 1."""
    if s is not None:
        loss, r, curvature = s * loss, s * r, s * curvature
    return tl.where(exists, loss, 0.0), tl.where(exists, r, 0.0), tl.where(exists, curvature, 0.0)


@triton.jit
def product_row(z, s, exists):
    """Return (z, 0, s z, 0) of a tile's rows: s z is their part in a product with the Hessian, and s where z is
    None."""
    r = s
    if z is None:
        z = tl.zeros_like(s)
    else:
        z = one_thread_a_row(z, s)
        r = s * z
    return z, tl.zeros_like(s), tl.where(exists, r, 0.0), tl.zeros_like(s)


@triton.jit
def store_rows(place, exists, loss, r, curvature, z, LOSS, RESIDUAL, CURVATURE, LOGITS):
    """Write the rows' own values to those of the pointers that are not None."""
    if RESIDUAL is not None:
        tl.store(RESIDUAL + place, r, mask=exists)
    if CURVATURE is not None:
        tl.store(CURVATURE + place, curvature, mask=exists)
    if LOGITS is not None:
        tl.store(LOGITS + place, z, mask=exists)
    if LOSS is not None:
        tl.store(LOSS + place, loss, mask=exists)


@triton.jit(do_not_specialize=["tiles", "programs"])
def onepass_kernel(
    X,
    Y,
    WEIGHT,
    BIAS,
    SAMPLE_WEIGHT,
    POS_WEIGHT,
    CENTER,
    ROWS,
    TOTALS,
    RESIDUAL,
    CURVATURE,
    LOGITS,
    LOSS,
    GUARD,
    GRADIENTS,
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
    REST_D: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_RUN: tl.constexpr,
    GROUP_REST: tl.constexpr,
    STAGES: tl.constexpr,
    BORDER: tl.constexpr,
    REPEAT: tl.constexpr,
):
    """Each program walks row tiles that stay in registers between z = X w and X^T r.

    A tile is [BLOCK_N, BLOCK_D] and, unless REST_D is 0, [BLOCK_N, REST_D] for the columns from BLOCK_D on. Writes its
    partial gradient to GRADIENTS[program, D], its totals to TOTALS[program, SCALARS] and, where they are not None,
    s loss, s r, s dr/dz and z to LOSS, RESIDUAL, CURVATURE and LOGITS [N]. With BORDER the rows of GRADIENTS have
    2 D + 1 numbers: behind the gradient X^T h [D] and sum h [1], h = s dr/dz. BIAS, SAMPLE_WEIGHT, POS_WEIGHT, CENTER
    and ROWS may be None too; Y is None for a product with the Hessian, and Y and WEIGHT are for sums over the columns.

    Where the int32 number at GUARD is not 0, programs read no rows, and what they write means nothing: the pass was
    launched before it was known whether it is needed. REPEAT threads hold each row's own numbers, see `repeated`.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_D)
    w = load_or_none(WEIGHT, columns, columns < D, COMPUTE)
    center = load_or_none(CENTER, columns, columns < D, COMPUTE)
    gradient = tl.zeros([GROUP, BLOCK_D], COMPUTE)
    if BORDER:
        border = tl.zeros([GROUP, BLOCK_D], COMPUTE)
        corner = tl.zeros([LANES], tl.float64)
    if REST_D:
        columns_rest = BLOCK_D + tl.arange(0, REST_D)
        w_rest = load_or_none(WEIGHT, columns_rest, columns_rest < D, COMPUTE)
        center_rest = load_or_none(CENTER, columns_rest, columns_rest < D, COMPUTE)
        gradient_rest = tl.zeros([GROUP_REST, REST_D], COMPUTE)
        if BORDER:
            border_rest = tl.zeros([GROUP_REST, REST_D], COMPUTE)
    b = load_scalar(BIAS, 0.0, COMPUTE)
    q = scalar_or_none(POS_WEIGHT, COMPUTE)
    totals = no_totals(COMPUTE, LANES)
    if GUARD is not None:
        tiles = tl.where(tl.load(GUARD) != 0, 0, tiles)
    for tile in tl.range(program, tiles, programs, num_stages=STAGES):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        x = load_tile(X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, "evict_first")
        x = centred(x, center, COMPUTE)
        z = None
        if WEIGHT is not None:
            z = row_sums(x, w, COMPUTE) + b
        if REST_D:
            x_rest = load_tile(
                X, source, exists, columns_rest, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, "evict_first"
            )
            x_rest = centred(x_rest, center_rest, COMPUTE)
            if WEIGHT is not None:
                z += row_sums(x_rest, w_rest, COMPUTE)
        if REPEAT > 1:
            z = repeated(z, REPEAT)
            place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N, REPEAT)
        if Y is None:
            # A number for each place in the pass and not for each row of X.
            s = load_or_none(SAMPLE_WEIGHT, place, exists, COMPUTE)
            z, loss, r, curvature = product_row(z, s, exists)
        else:
            z, loss, r, curvature = bce_row(z, source, exists, Y, q, BOUND, TAIL, ZERO_BEYOND, COMPUTE)
            s = load_or_none(SAMPLE_WEIGHT, source, exists, COMPUTE)
            loss, r, curvature = weighted_row(s, exists, loss, r, curvature)
        store_rows(place, exists, loss, r, curvature, z, LOSS, RESIDUAL, CURVATURE, LOGITS)
        totals = add_totals(totals, z, s, loss, r, exists, LANES, RUN)
        r = unrepeated(r, REPEAT)
        gradient += column_sums(x, r, COMPUTE, GROUP, GROUP_RUN)
        if BORDER:
            corner += fold(curvature, LANES, RUN).to(tl.float64)
            curvature = unrepeated(curvature, REPEAT)
            border += column_sums(x, curvature, COMPUTE, GROUP, GROUP_RUN)
        if REST_D:
            gradient_rest += column_sums(x_rest, r, COMPUTE, GROUP_REST, GROUP_RUN)
            if BORDER:
                border_rest += column_sums(x_rest, curvature, COMPUTE, GROUP_REST, GROUP_RUN)
    row = GRADIENTS + program * (2 * D + 1 if BORDER else D)
    tl.store(row + columns, tl.sum(gradient, axis=0), mask=columns < D)
    if REST_D:
        tl.store(row + columns_rest, tl.sum(gradient_rest, axis=0), mask=columns_rest < D)
    if BORDER:
        tl.store(row + D + columns, tl.sum(border, axis=0), mask=columns < D)
        tl.store(row + 2 * D, tl.sum(corner, axis=0).to(COMPUTE))
        if REST_D:
            tl.store(row + D + columns_rest, tl.sum(border_rest, axis=0), mask=columns_rest < D)
    store_totals(TOTALS, program, totals, N, tiles, programs, BLOCK_N, SAMPLE_WEIGHT is None)


@triton.jit(do_not_specialize=["tiles", "programs"])
def rows_kernel(
    X,
    Y,
    WEIGHT,
    BIAS,
    SAMPLE_WEIGHT,
    POS_WEIGHT,
    CENTER,
    ROWS,
    TOTALS,
    RESIDUAL,
    CURVATURE,
    LOGITS,
    LOSS,
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
):
    """Write s loss, s r, s dr/dz and z of each row to LOSS, RESIDUAL, CURVATURE and LOGITS [N], where they are not
    None.

    For rows of any width, which are walked in column blocks. Writes TOTALS[program, SCALARS] as `onepass_kernel` does.
    """
    program = tl.program_id(0).to(tl.int64)
    b = load_scalar(BIAS, 0.0, COMPUTE)
    q = scalar_or_none(POS_WEIGHT, COMPUTE)
    totals = no_totals(COMPUTE, LANES)
    for tile in tl.range(program, tiles, programs):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        products = tl.zeros([BLOCK_N, BLOCK_D], COMPUTE)
        for start in tl.range(0, D, BLOCK_D):
            columns = start + tl.arange(0, BLOCK_D)
            x = load_tile(
                X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, "evict_first"
            ).to(COMPUTE)
            x = centred(x, load_or_none(CENTER, columns, columns < D, COMPUTE), COMPUTE)
            products += x * load_or_none(WEIGHT, columns, columns < D, COMPUTE)[None, :]
        z = tl.sum(products, axis=1) + b
        if Y is None:
            # A number for each place in the pass and not for each row of X.
            s = load_or_none(SAMPLE_WEIGHT, place, exists, COMPUTE)
            z, loss, r, curvature = product_row(z, s, exists)
        else:
            z, loss, r, curvature = bce_row(z, source, exists, Y, q, BOUND, TAIL, ZERO_BEYOND, COMPUTE)
            s = load_or_none(SAMPLE_WEIGHT, source, exists, COMPUTE)
            loss, r, curvature = weighted_row(s, exists, loss, r, curvature)
        store_rows(place, exists, loss, r, curvature, z, LOSS, RESIDUAL, CURVATURE, LOGITS)
        totals = add_totals(totals, z, s, loss, r, exists, LANES, RUN)
    store_totals(TOTALS, program, totals, N, tiles, programs, BLOCK_N, SAMPLE_WEIGHT is None)
