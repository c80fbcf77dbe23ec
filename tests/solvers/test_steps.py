"""The pieces that solvers are made of, for one model and for several at once: state is [P, K] throughout."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit.objectives.certificate import penalty_gap
from flashlogit.objectives.objective import Point
from flashlogit.objectives.row_loss import KeptRows
from flashlogit.solvers import l1_model, lbfgs
from flashlogit.solvers.l1_model import minimise_model
from flashlogit.solvers.lbfgs import LBFGS, Pairs
from flashlogit.solvers.method import Search, Start
from flashlogit.solvers.newton import Newton
from flashlogit.solvers.newton_cg import ConjugateGradients, NewtonCG, precondition
from flashlogit.solvers.proximal import accelerated, factor, interior_point, solve, steepest_descent

K_MODELS = pytest.mark.parametrize("K", [1, 3])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Models:
    """K logistic regressions over one X in plain torch, with a penalty of their own each: what a solver may ask."""

    null_value, product_dtype, penalised, compiled = 0.7, torch.float64, True, True

    def __init__(self, K: int = 3, l1: float = 0.0, P: int = 7) -> None:
        self.X, truth, noise = drawn(300, P, seed=1), drawn(P, 3, seed=2), drawn(300, 3, seed=3)
        self.Y = (self.X @ truth + 2 * noise > 0).double()[:, :K]
        self.l1 = l1
        self.l1_of = (l1 * torch.tensor([[1.0, 0.5, 2.0]]).double()).repeat(P, 1)[:, :K]
        self.l2 = torch.tensor([0.1, 0.01, 0.001], dtype=torch.float64)[:K]
        self.l2_of, self.scale = self.l2.repeat(P, 1), torch.ones(P)
        self.parameters, self.K = P, K

    def alone(self, k: int) -> Models:
        """One of the models."""
        one = Models(1, self.l1, self.parameters)
        one.Y, one.l2, one.l1_of = self.Y[:, [k]], self.l2[[k]], self.l1_of[:, [k]]
        one.l2_of = self.l2_of[:, [k]]
        return one

    def canonical(self, theta: Tensor) -> Tensor:
        return theta

    def evaluate(
        self, theta: Tensor, *, products: torch.dtype | None = None, certified: bool = False, last: bool = False
    ) -> Point:
        z = self.X @ theta
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, self.Y, reduction="none").mean(dim=0)
        value = loss + 0.5 * self.l2 * theta.square().sum(dim=0) + (self.l1_of * theta.abs()).sum(dim=0)
        p = torch.sigmoid(z)
        gradient = self.X.t() @ (p - self.Y) / len(self.X) + self.l2 * theta
        return Point(theta, gradient, value, value, KeptRows(curvature=p * (1 - p)))

    def product(self, at: Point, v: Tensor) -> Tensor:
        return self.X.t() @ (at.rows.curvature * (self.X @ v)) / len(self.X) + self.l2 * v

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """[K, P, P]."""
        curvature = self.evaluate(theta).rows.curvature / len(self.X)
        penalty = self.l2[:, None, None] * torch.eye(self.parameters, dtype=torch.float64)
        return torch.einsum("np,nk,nq->kpq", self.X, curvature, self.X) + penalty

    def sampled_hessian(self, at: Point, rows: int, *, rough: bool = False) -> Tensor:
        """The mean of the models', [1, P, P]."""
        return self.hessian(at.theta).mean(dim=0, keepdim=True)

    def newton_step(self, at: Point) -> Tensor:
        return -torch.linalg.solve(self.hessian(at.theta), at.gradient.t()[:, :, None])[:, :, 0].t()

    def start(self, size: float = 0.0, **known: Any) -> Start:
        """Parameters of some size."""
        return Start(size * drawn(self.parameters, 3)[:, : self.K], 1e-12, **known)


