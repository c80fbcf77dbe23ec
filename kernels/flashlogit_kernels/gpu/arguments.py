"""From a pass to the arguments of its kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..contract import RowPass, RowValues
from .launch import LaunchConfig, is_column_major

TRITON_DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


def row_repeats(row_pass: RowPass, config: LaunchConfig) -> int:
    """Return how many threads hold each row's own numbers in the one-pass kernel, see `_tiles.repeated`: more than one
    in float64 alone, where loss and residual cost more than the detour, for tiles of fewer rows than threads."""
    if row_pass.compute != torch.float64 or row_pass.y is None or config.block_n == 1 or config.num_ctas > 1:
        return 1
    return max(1, 32 * config.num_warps // config.block_n)


def row_arguments(row_pass: RowPass, config: LaunchConfig, repeat: int | None = None) -> dict[str, Any]:
    """Return what a row contributes, and the tile's height.

    LANES threads of a program hold RUN consecutive rows of a tile each, over and over, as Triton lays out a vector that
    it loads; another guess would be as right, but slower. The clamp's numbers are constants of the compiled kernel:
    Triton passes a float argument as float32, and a run has one eps, so the price is one compilation for each.
    """
    first_loaded = row_pass.sample_weight if row_pass.y is None else row_pass.y
    assert first_loaded is not None
    threads = 32 * config.num_warps
    lanes = min(config.block_n * (repeat or 1), threads)
    widest = 1 if row_pass.rows is not None else 16 // first_loaded.element_size()
    return {
        **data_arguments(row_pass),
        "Y": row_pass.y,
        "WEIGHT": row_pass.weight,
        "BIAS": row_pass.bias,
        "SAMPLE_WEIGHT": row_pass.sample_weight,
        "POS_WEIGHT": row_pass.pos_weight,
        "BOUND": row_pass.clamp.bound,
        "TAIL": row_pass.clamp.tail,
        "ZERO_BEYOND": row_pass.clamp.zeroes_gradient,
        "BLOCK_N": config.block_n,
        "LANES": lanes,
        "RUN": min(widest, max(1, config.block_n // lanes)),
        **({} if repeat is None else {"REPEAT": repeat}),
        **launch_options(config),
    }


def value_arguments(values: RowValues) -> dict[str, Any]:
    """Return where the rows' own numbers are written."""
    return {name.upper(): tensor for name, tensor in vars(values).items()}


def data_arguments(row_pass: RowPass) -> dict[str, Any]:
    """Return X, its centre, and the visited rows."""
    places = {"CENTER": row_pass.center, "ROWS": row_pass.rows, "N": row_pass.n}
    return {**matrix_arguments(row_pass.X, row_pass.compute), **places}


def matrix_arguments(X: Tensor, compute: torch.dtype) -> dict[str, Any]:
    """Return X, its strides, one of which is 1, its columns, and the arithmetic's dtype."""
    column_major = is_column_major(X)
    return {
        "X": X,
        "column_stride": X.stride(1) if column_major else 0,
        "ROW_STRIDE": 1 if column_major else X.stride(0),
        "COLUMN_MAJOR": column_major,
        "D": X.shape[1],
        "READABLE_D": X.shape[1] if column_major else readable_columns(X),
        "COMPUTE": TRITON_DTYPES[compute],
    }


def readable_columns(X: Tensor) -> int:
    """Return how many columns of a row-major X may be read: D, or those up to the next whole 16 bytes where all rows
    have them.

    They have where the rows are padded (see `contract.pad_rows`) or X is a part of a wider table. The last row must not
    end the memory that torch knows of.
    """
    N, D = X.shape
    unit = 16 // X.element_size()
    stride = X.stride(0)
    readable = -(-D // unit) * unit
    end = X.storage_offset() + (N - 1) * stride + readable
    enough = end * X.element_size() <= X.untyped_storage().nbytes()
    return readable if stride % unit == 0 and stride >= readable and enough else D


def launch_options(config: LaunchConfig) -> dict[str, Any]:
    """Return the compiler's options. Fused multiply-adds are asked for by name because Triton is changing its
    default."""
    return {"num_warps": config.num_warps, "num_ctas": config.num_ctas, "enable_fp_fusion": True}


def has_clusters(device: torch.device) -> bool:
    """Return whether the row pass can run on clusters of thread blocks.

    NVIDIA has them from compute capability 9.0 on. Triton 3.6 fails to compile the kernel for them, 3.9 does not.
    """
    if device.type != "cuda" or torch.version.hip is not None or torch.cuda.get_device_capability(device) < (9, 0):
        return False
    return tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9)


def on_device(X: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensors'."""
    if X.device.type != "cuda" or X.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(X.device)
