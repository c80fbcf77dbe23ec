"""The gradient against finite differences: `torch.autograd.gradcheck` of `flashlogit.nn.loss.bce_loss` in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from flashlogit_kernels.contract import Clamp

from ..nn.loss import bce_loss
from .methods import Problem

_STEP = 1e-5
"""Step of a logit: the cube root of float64's precision, where the error of central differences is least."""
_SATURATED = 1e3
"""Beyond this logit the float64 loss is a straight line, and a step in proportion to the logit loses nothing."""
_EACH = 50
"""Most columns that are moved one at a time. More are moved together, along a random direction."""


@dataclass(frozen=True)
class Remark:
    """The outcome of a method in words. `agrees` is None where it did not run, and `text` then says why."""

    method: str
    arithmetic: str
    text: str
    agrees: bool | None = None


def check_differences(problem: Problem) -> tuple[list[Remark], list[str]]:
    """Compare, and return the outcome with sentences on rows near the clamp or beyond it.

    Beyond the clamp the loss is flat: its derivative is 0, which is the gradient under "exact". Under "through" the
    gradient is p - y there, which is the derivative of the loss without the clamp. So where rows lie beyond, each loss
    is held against the gradient that belongs to it.
    """
    problem = problem.on(torch.device("cpu"))
    X, _, _ = problem.rows(torch.float64)
    w, b = problem.parameters(torch.float64)
    z, terms = X @ w + b, float((X.abs() @ w.abs() + b.abs()).max())
    nearest = float(z.abs().min())
    step = _STEP * (nearest if nearest > _SATURATED else 1.0)
    clamp = problem.clamp
    N = len(z)
    beyond, near = z.abs() > clamp.bound, (z.abs() - clamp.bound).abs() <= 2 * step * math.sqrt(len(w) + 1)
    notes = []
    if near.any():
        notes.append(
            f"{_count(near, N)} within {step:.1g} of the clamp, where the derivative jumps; differences leave it out."
        )
    kept = replace(
        problem,
        X=X[~near],
        y=problem.y[~near],
        sample_weight=None if problem.sample_weight is None else problem.sample_weight[~near],
    )
    ways = {"finite differences": Clamp(clamp.eps, "exact")}
    if beyond.any() and clamp.gradient == "exact":
        notes.append(f"{_count(beyond, N)} beyond the clamp, with gradient 0 (exact).")
    elif beyond.any():
        ways = {"differences, unclamped": Clamp(0.0, "through"), "differences, clamped": ways.popitem()[1]}
        notes.append(
            f"{_count(beyond, N)} beyond the clamp, where the clamped loss is flat and its derivative 0."
            " clamp_gradient 'through' keeps p - y there, the derivative of the loss without the clamp (which autograd"
            " is given here). So the differences of the clamped loss differ from the gradient above by design, and are"
            " held against that of 'exact'."
        )
    return [_compare(name, replace(kept, clamp=each), step, terms) for name, each in ways.items()], notes


def _compare(method: str, problem: Problem, step: float, terms: float) -> Remark:
    """Compare at one clamp, with steps that move no logit by more than `step` where logits are sums of `terms`."""
    X, y, s = problem.rows(torch.float64)
    w, b = problem.parameters(torch.float64)
    rounding = 1e-15 * terms / step
    if len(y) == 0 or rounding > 1e-4:
        why = "every row lies at the clamp" if len(y) == 0 else "float64 cannot tell its steps apart"
        return Remark(method, "float64, cpu", f"did not run: {why}")
    # In units of each column's largest value, so that one step is right for all of them.
    scale = X.abs().amax(dim=0)
    scale = torch.where(scale > 0, scale, 1.0)

    def loss(w: Tensor, b: Tensor) -> Tensor:
        clamp = problem.clamp
        return bce_loss(
            X / scale, y, w, b, sample_weight=s, eps=clamp.eps, clamp_gradient=clamp.gradient, backend="torch"
        )

    point = (w * scale).requires_grad_(), b.reshape(1).requires_grad_()
    try:
        gradcheck(
            loss,
            point,
            eps=step,
            atol=1e-8 + rounding,
            rtol=1e-6,
            check_undefined_grad=False,
            fast_mode=len(w) > _EACH,
        )
    except GradcheckError:
        return Remark(method, "float64, cpu", "differ from the gradient of bce_loss (gradcheck)", agrees=False)
    return Remark(method, "float64, cpu", "agree with the gradient of bce_loss (gradcheck)", agrees=True)


def _count(rows: Tensor, of: int) -> str:
    n = int(rows.sum())
    return "The row lies" if of == 1 else f"{n:,} of {of:,} rows {'lies' if n == 1 else 'lie'}"
