"""Binary cross-entropy of a logistic regression as a differentiable function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from flashlogit_kernels.checks import arithmetic_dtype
from flashlogit_kernels.contract import BCESums, ClampGradient

from ..passes.backend import BackendName
from . import ops

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
    autocast. Tensor values are never checked, since that would wait for the device. torch.func's grad, vjp, jacrev and
    vmap go through it, in any order; entries of a batch are not looped over. Forward mode is an error.

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
    with _full_precision(weight):
        if reduction == "none":
            loss, _ = _RowLosses.apply(*arguments)  # type: ignore[no-untyped-call]
        else:
            loss, _, _ = _SummedLoss.apply(*arguments, reduction == "mean", X.requires_grad)  # type: ignore[no-untyped-call]
    return loss


def _full_precision(tensor: Tensor) -> torch.autocast:
    """No autocast on the device of `tensor`: what turns it off inside a rule of vmap comes too late."""
    return torch.autocast(tensor.device.type, enabled=False)


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
        X, y, weight, bias, s, q, eps, clamp_gradient, backend, ctx.mean, _ = inputs
        ctx.settings = eps, clamp_gradient, backend
        if not ctx.needs_input_grad[0]:  # X need not stay in memory for the gradients of the parameters
            X = y = s = q = None
        _remember(ctx, (X, y, weight, bias, s, q), output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        X, y, weight, bias, s, q, packed, residual = ctx.saved_tensors
        with torch.no_grad(), _full_precision(weight):
            sums = BCESums(packed)
            scale = upstream / sums.weight_sum if ctx.mean else upstream
            rows = None
            if X is not None:
                if (
                    len(residual) == 0
                ):  # inside vmap a tensor does not say that it requires a gradient outside
                    residual = ops.bce_rows(X, y, weight, bias, s, q, *ctx.settings)[1]
                rows = residual * scale
            gradients = _gradients(X, weight, bias, rows, sums.weight_grad * scale, sums.bias_grad * scale)
        return _first_order(ctx, gradients, X, weight, bias, upstream)


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
        with torch.no_grad(), _full_precision(weight):
            rows = residual * upstream
            weight_grad = ops.column_sums(X, rows, ctx.backend) if ctx.needs_input_grad[2] else None
            gradients = _gradients(X, weight, bias, rows, weight_grad, rows.sum(dtype=torch.float64))
        return _first_order(ctx, gradients, X, weight, bias, upstream)


def _refuse_gradient(name: str, needed: bool) -> None:
    if needed:
        raise ValueError(f"{name} requires a gradient, which bce_loss does not give; pass {name}.detach()")


def _remember(ctx: Any, tensors: Sequence[Tensor | None], output: tuple[Tensor, ...]) -> None:
    """Save X, y, weight, bias, sample_weight, pos_weight and the outputs behind the loss."""
    for name, place in (("y", 1), ("sample_weight", 4), ("pos_weight", 5)):
        # Inside vmap it shows only here.
        _refuse_gradient(name, ctx.needs_input_grad[place])
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(
    X: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor | None,
    weight_grad: Tensor | None,
    bias_grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Those of X, from s r times the upstream gradient of each row, weight and bias, in their dtypes and shapes."""
    return (
        None if X is None or rows is None else (rows[:, None] * weight.to(rows.dtype)).to(X.dtype),
        None if weight_grad is None else weight_grad.to(weight.dtype),
        None if bias is None else bias_grad.to(bias.dtype).reshape(bias.shape),
    )


def _first_order(
    ctx: Any, gradients: tuple[Tensor | None, ...], *parameters: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients in the order of forward's arguments, None where none is needed."""
    needed = ctx.needs_input_grad
    gradients = tuple(g if needed[place] else None for g, place in zip(gradients, (0, 2, 3), strict=True))
    # torch.compile refuses second derivatives itself, and cannot trace this (torch 2.13).
    if not torch.compiler.is_compiling():
        gradients = _FirstOrderOnly.apply(*gradients, *parameters)  # type: ignore[no-untyped-call]
    X_grad, weight_grad, bias_grad = gradients
    return X_grad, None, weight_grad, bias_grad, *(None for _ in needed[4:])


class _FirstOrderOnly(torch.autograd.Function):
    """Gives gradients through and refuses to be differentiated.

    The parameters and the upstream gradient are inputs only so that the result depends on them: once_differentiable,
    and register_autograd too, let a penalty on the gradient run with a silently wrong result (measured: 4.7 for 82.3,
    and 0).
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
