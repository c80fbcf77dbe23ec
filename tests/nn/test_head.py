"""The module: nn.Linear's parameters, with the loss built in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from flashlogit import LogisticHead, bce_loss


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(200, 3, generator=generator)
    return X, (X[:, 0] - X[:, 1] + torch.randn(200, generator=generator) > 0).float()


@pytest.mark.parametrize("bias", [True, False])
def test_state_dicts_are_interchangeable_with_a_linear_layers(bias):
    head, linear = LogisticHead(3, bias=bias), nn.Linear(3, 1, bias=bias)
    head.load_state_dict(linear.state_dict(), strict=True)
    X, _ = data()
    assert torch.equal(head(X), linear(X))
    assert head(X).shape == (200, 1)
    linear.load_state_dict(head.state_dict(), strict=True)


def test_with_labels_it_gives_the_loss():
    X, y = data()
    head = LogisticHead(3, eps=1e-3, clamp_gradient="exact", reduction="sum")
    s = torch.rand(200)
    weights = {"sample_weight": s, "pos_weight": 2.0}
    options = {"eps": 1e-3, "clamp_gradient": "exact", "reduction": "sum"}
    expected = bce_loss(X, y, head.weight, head.bias, **weights, **options)
    assert torch.equal(head(X, y, **weights), expected)


def test_it_learns():
    X, y = data()
    head = LogisticHead(3)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = head(X, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert ((head(X)[:, 0] > 0) == (y == 1)).float().mean() > 0.75


def test_it_can_be_copied_moved_and_compiled():
    X, y = data()
    head = LogisticHead(3)
    assert torch.equal(copy.deepcopy(head)(X, y), head(X, y))
    assert head.to(torch.float64)(X.double(), y).dtype == torch.float64
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X.double(), y), head(X.double(), y))


def test_its_options_show_and_are_checked():
    assert "eps=0.001, clamp_gradient='through', reduction='mean'" in repr(LogisticHead(3, eps=1e-3))
    with pytest.raises(ValueError, match="eps is 1"):
        LogisticHead(3, eps=1)
