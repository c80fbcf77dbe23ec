"""The objective of either loss against its formula, differentiated by autograd, and the coordinates that it is in."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from problems import fitted, objective_of, several
from torch import Tensor

from flashlogit.fitting.task import theta_of
from flashlogit.objectives.coordinates import Moments, measure_coordinates, uploaded
from flashlogit.objectives.logistic import smallest_margin
from flashlogit.objectives.objective import Objective

N, D = 400, 5
CLASSES = pytest.mark.parametrize("classes", [2, 4])


def made(classes: int, *, far: bool = False, **options: Any) -> Objective:
    return objective_of(*several(classes, far), classes, **options)


def logits(objective: Objective, W: Tensor, b: Tensor) -> Tensor:
    """[N, K] of W [D, C] and b [C] in the units of X, those of the first of two classes being 0."""
    z = objective.X @ W + b
    return torch.cat([torch.zeros_like(z), z], dim=1) if objective.loss.columns == 1 else z


def formula(objective: Objective, W: Tensor, b: Tensor) -> Tensor:
    """P."""
    loss = objective.loss
    losses = torch.nn.functional.cross_entropy(logits(objective, W, b), loss.y.long(), reduction="none")
    penalty = objective.l1 * W.abs().sum() + 0.5 * objective.l2 * W.square().sum()
    return (loss.sample_weight * losses).sum() / loss.weight_sum + penalty


def random_theta(objective: Objective) -> Tensor:
    return 0.5 * objective.off_flat(torch.randn(objective.parameters, 1, dtype=torch.float64))


@CLASSES
@pytest.mark.parametrize(
    ("l2", "intercept", "far"), [(0.0, True, True), (0.0, False, False), (0.1, True, False), (0.1, False, True)]
)
def test_value_gradient_and_hessian_are_autograds(l2: float, intercept: bool, far: bool, classes: int) -> None:
    objective = made(classes, l2=l2, intercept=intercept, far=far)
    assert (objective.design.center is not None) == (far and intercept)
    theta = random_theta(objective)

    def value(theta: Tensor) -> Tensor:
        W, b = objective.centred(theta)
        return formula(objective, W, b - objective.design.coordinates.center @ W)

    point = objective.evaluate(theta, products=torch.float64, certified=True)
    assert torch.allclose(point.value, value(theta), rtol=1e-12)
    assert torch.allclose(point.gradient, torch.autograd.functional.jacobian(value, theta), atol=1e-12)
    expected = torch.autograd.functional.hessian(value, theta).squeeze()
    v = random_theta(objective)
    H = objective.hessian(theta, dtype=torch.float64)[0]
    assert torch.allclose(objective.product(point, v), expected @ v, atol=1e-10)
    assert torch.allclose(H @ v, expected @ v, atol=1e-10)
    # What the data leave free has curvature of its own.
    assert torch.linalg.eigvalsh(H)[0] > 1e-8
    null = objective.hessian(objective.null, dtype=torch.float64)
    torch.testing.assert_close(objective.null_hessian(objective.gram()), null, rtol=1e-8, atol=1e-9)
    back, least = objective.from_user(*objective.to_user(theta)), objective.canonical(theta)
    torch.testing.assert_close(objective.evaluate(back).value, objective.evaluate(least).value)


@CLASSES
def test_the_null_model_is_the_best_without_weights(classes: int) -> None:
    objective = made(classes, l2=0.1)
    point = objective.evaluate(objective.null)
    assert float(point.value) == pytest.approx(objective.null_value, rel=1e-12)
    assert point.gradient.reshape(objective.scale.shape)[-1].abs().max() < 1e-14
    assert made(classes, l2=0.1, intercept=False).null_value == pytest.approx(math.log(classes))


@CLASSES
def test_the_sampled_hessian_is_near_the_whole(classes: int) -> None:
    """It is the mean of the classes' blocks."""
    objective = made(classes, l2=0.1, far=True)
    point = objective.evaluate(objective.null, products=torch.float64)
    before = objective.counter.passes
    exact, half = (objective.sampled_hessian(point, rows)[0] for rows in (N, N // 2))
    assert objective.counter.passes - before == pytest.approx(1.48, abs=0.03)
    assert ((exact.diagonal() > 0.3) & (exact.diagonal() < 3)).all()
    relative = torch.linalg.eigvalsh(torch.linalg.solve(exact, half))
    assert 0.5 < float(relative[0]) <= float(relative[-1]) < 1.7


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.1, 0.5), (0.1, 1e-9), (0.0, 0.5)])
def test_what_all_classes_share_is_at_the_least_penalty(l1: float, l2: float) -> None:
    objective = made(4, l1=l1, l2=l2)
    theta = torch.randn(objective.parameters, 1, dtype=torch.float64)
    canonical = objective.canonical(theta)
    before, after = objective.evaluate(theta), objective.evaluate(canonical)
    assert after.value < before.value
    W, least = objective.centred(theta)[0], objective.centred(canonical)[0]
    torch.testing.assert_close(W - least, (W - least)[:, :1].expand_as(W))
    # No other common part has less of a penalty.
    others = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None, None]
    penalty = (l1 * (W - others).abs() + 0.5 * l2 * (W - others).square()).sum(dim=2).amin(dim=0)
    assert ((l1 * least.abs() + 0.5 * l2 * least.square()).sum(dim=1) <= penalty + 1e-12).all()


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.05), (0.01, 0.0), (0.004, 0.02)])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_softmaxs_certificate_bounds_the_distance_from_the_optimum(intercept: bool, l1: float, l2: float) -> None:
    objective = made(4, l1=l1, l2=l2, intercept=intercept)
    X, y, s = several(4, False)
    best = fitted(X, y, 4, sample_weight=s, l1=l1, l2=l2, intercept=intercept, tolerance=1e-12)
    optimum = objective.from_user(best.weight.t(), best.bias)
    loose = set()
    for size in (1e-6, 1e-4, 1e-2, 0.1, 1.0):
        point = objective.evaluate(optimum + size * random_theta(objective), certified=True)
        certificate, off = objective.certify(point), float(point.value) - best.objective
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
    best = fitted(X, loss.y, classes, sample_weight=loss.sample_weight, l2=0.05)
    theta = theta_of(objective, (best.weight, best.bias)) + 0.02 * random_theta(objective)
    theta[-loss.columns :] += 0.1 * torch.arange(1, loss.columns + 1)[:, None]
    certificate = objective.certify(objective.evaluate(theta, certified=True))
    user = objective.to_user(theta)
    assert certificate.objective == pytest.approx(float(formula(objective, *user)), rel=1e-12)
    p, e = torch.softmax(logits(objective, *user), 1), torch.nn.functional.one_hot(loss.y.long(), classes)
    s = loss.sample_weight[:, None]
    curvature = torch.diag((s * p).sum(0)) - (s * p).t() @ p
    t = torch.linalg.pinv(curvature, hermitian=True, rtol=1e-10) @ (s * (p - e)).sum(0)
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
        N_, size = flat.null_space, 1 if classes == 2 else classes + D + 1
        assert torch.allclose(N_.t() @ N_, torch.eye(size).double())
        theta = random_theta(objective)
        point = flat.evaluate(theta, products=torch.float64)
        assert (N_.t() @ point.gradient).abs().max() < 1e-15
        assert (N_.t() @ flat.product(point, theta)).abs().max() < 1e-15
        H = flat.hessian(theta, dtype=torch.float64)[0]
        torch.testing.assert_close(H @ N_, N_, rtol=1e-8, atol=1e-8)


