"""Compiled passes for the classes of a softmax, against autograd and double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

pytest.importorskip("numba")

from flashlogit_kernels.cpu.classes import softmax_hessian, softmax_onepass, softmax_product

F32, F64 = torch.float32, torch.float64


def made(N: int, D: int, K: int, dtype: torch.dtype, layout: str, *, centred: bool) -> dict[str, Any]:
    g = torch.Generator().manual_seed(N + D + K)
    X = (torch.randn(N, D, generator=g) + 2).to(dtype)
    X = X.t().contiguous().t() if layout == "columns" else X
    W, b = torch.randn(D, K, generator=g, dtype=F64) / D**0.5, torch.randn(K, generator=g, dtype=F64)
    s, y = torch.rand(N, generator=g), torch.randint(K, (N,), generator=g)
    center = X.double().mean(dim=0) if centred else None
    return {"X": X, "y": y, "W": W, "b": b, "sample_weight": s, "center": center}


def close(found: Tensor, exact: Tensor, rtol: float) -> None:
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=rtol * float(exact.abs().max()))


@pytest.mark.parametrize("dtype", [F64, F32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize(("N", "D", "K"), [(1, 1, 3), (700, 5, 3), (301, 40, 7), (9, 9000, 4)])
def test_sums_and_products(N: int, D: int, K: int, layout: str, dtype: torch.dtype) -> None:
    given = made(N, D, K, dtype, layout, centred=D == 40)
    X, y, W, b, s, center = given.values()
    kept = torch.empty(N, K, dtype=F64)
    found = softmax_onepass(**given, probabilities=kept, second=True)
    X64 = X.double() if center is None else X.double() - center
    W, b = W.clone().requires_grad_(), b.clone().requires_grad_()
    loss = (cross_entropy(X64 @ W + b, y, reduction="none") * s).sum()
    loss.backward()
    z = (X64 @ W + b).detach()
    p = torch.softmax(z, dim=1)
    close(found.loss, loss.detach(), 1e-12)
    assert W.grad is not None
    assert b.grad is not None
    close(found.weight_grad, W.grad, 1e-10)
    close(found.bias_grad, b.grad, 1e-10)
    close(kept, p, 1e-12)
    assert found.second is not None
    close(found.second, torch.diag((s[:, None] * p).sum(dim=0)) - (s[:, None] * p).t() @ p, 1e-10)
    others = z.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    close(found.margin, (z.gather(1, y[:, None])[:, 0] - others).min(), 1e-10)
    V, c = torch.randn(D, K, dtype=F64), torch.randn(K, dtype=F64)
    u = X64 @ V + c
    u = s[:, None] * p * (u - (p * u).sum(dim=1, keepdim=True))
    of_weight, of_bias = softmax_product(X, kept, V, c, sample_weight=s, center=center)
    close(of_weight, X64.t() @ u, 1e-10)
    close(of_bias, u.sum(dim=0), 1e-10)


@pytest.mark.parametrize(("N", "D", "K"), [(700, 5, 3), (3000, 40, 4)])
@pytest.mark.parametrize("arithmetic", [F32, F64])
def test_the_hessian(N: int, D: int, K: int, arithmetic: torch.dtype) -> None:
    given = made(N, D, K, F32, "rows", centred=True)
    X, y, W, b, s, center = given.values()
    found = softmax_hessian(X, y, W.to(arithmetic), b.to(arithmetic), sample_weight=s, center=center.to(arithmetic))
    X1 = torch.cat([X.double() - center, torch.ones(N, 1, dtype=F64)], dim=1)
    p = torch.softmax((X.double() - center) @ W + b, dim=1)
    each = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    close(found, torch.einsum("i,ij,il,icd->jcld", s.double(), X1, X1, each), 1e-5 if arithmetic == F32 else 1e-12)


def test_far_logits_neither_overflow_nor_cancel() -> None:
    """A class that is certain has the loss of its rivals, to the last digits."""
    X, none = torch.tensor([[1.0]], dtype=F64), torch.zeros(3, dtype=F64)
    for gap in (40.0, 300.0, 2000.0):
        W = torch.tensor([[0.0, -gap, -gap]], dtype=F64)
        right, wrong = (softmax_onepass(X, torch.tensor([k]), W, none) for k in (0, 1))
        rivals = 2 * torch.exp(torch.tensor(-gap, dtype=F64))
        torch.testing.assert_close(right.loss, rivals, rtol=1e-14, atol=1e-307)
        torch.testing.assert_close(right.bias_grad[0], -rivals, rtol=1e-14, atol=1e-307)
        assert float(wrong.loss) == gap
    assert softmax_onepass(X * torch.nan, torch.tensor([0]), W, none).loss.isnan()
