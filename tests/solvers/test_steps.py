"""The pieces that solvers are made of, for one model and for several at once: state is [P, K] throughout."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit.objectives.objective import Point
from flashlogit.objectives.row_loss import RowValues
from flashlogit.solvers import l1_model, lbfgs
from flashlogit.solvers.l1_model import minimise_model
from flashlogit.solvers.lbfgs import LBFGS, Pairs
from flashlogit.solvers.method import Search, Start
from flashlogit.solvers.newton import Newton
from flashlogit.solvers.newton_cg import ConjugateGradients
from flashlogit.solvers.proximal import accelerated, factor, interior_point, solve, steepest_descent

K_MODELS = pytest.mark.parametrize("K", [1, 3])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Models:
    """K logistic regressions over one X in plain torch, with a penalty of their own each: what a solver may ask."""

    null_value, product_dtype = 0.7, torch.float64

    def __init__(self, K: int = 3, l1: float = 0.0, P: int = 7) -> None:
        self.X, truth, noise = drawn(300, P, seed=1), drawn(P, 3, seed=2), drawn(300, 3, seed=3)
        self.Y = (self.X @ truth + 2 * noise > 0).double()[:, :K]
        self.l1 = l1
        self.l1_of = (l1 * torch.tensor([[1.0, 0.5, 2.0]]).double()).repeat(P, 1)[:, :K]
        self.l2 = torch.tensor([0.1, 0.01, 0.001], dtype=torch.float64)[:K]
        self.parameters, self.K = P, K

    def alone(self, k: int) -> Models:
        """One of the models."""
        one = Models(1, self.l1, self.parameters)
        one.Y, one.l2, one.l1_of = self.Y[:, [k]], self.l2[[k]], self.l1_of[:, [k]]
        return one

    def canonical(self, theta: Tensor) -> Tensor:
        return theta

    def evaluate(self, theta: Tensor, *, products: torch.dtype | None = None, certified: bool = False) -> Point:
        z = self.X @ theta
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, self.Y, reduction="none").mean(dim=0)
        value = loss + 0.5 * self.l2 * theta.square().sum(dim=0) + (self.l1_of * theta.abs()).sum(dim=0)
        p = torch.sigmoid(z)
        gradient = self.X.t() @ (p - self.Y) / len(self.X) + self.l2 * theta
        return Point(theta, gradient, value, value, RowValues(curvature=p * (1 - p)))

    def product(self, at: Point, v: Tensor) -> Tensor:
        return self.X.t() @ (at.rows.curvature * (self.X @ v)) / len(self.X) + self.l2 * v

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """[K, P, P]."""
        curvature = self.evaluate(theta).rows.curvature / len(self.X)
        penalty = self.l2[:, None, None] * torch.eye(self.parameters, dtype=torch.float64)
        return torch.einsum("np,nk,nq->kpq", self.X, curvature, self.X) + penalty

    def newton_step(self, at: Point) -> Tensor:
        return -torch.linalg.solve(self.hessian(at.theta), at.gradient.t()[:, :, None])[:, :, 0].t()

    def start(self, size: float = 0.0, **known: Any) -> Start:
        """Parameters of some size."""
        return Start(size * drawn(self.parameters, 3)[:, : self.K], 1e-6, **known)


class NoWaiting(TorchDispatchMode):
    """Fails on what would wait for a device: reading a value, or a shape that depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique"), name
        return func(*args, **(kwargs or {}))


def stationarity(models: Models, theta: Tensor) -> float:
    return float(steepest_descent(models.evaluate(theta).gradient, theta, models.l1_of).norm())


@pytest.mark.parametrize(("method", "evaluations"), [(LBFGS, 40), (Newton, 25)])
@pytest.mark.parametrize(("l1", "size"), [(0.0, 0.0), (0.02, 0.0), (0.0, 9.0), (0.02, 9.0)])
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
@pytest.mark.parametrize("method", [LBFGS, Newton])
def test_a_state_is_gone_on_from(method: type, K: int) -> None:
    models = Models(K)
    solver = method(models, models.start())
    for _ in range(5):
        solver.advance()
    resumed = method(models, Start(solver.search.theta, 1e-6, state=solver.state()))
    assert solver.search.refused.sum() == 0
    assert torch.equal(resumed.search.trial, solver.search.trial)


