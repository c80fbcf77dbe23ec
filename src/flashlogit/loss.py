"""Binary cross-entropy of a logistic regression as a differentiable function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from flashlogit_kernels.checks import arithmetic_dtype
from flashlogit_kernels.contract import BCESums, ClampGradient

from . import ops
from .backend import BackendName

Reduction = Literal["none", "mean", "sum"]


def bce_loss(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    sample_weight: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
    eps: float = 1e-8,
    clamp_gradient: ClampGradient = "through",
    reduction: Reduction = "mean",
    backend: BackendName = "auto",
) -> Tensor:
    """Clamped binary cross-entropy of sigmoid(X @ weight + bias) against y, for one read of X.

    z = X @ weight + bias, c = clamp(z, -Z, Z) with Z = log((1 - eps) / eps), and
    loss = (1 - y) softplus(c) + pos_weight y softplus(-c), which clamps the probability to [eps, 1 - eps].
    The gradient is computed in the same pass. Arithmetic is float64 where X or weight is, else float32, also under
    autocast. Tensor values are never checked, since that would wait for the device.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16. May require a gradient (a head on an encoder).
        y: [N] labels in [0, 1], soft ones too, of any real dtype.
        weight: [D] or [1, D].
        bias: [], [1] or None.
        sample_weight: [N] non-negative weights s of the rows.
        pos_weight: factor on the loss of the positive part, as in torch.nn.BCEWithLogitsLoss.
        eps: probabilities are clamped to [eps, 1 - eps]; 0 for the exact logistic loss.
        clamp_gradient: gradient of a clamped row: "through", p - y as by hand, or "exact", 0 as by autograd.
        reduction: "none" gives s_i loss_i [N], "sum" their sum, "mean" their sum over the sum of the weights.
        backend: "auto", "triton" or "torch".

    Returns:
        [] or, for reduction "none", [N], in the arithmetic's dtype.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, an option out of bounds, or y, sample_weight or
            pos_weight requiring a gradient.
        UserError: a backend that was asked for and cannot be had.
        RuntimeError: on a second derivative, from the backward pass through it.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; must be 'none', 'mean' or 'sum'")
    if isinstance(pos_weight, int | float):
        if not pos_weight >= 0:
            raise ValueError(f"pos_weight is {pos_weight}; must be at least 0")
        pos_weight = torch.full((), pos_weight, dtype=arithmetic_dtype(X, weight, None), device=X.device)
    for name, tensor in (("y", y), ("sample_weight", sample_weight), ("pos_weight", pos_weight)):
        _refuse_gradient(name, tensor is not None and tensor.requires_grad)
    if weight.ndim not in (1, 2) or (weight.ndim == 2 and weight.shape[0] != 1):
        raise ValueError(
            f"weight is {list(weight.shape)}; must be [D] or [1, D], as one model has one row of weights"
        )
    arguments = (X, y, weight.reshape(-1), bias, sample_weight, pos_weight, eps, clamp_gradient, backend)
    loss: Tensor
    if reduction == "none":
        loss, _ = _RowLosses.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        loss, _, _ = _SummedLoss.apply(*arguments, reduction == "mean", X.requires_grad)  # type: ignore[no-untyped-call]
    return loss