class NoWaiting(TorchDispatchMode):
    """Fails on what would wait for a device: reading a value, or a shape that depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique"), name
        return func(*args, **(kwargs or {}))


def stationarity(models: Models, theta: Tensor) -> float:
    return float(steepest_descent(models.evaluate(theta).gradient, theta, models.l1_of).norm())


@pytest.mark.parametrize(
    ("method", "evaluations", "l1"),
    [(LBFGS, 40, 0.0), (LBFGS, 40, 0.02), (Newton, 25, 0.0), (Newton, 25, 0.02), (NewtonCG, 25, 0.0)],
)
@pytest.mark.parametrize("size", [0.0, 9.0])
def test_every_model_is_taken_to_its_optimum(method: type, evaluations: int, l1: float, size: float) -> None:
    """Each to the one that it comes to alone; from far away some steps are refused, of some models only."""
    models = Models(K=3, l1=l1)
    together, *alone = (method(each, each.start(size)) for each in (models, *map(models.alone, range(3))))
    refusals = set()
    for _ in range(evaluations):
        for solver in (together, *alone):
            solver.advance()
        refusals.add(int((together.search.refused > 0).sum()))
    theta = together.search.theta
    assert refusals == ({0, 1, 2} if size else {0})
    assert stationarity(models, theta) < 1e-9
    assert (theta == 0).any() == (l1 > 0)  # the strongest penalty's
    torch.testing.assert_close(torch.cat([each.search.theta for each in alone], dim=1), theta, rtol=1e-7, atol=1e-9)


@K_MODELS
@pytest.mark.parametrize("method", [LBFGS, Newton, NewtonCG])
def test_a_state_is_gone_on_from(method: type, K: int) -> None:
    models = Models(K)
    solver = method(models, models.start())
    for _ in range(5):
        solver.advance()
    resumed = method(models, Start(solver.search.theta, 1e-6, state=solver.state()))
    assert solver.search.refused.sum() == 0
    assert resumed.advance() == solver.advance()
    assert torch.equal(resumed.search.theta, solver.search.theta)


@K_MODELS
def test_the_compact_inverse_is_the_product_form(K: int) -> None:
    """(I - s y^T / s.y)^T H (I - s y^T / s.y) + s s^T / s.y for the last pairs, from a multiple of the identity."""
    P, memory = 30, lbfgs.TUNING.memory
    pairs = Pairs(torch.zeros((P, K), dtype=torch.float64))
    eye, A = torch.eye(P, dtype=torch.float64), drawn(P, P)
    A = A @ A.t() + eye
    history: list[tuple[Tensor, Tensor]] = []
    everywhere = torch.ones(K, dtype=torch.bool)
    for round_ in range(memory + 5):
        v, step = drawn(2, P, K, seed=round_)
        got = pairs.inverse_times(v)
        for k in range(K):
            recent = [(s[:, k], y[:, k]) for s, y in history[-memory:]]
            H = eye * (recent[-1][0] @ recent[-1][1] / recent[-1][1].square().sum() if recent else 1.0)
            for s, y in recent:
                V = eye - torch.outer(y, s) / (s @ y)
                H = V.t() @ H @ V + torch.outer(s, s) / (s @ y)
            torch.testing.assert_close(got[:, k], H @ v[:, k], rtol=1e-9, atol=1e-11)
        # The estimate of the Hessian is the inverse of this one.
        torch.testing.assert_close(pairs.hessian()(got), v, rtol=1e-6, atol=1e-8)
        pairs.remember(step, A @ step, everywhere)
        history.append((step, A @ step))
        # What was not accepted, or curves the wrong way, is not remembered.
        pairs.remember(step, -step, everywhere)
        pairs.remember(step, step, ~everywhere)


@pytest.mark.parametrize(("K", "steps", "tolerance"), [(1, 21, 1e-9), (3, 21, 1e-9), (1, 2, 1e-5), (3, 4, 1e-5)])
def test_conjugate_gradients_solve_for_every_model(K: int, steps: int, tolerance: float) -> None:
    """In a few steps, where they are preconditioned, by one matrix for all models."""
    models = Models(K)
    at = models.evaluate(models.start().theta)
    H = models.hessian(at.theta).mean(dim=0, keepdim=True)
    M = {"precondition": partial(precondition, factor(H * 1.05).float())} if steps < 21 else {}
    run = ConjugateGradients(models, at, **M)
    for _ in range(steps):
        run.advance()
    torch.testing.assert_close(run.x, models.newton_step(at), rtol=tolerance, atol=tolerance / 100)
    assert float(run.residual_norm) < tolerance * float(at.gradient.norm())


def left(x: Tensor, H: Tensor, gradient: Tensor, theta: Tensor, l1: Tensor) -> float:
    """The subgradient of a model at x as a share of that at theta: what is enough to know, for the model is convex."""
    there, here = (steepest_descent(gradient + H @ (v - theta), v, l1).norm(dim=0) for v in (x, theta))
    return float((there / here).max())


@pytest.mark.parametrize("P", [7, 300])
def test_the_models_minimum_with_l1(P: int) -> None:
    A = drawn(P, 2 * P, seed=P)
    H = A @ A.T / (2 * P)
    gradient, theta = drawn(2, P, 3, seed=P + 1)
    theta = theta * (torch.arange(P) % 2)[:, None]
    l1 = torch.full((P, 3), 0.7, dtype=torch.float64)
    l1[-1] = 0  # as the intercept's
    by_products = accelerated(lambda v: H @ v, gradient, theta, l1, steps=2000)
    for k in range(3):
        model = gradient[:, [k]], theta[:, [k]], l1[:, [k]]
        x, convex = minimise_model(H[None], *model)
        assert convex
        assert left(x, H, *model) < 1e-6
        assert 0 < int((x == 0).sum()) < P
        inside = interior_point(H, *(each[:, 0] for each in model))[:, None]
        torch.testing.assert_close(
            torch.cat([by_products[:, [k]], inside], dim=1), x.expand(P, 2), rtol=1e-5, atol=1e-5
        )
        assert torch.equal(inside == 0, x == 0)


@pytest.mark.parametrize("weakest", [1e-3, 1e-12])
def test_the_interior_point_is_found_however_badly_the_matrix_is_conditioned(weakest: float) -> None:
    """Next to copies, whose own curvature is `weakest`, with penalties as small; by its duality gap."""
    P, A = 60, drawn(200, 60, seed=1)
    A[:, 30:] = A[:, :1]
    curvature = weakest ** torch.linspace(0, 1, P, dtype=torch.float64)
    H = A.t() @ A / 200 + torch.diag(curvature)
    gradient = A.t() @ drawn(200) / 200
    l1 = 1e-2 * curvature.sqrt()
    x = interior_point(H, gradient, torch.zeros_like(l1), l1)
    gap = penalty_gap(x, gradient + H @ x - curvature * x, l1, curvature)
    assert 0 < int((x == 0).sum()) < P
    assert float(gap.sum()) <= -1e-8 * float(gradient @ x + 0.5 * x @ H @ x + l1 @ x.abs())


def test_a_wide_model_is_minimised_over_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Genes: what is 0 in the end has next to no part in the factors."""
    sizes: list[int] = []
    monkeypatch.setattr(l1_model, "factor", lambda H: sizes.append(H.shape[-1]) or factor(H))
    A = drawn(60, 900)
    H, gradient = A.t() @ A / 60, A.t() @ drawn(60, 1, seed=1) / 60
    model = gradient, torch.zeros_like(gradient), torch.full_like(gradient, 0.05)
    x, convex = minimise_model(H[None], *model)
    assert convex
    assert left(x, H, *model) <= 1e-6
    assert 0 < int((x != 0).sum()) <= 61
    assert max(sizes) <= 300