@K_MODELS
def test_the_compact_inverse_is_the_two_loop_recursion(K: int) -> None:
    P, memory = 30, lbfgs.TUNING.memory
    pairs = Pairs(torch.zeros((P, K), dtype=torch.float64))
    A = drawn(P, P)
    A = A @ A.t() + torch.eye(P, dtype=torch.float64)
    history: list[tuple[Tensor, Tensor]] = []
    everywhere = torch.ones(K, dtype=torch.bool)
    for round_ in range(memory + 5):
        v, step = drawn(2, P, K, seed=round_)
        got = pairs.inverse_times(v)
        for k in range(K):
            recent = [(s[:, k], y[:, k]) for s, y in history[-memory:]]
            q, coefficients = v[:, k].clone(), []
            for s, y in reversed(recent):
                coefficients.append((s @ q) / (s @ y))
                q -= coefficients[-1] * y
            if recent:
                s, y = recent[-1]
                q *= (s @ y) / (y @ y)
            for (s, y), a in zip(recent, reversed(coefficients), strict=True):
                q += (a - (y @ q) / (s @ y)) * s
            torch.testing.assert_close(got[:, k], q, rtol=1e-9, atol=1e-11)
        # The estimate of the Hessian is the inverse of this one.
        torch.testing.assert_close(pairs.hessian()(got), v, rtol=1e-6, atol=1e-8)
        pairs.remember(step, A @ step, everywhere)
        history.append((step, A @ step))
        # What was not accepted, or curves the wrong way, is not remembered.
        pairs.remember(step, -step, everywhere)
        pairs.remember(step, step, ~everywhere)


@pytest.mark.parametrize(("K", "steps", "tolerance"), [(1, 21, 1e-9), (3, 21, 1e-9), (1, 2, 1e-5)])
def test_conjugate_gradients_solve_for_every_model(K: int, steps: int, tolerance: float) -> None:
    """In two steps, where they are preconditioned."""
    models = Models(K=K)
    at = models.evaluate(models.start().theta)
    factors = factor(models.hessian(at.theta) * 1.05).float() if steps == 2 else None
    run = ConjugateGradients(models, at, factors=factors)
    for _ in range(steps):
        run.advance()
    torch.testing.assert_close(run.x, models.newton_step(at), rtol=tolerance, atol=tolerance / 100)
    assert float(run.residual_norm) < tolerance * float(at.gradient.norm())


@pytest.mark.parametrize("P", [7, 300])
def test_the_models_minimum_with_l1(P: int) -> None:
    """Its optimality conditions, which are enough: the model is convex."""
    A = drawn(P, 2 * P, seed=P)
    H = A @ A.T / (2 * P)
    gradient, theta = drawn(P, 2, seed=P + 1).split(1, dim=1)
    theta = theta * (torch.arange(P) % 2)[:, None]
    l1 = torch.full((P, 1), 0.7, dtype=torch.float64)
    l1[-1] = 0  # as the intercept's
    x, convex = minimise_model(H[None], gradient, theta, l1)
    assert convex
    slope = gradient + H @ (x - theta)
    assert steepest_descent(slope, x, l1).norm() < 1e-6 * steepest_descent(gradient, theta, l1).norm()
    assert 0 < int((x == 0).sum()) < x.numel()
    by_products = accelerated(lambda v: H @ v, gradient, theta, l1, steps=2000)
    torch.testing.assert_close(by_products, x, rtol=1e-5, atol=1e-5)
    inside = interior_point(H, gradient[:, 0], theta[:, 0], l1[:, 0])
    torch.testing.assert_close(inside[:, None], x, rtol=1e-5, atol=1e-5)
    assert torch.equal(inside == 0, x[:, 0] == 0)


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
    data = gradient + H @ x - curvature * x
    gain = -float(gradient @ x + 0.5 * x @ H @ x + l1 @ x.abs())
    excess = (data.abs() - l1).clamp(min=0.0)
    gap = x * data + l1 * x.abs() + 0.5 * curvature * x.square() + excess.square() / (2 * curvature)
    assert 0 < int((x == 0).sum()) < P
    assert float(gap.sum()) <= 1e-8 * gain