class _SummedLoss(torch.autograd.Function):
    """Sum or weighted mean over the rows; the forward pass has the gradient already.

    What the backward pass needs are further outputs, since a transform of torch.func hands on nothing else.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        *settings, mean, with_residual = rest
        packed, residual = ops.bce_onepass(X, y, weight, bias, *settings, with_residual)
        sums = BCESums(packed)
        loss = sums.loss / sums.weight_sum if mean else sums.loss
        return loss.to(arithmetic_dtype(X, weight, None), copy=True), packed, residual

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, eps, clamp_gradient, backend, ctx.mean, _ = inputs
        ctx.settings = eps, clamp_gradient, backend
        _remember(ctx, tensors, output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        X, y, weight, bias, sample_weight, pos_weight, packed, residual = ctx.saved_tensors
        sums = BCESums(packed)
        scale = upstream / sums.weight_sum if ctx.mean else upstream
        rows = None
        if ctx.needs_input_grad[0]:
            if len(residual) == 0:  # inside vmap a tensor does not say that it requires a gradient outside
                residual = ops.bce_rows(X, y, weight, bias, sample_weight, pos_weight, *ctx.settings)[1]
            rows = residual * scale
        return _gradients(
            ctx,
            X,
            weight,
            bias,
            weight_grad=sums.weight_grad * scale,
            bias_grad=sums.bias_grad * scale,
            rows=rows,
        )


class _RowLosses(torch.autograd.Function):
    """One loss for each row. Upstream gradients differ from row to row, so the backward pass reads X again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any
    ) -> tuple[Tensor, Tensor]:
        losses: tuple[Tensor, Tensor] = ops.bce_rows(X, y, weight, bias, *settings)
        return losses

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, _, _, ctx.backend = inputs
        _remember(ctx, tensors, output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        X, _, weight, bias, _, _, residual = ctx.saved_tensors
        rows = residual * upstream
        return _gradients(
            ctx,
            X,
            weight,
            bias,
            weight_grad=ops.column_sums(X, rows, ctx.backend) if ctx.needs_input_grad[2] else None,
            bias_grad=rows.sum(dtype=torch.float64),
            rows=rows,
        )


def _refuse_gradient(name: str, needed: bool) -> None:
    if needed:
        raise ValueError(
            f"{name} requires a gradient, which bce_loss does not give; pass {name}.detach()"
        )


def _remember(ctx: Any, tensors: Sequence[Tensor | None], output: tuple[Tensor, ...]) -> None:
    """Save X, y, weight, bias, sample_weight, pos_weight and the outputs behind the loss."""
    for name, place in (("y", 1), ("sample_weight", 4), ("pos_weight", 5)):
        _refuse_gradient(name, ctx.needs_input_grad[place])  # which only shows here where vmap wraps the tensor
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(
    ctx: FunctionCtx,
    X: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    weight_grad: Tensor | None,
    bias_grad: Tensor,
    rows: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients in the order of forward's arguments, None where none is needed."""
    X_needed, _, weight_needed, bias_needed, *others = ctx.needs_input_grad  # type: ignore[attr-defined]
    X_grad = None
    if X_needed and rows is not None:
        X_grad = (rows[:, None] * weight.to(rows.dtype)).to(X.dtype)
    gradients = (
        X_grad,
        weight_grad.to(weight.dtype) if weight_needed and weight_grad is not None else None,
        bias_grad.to(bias.dtype).reshape(bias.shape) if bias_needed and bias is not None else None,
    )
    # torch.compile refuses second derivatives itself, and cannot trace this (torch 2.13).
    if not torch.compiler.is_compiling():
        gradients = _FirstOrderOnly.apply(*gradients, X if X_needed else None, weight, bias)  # type: ignore[no-untyped-call]
    return gradients[0], None, gradients[1], gradients[2], *(None for _ in others)


class _FirstOrderOnly(torch.autograd.Function):
    """Gives gradients through and refuses to be differentiated.

    The parameters are inputs only so that the result depends on them: once_differentiable, and register_autograd too,
    let a penalty on the gradient run with a silently wrong result (measured: 4.7 for 82.3, and 0).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        X_grad: Tensor | None,
        weight_grad: Tensor | None,
        bias_grad: Tensor | None,
        *parameters: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        return X_grad, weight_grad, bias_grad

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        """Nothing is needed to refuse."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "flashlogit.bce_loss has no second derivative; for a penalty on its gradient use "
            "torch.nn.functional.binary_cross_entropy_with_logits(X @ weight + bias, y)"
        )
