"""Objectives of many models against the objective of each one alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.models import Counts, ModelObjectives
from flashlogit.objectives.objective import Objective
from flashlogit.objectives.softmax import Softmax
from flashlogit.passes import choose_backend
from flashlogit_kernels.models import Models


def side_by_side(
    X: torch.Tensor, y: torch.Tensor, C: int, l2: list[float], backend: str, intercept: bool, l1: float = 0.0
):
    """K objectives over all rows but those of a fold each, and their labels and rows."""
    K = len(l2)
    folds = (torch.arange(len(X)) % 3).to(torch.uint8)
    zeros = torch.zeros(K, dtype=torch.int32)
    held = (torch.arange(K) % 3).to(torch.int32)
    models = Models(y.to(torch.uint8)[None], folds[None], zeros, zeros, held, classes=C)
    counts = Counts.of(models, max(C, 2))
    chosen = choose_backend(backend, X.device)
    made = ModelObjectives.of(
        X,
        models,
        np.full((1, K), l1),
        np.array([l2]),
        counts,
        passes=chosen.passes,
        program=chosen.models_program,
        intercept=intercept,
    )
    return made.proving(np.array(l2) > 0), [folds != h for h in held]


@pytest.mark.parametrize("C", [1, 4])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_values_gradients_and_proofs_are_those_of_one_model(C: int, intercept: bool, backend: str, l1: float) -> None:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(240, 6, generator=generator, dtype=torch.float64) * torch.logspace(-1, 2, 6) + 5
    y = torch.randint(0, max(C, 2), (240,), generator=generator)
    l2 = [0.0 if l1 else 1e-3, 1e-2, 0.3]
    made, masks = side_by_side(X, y, C, l2, backend, intercept, l1)
    W = torch.randn(6, C, 3, generator=generator, dtype=torch.float64) * 1e-2
    b = torch.randn(C, 3, generator=generator, dtype=torch.float64) * intercept
    W[:3, 0] = 0.0
    if C > 1:  # as the coefficients are that are given
        W, b = W if l1 else W - W.mean(dim=1, keepdim=True), b - b.mean(dim=0)
    rows = W.numpy()
    if intercept:
        rows = np.concatenate([rows, b.numpy()[None] + (made.center[:, None, None] * rows).sum(axis=0)[None]])
    theta = (rows / made.scale[:, None]).reshape(-1, 3)
    theta = theta if backend == "numba" else torch.from_numpy(theta)
    back = made.coefficients(theta)
    np.testing.assert_allclose(np.asarray(back[0]), W, atol=1e-12)
    points = [made.evaluate(theta, proven=proven) for proven in (False, True)]
    for k, mask in enumerate(masks):
        X_k, y_k = X[mask], y[mask]
        plain = choose_backend("torch", X.device).passes
        if C == 1:
            loss = Logistic.of(y_k, None, plain, intercept=intercept)
        else:
            loss = Softmax.of(y_k, C, None, intercept=intercept)
        alone = Objective.of(X_k, loss, l1=l1, l2=l2[k])
        point = alone.evaluate(alone.from_user(W[:, :, k], b[:, k]), certified=True)
        certificate = alone.certify(point)
        assert float(points[0].value[k]) == pytest.approx(float(point.value), rel=1e-12)
        assert float(points[1].value[k]) == pytest.approx(certificate.objective, rel=1e-12)
        if l2[k] > 0:
            assert float(points[1].gap[k]) == pytest.approx(certificate.gap, rel=1e-6)
        else:  # the divergence of shrunk residuals is bounded only
            assert certificate.gap * (1 - 1e-9) <= float(points[1].gap[k]) <= float(points[1].value[k])
        assert made.null_value[k] == pytest.approx(alone.null_value, rel=1e-12)
        scale = np.repeat(made.scale[:, [k]], C, axis=0)[:, 0]
        ours = by_columns(np.asarray(points[0].gradient[:, k]) / scale, made.center, C)
        own = (point.gradient[:, 0] / alone.scale.reshape(-1)).numpy()
        theirs = by_columns(own, alone.design.coordinates.center.numpy(), C)
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def by_columns(gradient: np.ndarray, center: np.ndarray, C: int) -> np.ndarray:
    """Gradients by the weights of columns less their centre [P C] as those by weights of the columns as they are."""
    rows = gradient.reshape(-1, C)
    if len(rows) > len(center):
        rows = rows.copy()
        rows[:-1] += center[:, None] * rows[-1]
    return rows


def test_a_sample_without_rows_of_a_class_is_none() -> None:
    y = torch.zeros(4_000, dtype=torch.int64)
    y[:40] = 1
    X = torch.randn(4_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made, _ = side_by_side(X, y, 1, [1e-2], "torch", True)
    assert made.sample(200) is None
    assert made.sample(4_000) is None


def test_chosen_models_are_the_same() -> None:
    generator = torch.Generator().manual_seed(5)
    X = torch.randn(90, 4, generator=generator, dtype=torch.float64)
    made, _ = side_by_side(X, (X[:, 0] > 0).long(), 1, [1e-3, 1e-2, 0.3], "numba", True)
    some = made.chosen(np.array([2, 0]))
    theta = np.random.default_rng(0).normal(size=(5, 3))
    whole, part = made.evaluate(theta), some.evaluate(theta[:, [2, 0]])
    np.testing.assert_allclose(part.value, whole.value[[2, 0]], rtol=1e-14)
    np.testing.assert_allclose(part.gradient, whole.gradient[:, [2, 0]], rtol=1e-10)
