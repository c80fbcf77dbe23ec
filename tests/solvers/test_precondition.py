"""Conjugate gradients with the Hessian of a sample: what they solve, and what it saves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flashlogit import reference
from flashlogit.fitting.fit import fit
from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.objective import Objective, Point
from flashlogit.solvers.newton_cg import Preconditioner, precondition
from flashlogit.solvers.proximal import factor


def decaying(N: int, D: int, decades: float) -> tuple[Tensor, Tensor]:
    """Singular values over some decades in directions that are no column's, and logits of size 3."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    X = torch.randn(N, D, generator=generator) * torch.logspace(0, -decades, D) @ basis.t()
    z = X @ torch.randn(D, generator=generator)
    y = torch.rand(N, generator=generator) < torch.sigmoid(3 * z / z.std())
    return X, y.to(torch.uint8)


def objective_of(X: Tensor, y: Tensor, l2: float | None = None) -> Objective:
    loss = Logistic.of(y, None, reference, intercept=True)
    return Objective.of(X, loss, l1=0.0, l2=1 / len(X) if l2 is None else l2)


def at_null(objective: Objective) -> Point:
    return objective.evaluate(objective.null_theta(), products=objective.product_dtype)


def test_the_sampled_hessian_is_near_the_whole() -> None:
    objective = objective_of(*decaying(6000, 40, 2))
    point = at_null(objective)
    exact = objective.hessian(point.theta)[0]
    sampled = objective.sampled_hessian(point, 1600)[0].double()
    torch.testing.assert_close(sampled, sampled.t(), rtol=1e-6, atol=1e-7)
    L = torch.linalg.cholesky(exact)
    relative = torch.linalg.eigvalsh(torch.linalg.solve(L, torch.linalg.solve(L, sampled).t()))
    spread = math.sqrt(41 / 1600)
    assert (1 - 1.3 * spread) ** 2 < float(relative[0])
    assert float(relative[-1]) < (1 + 1.3 * spread) ** 2
    # From all rows it is the Hessian but for float32.
    whole = objective.sampled_hessian(point, 6000)[0].double()
    assert (whole - exact).abs().max() < 1e-5


def test_a_rough_one_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor: those without units for bfloat16 multiply it too, only not faster."""
    monkeypatch.setattr("flashlogit.objectives.design.half_dtype", lambda X: torch.bfloat16)
    objective = objective_of(*decaying(4000, 300, 0.5))
    point = at_null(objective)
    rough = objective.sampled_hessian(point, 4000, rough=True)[0]
    error = torch.linalg.eigvalsh(rough.double() - objective.hessian(point.theta)[0]).abs().max()
    assert 1e-6 < float(error) < 0.01


def test_residuals_of_any_size_survive_float32() -> None:
    H = torch.diag(torch.tensor([1.0, 1e-4], dtype=torch.float64))[None]
    L = factor(H).float()
    for size in (1e-60, 1.0, 1e60):
        r = size * torch.tensor([[1.0], [1.0]], dtype=torch.float64)
        torch.testing.assert_close(precondition(L, r) / size, torch.tensor([[1.0], [1e4]]).double(), rtol=1e-5, atol=0)
    assert precondition(L, torch.zeros((2, 1), dtype=torch.float64)).abs().sum() == 0
    r = torch.ones((2, 1), dtype=torch.float64)
    assert precondition(None, r) is r


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("decades", [0.0, 3.0])
def test_few_products_whatever_the_conditioning(decades: float, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashlogit.objectives.design._HALF_COLUMNS", 1 if half else 10**6)
    X, y = decaying(6000, 150, decades)
    result = fit(X, y, l2=1e-5, solver="newton-cg", tolerance=1e-9)
    assert result.converged
    # Without a preconditioner, three decades take 2,500 reads.
    assert result.passes < 70


def test_where_it_does_not_pay_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preconditioner, "make", lambda *_: pytest.fail("it was made"))
    X, y = decaying(1000, 400, 0.0)
    assert fit(X, y, l2=1e-2, solver="newton-cg", tolerance=1e-6).converged


def test_it_pays_when_the_residual_stalls_and_never_for_too_many_columns() -> None:
    objective = objective_of(*decaying(6000, 40, 2))
    preconditioner = Preconditioner(objective)
    assert preconditioner.pays(10.0)
    assert preconditioner.pays(10.0, 0.0)
    assert preconditioner.pays(10.0, -1.0)
    assert not preconditioner.pays(10.0, 2.0)
    assert not preconditioner.pays(0.0)
    wide = objective_of(torch.zeros((2, 5000)), torch.tensor([0, 1]), 1.0)
    assert not Preconditioner(wide).pays(10.0, 0.0)


def test_the_second_is_made_of_more_rows_and_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    objective = objective_of(*decaying(6000, 300, 1))
    monkeypatch.setattr("flashlogit.solvers.newton_cg.half_dtype", lambda X: torch.bfloat16)
    sampled = Objective.sampled_hessian

    def asking(self: Objective, at: Point, rows: int, *, rough: bool) -> Tensor:
        asked.append((rows, rough))
        return sampled(self, at, rows)

    monkeypatch.setattr(Objective, "sampled_hessian", asking)
    point = at_null(objective)
    preconditioner = Preconditioner(objective)
    for _ in range(4):
        preconditioner.make(point)
        assert preconditioner.factors is not None
        assert preconditioner.factors.isfinite().all()
    assert asked == [(2408, True), (2408, False), (4816, False), (6000, False)]