@CLASSES
def test_a_sample_has_enough_rows_of_every_class(classes: int) -> None:
    objective = made(classes, l2=0.1)
    sample, known = objective.sample(300)
    assert known.all()
    assert len(sample.X) == 300
    assert torch.equal(sample.scale, objective.scale)
    assert sample.loss.weight_sum < objective.loss.weight_sum
    before = objective.counter.passes
    sample.evaluate(objective.null)
    assert objective.counter.passes - before == 0.75
    assert objective.sample(20) is None
    rare = replace(objective.loss, sample_weight=objective.loss.sample_weight * (objective.loss.y > 0))
    assert replace(objective, loss=rare).sample(300) is None


@pytest.mark.parametrize(
    ("labels", "weights", "expected"),
    [
        ([1, 0, 1], None, 0.5),
        ([1, 0, 1], [1, 2, 0], 2.0),
        ([1, 0.2, 1], None, -math.inf),
        ([1, 0.2, 1], [1, 0, 1], 0.5),
        ([1, 0, 1], [0, 0, 0], math.inf),
    ],
)
def test_smallest_margin(labels: list[float], weights: list[int] | None, expected: float) -> None:
    z = torch.tensor([2.0, -3.0, 0.5])
    s = None if weights is None else torch.tensor(weights)
    assert smallest_margin(z, torch.tensor(labels), s).item() == expected
    assert smallest_margin(z * math.nan, torch.tensor(labels), None).isnan() or 0.2 in labels


