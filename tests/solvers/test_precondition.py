"""Conjugate gradients with the Hessian of a sample: what they solve, and what it saves."""

from __future__ import annotations

import pytest
import torch
from problems import objective_of
from torch import Tensor

from flashlogit.fitting.fit import fit
from flashlogit.objectives.objective import Objective, Point
from flashlogit.solvers.newton_cg import Preconditioner, precondition
from flashlogit.solvers.proximal import factor


def decaying(N: int, D: int, decades: float) -> tuple[Tensor, Tensor]:
    """Singular values over some decades in directions that are no column's, and logits of size 3."""
    basis = torch.linalg.qr(torch.randn(D, D))[0]
    X = torch.randn(N, D) * torch.logspace(0, -decades, D) @ basis.t()
    z = X @ torch.randn(D)
    return X, (torch.rand(N) < torch.sigmoid(3 * z / z.std())).to(torch.uint8)


def at_null(objective: Objective) -> Point:
    return objective.evaluate(objective.null_theta(), products=objective.product_dtype)


def test_a_rough_one_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor: those without units for bfloat16 multiply it too, only not faster."""
    monkeypatch.setattr("flashlogit.objectives.design.half_dtype", lambda X: torch.bfloat16)
    objective = objective_of(*decaying(4000, 300, 0.5), l2=1 / 4000)
    point, exact = at_null(objective), objective.hessian(objective.null_theta())[0]
    for rough, least, most in ((True, 1e-6, 0.01), (False, 0.0, 1e-5)):
        found = objective.sampled_hessian(point, 4000, rough=rough)[0].double()
        assert least <= float(torch.linalg.eigvalsh(found - exact).abs().max()) < most


@pytest.mark.parametrize("K", [1, 3])
def test_residuals_of_any_size_survive_float32(K: int) -> None:
    H = torch.tensor([[1.0, 5e-3], [5e-3, 1e-4]], dtype=torch.float64)
    L, r = factor(H[None]).float(), torch.tensor([[1e-60, 1.0, 1e60]] * 2, dtype=torch.float64)[:, :K]
    torch.testing.assert_close(precondition(L, r) / r[0], torch.linalg.solve(H, r / r), rtol=1e-5, atol=0)
    assert precondition(L, 0 * r).abs().sum() == 0
    assert precondition(None, r) is r


@pytest.mark.parametrize(("decades", "half"), [(0.0, False), (3.0, True), (3.0, False)])
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


@pytest.mark.parametrize(
    ("D", "left", "rate", "pays"),
    [(40, 10, None, True), (40, 10, -1, True), (40, 10, 2, False), (40, 0, None, False), (5000, 10, 0, False)],
)
def test_it_pays_when_the_residual_stalls_and_never_for_too_many_columns(
    D: int, left: float, rate: float | None, pays: bool
) -> None:
    N = 6000 if D == 40 else 2
    objective = objective_of(torch.zeros((N, D)), torch.arange(N) % 2, l2=1.0)
    assert Preconditioner(objective).pays(left, rate) == pays


def test_the_second_is_made_of_more_rows_and_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    objective = objective_of(*decaying(6000, 300, 1), l2=1 / 6000)
    monkeypatch.setattr("flashlogit.solvers.newton_cg.half_dtype", lambda X: torch.bfloat16)
    sampled = Objective.sampled_hessian

    def asking(self: Objective, at: Point, rows: int, *, rough: bool) -> Tensor:
        asked.append((rows, rough))
        return sampled(self, at, rows)

    monkeypatch.setattr(Objective, "sampled_hessian", asking)
    preconditioner = Preconditioner(objective)
    for _ in range(4):
        preconditioner.make(at_null(objective))
        assert preconditioner.factors is not None
        assert preconditioner.factors.isfinite().all()
    assert asked == [(2408, True), (2408, False), (4816, False), (6000, False)]
