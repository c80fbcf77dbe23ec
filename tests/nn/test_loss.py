"""The differentiable loss: gradients, reductions, autocast, compilation, and what it refuses."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import binary_cross_entropy_with_logits

from flashlogit import UserError, bce_loss
from flashlogit.nn import ops

N, D = 12, 4
REDUCTIONS = ["none", "mean", "sum"]


def problem(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X, soft labels, weight and bias; all but the labels require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(N, D, generator=generator, dtype=dtype).requires_grad_()
    y = torch.rand(N, generator=generator, dtype=dtype)
    weight = torch.randn(D, generator=generator, dtype=dtype).requires_grad_()
    return X, y, weight, torch.tensor([0.2], dtype=dtype).requires_grad_()


def by_torch(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """The unclamped loss in torch's own words."""
    z = X @ weight.reshape(-1)
    s = options.pop("sample_weight", None)
    reduction = options.pop("reduction", "mean")
    losses = binary_cross_entropy_with_logits(z if bias is None else z + bias, y, reduction="none", **options)
    losses = losses if s is None else s * losses
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / (len(losses) if s is None else s.sum())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"sample_weight": torch.linspace(0, 3, N, dtype=torch.float64)},
    {"pos_weight": torch.tensor(2.5, dtype=torch.float64)},
    {
        "sample_weight": torch.linspace(0, 3, N, dtype=torch.float64),
        "pos_weight": torch.tensor(0.3, dtype=torch.float64),
    },
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
def test_values_and_gradients_are_torchs_own(options: dict[str, Any], reduction: str) -> None:
    X, y, weight, bias = problem()
    upstream = torch.linspace(-1, 2, N, dtype=torch.float64) if reduction == "none" else torch.tensor(-1.7)
    ours = bce_loss(X, y, weight, bias, reduction=reduction, **options)
    theirs = by_torch(X, y, weight, bias, reduction=reduction, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)
    for mine, own in zip(
        torch.autograd.grad(ours, (X, weight, bias), upstream.to(ours.dtype)),
        torch.autograd.grad(theirs, (X, weight, bias), upstream.to(theirs.dtype)),
        strict=True,
    ):
        torch.testing.assert_close(mine, own, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
def test_gradcheck(options: dict[str, Any], reduction: str) -> None:
    X, y, weight, bias = problem()

    def loss(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bce_loss(X, y, weight, bias, reduction=reduction, backend="torch", **options)

    assert torch.autograd.gradcheck(loss, (X, weight, bias))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck_of_the_exact_clamp_beyond_it(reduction: str) -> None:
    X, y, weight, bias = problem()
    X = (X.detach() * 3).requires_grad_()
    beyond = (X @ weight + bias).abs() > math.log((1 - 1e-3) / 1e-3)
    assert 0 < beyond.sum() < N

    def loss(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bce_loss(X, y, weight, bias, eps=1e-3, clamp_gradient="exact", reduction=reduction)

    assert torch.autograd.gradcheck(loss, (X, weight, bias))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("wanted", ["X", "weight", "bias"])
def test_each_gradient_alone_is_the_one_of_all_together(wanted: str, reduction: str) -> None:
    names = ("X", "weight", "bias")
    X, y, weight, bias = problem()
    both = torch.autograd.grad(bce_loss(X, y, weight, bias, reduction=reduction).sum(), (X, weight, bias))
    alone = {
        name: tensor.detach().requires_grad_(name == wanted)
        for name, tensor in zip(names, (X, weight, bias), strict=True)
    }
    bce_loss(alone["X"], y, alone["weight"], alone["bias"], reduction=reduction).sum().backward()
    for name, gradient in zip(names, both, strict=True):
        if name == wanted:
            torch.testing.assert_close(alone[name].grad, gradient, rtol=1e-14, atol=1e-16)
        else:
            assert alone[name].grad is None


@pytest.mark.parametrize("weight_shape", [(D,), (1, D)])
@pytest.mark.parametrize("bias_shape", [(), (1,), None])
def test_parameter_shapes(weight_shape: tuple[int, ...], bias_shape: tuple[int, ...] | None) -> None:
    X, y, weight, bias = problem()
    w = weight.detach().reshape(weight_shape).requires_grad_()
    b = None if bias_shape is None else bias.detach().reshape(bias_shape).requires_grad_()
    bce_loss(X, y, w, b).backward()
    expected = torch.autograd.grad(by_torch(X, y, weight, None if b is None else bias), weight)[0]
    assert w.grad is not None
    assert w.grad.shape == weight_shape
    torch.testing.assert_close(w.grad.reshape(-1), expected)
    if b is not None:
        assert b.grad is not None
        assert b.grad.shape == bias_shape


def test_the_notebooks_example_by_hand_and_by_autograd() -> None:
    x, y = torch.tensor([[6.7]]), torch.tensor([0.0])
    weight, bias = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    loss = bce_loss(x, y, weight, bias)
    loss.backward()
    assert loss.item() == pytest.approx(6.7012, abs=5e-5)
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.item() == pytest.approx(6.691762447357178, rel=1e-6)
    assert bias.grad.item() == pytest.approx(0.998770534992218, rel=1e-6)
    own = torch.ones(1, requires_grad=True)
    binary_cross_entropy_with_logits(x @ own, y).backward()
    assert own.grad is not None
    assert own.grad.item() == pytest.approx(6.6918, abs=5e-5)


@pytest.mark.parametrize(
    ("function", "x", "derivative"),
    [
        (torch.square, 5.0, 10.0),
        (torch.square, 3.0, 6.0),
        (lambda x: torch.sin(x * x), 3.0, -5.466781571308061),
    ],
)
def test_the_notebooks_warm_ups(function: Callable[[Tensor], Tensor], x: float, derivative: float) -> None:
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    function(point).backward()
    assert point.grad is not None
    assert point.grad.item() == pytest.approx(derivative, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_result_and_gradient_dtypes(dtype: torch.dtype) -> None:
    X, y, weight, bias = problem(torch.float32)
    X = X.detach().to(dtype).requires_grad_()
    for reduction in REDUCTIONS:
        loss = bce_loss(X, y, weight, bias, reduction=reduction)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        gradients = torch.autograd.grad(loss.sum(), (X, weight, bias))
        assert [g.dtype for g in gradients] == [dtype, torch.float32, torch.float32]


def test_a_number_as_pos_weight_is_the_tensor_of_it() -> None:
    X, y, weight, bias = problem()
    expected = bce_loss(X, y, weight, bias, pos_weight=torch.tensor(2.5, dtype=torch.float64))
    assert bce_loss(X, y, weight, bias, pos_weight=2.5) == expected


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("wanted", ["X", "weight", "bias"])
def test_a_second_derivative_raises(wanted: str, reduction: str) -> None:
    X, y, weight, bias = problem()
    parameter = {"X": X, "weight": weight, "bias": bias}[wanted]
    loss = bce_loss(X, y, weight, bias, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, parameter, create_graph=True)
    with pytest.raises(RuntimeError, match=r"flashlogit\.bce_loss has no second derivative"):
        (loss + gradient.pow(2).sum()).backward()


def test_the_gradient_of_the_parameters_needs_no_rows_in_memory() -> None:
    X, y, weight, bias = problem()
    X = X.detach().clone()
    expected = torch.autograd.grad(by_torch(X, y, weight, bias), weight)[0]
    loss = bce_loss(X, y, weight, bias)
    storage = StorageWeakRef(X.untyped_storage())
    del X
    assert storage.expired()
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], expected)


def test_a_first_derivative_with_create_graph_is_still_right() -> None:
    X, y, weight, bias = problem()
    (gradient,) = torch.autograd.grad(bce_loss(X, y, weight, bias), weight, create_graph=True)
    torch.testing.assert_close(
        gradient.detach(), torch.autograd.grad(by_torch(X, y, weight, bias), weight)[0]
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast_changes_nothing(reduction: str) -> None:
    X, y, weight, bias = problem(torch.float32)
    expected = bce_loss(X, y, weight, bias, reduction=reduction)
    gradients = torch.autograd.grad(expected.sum(), (X, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = bce_loss(X, y, weight, bias, reduction=reduction)
        inside = torch.autograd.grad(loss.sum(), (X, weight, bias))
    assert torch.equal(loss, expected)
    assert all(torch.equal(one, other) for one, other in zip(inside, gradients, strict=True))


def test_a_head_on_an_autocast_encoder() -> None:
    X, y, weight, bias = problem(torch.float32)
    encoder = torch.nn.Linear(D, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = encoder(X)
        assert embedding.dtype == torch.bfloat16
        loss = bce_loss(embedding, y, weight, bias)
    loss.backward()
    detached = embedding.detach().float().requires_grad_()
    by_torch(detached, y, weight, bias).backward()
    assert detached.grad is not None
    (gradient,) = torch.autograd.grad(bce_loss(embedding.detach().requires_grad_(), y, weight, bias), weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(by_torch(detached, y, weight, bias), weight)[0])
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.abs().sum() > 0


BACKENDS = ["aot_eager"] + (["inductor"] if shutil.which("g++") else [])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_without_a_graph_break(backend: str, reduction: str) -> None:
    torch.compiler.reset()
    X, y, weight, bias = problem(torch.float32)

    def step(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bce_loss(X * 2, y, weight, bias, reduction=reduction).sum() * 3

    compiled = torch.compile(step, fullgraph=True, backend=backend)(X, weight, bias)
    expected = step(X, weight, bias)
    torch.testing.assert_close(compiled, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(compiled, (X, weight, bias)),
        torch.autograd.grad(expected, (X, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_compiled_for_any_number_of_rows(reduction: str) -> None:
    torch.compiler.reset()
    _, _, weight, bias = problem(torch.float32)

    def step(X: Tensor, y: Tensor) -> Tensor:
        return bce_loss(X, y, weight, bias, reduction=reduction).sum()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (7, 12, 33):
        X, y = torch.randn(n, D), torch.rand(n)
        torch.testing.assert_close(compiled(X, y), step(X, y))


def test_the_operators_keep_torchs_rules() -> None:
    X, y, weight, bias = (tensor.detach() for tensor in problem(torch.float32))
    s, q = torch.ones(N), torch.ones(())
    for residual in (False, True):
        torch.library.opcheck(ops.bce_onepass, (X, y, weight, bias, s, q, 1e-8, "through", "auto", residual))
    torch.library.opcheck(ops.bce_rows, (X, y, weight, None, None, None, 0.0, "exact", "torch"))
    torch.library.opcheck(ops.column_sums, (X.bfloat16(), y, "auto"))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_kernels_give_the_same(reduction: str, kernels: object, device: torch.device) -> None:
    X, y, weight, bias = (
        t.detach().to(device).requires_grad_(t.requires_grad) for t in problem(torch.float32)
    )
    results = []
    for backend in ("triton", "torch"):
        loss = bce_loss(X, y, weight, bias, reduction=reduction, backend=backend)
        results.append([loss, *torch.autograd.grad(loss.sum(), (X, weight, bias))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reduction": "average"}, ValueError, "reduction is 'average'; must be 'none', 'mean' or 'sum'"),
        ({"pos_weight": -1.0}, ValueError, r"pos_weight is -1\.0; must be at least 0"),
        ({"weight": torch.ones(2, D)}, ValueError, r"weight is \[2, 4\]; must be \[D\] or \[1, D\]"),
        ({"y": torch.ones(N, requires_grad=True)}, ValueError, r"y requires a gradient.*y\.detach\(\)"),
        (
            {"sample_weight": torch.ones(N, requires_grad=True)},
            ValueError,
            "sample_weight requires a gradient",
        ),
        ({"y": torch.ones(N, 1)}, ValueError, r"y is \[12, 1\]"),
        ({"eps": 0.6}, ValueError, r"eps is 0\.6"),
        ({"backend": "cuda"}, ValueError, "backend is 'cuda'"),
        ({"X": torch.ones(N, D, dtype=torch.int32)}, TypeError, "X is torch.int32"),
    ],
)
def test_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y, weight, bias = problem(torch.float32)
    with pytest.raises(error, match=message):
        bce_loss(**{"X": X, "y": y, "weight": weight, "bias": bias, **change})


def test_a_backend_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flashlogit.passes.backend import choose_backend

    if torch.cuda.is_available():
        pytest.skip("the kernels can be had here")
    monkeypatch.delenv("TRITON_INTERPRET")
    choose_backend.cache_clear()
    try:
        with pytest.raises(UserError, match=r"backend is 'triton', but the data are on cpu; set backend to"):
            bce_loss(*problem(), backend="triton")
    finally:
        choose_backend.cache_clear()
