"""The passes as torch operators, which torch.compile takes as they are instead of looking inside.

They are not differentiable by themselves: `flashlogit.nn.loss` gives them their gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from flashlogit_kernels.checks import arithmetic_dtype, bce_pass
from flashlogit_kernels.contract import SCALARS, ClampGradient, PassOptions, RowPass, packed_sums

from ..passes import BackendName, Passes, choose_backend


@dataclass(frozen=True)
class Arguments:
    """Arguments of `bce_onepass` and `bce_rows`, in the order of their schema, which is made from the fields."""

    X: Tensor
    y: Tensor
    weight: Tensor
    bias: Tensor | None
    sample_weight: Tensor | None
    pos_weight: Tensor | None
    eps: float
    clamp_gradient: ClampGradient
    backend: BackendName

    @property
    def options(self) -> PassOptions:
        """What the passes take by keyword."""
        return {
            "sample_weight": self.sample_weight,
            "pos_weight": self.pos_weight,
            "eps": self.eps,
            "clamp_gradient": self.clamp_gradient,
        }

    @property
    def passes(self) -> Passes:
        """The backend's implementation."""
        return choose_backend(self.backend, self.X.device).passes

    def checked(self) -> RowPass:
        """Return the pass; raises for a mistake in the arguments."""
        return bce_pass(self.X, self.y, self.weight, self.bias, **self.options)


_TYPES = {"Tensor | None": "Tensor?", "ClampGradient": "str", "BackendName": "str"}
_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(Arguments)}
_SCHEMA = ", ".join(f"{_TYPES.get(kind, kind)} {name}" for name, kind in _FIELDS.items())


