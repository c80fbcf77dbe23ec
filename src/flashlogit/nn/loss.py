"""Binary cross-entropy of a logistic regression as a differentiable function of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, cast

import torch
from torch import Tensor

from flashlogit_kernels.checks import arithmetic_dtype, check_tensor
from flashlogit_kernels.contract import BCESums, Clamp, ClampGradient

from ..passes import BackendName
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
    """Return the clamped binary cross-entropy of sigmoid(X @ weight + bias) against y, for one read of X.

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
    optional = {name: value for name, value in (("bias", bias), ("sample_weight", sample_weight)) if value is not None}
    for name, value in ({"X": X, "y": y, "weight": weight} | optional).items():
        check_tensor(name, value)
    Clamp(eps, clamp_gradient)  # which refuses what it cannot be
    factor: Any = pos_weight  # NumPy's numbers too
    if isinstance(factor, Real):
        if not float(factor) >= 0:
            raise ValueError(f"pos_weight is {factor}; must be at least 0")
        factor = torch.full((), float(factor), dtype=arithmetic_dtype(X, weight, None), device=X.device)
    elif factor is not None:
        check_tensor("pos_weight", factor)
    for name, tensor in (("y", y), ("sample_weight", sample_weight), ("pos_weight", factor)):
        _refuse_gradient(name, tensor is not None and tensor.requires_grad)
    if weight.ndim not in (1, 2) or (weight.ndim == 2 and weight.shape[0] != 1):
        raise ValueError(f"weight is {list(weight.shape)}; must be [D] or [1, D], as one model has one row of weights")
    settings = _Settings(eps, clamp_gradient, backend, reduction, X.requires_grad)
    with _full_precision(weight):
        loss, *_ = _Loss.apply(X, y, weight.reshape(-1), bias, sample_weight, factor, settings)  # type: ignore[no-untyped-call]
    return cast("Tensor", loss)


@dataclass(frozen=True)
class _Settings:
    """What is no tensor of a call. X_grad: whether the gradient of X will be asked for, as far as it can be seen."""

    eps: float
    clamp_gradient: ClampGradient
    backend: BackendName
    reduction: Reduction
    X_grad: bool

    @property
    def options(self) -> dict[str, Any]:
        """What the operators take by keyword."""
        return {"eps": self.eps, "clamp_gradient": self.clamp_gradient, "backend": self.backend}


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Switch autocast off on the device of `tensor`: what turns it off inside a rule of vmap comes too late."""
    return torch.autocast(tensor.device.type, enabled=False)


class _Loss(torch.autograd.Function):
    """The losses of the rows, their sum or their weighted mean.

    With a sum the forward pass has the gradient of the parameters already. What the backward pass needs are further
    outputs, since a transform of torch.func hands on nothing else.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(  # its arguments by name: torch.compile counts them to tell whether there is a ctx among them
        X: Tensor, y: Tensor, weight: Tensor, bias: Any, sample_weight: Any, pos_weight: Any, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        tensors = X, y, weight, bias, sample_weight, pos_weight
        if settings.reduction == "none":
            losses, residual = ops.bce_rows(*tensors, **settings.options)
            return losses, losses.new_empty(0), residual
        packed, residual = ops.bce_onepass(*tensors, **settings.options, residual=settings.X_grad)
        sums = BCESums(packed)
        loss = sums.loss / sums.weight_sum if settings.reduction == "mean" else sums.loss
        return loss.to(arithmetic_dtype(X, weight, None), copy=True), packed, residual

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        X, y, weight, bias, s, q, ctx.settings = inputs
        X_grad, y_grad, _, _, s_grad, q_grad, _ = ctx.needs_input_grad
        for name, needed in (("y", y_grad), ("sample_weight", s_grad), ("pos_weight", q_grad)):
            _refuse_gradient(name, needed)  # Inside vmap it shows only here.
        if not X_grad and ctx.settings.reduction != "none":
            X = y = s = q = None  # They need not stay in memory for the gradients of the parameters.
        _, packed, residual = output
        ctx.mark_non_differentiable(packed, residual)
        ctx.save_for_backward(X, y, weight, bias, s, q, packed, residual)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        X, y, weight, bias, s, q, packed, residual = ctx.saved_tensors
        X_wanted, _, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
        settings, rows, X_grad, weight_grad = ctx.settings, None, None, None
        with torch.no_grad(), _full_precision(weight):
            if settings.reduction == "none":
                # Upstream gradients differ from row to row, so that X is read again.
                rows = residual * upstream
                weight_grad = ops.column_sums(X, rows, settings.backend) if weight_wanted else None
                bias_grad = rows.sum(dtype=torch.float64)
            else:
                sums = BCESums(packed)
                scale = upstream / sums.weight_sum if settings.reduction == "mean" else upstream
                weight_grad, bias_grad = sums.weight_grad * scale, sums.bias_grad * scale
                if X_wanted and len(residual) == 0:
                    # Inside vmap a tensor does not say that it requires a gradient outside.
                    residual = ops.bce_rows(X, y, weight, bias, s, q, **settings.options)[1]
                rows = residual * scale if X_wanted else None
            if X_wanted and rows is not None:
                X_grad = (rows[:, None] * weight.to(rows.dtype)).to(X.dtype)
            weight_grad = weight_grad.to(weight.dtype) if weight_wanted and weight_grad is not None else None
            bias_grad = bias_grad.to(bias.dtype).reshape(bias.shape) if bias_wanted else None
        gradients: tuple[Tensor | None, ...] = (X_grad, weight_grad, bias_grad)
        # torch.compile refuses second derivatives itself, and cannot trace this (torch 2.13).
        if not torch.compiler.is_compiling():
            gradients = _FirstOrderOnly.apply(*gradients, X, weight, bias, upstream)  # type: ignore[no-untyped-call]
        X_grad, weight_grad, bias_grad = gradients
        return X_grad, None, weight_grad, bias_grad, None, None, None


def _refuse_gradient(name: str, needed: bool) -> None:
    if needed:
        raise ValueError(f"{name} requires a gradient, which bce_loss does not give; pass {name}.detach()")


class _FirstOrderOnly(torch.autograd.Function):
    """Gives gradients through and refuses to be differentiated.

    The parameters and the upstream gradient are inputs only so that the result depends on them: once_differentiable,
    and register_autograd too, let a penalty on the gradient run with a silently wrong result (measured: 4.7 for 82.3,
    and 0).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Tensor | None) -> tuple[Tensor | None, ...]:
        return inputs[:3]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        """Nothing is needed to refuse."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "flashlogit.bce_loss has no second derivative; for a penalty on its gradient use "
            "torch.nn.functional.binary_cross_entropy_with_logits(X @ weight + bias, y)"
        )