def test_a_wide_model_is_minimised_over_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Genes: what is 0 in the end has next to no part in the factors."""
    sizes: list[int] = []

    def counted(H: Tensor) -> Tensor:
        sizes.append(H.shape[-1])
        return factor(H)

    monkeypatch.setattr(l1_model, "factor", counted)
    A = drawn(60, 900)
    H, gradient = A.t() @ A / 60, A.t() @ drawn(60, 1, seed=1) / 60
    l1 = torch.full_like(gradient, 0.05)
    x, convex = minimise_model(H[None], gradient, torch.zeros_like(gradient), l1)
    assert convex
    assert steepest_descent(gradient + H @ x, x, l1).norm() <= 1e-6 * gradient.norm()
    assert 0 < int((x != 0).sum()) <= 61
    assert max(sizes) <= 300


@pytest.mark.parametrize(("rounding", "strength", "sound"), [(0.0, 1e-2, True), (0.0, 1e-7, True), (1e-6, 1e-7, False)])
def test_the_model_where_columns_are_copies(rounding: float, strength: float, sound: bool) -> None:
    """With so little l1 that a model that rounding has made concave would have no minimum, which is told."""
    A = drawn(50, 3)
    A = torch.cat([A, A, -A], dim=1)
    H = A.t() @ A / 50 - rounding * torch.eye(9, dtype=torch.float64)
    gradient = A.t() @ drawn(50, 1, seed=1) / 50 + 0.1 * rounding**0.5 * drawn(9, 1, seed=2)
    l1 = torch.full_like(gradient, strength)
    x, convex = minimise_model(H[None], gradient, torch.zeros_like(gradient), l1)
    assert x.isfinite().all()
    assert convex == sound
    assert not sound or steepest_descent(gradient + H @ x, x, l1).norm() <= 1e-6 * gradient.norm()


def test_factors_of_matrices_that_have_none() -> None:
    """Indefinite by rounding, or singular: just enough is added; the others stay as they are."""
    good = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64))
    singular = torch.ones((3, 3), dtype=torch.float64)
    factors = factor(torch.stack([good, singular, good - 1e-9]))
    assert factors.isfinite().all()
    torch.testing.assert_close(factors[0] @ factors[0].t(), good, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(factors[1] @ factors[1].t(), singular, rtol=0, atol=1e-6)
    v = torch.ones((3, 3), dtype=torch.float64)
    assert torch.allclose(solve(factors, v)[:, 0], torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))


@K_MODELS
def test_the_search_shortens_what_overshoots_and_survives_what_overflows(K: int) -> None:
    models = Models(K=K)
    at = models.evaluate(models.start().theta)
    search = Search(models.l1_of, at)
    factors = torch.tensor([1.0, 400.0, math.inf]) if K == 3 else torch.tensor([400.0])
    search.set_direction(models.newton_step(at) * factors.double().clamp(max=1e308))
    first = search.judge(models.evaluate(search.trial))
    assert first.tolist() == ([True, False, False] if K == 3 else [False])
    assert (search.at.value <= at.value).all()
    # What is kept of the rows is of the accepted points.
    assert search.numbers.refused == 1
    accepted = models.evaluate(search.theta)
    assert torch.equal(search.at.rows.curvature, accepted.rows.curvature)
    v = torch.ones_like(search.theta)
    assert torch.equal(models.product(search.at, v), models.product(accepted, v))
    tries = 0
    while bool((search.refused > 0).any()):
        search.set_direction(torch.where(search.refused > 0, search.direction, 0.0))
        search.judge(models.evaluate(search.trial))
        tries += 1
        assert tries < 2000
    assert (search.at.value < at.value).all()
    assert search.theta.isfinite().all()
    assert search.numbers.refused == 0
    assert torch.equal(search.at.rows.curvature, models.evaluate(search.theta).rows.curvature)


def test_armijos_rule() -> None:
    """f = theta^2 / 2 from 1: the step 2 gains nothing, and a hundredth of a thousandth more than that is enough."""

    def at(theta: float) -> Point:
        t = torch.tensor([[theta]], dtype=torch.float64)
        return Point(t, t, 0.5 * t[0].square(), t[0])

    for end, good in ((-1.0, False), (-1 + 1e-4, False), (-1 + 3e-4, True)):
        search = Search(torch.zeros(1, 1).double(), at(1.0))
        search.set_direction(torch.tensor([[end - 1.0]], dtype=torch.float64))
        assert search.judge(at(float(search.trial))).item() == good
        assert search.numbers.step == pytest.approx(1.0 if good else 0.5, rel=1e-3)
        assert search.numbers.refused == (0 if good else 1)


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
