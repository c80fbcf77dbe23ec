"""From tensors to the arguments of a kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from .contract import PassInputs
from .launch import LaunchConfig

_TRITON_DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


def layout(X: Tensor) -> dict[str, Any]:
    """Strides of X [N, D], one of which is 1."""
    column_major = X.shape[1] > 1 and X.stride(1) != 1
    return {
        "column_stride": X.stride(1) if column_major else 0,
        "ROW_STRIDE": 1 if column_major else X.stride(0),
        "COLUMN_MAJOR": column_major,
        "D": X.shape[1],
    }


def compute_argument(dtype: torch.dtype) -> dict[str, Any]:
    """The arithmetic's dtype as Triton names it."""
    return {"COMPUTE": _TRITON_DTYPES[dtype]}


def term_arguments(inputs: PassInputs) -> dict[str, Any]:
    """What a kernel that computes loss and residual reads.

    The clamp's numbers are constants of the compiled kernel: Triton passes a float argument as float32, and a run has
    one eps, so the price is one compilation for each.
    """
    return {
        "X": inputs.X,
        "Y": inputs.y,
        "WEIGHT": inputs.weight,
        "BIAS": inputs.bias,
        "SAMPLE_WEIGHT": inputs.sample_weight,
        "POS_WEIGHT": inputs.pos_weight,
        "ROWS": inputs.rows,
        "N": inputs.n,
        "BOUND": inputs.clamp.bound,
        "TAIL": inputs.clamp.tail,
        "ZERO_BEYOND": inputs.clamp.zeroes_gradient,
        **compute_argument(inputs.compute_dtype),
    }


def launch_options(config: LaunchConfig) -> dict[str, Any]:
    """Options of the compiler. Fused multiply-adds are asked for by name because Triton is changing its default."""
    return {"num_warps": config.num_warps, "enable_fp_fusion": True}


def on_device(X: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensors'."""
    return torch.cuda.device(X.device) if X.device.type == "cuda" else nullcontext()
