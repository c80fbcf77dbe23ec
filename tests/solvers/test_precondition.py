"""Conjugate gradients with the Hessian of a sample: what they solve, and what it saves."""

from __future__ import annotations

import math

import pytest
import torch
from test_steps import Models
from torch import Tensor

from flashlogit import reference
from flashlogit.fitting.fit import fit
from flashlogit.objectives.logistic import ConvexObjective
from flashlogit.solvers.newton_cg import ConjugateGradients
from flashlogit.solvers.precondition import Preconditioner, precondition
from flashlogit.solvers.proximal import factor


def decaying(N: int, D: int, decades: float) -> tuple[Tensor, Tensor]:
    """Singular values over some decades in directions that are no column's, and logits of size 3."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    X = torch.randn(N, D, generator=generator) * torch.logspace(0, -decades, D) @ basis.t()
    z = X @ torch.randn(D, generator=generator)
    y = torch.rand(N, generator=generator) < torch.sigmoid(3 * z / z.std())
    return X, y.to(torch.uint8)


def objective_of(X: Tensor, y: Tensor) -> ConvexObjective:
    return ConvexObjective(X, y, None, reference, l1=0.0, l2=1 / len(X), intercept=True)


def test_the_sampled_hessian_is_near_the_whole() -> None:
    objective = objective_of(*decaying(6000, 40, 2))
    theta = objective.null_theta()
    objective.evaluate(theta, curvature=True)
    exact = objective.hessian(theta)[0]
    before = objective.reads
    sampled = objective.sampled_hessian(1600)[0].double()
    assert objective.reads - before == pytest.approx(1600 / 6000)
    torch.testing.assert_close(sampled, sampled.t(), rtol=1e-6, atol=1e-7)
    L = torch.linalg.cholesky(exact)
    relative = torch.linalg.eigvalsh(torch.linalg.solve(L, torch.linalg.solve(L, sampled).t()))
    spread = math.sqrt(41 / 1600)
    assert (1 - 1.3 * spread) ** 2 < float(relative[0])
    assert float(relative[-1]) < (1 + 1.3 * spread) ** 2
    # From all rows it is the Hessian but for float32.
    whole = objective.sampled_hessian(6000)[0].double()
    assert (whole - exact).abs().max() < 1e-5


@pytest.mark.parametrize("intercept", [True, False])
def test_a_rough_one_in_half_precision(intercept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor: those without units for bfloat16 multiply it too, only not faster."""
    monkeypatch.setattr("flashlogit.objectives.logistic.half_dtype", lambda X: torch.bfloat16)
    X, y = decaying(4000, 300, 0.5)
    objective = ConvexObjective(X, y, None, reference, l1=0.0, l2=1e-4, intercept=intercept)
    theta = torch.zeros((objective.parameters, 1), dtype=torch.float64)
    objective.evaluate(theta, curvature=True)
    rough = objective.sampled_hessian(4000, rough=True)[0]
    exact = objective.hessian(theta)[0]
    error = torch.linalg.eigvalsh(rough.double() - exact).abs().max()
    assert 1e-6 < float(error) < 0.01


@pytest.mark.parametrize("center", [0.0, 1e4])
def test_a_centre_that_is_subtracted(center: float) -> None:
    X, y = decaying(4000, 10, 1)
    X = X.double() + center
    objective = objective_of(X, y)
    theta = objective.null_theta()
    objective.evaluate(theta, curvature=True)
    torch.testing.assert_close(
        objective.sampled_hessian(4000), objective.hessian(theta), rtol=1e-7, atol=1e-7
    )


def test_preconditioned_conjugate_gradients_solve_the_same_in_fewer_steps() -> None:
    models = Models()
    gradient = models.evaluate(models.start()).gradient[:, :1]
    models.l2, models.curvature = models.l2[:1], models.curvature[:, :1]
    exact = -torch.linalg.solve(models.matrices(), gradient.t()[:, :, None])[:, :, 0].t()
    H = models.matrices() * 1.05
    run = ConjugateGradients(models, gradient, factors=factor(H).float())  # type: ignore[arg-type]
    for _ in range(2):
        run.advance()
    torch.testing.assert_close(run.x, exact, rtol=1e-5, atol=1e-7)
    assert float(run.residual_norm) < 1e-5 * float(gradient.norm())


def test_residuals_of_any_size_survive_float32() -> None:
    H = torch.diag(torch.tensor([1.0, 1e-4], dtype=torch.float64))[None]
    L = factor(H).float()
    for size in (1e-60, 1.0, 1e60):
        r = size * torch.tensor([[1.0], [1.0]], dtype=torch.float64)
        torch.testing.assert_close(
            precondition(L, r) / size, torch.tensor([[1.0], [1e4]]).double(), rtol=1e-5, atol=0
        )
    assert precondition(L, torch.zeros((2, 1), dtype=torch.float64)).abs().sum() == 0
    r = torch.ones((2, 1), dtype=torch.float64)
    assert precondition(None, r) is r


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("decades", [0.0, 3.0])
def test_few_products_whatever_the_conditioning(
    decades: float, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashlogit.objectives.sampled_hessian._HALF_COLUMNS", 1 if half else 10**6)
    X, y = decaying(6000, 150, decades)
    result = fit(X, y, l2=1e-5, solver="newton-cg", tolerance=1e-9)
    assert result.converged
    # Without a preconditioner, three decades take 2,500 reads.
    assert result.passes < 70


def test_where_it_does_not_pay_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preconditioner, "make", lambda self: pytest.fail("it was made"))
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
    wide = ConvexObjective(
        torch.zeros((2, 5000)), torch.tensor([0, 1]), None, reference, l1=0, l2=1, intercept=True
    )
    assert not Preconditioner(wide).pays(10.0, 0.0)


def test_the_second_is_made_of_more_rows_and_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    objective = objective_of(*decaying(6000, 300, 1))
    monkeypatch.setattr("flashlogit.solvers.precondition.half_dtype", lambda X: torch.bfloat16)
    sampled = objective.sampled_hessian
    monkeypatch.setattr(
        objective, "sampled_hessian", lambda rows, rough: asked.append((rows, rough)) or sampled(rows)
    )
    objective.evaluate(objective.null_theta(), curvature=True)
    preconditioner = Preconditioner(objective)
    for _ in range(4):
        preconditioner.make()
        assert preconditioner.factors is not None
        assert preconditioner.factors.isfinite().all()
    assert asked == [(2408, True), (2408, False), (4816, False), (6000, False)]