@pytest.mark.parametrize(("rounding", "strength", "sound"), [(0.0, 1e-2, True), (0.0, 1e-7, True), (1e-6, 1e-7, False)])
def test_the_model_where_columns_are_copies(rounding: float, strength: float, sound: bool) -> None:
    """With so little l1 that a model that rounding has made concave would have no minimum, which is told."""
    A = drawn(50, 3)
    A = torch.cat([A, A, -A], dim=1)
    H = A.t() @ A / 50 - rounding * torch.eye(9, dtype=torch.float64)
    gradient = A.t() @ drawn(50, 1, seed=1) / 50 + 0.1 * rounding**0.5 * drawn(9, 1, seed=2)
    model = gradient, torch.zeros_like(gradient), torch.full_like(gradient, strength)
    x, convex = minimise_model(H[None], *model)
    assert x.isfinite().all()
    assert convex == sound
    assert not sound or left(x, H, *model) <= 1e-6


def test_factors_of_matrices_that_have_none() -> None:
    """Indefinite by rounding, or singular: just enough is added; the others stay as they are."""
    good, ones = torch.diag(torch.tensor([2.0, 1.0, 0.5]).double()), torch.ones((3, 3), dtype=torch.float64)
    matrices = torch.stack([good, ones, good - 1e-9])
    factors = factor(matrices)
    torch.testing.assert_close(factors @ factors.mT, matrices, rtol=0, atol=1e-6)
    torch.testing.assert_close(factors[0].square(), good, rtol=1e-14, atol=0)
    torch.testing.assert_close(solve(factors, ones)[:, 0], 1 / good.diagonal())


