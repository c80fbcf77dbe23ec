"""The objective of either loss against its formula, differentiated by autograd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flashlogit import fit, fit_softmax, reference
from flashlogit.fitting.task import theta_of
from flashlogit.objectives.logistic import Logistic, smallest_margin
from flashlogit.objectives.objective import Objective
from flashlogit.objectives.softmax import Softmax

N, D = 400, 5
CLASSES = pytest.mark.parametrize("classes", [2, 4])


def table(far: bool = False) -> tuple[Tensor, Tensor]:
    """Columns in several units, one of them perhaps so far from 0 that it is centred, and weights, some of them 0."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(N, D, generator=generator, dtype=torch.float64) * torch.tensor([1, 30, 0.01, 1, 2.0])
    X += torch.tensor([0, 500.0 if far else 1.0, 0.01, 0, 0])
    weight = torch.rand(N, generator=generator, dtype=torch.float64)
    weight[::9] = 0
    return X, weight


def labels(classes: int, X: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    y = torch.randint(classes, (N,), generator=generator)
    X[:, 0] += 0.7 * y
    return y


def made(classes: int, *, l1: float = 0.0, l2: float = 0.0, intercept: bool = True, far: bool = False) -> Objective:
    X, weight = table(far)
    y = labels(classes, X)
    if classes == 2:
        return Objective.of(X, Logistic.of(y, weight, reference, intercept=intercept), l1=l1, l2=l2)
    return Objective.of(X, Softmax.of(y, classes, weight, intercept=intercept), l1=l1, l2=l2)


def formula(objective: Objective, W: Tensor, b: Tensor) -> Tensor:
    """P of W [D, C] and b [C] in the units of X."""
    z, loss = objective.X @ W + b, objective.loss
    z = torch.cat([torch.zeros_like(z), z], dim=1) if loss.columns == 1 else z
    losses = torch.nn.functional.cross_entropy(z, loss.y.long(), reduction="none")
    penalty = objective.l1 * W.abs().sum() + 0.5 * objective.l2 * W.square().sum()
    return (loss.sample_weight * losses).sum() / loss.weight_sum + penalty


def random_theta(objective: Objective, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(objective.parameters, 1, generator=generator, dtype=torch.float64)
    return 0.5 * objective.off_flat(theta)


@CLASSES
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_value_gradient_and_hessian_are_autograds(l2: float, intercept: bool, far: bool, classes: int) -> None:
    objective = made(classes, l2=l2, intercept=intercept, far=far)
    assert (objective.design.center is not None) == (far and intercept)
    theta = random_theta(objective)

    def value(theta: Tensor) -> Tensor:
        W, b = objective.centred(theta)
        return formula(objective, W, b - objective.design.coordinates.center @ W)

    point = objective.evaluate(theta, products=torch.float64, certified=True)
    assert torch.allclose(point.value, value(theta), rtol=1e-12)
    (gradient,) = torch.autograd.grad(value(theta.requires_grad_()), theta)
    theta = theta.detach()
    assert torch.allclose(point.gradient, gradient, atol=1e-12)
    expected = torch.autograd.functional.hessian(value, theta).squeeze()
    v = random_theta(objective, 2)
    H = objective.hessian(theta, dtype=torch.float64)[0]
    assert torch.allclose(objective.product(point, v), expected @ v, atol=1e-10)
    assert torch.allclose(H @ v, expected @ v, atol=1e-10)
    # What the data leave free has curvature of its own.
    assert torch.linalg.eigvalsh(H)[0] > 1e-8
    null = objective.hessian(objective.null_theta(), dtype=torch.float64)
    torch.testing.assert_close(objective.null_hessian(objective.gram()), null, rtol=1e-8, atol=1e-9)
    user = objective.to_user(theta)
    least = objective.evaluate(objective.canonical(theta))
    torch.testing.assert_close(objective.evaluate(objective.from_user(*user)).value, least.value)


@CLASSES
def test_the_null_model_is_the_best_without_weights(classes: int) -> None:
    objective = made(classes, l2=0.1)
    point = objective.evaluate(objective.null_theta())
    assert float(point.value) == pytest.approx(objective.null_value, rel=1e-12)
    assert point.gradient.reshape(objective.scale.shape)[-1].abs().max() < 1e-14
    assert made(classes, l2=0.1, intercept=False).null_value == pytest.approx(math.log(classes))


@CLASSES
@pytest.mark.parametrize("far", [False, True])
def test_the_sampled_hessian_is_near_the_whole(far: bool, classes: int) -> None:
    """It is the mean of the classes' blocks."""
    objective = made(classes, l2=0.1, far=far)
    point = objective.evaluate(objective.null_theta(), products=torch.float64)
    before = objective.counter.passes
    exact = objective.sampled_hessian(point, N)[0]
    assert objective.counter.passes - before == 1
    if classes == 2:
        torch.testing.assert_close(exact, objective.hessian(point.theta)[0], rtol=1e-7, atol=1e-7)
    before = objective.counter.passes
    assert (exact.diagonal() > 0.3).all()
    assert (exact.diagonal() < 3).all()
    half = objective.sampled_hessian(point, N // 2)[0]
    assert objective.counter.passes - before == pytest.approx(0.48, abs=0.03)
    relative = torch.linalg.eigvalsh(torch.linalg.solve(exact, half))
    assert float(relative[0]) > 0.5
    assert float(relative[-1]) < 1.7


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.1, 0.5), (0.1, 1e-9), (0.0, 0.5)])
def test_what_all_classes_share_is_at_the_least_penalty(l1: float, l2: float) -> None:
    objective = made(4, l1=l1, l2=l2)
    theta = torch.randn(objective.parameters, 1, generator=torch.Generator().manual_seed(0)).double()
    canonical = objective.canonical(theta)
    before, after = objective.evaluate(theta), objective.evaluate(canonical)
    assert after.value < before.value
    W, least = objective.centred(theta)[0], objective.centred(canonical)[0]
    common = W - least
    assert torch.allclose(common, common[:, :1].expand_as(common))
    # No other common part has less of a penalty.
    others = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None, None]
    penalty = (l1 * (W - others).abs() + 0.5 * l2 * (W - others).square()).sum(dim=2).amin(dim=0)
    assert ((l1 * least.abs() + 0.5 * l2 * least.square()).sum(dim=1) <= penalty + 1e-12).all()


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.05), (0.01, 0.0), (0.004, 0.02)])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_softmaxs_certificate_bounds_the_distance_from_the_optimum(intercept: bool, l1: float, l2: float) -> None:
    objective = made(4, l1=l1, l2=l2, intercept=intercept)
    X, loss = objective.X, objective.loss
    best = fit_softmax(X, loss.y, sample_weight=loss.sample_weight, l1=l1, l2=l2, intercept=intercept, tolerance=1e-12)
    optimum = objective.from_user(best.weight.t(), best.bias)
    loose = set()
    for size in (1e-6, 1e-4, 1e-2, 0.1, 1.0):
        point = objective.evaluate(optimum + size * random_theta(objective), certified=True)
        certificate = objective.certify(point)
        off = float(point.value) - best.objective
        assert off <= certificate.gap + 1e-14
        loose.add(certificate.gap == certificate.objective)
        if size <= 1e-4 and l2 and intercept:
            assert certificate.gap <= 300 * off
    assert loose == {True, False} or not intercept


