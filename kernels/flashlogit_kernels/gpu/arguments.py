"""From tensors to the arguments of a kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from ..checks import readable_weights
from ..contract import ColumnInputs, PassInputs, ProductInputs
from .launch import LaunchConfig, is_column_major

_TRITON_DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


@dataclass(frozen=True)
class RowPass:
    """A pass over n rows of X in `compute` arithmetic, and the kernel's arguments that say what a row contributes."""

    X: Tensor
    n: int
    rows: Tensor | None
    compute: torch.dtype
    terms: dict[str, Any]

    def launch_arguments(self, config: LaunchConfig) -> dict[str, Any]:
        """The tile's height, and how a program's threads share its rows, as Triton lays out a vector that it loads.

        LANES threads hold RUN consecutive rows each, over and over. Another guess would be as right, but slower.
        """
        lanes = min(config.block_n, 32 * config.num_warps)
        first_loaded = self.terms["SAMPLE_WEIGHT"] if self.terms["Y"] is None else self.terms["Y"]
        widest = 1 if self.rows is not None else 16 // first_loaded.element_size()
        return {"BLOCK_N": config.block_n, "LANES": lanes, "RUN": min(widest, config.block_n // lanes)}

    def empty(self) -> Tensor:
        """Room for a number of each visited row."""
        return self.X.new_empty(self.n, dtype=self.compute)


def bce_pass(inputs: PassInputs) -> RowPass:
    """Loss and residual of each row.

    The clamp's numbers are constants of the compiled kernel: Triton passes a float argument as float32, and a run has
    one eps, so the price is one compilation for each.
    """
    terms = {
        "Y": inputs.y,
        "WEIGHT": inputs.weight,
        "BIAS": inputs.bias,
        "SAMPLE_WEIGHT": inputs.sample_weight,
        "POS_WEIGHT": inputs.pos_weight,
        "BOUND": inputs.clamp.bound,
        "TAIL": inputs.clamp.tail,
        "ZERO_BEYOND": inputs.clamp.zeroes_gradient,
    }
    return _row_pass(inputs.X, inputs.n, inputs.rows, inputs.center, inputs.compute_dtype, terms)


_NO_LABELS = {"Y": None, "POS_WEIGHT": None, "BOUND": 0.0, "TAIL": 0.0, "ZERO_BEYOND": False}


def product_pass(inputs: ProductInputs) -> RowPass:
    """Curvature times (x v + v_bias) of each row; the clamp is not used."""
    terms = {"WEIGHT": inputs.v, "BIAS": inputs.v_bias, "SAMPLE_WEIGHT": inputs.curvature, **_NO_LABELS}
    return _row_pass(inputs.X, inputs.n, inputs.rows, inputs.center, inputs.compute_dtype, terms)


def columns_pass(inputs: ColumnInputs) -> RowPass:
    """v of each row."""
    v = readable_weights(inputs.v, inputs.compute_dtype)
    terms = {"WEIGHT": None, "BIAS": None, "SAMPLE_WEIGHT": v, **_NO_LABELS}
    return _row_pass(inputs.X, inputs.v.shape[0], inputs.rows, inputs.center, inputs.compute_dtype, terms)


def _row_pass(
    X: Tensor,
    n: int,
    rows: Tensor | None,
    center: Tensor | None,
    compute: torch.dtype,
    terms: dict[str, Any],
) -> RowPass:
    data = {"X": X, "ROWS": rows, "CENTER": center, "N": n}
    return RowPass(X, n, rows, compute, {**terms, **data, **layout(X), **compute_argument(compute)})


def layout(X: Tensor) -> dict[str, Any]:
    """Strides of X [N, D], one of which is 1."""
    column_major = is_column_major(X)
    return {
        "column_stride": X.stride(1) if column_major else 0,
        "ROW_STRIDE": 1 if column_major else X.stride(0),
        "COLUMN_MAJOR": column_major,
        "D": X.shape[1],
        "READABLE_D": X.shape[1] if column_major else readable_columns(X),
    }


def readable_columns(X: Tensor) -> int:
    """Columns of a row-major X that may be read: D, or those up to the next whole 16 bytes where all rows have room.

    They have where the rows are padded (see `padding`) or X is a part of a wider table. The last row must not end the
    memory that torch knows of.
    """
    N, D = X.shape
    unit = 16 // X.element_size()
    stride = X.stride(0)
    readable = -(-D // unit) * unit
    end = X.storage_offset() + (N - 1) * stride + readable
    enough = end * X.element_size() <= X.untyped_storage().nbytes()
    return readable if stride % unit == 0 and stride >= readable and enough else D


def compute_argument(dtype: torch.dtype) -> dict[str, Any]:
    """The arithmetic's dtype as Triton names it."""
    return {"COMPUTE": _TRITON_DTYPES[dtype]}


def launch_options(config: LaunchConfig) -> dict[str, Any]:
    """Options of the compiler. Fused multiply-adds are asked for by name because Triton is changing its default."""
    return {"num_warps": config.num_warps, "enable_fp_fusion": True}


def on_device(X: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensors'."""
    return torch.cuda.device(X.device) if X.device.type == "cuda" else nullcontext()
