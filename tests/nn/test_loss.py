"""The differentiable loss, and the module that has it built in: gradients, reductions, autocast, compilation, and what
is refused."""

import copy
import math
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import binary_cross_entropy_with_logits

from flashlogit import LogisticHead, bce_loss
from flashlogit.nn import ops

N, D, B = 12, 4, 4
each_reduction = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


Arguments = dict[str, Tensor]
SHAPES = {"X": (N, D), "y": (N,), "weight": (D,), "bias": (1,), "sample_weight": (N,), "pos_weight": ()}
WITHOUT_GRADIENT = ("y", "sample_weight", "pos_weight")


def numbers(*batched: str, dtype: torch.dtype = torch.float64) -> Arguments:
    """Arguments of the loss; of those in `batched` B, in their first dimension."""
    generator = torch.Generator().manual_seed(3)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        shape = (B, *shape) if name in batched else shape
        of = torch.rand if name in WITHOUT_GRADIENT else torch.randn
        return of(shape, generator=generator, dtype=torch.float64).to(dtype)

    return {name: draw(name, shape) for name, shape in SHAPES.items()}


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X, soft labels, weight and bias; all but the labels require a gradient."""
    X, y, weight, bias, *_ = numbers(dtype=dtype).values()
    return X.requires_grad_(), y, weight.requires_grad_(), bias.requires_grad_()


def by_torch(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """The unclamped loss in torch's own words."""
    z = X @ weight.reshape(-1) + (0 if bias is None else bias)
    s, q, reduction = options.get("sample_weight"), options.get("pos_weight"), options.get("reduction", "mean")
    q = None if q is None else torch.as_tensor(q)
    losses = binary_cross_entropy_with_logits(z, y, weight=s, reduction="none", pos_weight=q)
    mean = losses.sum() / (len(losses) if s is None else s.sum())
    return {"none": losses, "mean": mean, "sum": losses.sum()}[reduction]


def with_gradients(loss: Tensor, inputs: tuple[Tensor, ...], upstream: Tensor | None = None) -> list[Tensor]:
    """The loss and its gradients, of its sum unless an upstream gradient is given."""
    upstream = torch.ones_like(loss) if upstream is None else upstream.to(loss.dtype)
    return [loss, *torch.autograd.grad(loss, inputs, upstream)]


S, Q = torch.linspace(0, 3, N, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
OPTIONS: list[dict[str, Any]] = [{}, {"sample_weight": S}, {"pos_weight": 2.5}, {"sample_weight": S, "pos_weight": Q}]


@each_reduction
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
def test_values_and_gradients_are_torchs_own(options, reduction):
    X, y, w, b = problem()
    options = {**options, "reduction": reduction}
    upstream = torch.linspace(-1, 2, N) if reduction == "none" else torch.tensor(-1.7)
    ours, theirs = (with_gradients(f(X, y, w, b, **options), (X, w, b), upstream) for f in (bce_loss, by_torch))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@each_reduction
def test_gradcheck_of_the_exact_clamp_beyond_it(reduction):
    X, y, weight, bias = problem()
    X = (X.detach() * 9).requires_grad_()
    beyond = (X @ weight + bias).abs() > math.log((1 - 1e-3) / 1e-3)
    assert 0 < beyond.sum() < N

    def loss(X: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bce_loss(X, y, weight, bias, eps=1e-3, clamp_gradient="exact", reduction=reduction)

    assert torch.autograd.gradcheck(loss, (X, weight, bias))


@each_reduction
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_each_gradient_alone_is_the_one_of_all_together(wanted, reduction):
    X, y, weight, bias = problem()
    _, *together = with_gradients(bce_loss(X, y, weight, bias, reduction=reduction), (X, weight, bias))
    alone = [t.detach().requires_grad_(place == wanted) for place, t in enumerate((X, weight, bias))]
    bce_loss(alone[0], y, *alone[1:], reduction=reduction).sum().backward()
    torch.testing.assert_close(alone[wanted].grad, together[wanted], rtol=1e-14, atol=1e-16)
    assert sum(t.grad is not None for t in alone) == 1


@pytest.mark.parametrize(("weight_shape", "bias_shape"), [((D,), ()), ((1, D), (1,)), ((1, D), None)])
def test_parameter_shapes(weight_shape, bias_shape):
    X, y, weight, bias = problem()
    w = weight.detach().reshape(weight_shape).requires_grad_()
    b = None if bias_shape is None else bias.detach().reshape(bias_shape).requires_grad_()
    bce_loss(X, y, w, b).backward()
    by_torch(X, y, weight, b).backward(inputs=weight)
    torch.testing.assert_close(w.grad, weight.grad.reshape(weight_shape))
    assert b is None or b.grad.shape == bias_shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@each_reduction
def test_result_and_gradient_dtypes(reduction, dtype):
    X, y, weight, bias = problem(torch.float32)
    X = X.detach().to(dtype).requires_grad_()
    loss, *gradients = with_gradients(bce_loss(X, y, weight, bias, reduction=reduction), (X, weight, bias))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert [g.dtype for g in gradients] == [dtype, torch.float32, torch.float32]


@each_reduction
@pytest.mark.parametrize("wanted", [0, 2, 3])
def test_a_second_derivative_raises(wanted, reduction):
    arguments = problem()
    loss = bce_loss(*arguments, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, arguments[wanted], create_graph=True)
    expected = by_torch(*arguments, reduction=reduction).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, arguments[wanted])[0])
    with pytest.raises(RuntimeError, match=r"flashlogit\.bce_loss has no second derivative"):
        (loss + gradient.pow(2).sum()).backward()


