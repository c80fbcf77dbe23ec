"""The passes as torch operators, which torch.compile takes as they are instead of looking inside.

They are not differentiable by themselves: `flashlogit.loss` gives them their gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.contract import SCALARS, ClampGradient, PassInputs, arithmetic_dtype, check_inputs

from .backend import BackendName, choose_backend

_INPUTS = "Tensor X, Tensor y, Tensor weight, Tensor? bias, Tensor? sample_weight, Tensor? pos_weight"
_SETTINGS = "float eps, str clamp_gradient, str backend"


@torch.library.custom_op(
    "flashlogit::bce_onepass",
    mutates_args=(),
    schema=f"({_INPUTS}, {_SETTINGS}, bool residual) -> (Tensor, Tensor)",
)
def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sample_weight: Tensor | None,
    pos_weight: Tensor | None,
    eps: float,
    clamp_gradient: ClampGradient,
    backend: BackendName,
    residual: bool,
) -> tuple[Tensor, Tensor]:
    """`BCESums.packed` [D + 5] float64, and the residual [N], or [0] where it is not asked for."""
    sums = choose_backend(backend, X.device).passes.bce_onepass(
        X,
        y,
        weight,
        bias,
        residual=residual,
        sample_weight=sample_weight,
        pos_weight=pos_weight,
        eps=eps,
        clamp_gradient=clamp_gradient,
    )
    return sums.packed, sums.packed.new_empty(0) if sums.residual is None else sums.residual


@bce_onepass.register_fake
def _(*args: Any) -> tuple[Tensor, Tensor]:
    inputs = _checked(*args[:8])
    rows = inputs.n if args[9] else 0
    return (
        inputs.X.new_empty(inputs.X.shape[1] + SCALARS, dtype=torch.float64),
        inputs.X.new_empty(rows, dtype=inputs.compute_dtype if args[9] else torch.float64),
    )


@torch.library.custom_op(
    "flashlogit::bce_rows", mutates_args=(), schema=f"({_INPUTS}, {_SETTINGS}) -> (Tensor, Tensor)"
)
def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sample_weight: Tensor | None,
    pos_weight: Tensor | None,
    eps: float,
    clamp_gradient: ClampGradient,
    backend: BackendName,
) -> tuple[Tensor, Tensor]:
    """s_i loss_i and s_i r_i, [N] each."""
    rows = choose_backend(backend, X.device).passes.bce_rows(
        X,
        y,
        weight,
        bias,
        sample_weight=sample_weight,
        pos_weight=pos_weight,
        eps=eps,
        clamp_gradient=clamp_gradient,
    )
    return rows.loss, rows.residual


@bce_rows.register_fake
def _(*args: Any) -> tuple[Tensor, Tensor]:
    inputs = _checked(*args[:8])
    shape, dtype = (inputs.n,), inputs.compute_dtype
    return inputs.X.new_empty(shape, dtype=dtype), inputs.X.new_empty(shape, dtype=dtype)


@torch.library.custom_op(
    "flashlogit::column_sums", mutates_args=(), schema="(Tensor X, Tensor v, str backend) -> Tensor"
)
def column_sums(X: Tensor, v: Tensor, backend: BackendName) -> Tensor:
    """X^T v, [D] float64."""
    return choose_backend(backend, X.device).passes.column_sums(
        X, v, compute_dtype=arithmetic_dtype(X, v, None)
    )


@column_sums.register_fake
def _(X: Tensor, v: Tensor, backend: BackendName) -> Tensor:
    return X.new_empty(X.shape[1], dtype=torch.float64)


def _checked(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sample_weight: Tensor | None,
    pos_weight: Tensor | None,
    eps: float,
    clamp_gradient: ClampGradient,
) -> PassInputs:
    return check_inputs(
        X,
        y,
        weight,
        bias,
        sample_weight=sample_weight,
        pos_weight=pos_weight,
        eps=eps,
        clamp_gradient=clamp_gradient,
    )
