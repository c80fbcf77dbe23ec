"""What is right, by torch alone in float64: the results of passes, and the optimum of a fit."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .problems import Call, Problem

BOUND = {"float32": 1e-6, "float64": 1e-13}
"""Error of a number as a share of the absolute terms that it is the sum of: a few roundings of the arithmetic."""


@dataclass(frozen=True)
class Truth:
    """A call's result in float64, and for each of its numbers the sum of absolute terms that it is made of."""

    value: Tensor
    size: Tensor

    def error(self, found: Tensor) -> float:
        """Return the largest error of the first numbers, as a share of their terms; NaN where one is not finite."""
        count = len(found)
        return float(((found.double() - self.value[:count]).abs() / self.size[:count]).max())


def truth(call: Call, problem: Problem) -> Truth:
    """Return the result of a call on the whole of X."""
    dtype, options = torch.float64, problem.options
    X, y, w, b, v = (value.to(dtype) for value in (problem.X, problem.y, problem.w, problem.b, problem.v))
    s = options.get("sample_weight", torch.ones_like(y)).to(dtype)
    chosen = options.get("rows")
    if chosen is not None:
        X, y, s = X[chosen], y[chosen], s[chosen]
    if "center" in options:
        X = X - options["center"].to(dtype)
    if call.function == "column_sums":
        return Truth(X.t() @ v, X.abs().t() @ v.abs())
    z, each = X @ w + b, X.abs() @ w.abs() + b.abs()
    if call.function == "hessian_product":
        return Truth(_with_sum(X, v * z), _with_sum(X.abs(), v.abs() * each))
    q = options.get("pos_weight", z.new_ones(())).to(dtype)
    bound = math.log1p(-options.get("eps", 1e-8)) - math.log(options.get("eps", 1e-8))
    c, p = z.clamp(-bound, bound), torch.sigmoid(z)
    on = 1 - y + q * y
    softplus = torch.nn.functional.softplus
    loss = s * ((1 - y) * softplus(c, threshold=50.0) + q * y * softplus(-c, threshold=50.0))
    r = s * ((1 - y) * p - q * y * (1 - p))
    h = s * on * p * (1 - p)
    if "exact" in call.options:
        r, h = (torch.where(z.abs() > bound, 0.0, value) for value in (r, h))
    if call.function == "bce_rows":
        return Truth(torch.cat([loss, r]), torch.cat([loss.abs(), s * on]).clamp(min=1e-30))
    # A number's own rounding is that of its terms and of the logits that they are functions of.
    slack = h * each
    scalars = torch.stack([loss.sum(), s.sum(), z.new_zeros(()), z.abs().max()])
    rounding = torch.stack([slack.sum(), *z.new_full((3,), 1e-30)])
    value, size = torch.cat([_with_sum(X, r), scalars]), _with_sum(X.abs(), r.abs() + slack)
    size = torch.cat([size, scalars + rounding])
    size[-1] = each.max()
    if call.function == "bce_hessian":
        X1 = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        matrix, terms = X1.t() @ (h[:, None] * X1), X1.abs().t() @ ((h + slack)[:, None] * X1.abs())
        return Truth(torch.cat([value, matrix.reshape(-1)]), torch.cat([size, terms.reshape(-1)]))
    if "outputs" in call.options:
        value, size = torch.cat([value, r, h, z]), torch.cat([size, r.abs() + slack, h + slack, each])
    return Truth(value, size.clamp(min=1e-30))


def _with_sum(X: Tensor, r: Tensor) -> Tensor:
    return torch.cat([X.t() @ r, r.sum().reshape(1)])


class Objective:
    """The mean logistic loss over X [N, D] and y [N] plus l2/2 ||w||^2 + l1 ||w||_1, the intercept free."""

    def __init__(self, X: Tensor, y: Tensor, l2: float, l1: float = 0.0) -> None:
        self.X, self.y, self.l2, self.l1 = X.double(), y.double(), l2, l1
        mean = float(self.y.mean())
        self.null = -sum(p * math.log(p) for p in (mean, 1 - mean))
        """The objective of the intercept alone."""

    def __call__(self, weight: object, bias: object) -> float:
        """Return the objective; NaN where the parameters are not finite."""
        w, b = (torch.as_tensor(value).to(self.X).reshape(-1) for value in (weight, bias))
        z = self.X @ w + b
        loss = float((torch.nn.functional.softplus(z, threshold=50.0) - self.y * z).mean())
        return loss + 0.5 * self.l2 * float(w @ w) + self.l1 * float(w.abs().sum())

    def least(self) -> float:
        """Return the least objective without l1, by Newton's method with halved steps from zero."""
        N, D = self.X.shape
        X1 = torch.cat([self.X, self.X.new_ones(N, 1)], dim=1)
        theta = X1.new_zeros(D + 1)
        penalty = torch.full_like(theta, self.l2)
        penalty[-1] = 0.0
        best = self(theta[:D], theta[D:])
        for _ in range(50):
            p = torch.sigmoid(X1 @ theta)
            gradient = theta * penalty + X1.t() @ (p - self.y) / N
            H = torch.diag(penalty) + X1.t() @ (X1 * (p * (1 - p))[:, None]) / N
            step = torch.linalg.solve(H, gradient)
            trials = (theta - 0.5**k * step for k in range(20))
            theta = next((t for t in trials if self(t[:D], t[D:]) <= best * (1 + 1e-15)), theta)
            best = min(best, self(theta[:D], theta[D:]))
            if float(gradient @ step) < 1e-15 * self.null:
                break
        return best
