"""The objective against its formula, and the class weights."""

from __future__ import annotations

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

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


def test_loss_and_gradient_are_those_of_the_formula_and_batches_average_to_the_whole(rows):
    objective = Objective(rows, Clamp(1e-8, "through"), L2, choose_backend("torch", torch.device("cpu")))
    w, b = W.clone().requires_grad_(), B.clone().requires_grad_()
    share = rows.sample_weight / rows.sample_weight.sum()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(rows.X @ w + b, rows.y.double(), share, reduction="sum")
    assert objective.mean_loss(W, B) == pytest.approx(loss.item(), rel=1e-13)  # without the penalty
    expected = torch.autograd.grad(loss + L2 / 2 * w.square().sum(), (w, b))
    gradient = objective.gradient(objective.sums(W, B), W, len(rows))
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=1e-15)
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(1)).split(10)
    each = [objective.gradient(objective.sums(W, B, rows=batch), W, 10) for batch in batches]
    mean = tuple(torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True))
    torch.testing.assert_close(mean, gradient, rtol=1e-13, atol=1e-15)


def test_balanced_gives_both_classes_half_of_the_weight(rows):
    weighted = with_class_weight(rows, class_weights(rows, "balanced")).sample_weight
    of_classes = [weighted[rows.y == label].sum().item() for label in (0, 1)]
    assert of_classes == pytest.approx([rows.sample_weight.sum().item() / 2] * 2)
    expected = compute_class_weight("balanced", classes=rows.y.unique().numpy(), y=rows.y.numpy())
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