@CLASSES
def test_the_certificate_is_the_duality_gap_of_corrected_residuals(classes: int) -> None:
    """P - D(u) as a difference, for labels moved by an intercept that makes the residuals add up to 0."""
    objective = made(classes, l2=0.05)
    X, loss, S = objective.X, objective.loss, objective.loss.weight_sum
    solve = fit if classes == 2 else fit_softmax
    best = solve(X, loss.y, sample_weight=loss.sample_weight, l2=0.05)
    theta = theta_of(objective, (best.weight, best.bias)) + 0.02 * random_theta(objective)
    theta[-loss.columns :] += 0.1 * torch.arange(1, loss.columns + 1)[:, None]
    certificate = objective.certify(objective.evaluate(theta, certified=True))
    W, b = objective.to_user(theta)
    assert certificate.objective == pytest.approx(float(formula(objective, W, b)), rel=1e-12)
    z = X @ W + b
    z = torch.cat([torch.zeros_like(z), z], dim=1) if classes == 2 else z
    p, e, s = (
        torch.softmax(z, 1),
        torch.nn.functional.one_hot(loss.y.long(), classes),
        loss.sample_weight[:, None],
    )
    curvature = torch.diag((s * p).sum(0)) - (s * p).t() @ p
    t = torch.linalg.pinv(curvature, hermitian=True) @ (s * (p - e)).sum(0)
    q = p * (1 - t + (p @ t)[:, None])
    assert (s * (q - e)).sum(0).abs().max() < 1e-10
    entropy = float((s * torch.special.entr(q)).sum() / S)
    a = (X.t() @ (s * (q - e)) / S)[:, -loss.columns :]
    gap = certificate.objective - entropy + float(a.square().sum()) / (2 * objective.l2)
    bound = float(t @ curvature @ t) / S  # of a divergence of about half as much
    assert gap <= certificate.gap <= gap + bound
    assert bound > 1e-4 * gap


