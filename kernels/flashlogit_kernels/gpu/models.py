"""The pass for many models on a GPU: in one kernel, or as products of row blocks around one.

In one kernel a tile of X is multiplied by W, and its transpose by the residuals, without being read again. That takes
registers for W and the gradient of a block of models, so it ends at 256 columns. In float64 it ends at 64, and sums the
border of logistic models as well: that is the pass that proves a fit. What is left takes a block of rows after the
other: two products by torch, and between them one kernel from logits to residuals.

Bfloat16 rows are multiplied as they are, on the units for it: W and the residuals are split into three bfloat16 terms,
which hold all 24 bits of a float32, and sums are float32. Two terms would spare a third of that, and leave a relative
error of 4e-6 in W, hence in the gradient. Float32 rows can be split as well, which takes six products of bfloat16
tiles, or are multiplied in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from triton import knobs

from ..checks import check_matrix
from ..models import Models, ModelSums, check_models
from . import _models
from .arguments import TRITON_DTYPES, launch_options, matrix_arguments, on_device
from .launch import LaunchConfig, block_width, has_tf32, multiprocessors, pipeline_stages
from .plan import Launch
from .resources import are_fitted, device_limits, loaded, resident_programs, stand_in

_NARROWEST = 16
"""Smallest sides of tiles that tl.dot multiplies."""
_CHUNK_ROWS = 2048
"""Rows whose terms a program adds up in float32. Adding up n terms of one sign rounds by 1.4e-8 sqrt(n) of their sum,
here 6e-7, and the errors of many such sums cancel."""
_MOST_CHUNK = 63
"""Tiles of such a sum at most: the product of twice as many factors 1 + e <= 2 is a float32."""
_BLOCK_BYTES = 128 << 20
"""Bytes of X in a block of rows, and of its logits. Blocks that stay in the L2 cache between both products cost more in
launches than they spare: 256 models of 200,000 x 1,024 in bfloat16 took an H200 2.9 ms in blocks of 24 MB and 1.8 in
blocks of 96."""
_BLOCK_ROWS = 1 << 16
"""Rows of such a block at most: its products are sums in float32, which lose digits with their length. With 2^18 rows
the sums of 400,000 terms of one sign were off by more than 4e-7."""
_TILE_VALUES = 2048
"""Logits of a tile of the kernel between two products, 16 for each thread; half as many in float64."""


@dataclass(frozen=True)
class ModelsLaunch(LaunchConfig):
    """How the kernel for many models is launched.

    block_k: columns of W of a program. precision: of float32 products, "bfloat16" for those of bfloat16 terms, or what
    tl.dot calls "ieee" or "tf32x3"; all are about as accurate. product: whether the losses of unweighted rows
    of logistic models are summed as a product, see `_models.terms`.
    """

    block_k: int = 32
    precision: str = "bfloat16"
    product: bool = True


_X_TERMS = {torch.bfloat16: 1, torch.float16: 2}
"""Bfloat16 terms that add up to a number of X; three for others."""
_FLOAT32 = {
    32: ModelsLaunch(32, 2, 6, block_k=16, precision="tf32x3"),
    64: ModelsLaunch(64, 4, 2, block_k=32, precision="tf32x3", product=False),
    128: ModelsLaunch(32, 4, 2, block_k=16, precision="ieee"),
    256: ModelsLaunch(32, 8, 1, block_k=16, precision="ieee"),
}
_BFLOAT16 = {
    32: ModelsLaunch(32, 2, 8, block_k=16),
    64: ModelsLaunch(64, 4, 3, block_k=32, product=False),
    128: ModelsLaunch(64, 4, 2, block_k=32),
    256: ModelsLaunch(128, 8, 1, block_k=32),
}
_FEW_FLOAT32 = {64: ModelsLaunch(64, 4, 3, block_k=16, precision="tf32x3", product=False)}
_FEW_BFLOAT16 = {64: ModelsLaunch(64, 4, 4, block_k=16), 256: ModelsLaunch(64, 4, 2, block_k=16, product=False)}
_FLOAT64 = {
    32: ModelsLaunch(32, 2, 4, block_k=16, precision="ieee"),
    64: ModelsLaunch(64, 4, 2, block_k=16, precision="ieee"),
}
"""Launches by the widest tile that they are for: of bfloat16 rows and of others, the same for 16 columns of W or fewer
where they have another, and in float64 arithmetic.

