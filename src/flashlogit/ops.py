"""The passes as torch operators, which torch.compile takes as they are instead of looking inside.

They are not differentiable by themselves: `flashlogit.loss` gives them their gradient. Their arguments are those of the
passes in a fixed order: X, y, weight, bias, then `_OPTIONS`, then the backend's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from flashlogit_kernels.contract import SCALARS, PassOptions, check_inputs

from .backend import BackendName, choose_backend

_OPTIONS = ("sample_weight", "pos_weight", "eps", "clamp_gradient")
_SCHEMA = (
    "Tensor X, Tensor y, Tensor weight, Tensor? bias,"
    " Tensor? sample_weight, Tensor? pos_weight, float eps, str clamp_gradient, str backend"
)


@torch.library.custom_op(
    "flashlogit::bce_onepass", mutates_args=(), schema=f"({_SCHEMA}, bool residual) -> (Tensor, Tensor)"
)
def bce_onepass(
    X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor]:
    """`BCESums.packed` [D + 5] float64, and the residual [N], or [0] where it is not asked for."""
    *options, backend, residual = rest
    passes = choose_backend(backend, X.device).passes
    sums = passes.bce_onepass(X, y, weight, bias, residual=residual, **_named(options))
    return sums.packed, sums.packed.new_empty(0) if sums.residual is None else sums.residual


@bce_onepass.register_fake
def _(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *options, _, residual = rest
    inputs = check_inputs(X, y, weight, bias, **_named(options))
    packed = X.new_empty(X.shape[1] + SCALARS, dtype=torch.float64)
    return packed, X.new_empty(inputs.n, dtype=inputs.compute_dtype) if residual else packed.new_empty(0)


@torch.library.custom_op("flashlogit::bce_rows", mutates_args=(), schema=f"({_SCHEMA}) -> (Tensor, Tensor)")
def bce_rows(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    """s_i loss_i and s_i r_i, [N] each."""
    *options, backend = rest
    rows = choose_backend(backend, X.device).passes.bce_rows(X, y, weight, bias, **_named(options))
    return rows.loss, rows.residual


@bce_rows.register_fake
def _(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *options, _ = rest
    inputs = check_inputs(X, y, weight, bias, **_named(options))
    loss = X.new_empty(inputs.n, dtype=inputs.compute_dtype)
    return loss, torch.empty_like(loss)


@torch.library.custom_op(
    "flashlogit::column_sums", mutates_args=(), schema="(Tensor X, Tensor v, str backend) -> Tensor"
)
def column_sums(X: Tensor, v: Tensor, backend: BackendName) -> Tensor:
    """X^T v, [D] float64."""
    return choose_backend(backend, X.device).passes.column_sums(X, v)


@column_sums.register_fake
def _(X: Tensor, v: Tensor, backend: BackendName) -> Tensor:
    return X.new_empty(X.shape[1], dtype=torch.float64)


def _named(options: Sequence[Any]) -> PassOptions:
    return cast("PassOptions", dict(zip(_OPTIONS, options, strict=True)))
