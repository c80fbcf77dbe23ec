"""The passes as torch operators, which torch.compile takes as they are instead of looking inside.

They are not differentiable by themselves: `flashlogit.nn.loss` gives them their gradient. Their arguments are those
of the passes in a fixed order: X, y, weight, bias, then `_OPTIONS`, then the backend's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from flashlogit_kernels.checks import arithmetic_dtype
from flashlogit_kernels.contract import SCALARS, PassOptions, check_inputs

from ..passes.backend import BackendName, choose_backend

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


@bce_rows.register_vmap
def _(
    info: _Batch, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    batch = _batched_rows(info.batch_size, in_dims, *arguments)
    return (batch.loss, batch.residual), (0, 0)


@bce_onepass.register_vmap
def _(
    info: _Batch, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    *arguments_of_rows, residual = arguments
    batch = _batched_rows(info.batch_size, in_dims[:-1], *arguments_of_rows)
    r, z, finite = batch.residual, batch.logits, batch.logits.isfinite()
    scalars = [
        r.sum(dim=1, dtype=torch.float64),
        batch.loss.sum(dim=1, dtype=torch.float64),
        batch.sample_weight.sum(dim=1, dtype=torch.float64),
        (~finite).sum(dim=1, dtype=torch.float64),
        torch.where(finite, z.abs(), 0.0).amax(dim=1).double(),
    ]
    packed = torch.cat([_batched_column_sums(batch.X, r), torch.stack(scalars, dim=1)], dim=1)
    return (packed, r if residual else packed.new_empty((info.batch_size, 0))), (0, 0)


@column_sums.register_vmap
def _(
    info: _Batch, in_dims: tuple[int | None, ...], X: Tensor, v: Tensor, _: BackendName
) -> tuple[Tensor, int]:
    compute = arithmetic_dtype(X, v, None)
    X, v = _batch_first((X, v), in_dims)
    return _batched_column_sums(X.to(compute), v.to(compute).expand(info.batch_size, -1)), 0


class _Batch(Protocol):
    """What a rule of vmap is told."""

    batch_size: int


@dataclass(frozen=True)
class _BatchedRows:
    """X [B, N, D] or [N, D] in the arithmetic's dtype, and of every row of a batch, [B, N] each, z, s, s loss, s r."""

    X: Tensor
    logits: Tensor
    sample_weight: Tensor
    loss: Tensor
    residual: Tensor


def _batched_rows(B: int, in_dims: Sequence[int | None], *arguments: Any) -> _BatchedRows:
    """`bce_rows` for each of B entries of a batch: their logits as the only column of one pass.

    torch's operations and the operators here only, so that it works inside another vmap. The caller turns autocast off.
    """
    *tensors, eps, clamp_gradient, backend = arguments
    one = [t if dim is None else t.select(dim, 0) for t, dim in zip(tensors, in_dims, strict=False)]
    inputs = check_inputs(*one[:4], **_named([*one[4:], eps, clamp_gradient]))
    X, y, weight, bias, s, q = _batch_first(tensors, in_dims)
    X, weight = X.to(inputs.compute_dtype), weight.to(inputs.compute_dtype)
    z = (X @ weight[..., None])[..., 0]
    if bias is not None:
        z = z + bias.to(z.dtype).reshape(-1, 1)
    z = z.expand(B, inputs.n)
    s = z.new_ones(()) if s is None else s
    weight_of_loss = s
    if q is not None and in_dims[5] is not None:
        # (1 - y) and q y, of which a pass takes one q only, are a soft label and a weight.
        y = y.to(z.dtype)
        on = q.reshape(-1, 1) * y
        both = 1 - y + on
        y, weight_of_loss, q = torch.where(both > 0, on / both, y), s * both, None
    flat = [t.expand(B, inputs.n).reshape(-1) for t in (y, weight_of_loss)]
    options = flat[1], q, eps, clamp_gradient, backend
    loss, residual = bce_rows(z.reshape(-1, 1), flat[0], z.new_ones(1), None, *options)
    rows = (s.expand(B, inputs.n), loss.reshape(B, -1), residual.reshape(B, -1))
    return _BatchedRows(X, z, *rows)


def _batched_column_sums(X: Tensor, v: Tensor) -> Tensor:
    """X^T v, [B, D] float64, of X [B, N, D] or [N, D] and v [B, N] in the same dtype."""
    return (v[:, None] @ X)[:, 0].double()


def _batch_first(tensors: Sequence[Any], in_dims: Sequence[int | None]) -> list[Any]:
    """The tensors, with the dimension of the batch in front where there is one."""
    return [t if dim is None else t.movedim(dim, 0) for t, dim in zip(tensors, in_dims, strict=False)]


def _named(options: Sequence[Any]) -> PassOptions:
    return cast("PassOptions", dict(zip(_OPTIONS, options, strict=True)))
