"""L-BFGS with the Hessian of a sample: when it is taken, and how many passes it spares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flashlogit.fitting.fit import fit
from flashlogit.objectives.objective import Point
from flashlogit.solvers.newton_cg import Preconditioner


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of the samples that are taken."""
    found: list[int] = []
    original = Preconditioner.make

    def make(self: Preconditioner, at: Point) -> None:
        found.append(self.sample_rows)
        original(self, at)

    monkeypatch.setattr(Preconditioner, "make", make)
    return found


def table(N: int, D: int, decades: float, outlying: float = 1.0) -> tuple[Tensor, Tensor]:
    """Singular values over some decades in directions that are no column's, and logits of size 2."""
    sizes = torch.logspace(0, -decades, D)
    sizes[:5] *= outlying
    X = torch.randn(N, D) * sizes @ torch.linalg.qr(torch.randn(D, D))[0]
    z = X @ torch.randn(D)
    return X, (torch.rand(N) < torch.sigmoid(2 * z / z.std())).to(torch.uint8)


@pytest.mark.parametrize("outlying", [1.0, 30.0])
@pytest.mark.parametrize("decades", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("N", "D"), [(20_000, 100), (6_000, 300)])
def test_few_passes_whatever_the_spectrum(N: int, D: int, decades: float, outlying: float, made: list[int]) -> None:
    """Without a sample's Hessian, one decade takes 70 passes and three take 300."""
    found = fit(*table(N, D, decades, outlying), l2=1 / N, tolerance=1e-8)
    assert (found.solver, found.converged) == ("lbfgs", True)
    assert found.passes <= 27
    assert int(decades + outlying > 1) <= len(made) <= 2


def test_columns_of_one_curvature_need_none(made: list[int]) -> None:
    found = fit(*table(3000, 600, 0.0), l2=1e-2, tolerance=1e-8)
    assert found.converged
    assert found.passes <= 20
    assert made == []


def test_a_refused_first_step_asks_for_one(made: list[int]) -> None:
    """It shows that the largest eigenvalue is far from the others, before any step is taken."""
    points: list[int] = []
    X, y = table(4000, 500, 0.0, 30.0)
    found = fit(X, y, l2=1 / 4000, tolerance=1e-8, on_point=lambda row, point: points.append(len(made)))
    assert found.converged
    assert points[:2] == [0, 1]


def test_too_many_columns_have_none(made: list[int]) -> None:
    found = fit(*table(300, 4097, 0.0), l2=1e-2, tolerance=1e-8)
    assert found.converged
    assert made == []


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_are_the_same_at_every_call(threads: int) -> None:
    """Of one number of threads: with another one MKL's products have other last digits on some processors."""
    X, y = table(3000, 150, 2.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        first, second = (fit(X, y, l2=1 / 3000, tolerance=1e-8) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(first.weight, second.weight)
    assert first.passes == second.passes
