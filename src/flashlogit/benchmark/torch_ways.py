"""The passes as a user of torch would write them: whole-matrix products in the dtype of X.

y is float32 for everybody, weights are cast to the dtype of X beforehand. Each function gives the parts that
`truth` names.
"""

from __future__ import annotations

from torch import Tensor, sigmoid
from torch.nn.functional import binary_cross_entropy_with_logits

Parts = dict[str, Tensor]


def eager(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Parts:
    """Loss and gradient by two products, with the loss, so that the work is the same as that of the fused pass."""
    z = X @ w + b
    loss = binary_cross_entropy_with_logits(z, y, reduction="sum")
    r = (sigmoid(z) - y).to(X.dtype)
    return {"gradient": X.t() @ r, "intercept": r.sum(), "loss": loss}


def autograd(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Parts:
    """The mean loss and its backward pass: times N these are sums."""
    w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
    loss = binary_cross_entropy_with_logits(X @ w + b, y)
    loss.backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert b.grad is not None
    return {"gradient": w.grad, "intercept": b.grad.squeeze(), "loss": loss.detach()}


def hessian_product(X: Tensor, s: Tensor, v: Tensor) -> Parts:
    """X^T (s (X v)), without the intercept's entry."""
    return {"gradient": X.t() @ (s * (X @ v))}


def hessian(X: Tensor, w: Tensor, b: Tensor) -> Parts:
    """X^T diag(p (1 - p)) X alone: neither the loss, nor the gradient, nor the intercept's row and column."""
    p = sigmoid(X @ w + b)
    return {"hessian": X.t() @ ((p * (1 - p))[:, None] * X)}


def product(X: Tensor, w: Tensor) -> Parts:
    """X w: one read of X, and nothing that a gradient needs besides."""
    return {"rows": X @ w}


def two_products(X: Tensor, w: Tensor, s: Tensor) -> Parts:
    """X w and X^T s: the floor for rows too wide to be kept between the two."""
    return {"gradient": X.t() @ s, "rows": X @ w}