Each is the fastest of 4 to 20 on one H200, in milliseconds for 100 models:

    rows x columns      float32    bfloat16    float64    with a border
    11 M x 28               7.8         5.4       11.8             14.5
     4 M x 64               3.8         2.1        7.0              8.8
     2 M x 128                          1.8
     1 M x 256                          1.8

and for five 1.3 at 11 M x 28, and 0.85 at 4 M x 64, in float32. Tiles have no more rows than the units for products
give to so many warps: 32 rows on four warps would be multiplied twice.
"""
_WIDE_FLOAT32_LANES = 32
"""Columns of W up to which float32 rows of more than 64 columns go through the one kernel. For 100 models an H200 takes
4.3 ms by two products around a kernel and 5.3 by one for 2 M rows of 128 columns, 3.6 and 7.2 for 1 M of 256; for 16
models of these 1.6 and 1.4."""


def models_onepass(
    X: Tensor,
    models: Models,
    weight: Tensor,
    bias: Tensor,
    *,
    center: Tensor | None = None,
    along: Tensor | None = None,
    second: bool = False,
    launch: ModelsLaunch | None = None,
) -> ModelSums:
    """Return losses, held-out losses and gradients of K models, reading X once; where there is no launch for that,
    blocks of rows are read twice.

    Read once are up to 256 columns in float32 arithmetic without `along` and `second`, float32 rows of more than 128
    only for few models; and on GPUs with units for products of float64 up to 64 columns in that arithmetic without
    `second`, for logistic models with `along` too.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, with contiguous rows or contiguous columns (any other layout is
            copied once).
        models: of which rows and labels; C = models.classes.
        weight: [D, K C] float32 or float64, which is the arithmetic's dtype.
        bias: [K C].
        center: [D], subtracted from every row.
        along: [K C] t for the border.
        second: whether to sum J [K, C, C].
        launch: of the kernel that reads X once, instead of the table's; taken as it is. In bfloat16 terms it has no
            border, and no float64.

    Returns:
        See `ModelSums`; float64.

    Raises:
        ValueError, TypeError: shapes, devices or dtypes that do not fit, see `check_models`.
    """
    X = check_matrix(X)
    check_models(X, models, weight, bias, center, along)
    weight, bias = weight.detach().contiguous(), bias.detach().contiguous()
    center, along = (None if v is None else v.detach().contiguous() for v in (center, along))
    config = launch or _from_table(X, models, weight, center, along)
    with on_device(X), torch.no_grad(), torch.autocast(X.device.type, enabled=False):
        if config is None or second:
            return _of_blocks(X, models, weight, bias, center, along, second)
        return _fused(X, models, weight, bias, center, along, config)


def _fused(
    X: Tensor,
    models: Models,
    weight: Tensor,
    bias: Tensor,
    center: Tensor | None,
    along: Tensor | None,
    config: ModelsLaunch,
) -> ModelSums:
    (N, D), K, M = X.shape, models.count, weight.shape[1]
    borders = int(along is not None)
    x_terms = _X_TERMS.get(X.dtype, 3) if center is None else 3
    blocks, tiles = -(-K // _models_of_block(models, config.block_k)), -(-N // config.block_n)
    arguments = {
        **matrix_arguments(X, weight.dtype),
        **_row_arguments(models),
        "WEIGHT": weight,
        "BIAS": bias,
        "CENTER": center,
        "PARTIALS": stand_in(torch.float64, X.device),
        "N": N,
        "BORDER": along is not None,
        "PRODUCT": config.product and models.classes == 1 and models.sample_weight is None,
        "APART": _rows_apart(config, weight.dtype),
        # Other programs read the same tile at about the same time.
        "POLICY": "evict_first" if blocks == 1 else "",
        "BLOCK_N": config.block_n,
        "BLOCK_D": max(_NARROWEST, block_width(D)),
        "BLOCK_K": config.block_k,
        "CHUNK": _chunk(config, weight.dtype),
        "PRECISION": config.precision,
        "X_TERMS": x_terms if config.precision == "bfloat16" else 0,
        "INTERPRETED": knobs.runtime.interpret,
        "STAGES": pipeline_stages(config, X),
        **launch_options(config),
        **_most_registers(config),
    }

    kernel, resident, found = _models.models_kernel, config.programs_per_sm, None
    if are_fitted(X.device):
        found = loaded(kernel, X.device, arguments)
        resident = min(resident, resident_programs(found, config.num_warps, device_limits(X.device)))
    programs = max(1, min(tiles, resident * multiprocessors(X.device) // blocks))
    partials = X.new_zeros((programs, 2 * K + ((1 + borders) * D + 2) * M), dtype=torch.float64)
    arguments |= {"PARTIALS": partials, "tiles": tiles, "programs": programs}
    Launch(kernel, (blocks, programs), arguments, found=found)()
    sizes = [K, K, M, M, D * M, borders * D * M]
    loss, held_loss, bias_grad, curvature, gradient, border = partials.sum(dim=0).split_with_sizes(sizes)
    sums = ModelSums(loss, held_loss, gradient.view(D, M), bias_grad)
    return sums if along is None else sums._replace(border=border.view(D, M) * along, corner=curvature * along)


def _of_blocks(
    X: Tensor,
    models: Models,
    weight: Tensor,
    bias: Tensor,
    center: Tensor | None,
    along: Tensor | None,
    second: bool,
) -> ModelSums:
    (N, D), K, C, M, compute = X.shape, models.count, models.classes, weight.shape[1], weight.dtype
    terms = 3 if _on_bfloat16(X, weight, center) else 1
    W = torch.cat(_split(weight), dim=1) if terms > 1 else weight
    height = min(max(N, 1), _block_rows(X, terms * M * compute.itemsize))
    logits_kernel = _Logits(models, bias, along, second, height=height, terms=terms)
    gradient, gram = X.new_zeros((D, M), dtype=torch.float64), X.new_zeros((K, C, C), dtype=torch.float64)
    border = torch.zeros_like(gradient) if along is not None else None
    for start in range(0, N, height):
        rows = slice(start, min(start + height, N))
        block = X[rows] if terms > 1 else X[rows].to(compute)
        if center is not None:
            block = block - center
        r, values, roots = logits_kernel(rows, _product(block, W))
        gradient += _product(block.t(), r).view(D, terms, M).sum(dim=1, dtype=torch.float64)
        if border is not None and values is not None:
            border += _product(block.t(), values).view(D, terms, M).sum(dim=1, dtype=torch.float64)
        if roots is not None:
            p = roots.view(-1, K, C).transpose(0, 1)
            gram += p.mT @ p
    loss, held_loss, bias_grad, curvature = logits_kernel.sums().split_with_sizes([K, K, M, M])
    seconds = None
    if second and C == 1:
        seconds = curvature.view(K, 1, 1)
    elif second:
        # J is diag(p) - p p^T, whose rows add up to 0: so nothing cancels where a class is almost certain.
        others = gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
        seconds = torch.diag_embed(others.sum(dim=2)) - others
    if along is None:
        return ModelSums(loss, held_loss, gradient, bias_grad, second=seconds)
    corner = curvature * along if C == 1 else curvature
    return ModelSums(loss, held_loss, gradient, bias_grad, border, corner, seconds)


class _Logits:
    """The kernel between both products, for one block of rows after the other, and the sums it adds up."""

    def __init__(
        self, models: Models, bias: Tensor, along: Tensor | None, second: bool, *, height: int, terms: int
    ) -> None:
        compute, M, C = bias.dtype, len(bias), models.classes
        self._models = models
        lanes = block_width(C)
        block_k = max(lanes, min(block_width(models.count) * lanes, 128))
        block_n = max(1, _TILE_VALUES * 4 // compute.itemsize // block_k)
        blocks = -(-models.count // _models_of_block(models, block_k))
        programs = min(-(-height // block_n), max(1, 4 * multiprocessors(bias.device) // blocks))
        storage = torch.bfloat16 if terms > 1 else compute

        def empty(wanted: bool, width: int, dtype: torch.dtype) -> Tensor | None:
            return bias.new_empty((height, width), dtype=dtype) if wanted else None

        self._residual = empty(terms > 1, terms * M, storage)
        self._values = empty(along is not None, terms * M, storage)
        self._roots = empty(second and C > 1, M, compute)
        self._partials = bias.new_zeros((programs, 2 * (models.count + M)), dtype=torch.float64)
        self._grid = blocks, programs
        self._arguments = {
            **_row_arguments(models),
            "VALUES": self._values,
            "ROOTS": self._roots,
            "BIAS": bias,
            "ALONG": along,
            "PARTIALS": self._partials,
            "N": models.codes.shape[1],
            "COMPUTE": TRITON_DTYPES[compute],
            "SUM_CURVATURE": along is not None or (second and C == 1),
            "BLOCK_N": block_n,
            "BLOCK_K": block_k,
            "TERMS": terms,
            "programs": programs,
            **launch_options(LaunchConfig(block_n, 4, 4)),
        }
        self._launches: dict[int, Launch] = {}

    def __call__(self, rows: slice, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return s r of these rows, s J t and sqrt(s) p, [rows, terms M], or [rows, M] for the last; z is written
        over."""
        count, models, s = len(z), self._models, self._models.sample_weight
        changing = {
            "Z": z,
            "RESIDUAL": z if self._residual is None else self._residual,
            "CODES": models.codes[:, rows],
            "FOLDS": models.folds[:, rows],
        }
        if s is not None:
            changing["SAMPLE_WEIGHT"] = s[rows]
        if count not in self._launches:
            arguments = {**self._arguments, **changing, "rows": count}
            arguments["tiles"] = -(-count // self._arguments["BLOCK_N"])
            self._launches[count] = Launch(_models.logits_kernel, self._grid, arguments, changing=list(changing))
        self._launches[count](changing)
        found = (changing["RESIDUAL"], self._values, self._roots)
        residual, values, roots = (None if each is None else each[:count] for each in found)
        assert residual is not None
        return residual, values, roots

    def sums(self) -> Tensor:
        """Return loss, held-out loss, sum of s r and of the curvature's values, [2 K + 2 M] float64."""
        return self._partials.sum(dim=0)


def _row_arguments(models: Models) -> dict[str, Any]:
    """Return what says which rows train which models."""
    return {
        "CODES": models.codes,
        "FOLDS": models.folds,
        "TARGET_OF": models.target_of,
        "FOLD_OF": models.fold_of,
        "HELD": models.held,
        "SAMPLE_WEIGHT": models.sample_weight,
        "K": models.count,
        "C": models.classes,
        "LANES": block_width(models.classes),
        "ONE_TARGET": len(models.codes) == 1,
        "ONE_FOLD": len(models.folds) == 1,
        "ORDERED": models.ordered,
    }


def _most_registers(config: LaunchConfig) -> dict[str, Any]:
    """Return the compiler's option for so many registers that the programs fit a multiprocessor of 65,536.

    Left alone, the compiler loads whole operands of a product before it multiplies them, and takes all 255.
    """
    if torch.version.hip is not None:
        return {}
    return {"maxnreg": min(255, 65_536 // (32 * config.num_warps * config.programs_per_sm) // 8 * 8)}


def _chunk(config: ModelsLaunch, compute: torch.dtype) -> int:
    """Return the tiles that a program adds up before it adds to its float64 sums: in float64 only the product of losses
    ends them, after eight times as many."""
    if compute == torch.float64:
        return 8 * _MOST_CHUNK
    return min(_MOST_CHUNK, max(1, _CHUNK_ROWS // config.block_n))


def _rows_apart(config: ModelsLaunch, compute: torch.dtype) -> int:
    """Return the distance of rows that one thread holds, see `_models.halves`; 0 where it holds only one."""
    if config.precision != "ieee" or compute == torch.float64:
        return 8
    return int(config.block_n * config.block_k >= 4 * 32 * config.num_warps)


def _models_of_block(models: Models, block_k: int) -> int:
    return block_k // block_width(models.classes)


def _from_table(
    X: Tensor, models: Models, weight: Tensor, center: Tensor | None, along: Tensor | None
) -> ModelsLaunch | None:
    """Return the launch of the kernel that reads X once, with no more columns than there are models; None where there
    is none for such arithmetic, or for rows or models of so many columns."""
    lanes = block_width(models.classes)
    width, columns = max(32, block_width(X.shape[1])), max(_NARROWEST, block_width(models.count) * lanes)
    if weight.dtype == torch.float64:
        config = _FLOAT64.get(width) if _has_float64(X.device) and (along is None or lanes == 1) else None
    elif along is not None:
        return None
    elif _on_bfloat16(X, weight, center):
        config = (_FEW_BFLOAT16 if columns == _NARROWEST else {}).get(width, _BFLOAT16.get(width))
    else:
        config = (_FEW_FLOAT32 if columns == _NARROWEST else {}).get(width, _FLOAT32.get(width))
        if width > 64 and columns > _WIDE_FLOAT32_LANES:
            return None
    if config is None or lanes > config.block_k:
        return None
    config = replace(config, block_k=min(config.block_k, columns))
    if config.precision != "ieee" and not has_tf32(X.device):
        config = replace(config, precision="ieee")
    return config


def _has_float64(device: torch.device) -> bool:
    """Return whether Triton multiplies tiles of float64 on units for it: for compute capability 9.0 only. For 8.6 and
    10.0 it makes single multiplications of them, which spill 1 KB a thread."""
    if device.type == "cpu":
        return True
    return torch.version.hip is None and torch.cuda.get_device_capability(device) == (9, 0)


def _on_bfloat16(X: Tensor, weight: Tensor, center: Tensor | None) -> bool:
    """Return whether rows are multiplied as bfloat16; less a centre they are float32."""
    return X.dtype == torch.bfloat16 and weight.dtype == torch.float32 and center is None


def _block_rows(X: Tensor, logit_bytes: int) -> int:
    """Return the rows of a block, a whole number of 128 so that bytes of the labels begin where the first ones do."""
    row_bytes = max(X.shape[1] * X.element_size(), logit_bytes)
    return min(_BLOCK_ROWS, max(1, _BLOCK_BYTES // row_bytes // 128) * 128)


def _split(weight: Tensor) -> list[Tensor]:
    """Return three bfloat16 tensors that add up to float32 weights, as `_models.split` does for tiles."""
    parts, rest = [], weight
    for _ in range(3):
        parts.append(rest.to(torch.bfloat16))
        rest = rest - parts[-1]
    return parts


def _product(A: Tensor, B: Tensor) -> Tensor:
    """Return A B, of bfloat16 matrices in float32."""
    if A.dtype != torch.bfloat16:
        return A @ B
    if A.is_cuda and torch.version.hip is None:
        return torch.mm(A, B, out_dtype=torch.float32)
    return A.float() @ B.float()
