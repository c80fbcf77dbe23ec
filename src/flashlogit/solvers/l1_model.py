"""Minimum of a quadratic model plus an l1 term, by dense matrices that never touch X.

    m(x) = g . (x - theta) + 1/2 (x - theta)^T H (x - theta) + sum_j l1_j |x_j|

Coordinate descent finds which variables are 0, in sweeps that each cost P products for every variable that moves
(Friedman, Hastie and Tibshirani 2010). The worse H is conditioned, the more sweeps it takes: after some of them follows
a Newton step of the variables that are not 0, whose model within the orthant of the present signs is quadratic; of a
dozen points on the way, cut off where they leave the orthant, the best is taken (Bertsekas 1982, "Projected Newton
methods"). Where columns are copies of each other in other units the orthants are so narrow that this stalls, and an
interior-point method finds the signs: without it two of six such problems in `tests/solvers/test_agreement.py` did not
converge.

All of it runs on the host: on a GPU each of its small operations would cost a launch, and every second one a wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flashlogit_kernels.cpu.descent import descend

from .proximal import factor, interior_point, solve, steepest_descent, try_factor


@dataclass(frozen=True)
class Tuning:
    """How far the model is minimised, and what is taken for rounding."""

    rounds: int = 20
    """Most rounds, each of some sweeps and a Newton step, before the interior-point method: at ordinary problems one to
    three do."""
    polishing_rounds: int = 5
    """Most rounds after it."""
    sweeps: tuple[int, int] = (10, 300)
    """Sweeps of a round, at least and at most."""
    products: int = 5_000_000
    """A round has as many sweeps as take so many products, if all variables move."""
    repeats: int = 3
    """Times that the interior-point method finds more variables that have reason to move."""
    halves: int = 14
    """Halves of a step that are tried."""
    no_slope: float = 1e-6
    """Largest share of the first subgradient that is left: it is little enough for the outer step."""
    rounding: float = 1e-12
    """Largest negative curvature that rounding leaves in a float64 Hessian, whose diagonal is about 1."""


TUNING = Tuning()


def minimise_model(
    H: Tensor, gradient: Tensor, theta: Tensor, l1: Tensor, *, compiled: bool = True
) -> tuple[Tensor, bool]:
    """Return the x [P, 1] that minimises m, for H [1, P, P] and gradient, theta and l1 [P, 1]; all float64.

    Ends when a millionth of the subgradient is left: the next outer step starts from there. The second value is whether
    H has no negative curvature but by rounding in float64; where it has, m is of H with some more on its diagonal.
    compiled: whether coordinate descent is.
    """
    device = theta.device
    A, g, first, l1 = H[0].cpu().contiguous(), gradient[:, 0].cpu(), theta[:, 0].cpu(), l1[:, 0].cpu()
    goal, more = TUNING.no_slope * float(steepest_descent(g, first, l1).norm()), 0.0
    x, done = _by_descent(A, g, first, first, l1, goal, rounds=TUNING.rounds, compiled=compiled)
    for _ in range(TUNING.repeats):
        if done or not bool((l1 > 0).any()):
            break
        slope = g + A @ (x - first)
        here = torch.nonzero((x != 0) | (l1 == 0) | (steepest_descent(slope, x, l1) != 0)).reshape(-1)
        added = _missing(A[here][:, here])
        if added > 0:
            A, more = A + added * torch.eye(len(x), dtype=x.dtype), more + added
            slope = g + A @ (x - first)
        inside = x.clone()
        inside[here] = interior_point(A[here][:, here], slope[here], x[here], l1[here])
        end, done = _by_descent(A, slope, x, inside, l1, goal, rounds=TUNING.polishing_rounds, compiled=compiled)
        if not float(_model(A, slope, x, l1, (end - x)[None])) < 0:
            break
        x = end
    return x.to(device)[:, None], more <= TUNING.rounding


def _by_descent(
    H: Tensor, slope: Tensor, x: Tensor, start: Tensor, l1: Tensor, goal: float, *, rounds: int, compiled: bool
) -> tuple[Tensor, bool]:
    """Return a better point than `start` [P], and whether it is the minimum of m, whose quadratic part has the gradient
    `slope` at x; goal: the subgradient that may be left."""
    end, sweeps = start.clone(), min(max(TUNING.products // len(x) ** 2, TUNING.sweeps[0]), TUNING.sweeps[1])
    for _ in range(rounds):
        here = slope + H @ (end - x)
        arrays = (each.numpy() for each in (H, here, end, l1))
        left = descend(*arrays, sweeps=sweeps, goal=goal, compiled=compiled)
        if left <= goal:
            return end, True
        support = torch.nonzero((end != 0) | (l1 == 0)).reshape(-1)
        of_support = H[support][:, support], here[support], end[support], l1[support]
        end[support] = _newton_step(*of_support)
    return end, False


def _newton_step(H: Tensor, slope: Tensor, x: Tensor, l1: Tensor) -> Tensor:
    """Return a better x [P], none of which is 0 but what is free to be: of the points on the way to the minimum that m
    would have without a change of signs, cut off where signs change, the best.

    slope [P]: the gradient of the quadratic part at x.
    """
    newton = solve(factor(H[None]), -(slope + l1 * torch.sign(x))[:, None])[:, 0]
    straight = x + newton
    if bool(((straight * x > 0) | (l1 == 0)).all()):
        return straight
    straight = x + _lengths(x, newton, l1)[:, None] * newton
    ends = torch.where((straight * x > 0) | (l1 == 0), straight, 0.0)
    model = _model(H, slope, x, l1, ends - x)
    best = int(model.argmin())
    return ends[best] if float(model[best]) < 0 else x


def _lengths(x: Tensor, newton: Tensor, l1: Tensor) -> Tensor:
    """Return step lengths to try, [T]: halves, and where the first, second, fourth, ... of the variables [P] become 0.

    Near a singular H the Newton step is so long that all halves of it end in the corner of the orthant. Up to the first
    variable that becomes 0 nothing is cut off, so that this step gains whatever H is.
    """
    halves = 0.5 ** torch.arange(TUNING.halves, dtype=x.dtype)
    crossing = (x * newton < 0) & (l1 > 0)
    at = torch.where(crossing, -x / newton, torch.inf).sort().values
    at = at[[2**k - 1 for k in range(len(x).bit_length())]]
    return torch.cat([halves, torch.where(at < 1, at, 1.0)])


def _missing(H: Tensor) -> float:
    """Return what, added to the diagonal of H [P, P], gives it factors: 0 or powers of ten times its mean."""
    size = float(H.diagonal().mean())
    eye = torch.eye(len(H), dtype=H.dtype)
    for power in range(-16, 1):
        added = 0.0 if power == -16 else size * 10.0**power
        if bool(try_factor((H + added * eye)[None])[1]):
            break
    return added


def _model(H: Tensor, slope: Tensor, x: Tensor, l1: Tensor, moved: Tensor) -> Tensor:
    """Return m(x + moved) - m(x), [T], for T moves [T, P]."""
    quadratic = (slope + 0.5 * moved @ H) * moved
    end = x + moved
    # Where the sign stays, without the rounding errors of the absolute values: near the minimum these are all there is.
    longer = torch.where(x * end > 0, torch.sign(x) * moved, end.abs() - x.abs())
    return (quadratic + l1 * longer).sum(dim=1)
