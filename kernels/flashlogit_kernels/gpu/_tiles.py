"""Reading rows: which rows a tile holds, their entries in X, and their labels and weights."""

import triton
import triton.language as tl


@triton.jit
def load_scalar(P, default: tl.constexpr, COMPUTE: tl.constexpr):
    """Return the number at P as [1], or `default` where P is None."""
    if P is not None:
        value = tl.load(P + tl.arange(0, 1)).to(COMPUTE)
    else:
        value = tl.full([1], default, COMPUTE)
    return value


@triton.jit
def scalar_or_none(P, COMPUTE: tl.constexpr):
    """Return the number at P as [1]; None where P is."""
    value = None
    if P is not None:
        value = load_scalar(P, 0.0, COMPUTE)
    return value


@triton.jit
def row_numbers(tile, N, ROWS, BLOCK_N: tl.constexpr, REPEAT: tl.constexpr = 1):
    """Return (place in the pass, row of X, whether it exists) of a tile's rows. Places are int64: X may have 2^31
    entries. With REPEAT each row comes so many times in a row, of which only the first is said to exist."""
    numbers = tl.arange(0, BLOCK_N * REPEAT)
    lanes = numbers // REPEAT
    start = tile * BLOCK_N
    exists = lanes < tl.minimum(N - start, BLOCK_N).to(tl.int32)
    if REPEAT > 1:
        exists = exists & (numbers % REPEAT == 0)
    place = start + lanes.to(tl.int64)
    source = place
    if ROWS is not None:
        source = tl.load(ROWS + place, mask=exists, other=0)
    return place, source, exists


@triton.jit
def load_or_none(V, places, exist, COMPUTE: tl.constexpr):
    """Return V at row or column numbers, 0 where they do not exist; None where V is."""
    values = None
    if V is not None:
        values = tl.load(V + places, mask=exist, other=0.0).to(COMPUTE)
    return values


@triton.jit
def load_tile(
    X,
    source,
    exists,
    columns,
    D: tl.constexpr,
    READABLE_D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    column_stride,
    COLUMN_MAJOR: tl.constexpr,
    POLICY: tl.constexpr,
):
    """Return X [BLOCK_N, BLOCK_D] at int64 row numbers and int32 column numbers, 0 outside; POLICY: whether it stays in
    the L2 cache, see `tl.load`.

    The row stride is a constant of the compiled kernel: without that, loads of 28 columns are not vectorised. Columns
    from D to READABLE_D are read and thrown away, so that rows which begin at whole 16 bytes are read in such pieces.
    """
    if COLUMN_MAJOR:
        pointers = X + source[:, None] + columns[None, :].to(tl.int64) * column_stride
    else:
        pointers = X + source[:, None] * ROW_STRIDE + columns[None, :]
    mask = exists[:, None] & (columns < READABLE_D)[None, :]
    x = tl.load(pointers, mask=mask, other=0.0, eviction_policy=POLICY)
    if READABLE_D > D:
        x = tl.where((columns < D)[None, :], x, 0.0)  # not merely a weight of 0: what lies there may be NaN
    return x


@triton.jit
def centred(x, center, COMPUTE: tl.constexpr):
    """Return x - center for each row of a tile, in the arithmetic's dtype; x as it is where `center` is None.

    Subtracted before anything is multiplied: as a part of the intercept it would cost as many digits as a column's mean
    has more than its standard deviation. Rows that do not exist hold -center afterwards, and have r = 0.
    """
    if center is not None:
        x = x.to(COMPUTE) - center[None, :]
    return x


@triton.jit
def one_thread_a_row(z, loaded):
    """Return z [BLOCK_N], in the layout in which `loaded` [BLOCK_N] was read from memory.

    A sum over the columns leaves each row's value in every thread that held a part of the row, up to 32 of them. What
    is computed from it would be computed by them all; here lay most of the kernel's instructions. Loads of a whole
    vector have one row a thread, and arithmetic with such a vector moves the other operand into its layout, once. A
    label that is no finite number makes the logit one that is none, and is counted as such.
    """
    return z + 0.0 * loaded


@triton.jit
def repeated(values, REPEAT: tl.constexpr):
    """Return values [BLOCK_N] as [BLOCK_N * REPEAT], each REPEAT times in a row.

    A vector of fewer rows than a program has threads is held by all of them, and what is computed from it is computed
    for every row by every thread, in float64 at more cost than everything else. As long as the program is wide, it has
    one row a thread.
    """
    if REPEAT > 1:
        BLOCK_N: tl.constexpr = values.shape[0]
        values = tl.reshape(tl.broadcast_to(values[:, None], [BLOCK_N, REPEAT]), [BLOCK_N * REPEAT])
    return values


@triton.jit
def unrepeated(values, REPEAT: tl.constexpr):
    """Return values [BLOCK_N * REPEAT] as [BLOCK_N]: the first of each REPEAT, the others being 0."""
    if REPEAT > 1:
        values = tl.gather(values, tl.arange(0, values.shape[0] // REPEAT) * REPEAT, 0)
    return values


@triton.jit
def row_sums(x, w, COMPUTE: tl.constexpr):
    """Return x w for each row of a tile."""
    return tl.sum(x.to(COMPUTE) * w[None, :], axis=1)


@triton.jit
def column_sums(x, r, COMPUTE: tl.constexpr, GROUP: tl.constexpr, GROUP_RUN: tl.constexpr):
    """Return x^T r as [GROUP, BLOCK_D] partial sums, each over the rows of a tile that one thread holds.

    GROUP threads hold GROUP_RUN consecutive rows of a column each, over and over. Adding up those needs no other
    thread, so that the sum over the threads is taken once for a program and not for every tile.
    """
    products = x.to(COMPUTE) * r[:, None]
    REPEATS: tl.constexpr = x.shape[0] // (GROUP * GROUP_RUN)
    BLOCK_D: tl.constexpr = x.shape[1]
    if GROUP_RUN > 1:
        products = tl.sum(tl.reshape(products, [REPEATS * GROUP, GROUP_RUN, BLOCK_D]), axis=1)
    return tl.sum(tl.reshape(products, [REPEATS, GROUP, BLOCK_D]), axis=0)
