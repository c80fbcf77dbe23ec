"""What only a GPU can show: millions of rows, more than 2^31 entries, and passes captured in a CUDA graph."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from budget import Case, check, check_hessian, check_product, compute, make_case
from torch import Tensor

from flashlogit import bce_loss

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("d", [28, 64, 128])
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=str)
def test_millions_of_rows(d, storage, kernels):
    case = make_case(4_000_000, d, storage=storage, device="cuda", drawn_on="cuda", logit_scale=1.0)
    check_hessian(kernels, case)
    check_product(kernels, case, torch.rand(4_000_000, device="cuda"))


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=str)
def test_gradient_near_the_optimum_at_11_million_rows(storage, kernels):
    case = make_case(11_000_000, 28, storage=storage, device="cuda", drawn_on="cuda", logit_scale=1.0)
    # Labels drawn from the model itself: the gradient is a small difference of large sums.
    probability = torch.sigmoid(compute(case, torch.float64).logits)
    case.y = torch.bernoulli(probability, generator=torch.Generator("cuda").manual_seed(0)).to(torch.uint8)
    check(kernels.bce_onepass(*case.arguments()), case)


def test_more_than_two_to_the_31_elements(kernels):
    n = 2**31 + 12345
    torch.cuda.empty_cache()  # what earlier tests have used counts as taken
    if torch.cuda.mem_get_info()[0] < 4 * n:
        pytest.skip("needs 8 GB of free GPU memory")
    X = torch.zeros(n, 1, dtype=torch.bfloat16, device="cuda")
    X[-7:] = 1.0
    y = torch.zeros(n, dtype=torch.uint8, device="cuda")
    sums = kernels.bce_onepass(X, y, torch.tensor([2.0], device="cuda"))
    sigmoid = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64)).item()
    assert sums.weight_sum.item() == n
    assert sums.weight_grad.item() == pytest.approx(7 * sigmoid, rel=1e-6)
    assert sums.bias_grad.item() == pytest.approx((n - 7) / 2 + 7 * sigmoid, rel=1e-7)


def everything(kernels: ModuleType, case: Case, h: Tensor) -> Tensor:
    """The answers of all passes, of `bce_loss` and of its gradient, one behind the other."""
    X, y, w, b = case.arguments()
    sums = kernels.bce_onepass(X, y, w, b, residual=True, curvature=True, logits=True)
    leaf = w.detach().requires_grad_()
    loss = bce_loss(X, y, leaf, b, sample_weight=h, backend="triton")
    answers = [
        *(sums.packed, sums.residual, sums.curvature, sums.logits),
        kernels.hessian_product(X, h, w),
        kernels.bce_hessian(X, y, w, b).matrix.flatten(),
        kernels.bce_rows(X, y, w, b).loss,
        kernels.column_sums(X, h),
        loss.detach().reshape(1),
        torch.autograd.grad(loss, leaf)[0],
    ]
    return torch.cat([answer.double() for answer in answers])


@pytest.mark.parametrize("storage", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_captured_passes_answer_for_new_values(storage, kernels):
    first, second = (make_case(569, 30, storage=storage, device="cuda", seed=seed) for seed in (0, 1))
    h = torch.rand(569, device="cuda")
    expected, expected_later = (everything(kernels, case, h).clone() for case in (first, second))
    assert not torch.equal(expected, expected_later)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        everything(kernels, first, h)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = everything(kernels, first, h)
    graph.replay()
    assert torch.equal(result, expected)
    for place, value in zip(first.arguments(), second.arguments(), strict=True):
        place.copy_(value)
    graph.replay()
    assert torch.equal(result, expected_later)