@K_MODELS
def test_the_search_shortens_what_overshoots_and_survives_what_overflows(K: int) -> None:
    models = Models(K)
    at = models.evaluate(models.start().theta)
    search = Search(models.l1_of, at)
    search.set_direction(models.newton_step(at) * torch.tensor([400.0, 1.0, 1e308], dtype=torch.float64)[:K])
    assert search.judge(models.evaluate(search.trial)).tolist() == [False, True, False][:K]
    assert (search.at.value <= at.value).all()
    assert search.numbers.refused == 1
    # What is kept of the rows is of the accepted points.
    assert torch.equal(search.at.rows.curvature, models.evaluate(search.theta).rows.curvature)
    for _ in range(1000):
        search.set_direction(torch.where(search.refused > 0, search.direction, 0.0))
        search.judge(models.evaluate(search.trial))
    assert (search.at.value < at.value).all()
    assert search.theta.isfinite().all()
    assert search.numbers.refused == 0
    assert torch.equal(search.at.rows.curvature, models.evaluate(search.theta).rows.curvature)


@pytest.mark.parametrize(
    ("ends", "good"), [([-1.0], [False]), ([-1 + 3e-4], [True]), ([-1.0, -1 + 1e-4, -1 + 3e-4], [False, False, True])]
)
def test_armijos_rule(ends: list[float], good: list[bool]) -> None:
    """f = theta^2 / 2 from 1: the step 2 gains nothing, and a hundredth of a thousandth more than that is enough."""

    def at(theta: Tensor) -> Point:
        return Point(theta, theta, 0.5 * theta[0].square(), theta[0])

    end, taken = torch.tensor([ends], dtype=torch.float64), torch.tensor(good)
    search = Search(torch.zeros_like(end), at(torch.ones_like(end)))
    search.set_direction(end - 1)
    assert search.judge(at(search.trial)).equal(taken)
    torch.testing.assert_close(search.step, torch.where(taken, 1.0, 0.5).double(), rtol=1e-3, atol=0)
    assert search.refused.equal((~taken).double())
    assert search.numbers.refused == (not all(good))


@K_MODELS
@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_an_iteration_waits_for_nothing(l1: float, K: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every value that is read costs more than a pass over a small table."""
    # With an l1 term every tenth step of the model's minimisation looks whether it still moves.
    monkeypatch.setattr(lbfgs, "TUNING", dataclasses.replace(lbfgs.TUNING, inner_steps=9))
    models = Models(K=K, l1=l1)
    solver = LBFGS(models, models.start())
    with NoWaiting():
        for _ in range(3):
            solver.step()
        run = ConjugateGradients(models, models.evaluate(solver.search.theta))
        run.advance()
    assert stationarity(models, solver.search.theta) < 1
