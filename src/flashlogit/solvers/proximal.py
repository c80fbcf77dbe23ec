"""Minimum of a quadratic model plus an l1 term, by dense matrices that never touch X.

    m(x) = g . (x - theta) + 1/2 (x - theta)^T H (x - theta) + sum_j l1_j |x_j|

Most variables of a wide problem are 0 at the minimum. m is minimised over those that are not and those that have most
reason to move, and again with more of them until no other has any (a working set, as in Massias, Gramfort and Salmon
2018, "Celer"). On such a set the method is an active-set Newton iteration: within the orthant of the present signs m is
quadratic, and its free variables are solved for exactly; of a dozen steps that way, cut off where they leave the
orthant, the best is taken (Bertsekas 1982, "Projected Newton methods"). Where columns are copies of each other in other
units the orthants are so narrow that it stalls: an interior-point method then finds the signs in some 25 factors of
the matrix, whatever its condition is. A coordinate descent, the usual choice, is a chain of D scalar steps for each
sweep, and as slow as the matrix is ill-conditioned.

All of it runs on the host: it is a chain of small operations, each with a value to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from flashlogit.row_workers import threads_for_algebra

_STEPS = 20
"""Active-set steps before the interior-point method: at ordinary problems two to five do."""
_POLISHING_STEPS = 5
"""Active-set steps after it."""
_HALVES = 14
"""Halves of a step that are tried."""
_NO_SLOPE = 1e-6
"""Of the first subgradient: the minimum is found for any purpose of the outer step."""
_NEXT_TO_NOTHING = 1e-4
"""Of that: also a step that was cut off has led to the minimum."""
_NOISE = 4 * torch.finfo(torch.float64).eps
"""Of a derivative: what rounding may have left of it."""
_RELEASES = 3
"""Times that variables which a Newton step would take across 0 are held there instead, and the step found anew."""
_LEAST_NEW = 64
"""Variables by which a working set grows at least, if there are so many that have reason to move."""
_ROUNDING = 1e-12
"""More than it on the diagonal, where curvatures are about 1, is not for rounding errors of a float64 Hessian."""
_INTERIOR_STEPS = 60
_CENTRED = 1e-20
"""Of the first mean product of variables and slacks: the interior point is at the minimum to rounding."""
_TO_THE_WALL = 0.99
"""Share of the way to the nearest bound that an interior step takes."""
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


def minimise_model(H: Tensor, gradient: Tensor, theta: Tensor, l1: Tensor) -> tuple[Tensor, bool]:
    """The x [P, 1] that minimises m, for H [1, P, P] and gradient, theta and l1 [P, 1]; all float64.

    Ends when a millionth of the subgradient is left: the next outer step starts from there. The second value is whether
    H has no negative curvature but by rounding in float64; where it has, m is of H with some more on its diagonal.
    """
    device = theta.device
    H, gradient, theta, l1 = H[0].cpu(), gradient[:, 0].cpu(), theta[:, 0].cpu(), l1[:, 0].cpu()
    x, slope = theta, gradient
    down = steepest_descent(slope, x, l1)
    goal = _NO_SLOPE * float(down.norm())
    taken, count = torch.zeros_like(x, dtype=torch.bool), -1
    stalls, convex = False, True
    while True:
        taken = taken | _candidates(x, down, l1)
        if float(down.norm()) <= goal or int(taken.sum()) == count:
            break
        here = torch.nonzero(taken).reshape(-1)
        count = len(here)
        x = x.clone()
        x[here], stalls, added = _minimise(
            H[here][:, here], slope[here], x[here], l1[here], goal, stalls=stalls
        )
        if added > 0:
            H = H + added * torch.eye(len(x), dtype=x.dtype)
            convex = convex and added <= _ROUNDING
        slope = gradient + H @ (x - theta)
        down = steepest_descent(slope, x, l1)
    return x.to(device)[:, None], convex


def _candidates(x: Tensor, down: Tensor, l1: Tensor) -> Tensor:
    """Whether a variable is not 0, or free to be anything, or among the others with most reason to move, [P] bool."""
    needed = (x != 0) | (l1 == 0)
    others = torch.where(needed, 0.0, down.abs())
    count = max(_LEAST_NEW, int(needed.sum()))
    if int((others > 0).sum()) > count:
        others = torch.where(others >= others.topk(count).values[-1], others, 0.0)
    return needed | (others > 0)


def _minimise(
    H: Tensor, slope: Tensor, x: Tensor, l1: Tensor, goal: float, *, stalls: bool
) -> tuple[Tensor, bool, float]:
    """The minimum of m over all of x [P], from where its quadratic part has the gradient `slope`; H [P, P].

    goal: the subgradient that may be left. stalls: whether active sets are known to stall.
    Gives the point, whether they did, and what had to be added to the diagonal of H.
    """
    end = x
    if not stalls:
        end, done = _by_active_sets(H, slope, x, l1, goal, x, steps=_STEPS)
        if done or not bool((l1 > 0).any()):
            return end, False, 0.0
    added = _missing(H)
    if added > 0:
        H = H + added * torch.eye(len(x), dtype=x.dtype)
    inner, _ = _by_active_sets(
        H, slope, x, l1, goal, _interior_point(H, slope, x, l1), steps=_POLISHING_STEPS
    )
    values = _model(H, slope, x, l1, torch.stack([end, inner]) - x)
    return inner if float(values[1]) <= float(values[0]) else end, True, added


def _by_active_sets(
    H: Tensor, slope: Tensor, x: Tensor, l1: Tensor, goal: float, start: Tensor, *, steps: int
) -> tuple[Tensor, bool]:
    """A better point than `start` [P], and whether it is the minimum; the rest as for `_minimise`."""
    end = start
    noise = _NOISE * (slope.abs() + l1)
    here = slope + H @ (end - x)
    down = steepest_descent(here, end, l1)
    for _ in range(steps):
        end, gain, whole = _active_set_step(H, here, end, l1, down)
        here = slope + H @ (end - x)
        down = steepest_descent(here, end, l1)
        left = float(torch.where(down.abs() > noise, down, 0.0).norm())
        if left <= goal and (whole or left <= _NEXT_TO_NOTHING * goal):
            return end, True
        if gain <= 0:
            break
    return end, False


def _active_set_step(
    H: Tensor, slope: Tensor, x: Tensor, l1: Tensor, down: Tensor
) -> tuple[Tensor, float, bool]:
    """A better x [P], what m gains by it, and whether it is the minimum over the free variables.

    slope, down [P]: the gradient of the quadratic part at x, and the steepest descent of m.
    """
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
    # [T, P]: the ends of the steps, cut off at the orthant where there is an l1 term.
    straight = x + _lengths(x, newton, l1)[:, None] * newton
    inside = (straight * signs > 0) | (l1 == 0) | ~free
    ends = torch.where(inside, straight, 0.0)
    model = _model(H, slope, x, l1, ends - x)
    best = int(model.argmin())
    gain = -float(model[best])
    if not gain > 0:
        return x, 0.0, False
    return ends[best], gain, best == 0 and bool(inside[0].all())


def _newton_step(H: Tensor, down: Tensor, free: Tensor) -> Tensor:
    """H^-1 down over the free variables [P], and 0 for the others."""
    here = torch.nonzero(free).reshape(-1)
    step = torch.zeros_like(down)
    step[here] = solve(factor(H[here][:, here][None]), down[here, None])[:, 0]
    return step


def _lengths(x: Tensor, newton: Tensor, l1: Tensor) -> Tensor:
    """Step lengths to try, [T]: halves, and where the first, second, fourth, ... of the variables [P] become 0.

    Near a singular H the Newton step is so long that all halves of it end in the corner of the orthant. Up to the first
    variable that becomes 0 nothing is cut off, so that this step gains whatever H is.
    """
    halves = 0.5 ** torch.arange(_HALVES, dtype=x.dtype)
    crossing = (x * newton < 0) & (l1 > 0)
    at = torch.where(crossing, -x / newton, torch.inf).sort().values
    at = at[[2**k - 1 for k in range(len(x).bit_length())]]
    return torch.cat([halves, torch.where(at < 1, at, 1.0)])


def _interior_point(H: Tensor, slope: Tensor, start: Tensor, l1: Tensor) -> Tensor:
    """The minimum of m to rounding by Mehrotra's predictor and corrector (1992), with exact zeros; as for `_minimise`.

    x = p - q with p, q >= 0, and slacks zp, zq >= 0 of |slope| <= l1; at the minimum p zp = q zq = 0:

        H dx - dzp = -rp      -H dx - dzq = -rq      zp dp + p dzp = tp      zq dq + q dzq = tq
        (H + 1 / W) dx = rhs,      W = p / zp + q / zq
    """
    pen = torch.nonzero(l1 > 0).reshape(-1)
    L, x = l1[pen], start.clone()
    size = 0.1 * float(torch.maximum(x.abs(), steepest_descent(slope, x, l1).abs()).max())
    p, q = x[pen].clamp(min=0.0) + size, (-x[pen]).clamp(min=0.0) + size
    s = slope[pen]
    over = 0.1 * float((s.abs() - L).clamp(min=0.0).max()) + 0.1 * L
    zp, zq = torch.maximum(s + L, over), torch.maximum(L - s, over)
    first = None
    for _ in range(_INTERIOR_STEPS):
        s = slope + H @ (x - start)
        r = s.index_fill(0, pen, 0.0)
        rp, rq = s[pen] + L - zp, -s[pen] + L - zq
        mu = float(p @ zp + q @ zq) / (2 * len(pen))
        first = mu if first is None else first
        if mu <= _CENTRED * first:
            break
        W = p / zp + q / zq
        M = H.clone()
        M.diagonal()[pen] += 1 / W
        factors = factor(M[None])

        def step(tp: Tensor, tq: Tensor) -> tuple[Tensor, ...]:
            rhs = -r
            rhs[pen] = (tp / zp - tq / zq - p / zp * rp + q / zq * rq) / W
            dx = solve(factors, rhs[:, None])[:, 0]
            dx = dx + solve(factors, (rhs - M @ dx)[:, None])[:, 0]
            Hdx = rhs[pen] - dx[pen] / W
            dzp, dzq = Hdx + rp, rq - Hdx
            dp, dq = (tp - p * dzp) / zp, (tq - q * dzq) / zq
            # The larger of the two from dx, since its slack may be so small that the quotient is all rounding.
            larger = p / zp > q / zq
            dp, dq = torch.where(larger, dx[pen] + dq, dp), torch.where(larger, dq, dp - dx[pen])
            return dx, dp, dq, dzp, dzq

        def length(*pairs: tuple[Tensor, Tensor]) -> float:
            return min(float(torch.where(d < 0, -v / d, 1.0).clamp(max=1.0).min()) for v, d in pairs)

        dx, dp, dq, dzp, dzq = step(-p * zp, -q * zq)
        a = length((p, dp), (q, dq), (zp, dzp), (zq, dzq))
        ahead = float((p + a * dp) @ (zp + a * dzp) + (q + a * dq) @ (zq + a * dzq)) / (2 * len(pen))
        target = (ahead / mu) ** 3 * mu
        dx, dp, dq, dzp, dzq = step(target - p * zp - dp * dzp, target - q * zq - dq * dzq)
        a = _TO_THE_WALL * length((p, dp), (q, dq), (zp, dzp), (zq, dzq))
        p, q, zp, zq = p + a * dp, q + a * dq, zp + a * dzp, zq + a * dzq
        x = x + a * dx
        x[pen] = p - q
    zero = (p <= zp) & (q <= zq)
    x[pen] = torch.where(zero, 0.0, x[pen])
    return x


def _missing(H: Tensor) -> float:
    """What, added to the diagonal of H [P, P], gives it factors: 0 or powers of ten times its mean."""
    size = float(H.diagonal().mean())
    eye = torch.eye(len(H), dtype=H.dtype)
    for power in range(-16, 1):
        added = 0.0 if power == -16 else size * 10.0**power
        if bool(try_factor((H + added * eye)[None])[1]):
            break
    return added


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
    """m(x + moved) - m(x), [T], for T moves [T, P]."""
    quadratic = (slope + 0.5 * moved @ H) * moved
    end = x + moved
    # Where the sign stays, without the rounding errors of the absolute values: near the minimum these are all there is.
    longer = torch.where(x * end > 0, torch.sign(x) * moved, end.abs() - x.abs())
    return (quadratic + l1 * longer).sum(dim=1)


def steepest_descent(gradient: Tensor, theta: Tensor, l1: Tensor) -> Tensor:
    """Minus the subgradient of least norm of the smooth part plus l1 |theta|, elementwise."""
    at_zero = -torch.sign(gradient) * (gradient.abs() - l1).clamp(min=0.0)
    return torch.where(theta != 0, -(gradient + l1 * torch.sign(theta)), at_zero)
