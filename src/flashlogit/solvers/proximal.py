"""Minimum of a quadratic model plus an l1 term, by dense matrices that never touch X.

    m(x) = g . (x - theta) + 1/2 (x - theta)^T H (x - theta) + sum_j l1_j |x_j|

An active-set Newton iteration: within the orthant of the present signs m is quadratic, and its free variables are
solved for exactly; of a dozen steps that way, cut off where they leave the orthant, the best is taken (Bertsekas 1982,
"Projected Newton methods"). A coordinate descent, the usual choice, is a chain of D scalar steps for each sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from flashlogit.row_workers import threads_for_algebra

_STEPS = 14
_ITERATIONS = 60
_NO_SLOPE = 1e-6
"""Of the first subgradient: the minimum is found for any purpose of the outer step."""
_SLOW = 0.5
"""Of the subgradient before a step: more of it left is slow progress."""
_RELEASES = 3
"""Times that variables which a Newton step would take across 0 are held there instead, and the step found anew."""
_RESCUES = 8
"""Times that gradient steps come to the aid of Newton's."""
_WARM_FROM = 256
"""Parameters from which products with a matrix are so much cheaper than its factors that they come first."""
_WARM_STEPS = 200
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


def minimise_model(H: Tensor, gradient: Tensor, theta: Tensor, l1: Tensor) -> Tensor:
    """The x [P, K] that minimises m, for H [K, P, P], gradient and theta [P, K] and l1 [P, K] or [P, 1]; all float64.

    Ends when a millionth of the subgradient is left: the next outer step starts from there.
    """
    x, products = theta, partial(_times, H)
    if len(theta) > _WARM_FROM:
        x = accelerated(products, gradient, theta, l1, steps=_WARM_STEPS)
    first = steepest_descent(gradient, theta, l1).norm(dim=0)
    slope = gradient + products(x - theta)
    left = steepest_descent(slope, x, l1).norm(dim=0)
    rescues = 0
    for _ in range(_ITERATIONS):
        before = left
        x, gain = _active_set_step(H, slope, x, l1)
        slope = gradient + products(x - theta)
        left = steepest_descent(slope, x, l1).norm(dim=0)
        if bool((left <= _NO_SLOPE * first).all()):
            break
        slow = gain <= 0
        if len(theta) > _WARM_FROM:
            slow = slow | (left > _SLOW * before)
        if bool(slow.any()):
            if rescues == _RESCUES:
                break
            rescues += 1
            x = accelerated(products, slope, x, l1, steps=_WARM_STEPS)
            slope = gradient + products(x - theta)
            left = steepest_descent(slope, x, l1).norm(dim=0)
    return x


def _active_set_step(H: Tensor, slope: Tensor, x: Tensor, l1: Tensor) -> tuple[Tensor, Tensor]:
    """A better x [P, K] and what m gains by it, [K]; `slope` is the gradient of the quadratic part at x."""
    down = steepest_descent(slope, x, l1)
    free = (x != 0) | (down != 0) | (l1 == 0)
    signs = torch.where(x != 0, torch.sign(x), torch.sign(down))
    newton = _newton_step(H, down, free)
    for _ in range(_RELEASES):
        # A variable that leaves 0 for one side, and is taken to the other by the step of all, would stay at 0 and spoil
        # the step of the rest, which counts on it.
        blocked = free & (x == 0) & (l1 > 0) & (newton * signs < 0)
        if not bool(blocked.any()):
            break
        free = free & ~blocked
        newton = _newton_step(H, down, free)
    # [T, P, K]: the ends of the steps, cut off at the orthant where there is an l1 term.
    ends = x + _lengths(x, newton, l1)[:, None] * newton
    ends = torch.where((ends * signs > 0) | (l1 == 0), ends, 0.0)
    model = _model(H, slope, x, l1, ends - x)
    best = model.argmin(dim=0)
    gain = -model.gather(0, best[None])[0]
    end = ends.gather(0, best[None, None].expand(1, *x.shape))[0]
    return torch.where(gain > 0, end, x), gain.clamp(min=0.0)


def _newton_step(H: Tensor, down: Tensor, free: Tensor) -> Tensor:
    """H^-1 down over the free variables [P, K], and 0 for the others."""
    if free.shape[1] == 1:  # they may be few
        here = torch.nonzero(free[:, 0]).reshape(-1)
        step = torch.zeros_like(down)
        step[here] = solve(factor(H[:, here][:, :, here]), down[here])
        return step
    mask = free.to(down.dtype).t()
    masked = H * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
    return torch.where(free, solve(factor(masked), torch.where(free, down, 0.0)), 0.0)


def _lengths(x: Tensor, newton: Tensor, l1: Tensor) -> Tensor:
    """Step lengths to try, [T, K]: halves, and where the first, second, fourth, ... of the variables [P, K] become 0.

    Near a singular H the Newton step is so long that all halves of it end in the corner of the orthant. Up to the first
    variable that becomes 0 nothing is cut off, so that this step gains whatever H is.
    """
    halves = 0.5 ** torch.arange(_STEPS, dtype=x.dtype, device=x.device)
    crossing = (x * newton < 0) & (l1 > 0)
    at = torch.where(crossing, -x / newton, torch.inf).sort(dim=0).values
    at = at[[2**k - 1 for k in range(len(x).bit_length())]]
    return torch.cat([halves[:, None].expand(-1, x.shape[1]), torch.where(at < 1, at, 1.0)])


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


def _model(H: Tensor, slope: Tensor, x: Tensor, l1: Tensor, moved: Tensor) -> Tensor:
    """m(x + moved) - m(x), [T, K], for T moves [T, P, K]."""
    quadratic = (slope + 0.5 * torch.einsum("kpq,tqk->tpk", H, moved)) * moved
    end = x + moved
    # Where the sign stays, without the rounding errors of the absolute values: near the minimum these are all there is.
    longer = torch.where(x * end > 0, torch.sign(x) * moved, end.abs() - x.abs())
    return (quadratic + l1 * longer).sum(dim=1)


def steepest_descent(gradient: Tensor, theta: Tensor, l1: Tensor) -> Tensor:
    """Minus the subgradient of least norm of the smooth part plus l1 |theta|, [P, K]."""
    at_zero = -torch.sign(gradient) * (gradient.abs() - l1).clamp(min=0.0)
    return torch.where(theta != 0, -(gradient + l1 * torch.sign(theta)), at_zero)


def _times(H: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("kpq,qk->pk", H, v)