@torch.library.custom_op(
    "flashlogit::bce_onepass", mutates_args=(), schema=f"({_SCHEMA}, bool residual) -> (Tensor, Tensor)"
)
def bce_onepass(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return `BCESums.packed` [D + 5] float64, and the residual [N], or [0] where it is not asked for."""
    *rest, residual = arguments
    a = Arguments(*rest)
    sums = a.passes.bce_onepass(a.X, a.y, a.weight, a.bias, residual=residual, **a.options)
    return sums.packed, sums.packed.new_empty(0) if sums.residual is None else sums.residual


@bce_onepass.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    *rest, residual = arguments
    row_pass = Arguments(*rest).checked()
    X = row_pass.X
    packed = X.new_empty(X.shape[1] + SCALARS, dtype=torch.float64)
    return packed, X.new_empty(row_pass.n, dtype=row_pass.compute) if residual else packed.new_empty(0)


@torch.library.custom_op("flashlogit::bce_rows", mutates_args=(), schema=f"({_SCHEMA}) -> (Tensor, Tensor)")
def bce_rows(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return s_i loss_i and s_i r_i, [N] each."""
    a = Arguments(*arguments)
    rows = a.passes.bce_rows(a.X, a.y, a.weight, a.bias, **a.options)
    return rows.loss, rows.residual


@bce_rows.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    row_pass = Arguments(*arguments).checked()
    loss = row_pass.X.new_empty(row_pass.n, dtype=row_pass.compute)
    return loss, torch.empty_like(loss)


@torch.library.custom_op("flashlogit::column_sums", mutates_args=())
def column_sums(X: Tensor, v: Tensor, backend: str) -> Tensor:
    """Return X^T v, [D] float64."""
    return choose_backend(backend, X.device).passes.column_sums(X, v)


@column_sums.register_fake
def _(X: Tensor, v: Tensor, backend: str) -> Tensor:
    return X.new_empty(X.shape[1], dtype=torch.float64)


class _Batch(Protocol):
    """What a rule of vmap is told."""

    batch_size: int


Dims = tuple[int | None, ...]


@bce_rows.register_vmap
def _(info: _Batch, in_dims: Dims, *arguments: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    batch = _batched_rows(info.batch_size, in_dims, arguments)
    return (batch.loss, batch.residual), (0, 0)


@bce_onepass.register_vmap
def _(info: _Batch, in_dims: Dims, *arguments: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    *rest, residual = arguments
    batch = _batched_rows(info.batch_size, in_dims, rest)
    r, z, finite = batch.residual, batch.logits, batch.logits.isfinite()
    packed = packed_sums(
        _batched_column_sums(batch.X, r),
        bias_grad=r.sum(dim=1, dtype=torch.float64),
        loss=batch.loss.sum(dim=1, dtype=torch.float64),
        weight_sum=batch.sample_weight.sum(dim=1, dtype=torch.float64),
        nonfinite=(~finite).sum(dim=1),
        max_abs_logit=torch.where(finite, z.abs(), 0.0).amax(dim=1),
    )
    return (packed, r if residual else packed.new_empty((info.batch_size, 0))), (0, 0)


@column_sums.register_vmap
def _(info: _Batch, in_dims: Dims, X: Tensor, v: Tensor, _: str) -> tuple[Tensor, int]:
    compute = arithmetic_dtype(X, v, None)
    X, v = _batch_first((X, v), in_dims)
    return _batched_column_sums(X.to(compute), v.to(compute).expand(info.batch_size, -1)), 0


@dataclass(frozen=True)
class _BatchedRows:
    """X [B, N, D] or [N, D] in the arithmetic's dtype, and of every row of a batch, [B, N] each, z, s, s loss, s r."""

    X: Tensor
    logits: Tensor
    sample_weight: Tensor
    loss: Tensor
    residual: Tensor


def _batched_rows(B: int, in_dims: Dims, arguments: Sequence[Any]) -> _BatchedRows:
    """Return `bce_rows` for each of B entries of a batch: their logits as the only column of one pass.

    torch's operations and the operators here only, so that it works inside another vmap. The caller turns autocast off.
    """
    one = (t if dim is None else t.select(dim, 0) for t, dim in zip(arguments, in_dims, strict=False))
    row_pass = Arguments(*one).checked()
    a = Arguments(*_batch_first(arguments, in_dims))
    batched = dict(zip(_FIELDS, in_dims, strict=False))
    X, weight = a.X.to(row_pass.compute), a.weight.to(row_pass.compute)
    z = (X @ weight[..., None])[..., 0]
    if a.bias is not None:
        z = z + a.bias.to(z.dtype).reshape(-1, 1)
    z = z.expand(B, row_pass.n)
    y, q, s = a.y, a.pos_weight, z.new_ones(()) if a.sample_weight is None else a.sample_weight
    weight_of_loss = s
    if q is not None and batched["pos_weight"] is not None:
        # (1 - y) and q y, of which a pass takes one q only, are a soft label and a weight.
        y = y.to(z.dtype)
        on = q.reshape(-1, 1) * y
        both = 1 - y + on
        y, weight_of_loss, q = torch.where(both > 0, on / both, y), s * both, None
    flat_y, flat_weight = (t.expand(B, row_pass.n).reshape(-1) for t in (y, weight_of_loss))
    loss, residual = bce_rows(
        z.reshape(-1, 1), flat_y, z.new_ones(1), None, flat_weight, q, a.eps, a.clamp_gradient, a.backend
    )
    return _BatchedRows(X, z, s.expand(B, row_pass.n), loss.reshape(B, -1), residual.reshape(B, -1))


def _batched_column_sums(X: Tensor, v: Tensor) -> Tensor:
    """Return X^T v, [B, D] float64, of X [B, N, D] or [N, D] and v [B, N] in the same dtype."""
    return (v[:, None] @ X)[:, 0].double()


def _batch_first(values: Sequence[Any], in_dims: Dims) -> list[Any]:
    """Return the values, with the dimension of the batch in front of tensors that have one."""
    return [t if dim is None else t.movedim(dim, 0) for t, dim in zip(values, in_dims, strict=False)]
