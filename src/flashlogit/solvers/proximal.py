"""Parts of what minimises a quadratic model plus an l1 term: Cholesky factors, subgradients, gradient descent.

m(x) = g . (x - theta) + 1/2 (x - theta)^T H (x - theta) + sum_j l1_j |x_j|
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from ..system.threads import threads_for_algebra

_POWER_STEPS = 20
"""With 10 the largest eigenvalue came out so small that the steps diverged, at 650 parameters of a softmax."""
_THREADED_FROM = 512
"""Parameters from which factors are computed in all threads."""


def factor(H: Tensor) -> Tensor:
    """Lower Cholesky factors [K, P, P] of H [K, P, P], to whose diagonals just enough is added for there to be one."""
    result, found = try_factor(H)
    if bool(found.all()):
        return result
    size = H.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[:, None, None]
    eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    for jitter in (1e-13, 1e-10, 1e-7, 1e-4, 1.0):
        factors, info = torch.linalg.cholesky_ex(H + jitter * size * eye)
        good = (info == 0) & factors.isfinite().all(dim=-1).all(dim=-1)
        result = torch.where((good & ~found)[:, None, None], factors, result)
        found = found | good
        if bool(found.all()):
            break
    return torch.where(found[:, None, None], result, torch.nan)


def try_factor(H: Tensor) -> tuple[Tensor, Tensor]:
    """Lower Cholesky factors [K, P, P] of H [K, P, P] as it is, and whether it has any, [K] bool; waits for nothing."""
    with threads_for_algebra() if H.shape[-1] >= _THREADED_FROM else nullcontext():
        factors, info = torch.linalg.cholesky_ex(H)
    return factors, (info == 0) & factors.isfinite().all(dim=-1).all(dim=-1)


def solve(factors: Tensor, v: Tensor) -> Tensor:
    """H^-1 v for v [P, K] and the Cholesky factors [K, P, P] of H."""
    return torch.cholesky_solve(v.t()[:, :, None], factors)[:, :, 0].t()


def accelerated(
    times: Callable[[Tensor], Tensor], gradient: Tensor, theta: Tensor, l1: Tensor, *, steps: int
) -> Tensor:
    """Accelerated proximal gradient descent on m from theta [P, K], given products with H only; its last point.

    Beck and Teboulle 2009 (FISTA), restarted where the momentum points uphill (O'Donoghue and Candes 2015). It ends
    when nothing moves any more, and reads a value back every tenth step to know.
    """
    # Not of ones: those a softmax's Hessian may map to 0.
    v = 1 + torch.cos(2.4 * torch.arange(len(theta), dtype=theta.dtype, device=theta.device))[:, None]
    v = v.expand_as(theta)
    for _ in range(_POWER_STEPS):
        v = times(v / v.norm(dim=0))
    size = 1.1 * v.norm(dim=0)
    x = ahead = theta
    t = torch.ones_like(size)
    for step in range(steps):
        moved = ahead - (gradient + times(ahead - theta)) / size
        new = torch.sign(moved) * (moved.abs() - l1 / size).clamp(min=0.0)
        uphill = ((ahead - new) * (new - x)).sum(dim=0) > 0
        t_new = torch.where(uphill, 1.0, 0.5 * (1 + (1 + 4 * t * t).sqrt()))
        ahead = new + torch.where(uphill, 0.0, (t - 1) / t_new) * (new - x)
        still = step % 10 == 9 and bool((new - x).norm() <= 1e-9 * (new - theta).norm())
        x, t = new, t_new
        if still:
            break
    return x


def steepest_descent(gradient: Tensor, theta: Tensor, l1: Tensor) -> Tensor:
    """Minus the subgradient of least norm of the smooth part plus l1 |theta|, elementwise."""
    at_zero = -torch.sign(gradient) * (gradient.abs() - l1).clamp(min=0.0)
    return torch.where(theta != 0, -(gradient + l1 * torch.sign(theta)), at_zero)