def test_a_direction_in_which_it_is_flat_has_no_part_in_gradients() -> None:
    for classes in (2, 4):
        objective = made(classes)
        X = torch.cat([objective.X, objective.X[:, :1]], dim=1)
        objective = Objective.of(X, objective.loss, l1=0.0, l2=0.0)
        basis = torch.zeros(D + 1, 1, dtype=torch.float64)
        basis[0], basis[-1] = 0.5**0.5, -(0.5**0.5)
        flat = objective.flattened(basis)
        N_ = flat.null_space
        assert N_.shape[1] == (1 if classes == 2 else classes + D + 1)
        torch.testing.assert_close(N_.t() @ N_, torch.eye(N_.shape[1], dtype=torch.float64))
        theta = random_theta(objective)
        point = flat.evaluate(theta, products=torch.float64)
        assert (N_.t() @ point.gradient).abs().max() < 1e-15
        assert (N_.t() @ flat.product(point, theta)).abs().max() < 1e-15
        H = flat.hessian(theta, dtype=torch.float64)[0]
        torch.testing.assert_close(H @ N_, N_, rtol=1e-8, atol=1e-8)


@CLASSES
def test_a_sample_has_enough_rows_of_every_class(classes: int) -> None:
    objective = made(classes, l2=0.1)
    found = objective.sample(300)
    assert found is not None
    sample, known = found
    assert known.all()
    assert len(sample.X) == 300
    assert sample.scale is objective.scale
    assert sample.loss.weight_sum < objective.loss.weight_sum
    before = objective.counter.passes
    sample.evaluate(objective.null_theta())
    assert objective.counter.passes - before == 0.75
    assert objective.sample(20) is None
    rare = replace(objective.loss, sample_weight=objective.loss.sample_weight * (objective.loss.y > 0))
    assert replace(objective, loss=rare).sample(300) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smallest_margin(dtype: torch.dtype) -> None:
    z = torch.tensor([2.0, -3.0, 0.5], dtype=dtype)
    y = torch.tensor([1.0, 0.0, 1.0])
    soft = torch.tensor([1.0, 0.2, 1.0])
    assert smallest_margin(z, y, None).dtype == dtype
    for labels_, weights, expected in (
        (y, None, 0.5),
        (y, [1.0, 2.0, 0.0], 2.0),
        (y.to(torch.uint8), None, 0.5),
        (1 - y, None, -3.0),
        (soft, None, -math.inf),
        (soft, [1.0, 0.0, 1.0], 0.5),
        (y, [0.0, 0.0, 0.0], math.inf),
    ):
        s = None if weights is None else torch.tensor(weights)
        assert smallest_margin(z, labels_, s).item() == expected
    assert smallest_margin(z[:0], y[:0], None).item() == math.inf
    assert smallest_margin(torch.tensor([torch.nan, 1.0]), torch.ones(2), None).isnan()
    # A softmax's is the lead of a row's own class.
    objective = made(4, l2=0.1)
    theta = random_theta(replace(objective, proving_l2=0.0))
    point = replace(objective, proving_l2=0.0).evaluate(theta, certified=True)
    W, b = objective.to_user(theta)
    z, own = objective.X @ W + b, torch.nn.functional.one_hot(objective.loss.y, 4).bool()
    lead = z[own] - z.masked_fill(own, -math.inf).amax(dim=1)
    expected = float(lead[objective.loss.sample_weight > 0].min())
    assert float(objective.loss.margin(point.rows)) == pytest.approx(expected, rel=1e-9)
