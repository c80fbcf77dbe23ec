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


def test_with_labels_it_gives_the_loss_and_its_gradient():
    X, y = data()
    options = {"eps": 1e-3, "clamp_gradient": "exact", "reduction": "sum"}
    head, weights = LogisticHead(3, **options), {"sample_weight": torch.rand(200), "pos_weight": 2.0}
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in head.parameters())
    loss, expected = head(X, y, **weights), bce_loss(X, y, weight, bias, **weights, **options)
    assert torch.equal(loss, expected)
    gradients = (
        torch.autograd.grad(each, given) for each, given in ((loss, head.parameters()), (expected, (weight, bias)))
    )
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


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