def test_the_gradient_of_the_parameters_needs_no_rows_in_memory():
    X, y, weight, bias = problem()
    X = X.detach().clone()
    expected = torch.autograd.grad(by_torch(X, y, weight, bias), weight)[0]
    loss = bce_loss(X, y, weight, bias)
    storage = StorageWeakRef(X.untyped_storage())
    del X
    assert storage.expired()
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], expected)


@each_reduction
def test_autocast_changes_nothing(reduction):
    X, y, *parameters = problem(torch.float32)
    expected = with_gradients(bce_loss(X, y, *parameters, reduction=reduction), (X, *parameters))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = with_gradients(bce_loss(X, y, *parameters, reduction=reduction), (X, *parameters))
        narrow = torch.nn.functional.linear(X, torch.eye(D))
        loss = bce_loss(narrow, y, *parameters, reduction=reduction)
    torch.testing.assert_close(inside, expected, rtol=0, atol=0)
    assert narrow.dtype == torch.bfloat16
    on_narrow = by_torch(narrow.detach().float(), y, *parameters, reduction=reduction)
    value, of_X, *gradients = with_gradients(loss, (X, *parameters))
    torch.testing.assert_close([value, *gradients], with_gradients(on_narrow, tuple(parameters)))
    assert of_X.abs().sum() > 0


COMPILED = [("aot_eager", "none"), ("aot_eager", "mean"), ("aot_eager", "sum")]
COMPILED += [("inductor", "mean")] if shutil.which("g++") else []


@pytest.mark.parametrize(("backend", "reduction"), COMPILED)
def test_compiled_without_a_graph_break_for_any_number_of_rows(backend, reduction):
    torch.compiler.reset()
    _, _, weight, bias = problem(torch.float32)

    def step(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bce_loss(X * 2, y, weight, bias, reduction=reduction).sum() * 3

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=backend)
    for n in (7, 12):
        X, y = torch.randn(n, D, requires_grad=True), torch.rand(n)
        ours, theirs = (with_gradients(f(X, y, weight, bias), (X, weight, bias)) for f in (compiled, step))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    with torch.no_grad():  # as on validation rows
        torch.testing.assert_close(compiled(X, y, weight, bias), step(X, y, weight, bias))
    by_weight = torch.func.grad(step, argnums=2)
    compiled = torch.compile(by_weight, backend=backend)
    torch.testing.assert_close(compiled(X, y, weight, bias), by_weight(X, y, weight, bias))


