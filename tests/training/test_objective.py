"""The objective against its formula, and the class weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from flashlogit.config.settings import ClassWeight
from flashlogit.data import Rows
from flashlogit.passes.backend import choose_backend
from flashlogit.training.objective import Objective, class_weights, with_class_weight
from flashlogit_kernels.contract import Clamp

TORCH = choose_backend("torch", torch.device("cpu"))
CLAMP = Clamp(1e-8, "through")


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    y = (torch.rand(50, generator=generator) < 0.3).to(torch.uint8)
    return Rows(X, y, torch.rand(50, generator=generator, dtype=torch.float64))


def parameters() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)


def objective_by_autograd(rows: Rows, w: torch.Tensor, b: torch.Tensor, l2: float) -> torch.Tensor:
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        rows.X @ w + b, rows.y.double(), reduction="none"
    )
    assert rows.sample_weight is not None
    return (rows.sample_weight * loss).sum() / rows.sample_weight.sum() + l2 / 2 * w.square().sum()


def test_gradient_is_that_of_the_weighted_mean_loss_plus_half_l2(rows: Rows) -> None:
    w, b = (p.requires_grad_() for p in parameters())
    expected = torch.autograd.grad(objective_by_autograd(rows, w, b, 0.7), (w, b))
    gradient = Objective(rows, CLAMP, 0.7, TORCH).gradient(w.detach(), b.detach())
    torch.testing.assert_close(gradient.weight, expected[0], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(gradient.bias, expected[1], rtol=1e-13, atol=1e-15)


def test_mini_batch_gradients_average_to_the_full_gradient(rows: Rows) -> None:
    objective = Objective(rows, CLAMP, 0.7, TORCH)
    w, b = parameters()
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(1)).split(10)
    mean = torch.stack([objective.gradient(w, b, batch).weight for batch in batches]).mean(dim=0)
    torch.testing.assert_close(mean, objective.gradient(w, b).weight, rtol=1e-13, atol=1e-15)


def test_mean_loss_leaves_the_penalty_out(rows: Rows) -> None:
    w, b = parameters()
    loss = Objective(rows, CLAMP, 0.7, TORCH).mean_loss(w, b)
    assert loss == pytest.approx(objective_by_autograd(rows, w, b, 0.0).item(), rel=1e-13)


def test_balanced_gives_both_classes_half_of_the_weight(rows: Rows) -> None:
    weighted = with_class_weight(rows, class_weights(rows, "balanced"))
    assert weighted.sample_weight is not None
    assert rows.sample_weight is not None
    total = rows.sample_weight.sum().item()
    for label in (0, 1):
        assert weighted.sample_weight[rows.y == label].sum().item() == pytest.approx(total / 2, rel=1e-12)


def test_balanced_equals_scikit_learns_weights_without_sample_weights(rows: Rows) -> None:
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=rows.y.numpy())
    assert class_weights(Rows(rows.X, rows.y), "balanced") == pytest.approx(tuple(expected))


def test_given_class_weights_multiply_the_rows_own(rows: Rows) -> None:
    weighted = with_class_weight(rows, class_weights(rows, ClassWeight(negative=2.0, positive=5.0)))
    assert rows.sample_weight is not None
    expected = rows.sample_weight * torch.where(rows.y == 1, 5.0, 2.0)
    torch.testing.assert_close(weighted.sample_weight, expected)


def test_no_class_weight_leaves_the_rows_as_they_are(rows: Rows) -> None:
    assert with_class_weight(rows, class_weights(rows, None)) is rows
