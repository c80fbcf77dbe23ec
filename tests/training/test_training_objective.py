"""The objective against its formula, and the class weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from flashlogit.config.settings import ClassWeight
from flashlogit.data import Rows
from flashlogit.data.dataset import class_weights, with_class_weight
from flashlogit.passes import choose_backend
from flashlogit.system.errors import UserError
from flashlogit.training.trainer import Objective
from flashlogit_kernels.contract import Clamp

L2 = 0.7
W, B = torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    y = (torch.rand(50, generator=generator) < 0.3).to(torch.uint8)
    return Rows(X, y, torch.rand(50, generator=generator, dtype=torch.float64))


@pytest.fixture
def objective(rows: Rows) -> Objective:
    return Objective(rows, Clamp(1e-8, "through"), L2, choose_backend("torch", torch.device("cpu")))


def by_torch(rows: Rows, w: Tensor, b: Tensor, l2: float) -> Tensor:
    z = rows.X @ w + b
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, rows.y.double(), reduction="none")
    return (rows.sample_weight * loss).sum() / rows.sample_weight.sum() + l2 / 2 * w.square().sum()


def test_gradient_is_that_of_the_weighted_mean_loss_plus_half_l2(rows, objective):
    w, b = W.clone().requires_grad_(), B.clone().requires_grad_()
    expected = torch.autograd.grad(by_torch(rows, w, b, L2), (w, b))
    gradient = objective.gradient(objective.sums(W, B), W, len(rows))
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=1e-15)


def test_mini_batch_gradients_average_to_the_full_gradient(rows, objective):
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(1)).split(10)
    each = [objective.gradient(objective.sums(W, B, rows=batch), W, 10) for batch in batches]
    mean = tuple(torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True))
    whole = objective.gradient(objective.sums(W, B), W, len(rows))
    torch.testing.assert_close(mean, whole, rtol=1e-13, atol=1e-15)


def test_mean_loss_leaves_the_penalty_out(rows, objective):
    assert objective.mean_loss(W, B) == pytest.approx(by_torch(rows, W, B, 0.0).item(), rel=1e-13)


def test_balanced_gives_both_classes_half_of_the_weight(rows):
    weighted = with_class_weight(rows, class_weights(rows, "balanced")).sample_weight
    for label in (0, 1):
        assert weighted[rows.y == label].sum().item() == pytest.approx(rows.sample_weight.sum().item() / 2)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=rows.y.numpy())
    assert class_weights(Rows(rows.X, rows.y), "balanced") == pytest.approx(tuple(expected))


def test_given_class_weights_multiply_the_rows_own(rows):
    setting = ClassWeight(negative=2.0, positive=5.0)
    factors = torch.where(rows.y == 1, 5.0, 2.0)
    weighted = with_class_weight(rows, class_weights(rows, setting))
    torch.testing.assert_close(weighted.sample_weight, rows.sample_weight * factors)
    alone = with_class_weight(Rows(rows.X, rows.y), class_weights(rows, setting))
    assert torch.equal(alone.sample_weight, factors)
    assert with_class_weight(rows, class_weights(rows, None)) is rows
    with pytest.raises(UserError) as caught:
        class_weights(rows, setting, classes=3)
    assert caught.value.setting == "loss.class_weight"
