"""X^T v for a vector v over the rows."""

import triton
import triton.language as tl

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
    center = load_or_none(CENTER, columns, D, COMPUTE)
    total = tl.zeros([BLOCK_D], COMPUTE)
    for tile in tl.range(program, tiles, programs):
        place, source, exists = row_numbers(tile, N, ROWS, BLOCK_N)
        x = load_tile(X, source, exists, columns, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR).to(COMPUTE)
        x = centred(x, center, COMPUTE)
        v = tl.load(V + place, mask=exists, other=0.0).to(COMPUTE)
        total += tl.sum(x * v[:, None], axis=0)
    tl.store(SUMS + program * D + columns, total, mask=columns < D)