def test_a_softmaxs_margin_is_the_lead_of_a_rows_own_class() -> None:
    objective = replace(made(4, l2=0.1), proving_l2=0.0)
    theta = random_theta(objective)
    z, own = logits(objective, *objective.to_user(theta)), torch.nn.functional.one_hot(objective.loss.y, 4).bool()
    lead = z[own] - z.masked_fill(own, -math.inf).amax(dim=1)
    expected = float(lead[objective.loss.sample_weight > 0].min())
    margin = objective.loss.margin(objective.evaluate(theta, certified=True).rows)
    assert float(margin) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("chosen", [True, False])
def test_coordinates_give_columns_unit_curvature(chosen, intercept, passes, device):
    """Beside ordinary columns: one that is constant, one that is so in the sample only, and one far from 0."""
    X = torch.randn(300, 5, dtype=torch.float64, device=device) * torch.tensor([1.0, 0.1, 1.0, 1.0, 3.0], device=device)
    X[:, 1] = 7.0
    X[:250, 2] = -2.0
    X[:, 4] += 1e4
    rows = torch.arange(0, 250, 2, device=device) if chosen else None
    found = measure_coordinates(X, rows, passes, curvature=0.2, l2=0.01, intercept=intercept)
    seen = (X if rows is None else X[rows]).clone()
    variance, mean = seen.var(dim=0, correction=0), seen.mean(dim=0)
    variance[2], mean[2] = X[:, 2].var(correction=0), X[:, 2].mean()
    curvature = 0.2 * (variance if intercept else variance + mean.square())
    torch.testing.assert_close(found.center, mean if intercept else torch.zeros_like(mean), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scale[:5], (curvature + 0.01).rsqrt(), rtol=1e-9, atol=0)
    assert found.scale[5:].tolist() == ([0.2**-0.5] if intercept else [])
    assert found.scales.tolist() == found.scale.tolist()
    assert found.subtract == intercept  # the last column's mean is 3,000 standard deviations from 0
    assert found.rounding == pytest.approx(float(curvature.sum()), rel=1e-9)
    sizes = found.scale[:5][curvature > 0]
    assert found.sizes == pytest.approx((float(sizes.sum()), float(sizes.square().sum())), rel=1e-9)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # which the interpreter says
def test_values_whose_squares_are_too_large_are_named(passes, device):
    X = torch.ones(4, 3, dtype=torch.float64, device=device)
    X[2, 1] = 1e200
    with pytest.raises(ValueError, match="column 1 of X has values beyond 1e150"):
        Moments.of(X, None, passes)
    X[0, 0] = torch.nan
    assert Moments.of(X, None, passes).variance[2] == 0


def test_what_is_uploaded_together_begins_at_whole_16_bytes(device):
    arrays = [torch.arange(float(n)).double().reshape(-1, 1).numpy() for n in (3, 1, 4, 5)]
    found = uploaded(device, *arrays)
    assert [each.tolist() for each in found] == [each.tolist() for each in arrays]
    assert {each.data_ptr() % 16 for each in found} == {0}