def test_the_operators_keep_torchs_rules():
    X, y, weight, bias, s, q = numbers(dtype=torch.float32).values()
    for residual in (False, True):
        torch.library.opcheck(ops.bce_onepass, (X, y, weight, bias, s, q, 1e-8, "through", "auto", residual))
    torch.library.opcheck(ops.bce_rows, (X, y, weight, None, None, None, 0.0, "exact", "torch"))
    torch.library.opcheck(ops.column_sums, (X.bfloat16(), y, "auto"))


@each_reduction
def test_the_kernels_give_the_same(reduction, kernels, device):
    X, y, *parameters = (t.detach().to(device).requires_grad_(t.requires_grad) for t in problem(torch.float32))
    ours, theirs = (
        with_gradients(bce_loss(X, y, *parameters, reduction=reduction, backend=backend), (X, *parameters))
        for backend in ("triton", "torch")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"reduction": "average"}, ValueError, "reduction is 'average'; must be 'none', 'mean' or 'sum'"),
    ({"pos_weight": -1.0}, ValueError, r"pos_weight is -1\.0; must be at least 0"),
    ({"weight": torch.ones(2, D)}, ValueError, r"weight is \[2, 4\]; must be \[D\] or \[1, D\]"),
    ({"y": torch.ones(N, requires_grad=True)}, ValueError, r"y requires a gradient.*y\.detach\(\)"),
    ({"y": torch.ones(N, 1)}, ValueError, r"y is \[12, 1\]"),
    ({"backend": "cuda"}, ValueError, "backend is 'cuda'"),
    ({"X": torch.ones(N, D, dtype=torch.int32)}, TypeError, "X is torch.int32"),
    ({"X": [[0.0] * D] * N}, TypeError, "X is a list; must be a torch tensor"),
    ({"bias": 0.0}, TypeError, "bias is a float; must be a torch tensor"),
    ({"pos_weight": [2.0]}, TypeError, "pos_weight is a list; must be a torch tensor"),
    ({"y": torch.eye(N)[0].to_sparse()}, TypeError, "y is torch.sparse_coo; must be dense"),
    ({"eps": "a"}, TypeError, "eps is 'a'; must be a number"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED)
def test_refused(change, error, message):
    with pytest.raises(error, match=message):
        bce_loss(**{**numbers(dtype=torch.float32), **change})


@pytest.mark.parametrize("bias", [True, False])
def test_a_heads_state_dict_is_interchangeable_with_a_linear_layers(bias):
    head, linear = LogisticHead(D, bias=bias), nn.Linear(D, 1, bias=bias)
    head.load_state_dict(linear.state_dict(), strict=True)
    X = torch.randn(N, D)
    assert torch.equal(head(X), linear(X))
    assert head(X).shape == (N, 1)
    linear.load_state_dict(head.state_dict(), strict=True)


def test_with_labels_a_head_gives_the_loss_and_its_gradient():
    X, y, *_ = problem(torch.float32)
    options = {"eps": 0.3, "clamp_gradient": "exact", "reduction": "sum"}
    head, weights = LogisticHead(D, **options), {"sample_weight": torch.rand(N), "pos_weight": 2.0}
    parameters = tuple(head.parameters())
    ours = with_gradients(head(X, y.round(), **weights), parameters)
    theirs = with_gradients(bce_loss(X, y.round(), *parameters, **weights, **options), parameters)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_head_can_be_copied_moved_and_compiled():
    X, y, *_ = (tensor.detach() for tensor in problem(torch.float32))
    head = LogisticHead(D)
    assert torch.equal(copy.deepcopy(head)(X, y), head(X, y))
    assert head.to(torch.float64)(X.double(), y).dtype == torch.float64
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X.double(), y), head(X.double(), y))


def test_the_options_of_a_head_show_and_are_checked():
    assert "eps=0.001, clamp_gradient='through', reduction='mean'" in repr(LogisticHead(3, eps=1e-3))
    with pytest.raises(ValueError, match="eps is 1"):
        LogisticHead(3, eps=1)
