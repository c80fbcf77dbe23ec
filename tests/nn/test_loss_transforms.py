"""The loss under torch.func: what its transforms give of torch's own loss, they give of ours."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from test_loss import SHAPES, WITHOUT_GRADIENT, Arguments, B, D, N, by_torch, each_reduction, numbers
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vjp, vmap

from flashlogit import bce_loss
from flashlogit.nn import ops


def in_dims(*batched: str) -> tuple[dict[str, int | None]]:
    return ({name: 0 if name in batched else None for name in SHAPES},)


def gradients(loss: Callable[[Arguments], Tensor]) -> Callable[[Arguments], Arguments]:
    """Return the gradient of the sum of the losses by X, weight and bias."""

    def differentiated(a: Arguments) -> Arguments:
        variables = {name: value for name, value in a.items() if name not in WITHOUT_GRADIENT}
        return grad(lambda v: loss({**a, **v}).sum())(variables)

    return differentiated


def check(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


BATCHES = [*((name,) for name in SHAPES), ("X", "y", "sample_weight"), ("weight", "bias"), tuple(SHAPES)]


@each_reduction
@pytest.mark.parametrize("batched", BATCHES, ids="+".join)
def test_vmap_inside_and_outside_of_grad(batched, reduction):
    arguments = numbers(*batched)
    ours, theirs = (lambda a, f=f: f(**a, reduction=reduction) for f in (bce_loss, by_torch))
    check(*(vmap(loss, in_dims(*batched))(arguments) for loss in (ours, theirs)))
    check(*(vmap(gradients(loss), in_dims(*batched))(arguments) for loss in (ours, theirs)))
    check(*(gradients(vmap(loss, in_dims(*batched)))(arguments) for loss in (ours, theirs)))


@each_reduction
def test_jacrev_and_vjp(reduction):
    X, y, weight, bias, s, q = numbers().values()

    def of(loss: Any) -> Callable[..., Tensor]:
        return lambda X, w, b: loss(X, y, w, b, sample_weight=s, pos_weight=q, reduction=reduction)

    upstream = torch.linspace(-1, 2, N, dtype=torch.float64)[... if reduction == "none" else 0]
    inputs = (X, weight, bias)
    check(*(jacrev(of(loss), argnums=(0, 1, 2))(*inputs) for loss in (bce_loss, by_torch)))
    check(*(vjp(of(loss), *inputs)[1](upstream) for loss in (bce_loss, by_torch)))
    check(*(torch.autograd.functional.jacobian(of(f), inputs, vectorize=True) for f in (bce_loss, by_torch)))


def test_nested_vmap_with_batches_in_any_dimension():
    """Models [B] times data sets [2], the batches of X, y and the weights in their last or middle dimensions."""
    X, y, weight, bias, *_ = numbers("weight", "bias").values()
    X = torch.stack([X, X.square()], dim=-1)  # [N, D, 2]
    y = torch.stack([y > 0.5, y > 0.2], dim=1)
    weight = weight.t()

    def by(loss: Any) -> Any:
        inner = vmap(grad(loss, argnums=(0, 2)), in_dims=(-1, 1, None, None))
        return vmap(inner, in_dims=(None, None, 1, 0), out_dims=(1, -1))(X, y, weight, bias)

    ours, theirs = by(bce_loss), by(lambda X, y, w, b: by_torch(X, y.double(), w, b))
    assert ours[0].shape == (2, B, N, D)
    check(ours, theirs)


@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_batch_is_its_entries_one_by_one(dtype, clamp_gradient):
    """Also beyond the clamp, where torch's own loss goes on, in the dtypes of X, and under autocast."""
    X, y, weight, bias, s, _ = numbers("X", "weight", dtype=torch.float32).values()
    X, eps = (3 * X).to(dtype), 1e-2
    z = torch.einsum("bnd,bd->bn", X.float(), weight) + bias
    assert 0 < int((z.abs() > math.log((1 - eps) / eps)).sum()) < z.numel()

    def both(X: Tensor, w: Tensor) -> Any:
        def loss(X: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
            value = bce_loss(X, y, w, bias, sample_weight=s, eps=eps, clamp_gradient=clamp_gradient)
            return value, value

        return grad(loss, argnums=(0, 1), has_aux=True)(X, w)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        (X_grad, weight_grad), loss = vmap(both)(X, weight)
    assert (X_grad.dtype, weight_grad.dtype, loss.dtype) == (dtype, torch.float32, torch.float32)
    for b in range(B):
        torch.testing.assert_close(((X_grad[b], weight_grad[b]), loss[b]), both(X[b], weight[b]))


def test_the_passes_of_a_batch_are_its_entries_one_by_one():
    X, y, weight, bias, s, q = numbers("X", "pos_weight").values()
    X[1, 2, 0], X[2, 3, 1] = math.inf, math.nan

    def passes(X: Tensor, q: Tensor) -> Any:
        return ops.bce_onepass(X, y, weight, bias, s, q, 1e-8, "through", "torch", True)

    packed, residual = vmap(passes)(X, q)
    for b in range(B):
        torch.testing.assert_close((packed[b], residual[b]), passes(X[b], q[b]), equal_nan=True)
    assert packed[:, -2].tolist() == [0, 1, 1, 0]


def test_the_kernels_take_batches_too(kernels, device):
    X, y, weight, bias, s, q = (t.to(device) for t in numbers("weight", dtype=torch.float32).values())

    def by(backend: str) -> Any:
        loss = partial(bce_loss, sample_weight=s, pos_weight=q, backend=backend)
        return vmap(grad(loss, argnums=(0, 2)), in_dims=(None, None, 0, None))(X, y, weight, bias)

    torch.testing.assert_close(by("triton"), by("torch"), rtol=1e-5, atol=1e-6)


@each_reduction
def test_second_derivatives_and_forward_mode_are_errors(reduction):
    X, y, weight, bias, *_ = numbers().values()

    def loss(w: Tensor) -> Tensor:
        return bce_loss(X, y, w, bias, reduction=reduction).sum()

    one_by_one = vmap(grad(loss))
    for transform in (
        grad(lambda w: grad(loss)(w).square().sum()),
        grad(lambda w: one_by_one(w.expand(B, -1)).square().sum()),
        hessian(loss),
        jacfwd(loss),
        lambda w: vmap(jacrev(grad(loss)))(w.expand(B, -1)),
        lambda w: torch.autograd.functional.jvp(grad(loss), w, w),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            transform(weight)
    with pytest.raises(RuntimeError, match=r"flashlogit\.bce_loss has no second derivative"):
        jacrev(grad(loss))(weight)


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_a_gradient_of_the_labels_or_weights_is_refused_also_around_vmap(name):
    arguments = numbers(name)

    def loss(value: Tensor) -> Tensor:
        return vmap(lambda a: bce_loss(**a), in_dims(name))({**arguments, name: value}).sum()

    with pytest.raises(ValueError, match=f"{name} requires a gradient"):
        grad(loss)(arguments[name])


def test_a_mistake_inside_vmap_is_refused():
    X, y, weight, bias, *_ = numbers("weight").values()
    with pytest.raises(ValueError, match=r"y has 11 entries; must have 12"):
        vmap(lambda w: bce_loss(X, y[1:], w, bias))(weight)
