"""Kernels of the pass for many models: one that keeps a tile of X between both products, one from logits to residuals.

The columns of a tile of logits are models, or classes of models: LANES columns belong to one model, the power of two
that holds its C classes. A program adds its sums to a row of PARTIALS, float64: loss [K], held-out loss [K], sum of s r
[M], sum of the curvature's values [M] and, in the kernel that reads X, the gradient [D, M] and the border [D, M] if it
sums one, with M = K C.
"""

import triton
import triton.language as tl

from ..models import MISSING, MOST_CLASSES
from ._terms import at_most, exp_of_negative, log1p_of_unit, reciprocals
from ._tiles import centred, load_or_none, load_tile, row_numbers

NO_BYTE = tl.constexpr(MISSING)
NO_WIDE = tl.constexpr(MOST_CLASSES)


@triton.jit
def model_columns(block, K, C: tl.constexpr, LANES: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return (models, whether they exist; columns of W, whether they exist) of a block of BLOCK_K lanes."""
    models = block * (BLOCK_K // LANES) + tl.arange(0, BLOCK_K // LANES)
    lanes = tl.arange(0, BLOCK_K)
    of_lane, label = block * (BLOCK_K // LANES) + lanes // LANES, lanes % LANES
    return models, models < K, of_lane * C + label, (of_lane < K) & (label < C)


@triton.jit
def byte_offsets(OF, models, exist, N, SINGLE: tl.constexpr):
    """Return where the bytes of the models' targets, or folds, begin, [models] int64; None where all read the same."""
    offsets = None
    if not SINGLE:
        offsets = tl.load(OF + models, mask=exist, other=0).to(tl.int64) * N
    return offsets


@triton.jit
def load_codes(CODES, offsets, source, exists):
    """Return labels or folds of rows [BLOCK_N, models], or [BLOCK_N, 1] where all models read the same ones, and
    whether they are known: not those that are missing, and of rows that do not exist."""
    NONE: tl.constexpr = NO_BYTE if CODES.dtype.element_ty == tl.uint8 else NO_WIDE
    if offsets is None:
        values = tl.load(CODES + source, mask=exists, other=NONE)[:, None]
    else:
        values = tl.load(CODES + offsets[None, :] + source[:, None], mask=exists[:, None], other=NONE)
    values = values.to(tl.int32)
    return values, values != NONE


@triton.jit
def roles(known, e, held, ORDERED: tl.constexpr):
    """Return whether rows with known labels and folds e train models that hold out the folds `held` [models], and
    whether they are held out."""
    if ORDERED:
        trains = known & (e < held[None, :])
    else:
        trains = known & (e != held[None, :])
    return trains, known & (e == held[None, :])


@triton.jit
def logistic_terms(z, y):
    """Return (linear, e, half, r, J) of rows with labels 0 or 1: the loss is linear + log(1 + e), and half is what
    `log1p_of_unit` asks for. All from one exponential, see `row_terms`."""
    a = tl.abs(z)
    e = exp_of_negative(a)
    upper, half = reciprocals(e, e)  # upper = sigmoid(|z|)
    m = e * upper
    one = y == 1
    right = (z > 0) == one
    r = tl.where(right, m, upper)
    return tl.where(right, 0.0, a), e, half, tl.where(one, -r, r), m * upper


@triton.jit
def log1p(x):
    """Return log(1 + x) for x >= 0."""
    near = at_most(x, tl.full([], 1.0, x.dtype))
    _, half = reciprocals(near, near)
    return tl.where(x <= 1, log1p_of_unit(near, half), tl.log(1.0 + x))


@triton.jit
def softmax_terms(z, y, C: tl.constexpr):
    """Return (loss, r, p) of rows with class numbers y, from logits z [BLOCK_N, models, LANES].

    The sum over the rivals of a row's own class is taken apart from that class: with it, the loss and the residual of a
    class that is almost certain would have no digits.
    """
    label = tl.arange(0, z.shape[2])[None, None, :]
    own = label == y[:, :, None]
    largest = tl.max(tl.where(label < C, z, float("-inf")), axis=2)
    a = tl.where(label < C, largest[:, :, None] - z, float("inf"))
    e = exp_of_negative(a)
    rivals = tl.sum(tl.where(own, 0.0, e), axis=2)
    total = rivals + tl.sum(tl.where(own, e, 0.0), axis=2)
    behind = tl.sum(tl.where(own, a, 0.0), axis=2)
    # What is added to the largest term, which is 1: the rivals where the own class has it.
    more = tl.where(behind == 0, rivals, total - 1.0)
    p = e / total[:, :, None]
    return behind + log1p(more), tl.where(own, -(rivals / total)[:, :, None], p), p


@triton.jit
def columns_of(values, LANES: tl.constexpr):
    """Return values [BLOCK_N, models] as [BLOCK_N, models * LANES], the same for all classes of a model."""
    BLOCK_N: tl.constexpr = values.shape[0]
    MODELS: tl.constexpr = values.shape[1]
    return tl.reshape(tl.broadcast_to(values[:, :, None], [BLOCK_N, MODELS, LANES]), [BLOCK_N, MODELS * LANES])


@triton.jit
def weighted(values, trains, s, LANES: tl.constexpr):
    """Return the curvature's values [BLOCK_N, BLOCK_K], times s, of rows that train a model, and 0 of others."""
    values = tl.where(columns_of(trains, LANES), values, 0.0)
    if s is not None:
        values *= s[:, None]
    return values


@triton.jit
def halves(values, APART: tl.constexpr):
    """Return values [BLOCK_N, columns] as two halves [BLOCK_N / 2, columns] of rows that are APART rows apart.

    A thread holds both of a product's tile where APART is 8, for products by the units for them, or 1 for others, as
    Triton lays tiles out: another guess would be as right, but slower.
    """
    ROWS: tl.constexpr = values.shape[0]
    COLUMNS: tl.constexpr = values.shape[1]
    pairs = tl.reshape(values, [ROWS // (2 * APART), 2, APART, COLUMNS])
    first, second = tl.split(tl.permute(pairs, [0, 2, 3, 1]))
    return tl.reshape(first, [ROWS // 2, COLUMNS]), tl.reshape(second, [ROWS // 2, COLUMNS])


@triton.jit
def pair_sums(values, APART: tl.constexpr):
    """Return sums of two rows each, [BLOCK_N / 2, columns]; the values themselves where APART is 0."""
    if APART:
        first, second = halves(values, APART)
        values = first + second
    return values


@triton.jit
def more_product(product, more, APART: tl.constexpr):
    """Return a product of factors 1 + e less 1 with more such factors, those of two rows each as in `pair_sums`."""
    if APART:
        first, second = halves(more, APART)
        more = first + (second + first * second)
    return product + (more + product * more)


@triton.jit
def terms(
    z,
    y,
    trains,
    held,
    s,
    totals,
    C: tl.constexpr,
    LANES: tl.constexpr,
    PRODUCT: tl.constexpr,
    APART: tl.constexpr,
):
    """Return the totals with one more tile of rows, s r of those that train a model [BLOCK_N, BLOCK_K], and J of a
    logistic model or p of a softmax, not weighted.

    totals: sums of loss, held-out loss [ROWS, models] and s r [ROWS, BLOCK_K], each row of a tile on its own, or every
    two of them, see `halves`: adding up a tile's rows costs more than everything else here, and is done once for many
    tiles. Two rows take half the registers of one, and no more instructions. With PRODUCT loss is
    split into the linear part, and a product of 1 + e less 1, whose logarithm is taken as rarely: it has the relative
    accuracy of a sum of logarithms.
    """
    loss_sum, held_sum, product, held_product, residual_sum = totals
    if LANES == 1:
        linear, e, half, r, values = logistic_terms(z, y)
        loss = linear
        if PRODUCT:
            product = more_product(product, tl.where(trains, e, 0.0), APART)
            held_product = more_product(held_product, tl.where(held, e, 0.0), APART)
        else:
            loss += log1p_of_unit(e, half)
        r = tl.where(trains, r, 0.0)
    else:
        BLOCK_N: tl.constexpr = z.shape[0]
        MODELS: tl.constexpr = z.shape[1] // LANES
        loss, r, values = softmax_terms(tl.reshape(z, [BLOCK_N, MODELS, LANES]), y, C)
        r = tl.reshape(tl.where(trains[:, :, None], r, 0.0), [BLOCK_N, MODELS * LANES])
        values = tl.reshape(values, [BLOCK_N, MODELS * LANES])
    if s is not None:
        loss, r = loss * s[:, None], r * s[:, None]
    loss_sum += pair_sums(tl.where(trains, loss, 0.0), APART)
    held_sum += pair_sums(tl.where(held, loss, 0.0), APART)
    residual_sum += pair_sums(r, APART)
    return (loss_sum, held_sum, product, held_product, residual_sum), r, values


@triton.jit
def no_terms(COMPUTE: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr, LANES: tl.constexpr):
    """Return the totals of no rows, see `terms`."""
    of_models = tl.zeros([ROWS, BLOCK_K // LANES], COMPUTE)
    return of_models, of_models, of_models, of_models, tl.zeros([ROWS, BLOCK_K], COMPUTE)


@triton.jit
def add_to(P, values, exist):
    """Add to what is at P, float64: no other program writes there."""
    tl.store(P, tl.load(P, mask=exist, other=0.0) + values.to(tl.float64), mask=exist)


@triton.jit
def add_terms(row, totals, K, models, models_exist, columns, columns_exist, PRODUCT: tl.constexpr):
    """Add totals of rows to a program's partial sums."""
    loss_sum, held_sum, product, held_product, residual_sum = totals
    loss, held_loss = tl.sum(loss_sum, axis=0), tl.sum(held_sum, axis=0)
    if PRODUCT:
        # Up to 2^64, beyond where log1p_of_unit is made for; below 1, log(1 + product) would have lost its digits.
        loss += tl.sum(log1p(product), axis=0)
        held_loss += tl.sum(log1p(held_product), axis=0)
    add_to(row + models, loss, models_exist)
    add_to(row + K + models, held_loss, models_exist)
    add_to(row + 2 * K + columns, tl.sum(residual_sum, axis=0), columns_exist)


@triton.jit
def split(values, TERMS: tl.constexpr, INTERPRETED: tl.constexpr):
    """Return a tuple of up to three bfloat16 numbers that add up to each value, the largest first.

    Each holds eight further bits: three of them all 24 of a float32, two the 11 of a float16. Triton's interpreter
    multiplies bfloat16 tiles wrongly, so that they are float32 again there.
    """
    STORED: tl.constexpr = tl.float32 if INTERPRETED else tl.bfloat16
    first = values.to(tl.bfloat16)
    if TERMS == 1:
        result = (first.to(STORED),)
    else:
        rest = values.to(tl.float32) - first.to(tl.float32)
        second = rest.to(tl.bfloat16)
        if TERMS == 2:
            result = (first.to(STORED), second.to(STORED))
        else:
            third = (rest - second.to(tl.float32)).to(tl.bfloat16)
            result = (first.to(STORED), second.to(STORED), third.to(STORED))
    return result


@triton.jit
def transposed(a, TERMS: tl.constexpr):
    """Return the transposes of what `split` returned."""
    if TERMS == 1:
        result = (tl.trans(a[0]),)
    elif TERMS == 2:
        result = (tl.trans(a[0]), tl.trans(a[1]))
    else:
        result = (tl.trans(a[0]), tl.trans(a[1]), tl.trans(a[2]))
    return result


@triton.jit
def product_of_terms(a, b, TERMS: tl.constexpr):
    """Return the float32 product of tiles that `split` split, a into so many terms and b into three: all products of
    two terms that are more than 2^-24 of the whole, the smallest first."""
    c = tl.dot(a[0], b[2])
    if TERMS > 1:
        c = tl.dot(a[1], b[1], c)
    if TERMS > 2:
        c = tl.dot(a[2], b[0], c)
    c = tl.dot(a[0], b[1], c)
    if TERMS > 1:
        c = tl.dot(a[1], b[0], c)
    return tl.dot(a[0], b[0], c)


@triton.jit
def operand(values, INTERPRETED: tl.constexpr):
    """Return values, of which the compiler does not know what they are made from where they are float64.

    It lays an operand of a product out for the narrowest numbers that went into it, such as labels or bfloat16, and
    Triton 3.6 has no such layouts for float64: it fails with an assertion. The instruction vanishes in the end.
    """
    if values.dtype == tl.float64 and not INTERPRETED:
        values = tl.inline_asm_elementwise("mov.b64 $0, $1;", "=d,d", [values], tl.float64, is_pure=False, pack=1)
    return values


@triton.jit(do_not_specialize=["tiles", "programs"])
def models_kernel(
    X,
    WEIGHT,
    BIAS,
    CENTER,
    CODES,
    FOLDS,
    TARGET_OF,
    FOLD_OF,
    HELD,
    SAMPLE_WEIGHT,
    PARTIALS,
    N,
    K,
    tiles,
    programs,
    column_stride,
    D: tl.constexpr,
    READABLE_D: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    COMPUTE: tl.constexpr,
    C: tl.constexpr,
    LANES: tl.constexpr,
    ONE_TARGET: tl.constexpr,
    ONE_FOLD: tl.constexpr,
    ORDERED: tl.constexpr,
    BORDER: tl.constexpr,
    PRODUCT: tl.constexpr,
    APART: tl.constexpr,
    POLICY: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
    X_TERMS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Program (block, p) walks every `programs`-th row tile from the p-th on, for the models of its block.

    The blocks of models that read a tile run side by side, so that all but one find it in the L2 cache. W [BLOCK_D,
    BLOCK_K] and the gradient stay with the program. Its sums are added to PARTIALS after each CHUNK of tiles. With
    X_TERMS X is split into so many bfloat16 terms, and W and the residuals into three, see `split`; without, X is
    multiplied in COMPUTE, in float32 as PRECISION says. BORDER: also sums s J x and s J, of logistic models.
    """
    ROWS: tl.constexpr = BLOCK_N // 2 if APART else BLOCK_N
    block = tl.program_id(0)
    program = tl.program_id(1).to(tl.int64)
    models, models_exist, columns, columns_exist = model_columns(block, K, C, LANES, BLOCK_K)
    features = tl.arange(0, BLOCK_D)
    entries = features[:, None] * (K * C) + columns[None, :]
    entries_exist = (features < D)[:, None] & columns_exist[None, :]
    w = tl.load(WEIGHT + entries, mask=entries_exist, other=0.0)
    if X_TERMS:
        w = split(w, 3, INTERPRETED)
    b = tl.load(BIAS + columns, mask=columns_exist, other=0.0)
    center = load_or_none(CENTER, features, features < D, COMPUTE)
    targets = byte_offsets(TARGET_OF, models, models_exist, N, ONE_TARGET)
    folds = byte_offsets(FOLD_OF, models, models_exist, N, ONE_FOLD)
    holds = tl.load(HELD + models, mask=models_exist, other=0)
    row = PARTIALS + program * (2 * K + ((2 * D if BORDER else D) + 2) * (K * C))
    for chunk in tl.range(program, tiles, programs * CHUNK):
        gradient = tl.zeros([BLOCK_D, BLOCK_K], COMPUTE)
        totals = no_terms(COMPUTE, ROWS, BLOCK_K, LANES)
        if BORDER:
            border = tl.zeros([BLOCK_D, BLOCK_K], COMPUTE)
            curvature = tl.zeros([ROWS, BLOCK_K], COMPUTE)
        for tile in tl.range(chunk, tl.minimum(chunk + programs * CHUNK, tiles), programs, num_stages=STAGES):
            _, source, exists = row_numbers(tile, N, None, BLOCK_N)
            x = load_tile(X, source, exists, features, D, READABLE_D, ROW_STRIDE, column_stride, COLUMN_MAJOR, POLICY)
            y, known = load_codes(CODES, targets, source, exists)
            e, _ = load_codes(FOLDS, folds, source, exists)
            s = load_or_none(SAMPLE_WEIGHT, source, exists, COMPUTE)
            trains, held = roles(known, e, holds, ORDERED)
            if center is not None:
                x = centred(x, center, COMPUTE)
            if X_TERMS:
                x = split(x, X_TERMS, INTERPRETED)
                z = product_of_terms(x, w, X_TERMS) + b[None, :]
            else:
                x = operand(x.to(COMPUTE), INTERPRETED)
                z = tl.dot(x, w, input_precision=PRECISION) + b[None, :]
            totals, r, values = terms(z, y, trains, held, s, totals, C, LANES, PRODUCT, APART)
            if BORDER:
                values = weighted(values, trains, s, LANES)
                curvature += pair_sums(values, APART)
                values = operand(values, INTERPRETED)
                border += tl.dot(tl.trans(x), values, input_precision=PRECISION)
            if X_TERMS:
                gradient += product_of_terms(transposed(x, X_TERMS), split(r, 3, INTERPRETED), X_TERMS)
            else:
                r = operand(r, INTERPRETED)
                gradient += tl.dot(tl.trans(x), r, input_precision=PRECISION)
        add_terms(row, totals, K, models, models_exist, columns, columns_exist, PRODUCT)
        add_to(row + 2 * K + 2 * K * C + entries, gradient, entries_exist)
        if BORDER:
            add_to(row + 2 * K + K * C + columns, tl.sum(curvature, axis=0), columns_exist)
            add_to(row + 2 * K + (D + 2) * (K * C) + entries, border, entries_exist)
        tl.debug_barrier()  # of what one thread has stored, another one may load the next sum


@triton.jit(do_not_specialize=["tiles", "programs"])
def logits_kernel(
    Z,
    RESIDUAL,
    VALUES,
    ROOTS,
    BIAS,
    ALONG,
    CODES,
    FOLDS,
    TARGET_OF,
    FOLD_OF,
    HELD,
    SAMPLE_WEIGHT,
    PARTIALS,
    N,
    K,
    rows,
    tiles,
    programs,
    COMPUTE: tl.constexpr,
    C: tl.constexpr,
    LANES: tl.constexpr,
    ONE_TARGET: tl.constexpr,
    ONE_FOLD: tl.constexpr,
    ORDERED: tl.constexpr,
    SUM_CURVATURE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TERMS: tl.constexpr,
):
    """From Z [rows, TERMS, M], whose terms add up to logits without their biases, what both further products take.

    Writes s r to RESIDUAL, which may be Z, and to VALUES, where it is not None, s J t for t = ALONG, each [rows, TERMS,
    M] and, with three terms, split. To ROOTS [rows, M], where it is not None, goes sqrt(s) p, whose products are the
    second derivatives of a softmax. SUM_CURVATURE: also sums s J of logistic models, or s J t of others. CODES, FOLDS
    and SAMPLE_WEIGHT begin at the first of these rows, and have N numbers a target or fold. PARTIALS has no gradient.
    """
    block = tl.program_id(0)
    program = tl.program_id(1).to(tl.int64)
    models, models_exist, columns, columns_exist = model_columns(block, K, C, LANES, BLOCK_K)
    b = tl.load(BIAS + columns, mask=columns_exist, other=0.0)
    t = load_or_none(ALONG, columns, columns_exist, COMPUTE)
    targets = byte_offsets(TARGET_OF, models, models_exist, N, ONE_TARGET)
    folds = byte_offsets(FOLD_OF, models, models_exist, N, ONE_FOLD)
    holds = tl.load(HELD + models, mask=models_exist, other=0)
    M = K * C
    totals = no_terms(COMPUTE, BLOCK_N, BLOCK_K, LANES)
    curvature = tl.zeros([BLOCK_N, BLOCK_K], COMPUTE)
    for tile in tl.range(program, tiles, programs):
        _, source, exists = row_numbers(tile, rows, None, BLOCK_N)
        entries = source[:, None] * (TERMS * M) + columns[None, :]
        entries_exist = exists[:, None] & columns_exist[None, :]
        z = tl.load(Z + entries, mask=entries_exist, other=0.0)
        if TERMS > 1:
            z += tl.load(Z + entries + M, mask=entries_exist, other=0.0)
            z += tl.load(Z + entries + 2 * M, mask=entries_exist, other=0.0)
        z += b[None, :]
        y, known = load_codes(CODES, targets, source, exists)
        e, _ = load_codes(FOLDS, folds, source, exists)
        s = load_or_none(SAMPLE_WEIGHT, source, exists, COMPUTE)
        trains, held = roles(known, e, holds, ORDERED)
        totals, r, values = terms(z, y, trains, held, s, totals, C, LANES, False, 0)
        store_split(RESIDUAL + entries, r, entries_exist, M, TERMS)
        if ROOTS is not None:
            root = columns_of(tl.where(trains, 1.0, 0.0).to(COMPUTE), LANES)
            if s is not None:
                root *= tl.sqrt(s)[:, None]
            at = source[:, None] * M + columns[None, :]
            tl.store(ROOTS + at, tl.where(root > 0, values * root, 0.0), mask=entries_exist)
        if SUM_CURVATURE:
            if LANES > 1:
                p = tl.reshape(values, [BLOCK_N, BLOCK_K // LANES, LANES])
                t3 = tl.reshape(t, [1, BLOCK_K // LANES, LANES])
                values = tl.reshape(p * (t3 - tl.sum(p * t3, axis=2)[:, :, None]), [BLOCK_N, BLOCK_K])
            values = weighted(values, trains, s, LANES)
            curvature += values
            if VALUES is not None:
                if LANES == 1:
                    values *= t[None, :]
                store_split(VALUES + entries, values, entries_exist, M, TERMS)
    row = PARTIALS + program * (2 * K + 2 * M)
    add_terms(row, totals, K, models, models_exist, columns, columns_exist, False)
    if SUM_CURVATURE:
        add_to(row + 2 * K + M + columns, tl.sum(curvature, axis=0), columns_exist)


@triton.jit
def store_split(P, values, exist, M, TERMS: tl.constexpr):
    """Write values, or the three terms of them side by side."""
    if TERMS > 1:
        first, second, third = split(values, TERMS, False)
        tl.store(P, first, mask=exist)
        tl.store(P + M, second, mask=exist)
        tl.store(P + 2 * M, third, mask=exist)
    else:
        tl.store(P, values, mask=exist)
